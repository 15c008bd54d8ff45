# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""On a host with NVIDIA GPUs: the verbs of MIG do what they say, or say why not; each GPU is left as it was found.

What changes a GPU, if only for a moment, is done where DEVAGENT_TEST_MIG is set: it must be nobody else's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from devagent.model.preparation import RefusalKind
from devagent.privileged import Privileged, start
from devagent.privileged.refused import VerbRefused

from .nvml_itself import directly

pytestmark = pytest.mark.gpu

LONG = 120.0

changing = pytest.mark.skipif("DEVAGENT_TEST_MIG" not in os.environ, reason="DEVAGENT_TEST_MIG is not set")


@pytest.fixture(scope="module")
def privileged() -> Iterator[Privileged]:
    directly()
    started = start({})
    yield started
    started.stop()


def gpus(*, mig: int | None) -> list[str]:
    """Gives the GPUs whose MIG mode is that, None: those that have none."""
    return [address for address, facts in directly().items() if (facts["mig"] and facts["mig"][0]) == mig]


def refused(privileged: Privileged, verb: str, **arguments: Any) -> VerbRefused:
    with pytest.raises(VerbRefused) as caught:
        privileged.call(verb, LONG, **arguments)
    return caught.value


def test_the_mode_is_what_pynvml_says(privileged: Privileged) -> None:
    for mode in (0, 1):
        for address in gpus(mig=mode):
            assert privileged.call("mig_mode", LONG, address=address) == {"enabled": mode}


def test_the_mode_that_it_has_is_set_without_a_change(privileged: Privileged) -> None:
    for mode in (0, 1):
        for address in gpus(mig=mode):
            done = privileged.call("set_mig_mode", LONG, address=address, enabled=mode)
            assert done == {"before": mode, "after": mode}


def test_a_gpu_without_mig_says_so(privileged: Privileged) -> None:
    for address in gpus(mig=None):
        assert refused(privileged, "mig_mode", address=address).kind is RefusalKind.PERMANENT


def test_without_mig_no_instance_is_made(privileged: Privileged) -> None:
    for address in gpus(mig=0):
        error = refused(privileged, "create_mig", address=address, profile="1g.5gb", placement=None)
        assert address in str(error)
        assert privileged.call("mig_mode", LONG, address=address) == {"enabled": 0}


@changing
def test_the_mode_is_turned_on_and_back_or_refused_without_a_trace(privileged: Privileged) -> None:
    """A virtual machine or a container may not permit it, and some GPUs want a reset."""
    for address in gpus(mig=0):
        try:
            privileged.call("set_mig_mode", LONG, address=address, enabled=1)
        except VerbRefused as error:
            assert address in str(error)
        else:
            try:
                _divided_and_whole_again(privileged, address)
            finally:
                privileged.call("set_mig_mode", LONG, address=address, enabled=0)
        assert privileged.call("mig_mode", LONG, address=address) == {"enabled": 0}


@changing
def test_an_undivided_gpu_is_divided_and_made_whole_again(privileged: Privileged) -> None:
    for address in gpus(mig=1):
        if privileged.call("mig_instances", LONG, address=address) == {"instances": []}:
            _divided_and_whole_again(privileged, address)


def _divided_and_whole_again(privileged: Privileged, address: str) -> None:
    names = str(refused(privileged, "mig_placement", address=address, profile="9g.9999gb", promised=[])).split(
        "it has "
    )[1]
    profile = names.split(", ")[0]
    place = privileged.call("mig_placement", LONG, address=address, profile=profile, promised=[])["placement"]
    try:
        for _ in range(2):
            privileged.call("create_mig", LONG, address=address, profile=profile, placement=place)
        (made,) = privileged.call("mig_instances", LONG, address=address)["instances"]
        assert made == {"profile": profile, "placement": place, "compute": 1}
    finally:
        for _ in range(2):
            privileged.call("destroy_mig", LONG, address=address, profile=profile, placement=place)
    assert privileged.call("mig_instances", LONG, address=address) == {"instances": []}
