# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""MIG through the genuine pynvml, in children of a privileged process: what is made, found again, and removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devagent.model.plan import Step
from devagent.model.preparation import Holder, RefusalKind
from devagent.prepare.machine import Gone, StepFailed
from devagent.prepare.verbs import inverse
from devagent.privileged import Privileged, start
from devagent.service.preparing.machine import PrivilegedMachine

from .mig_gpu import GPU, LONG, ON, ONE, STATE, THREE, TWO, call, nvml, opens, privileged, refused, root
from .nvml.library import Nvml

__all__ = ["call", "nvml", "privileged", "root"]

PERSISTENCED = 812


@pytest.fixture
def machine(privileged: Privileged, root: Path) -> PrivilegedMachine:
    return PrivilegedMachine(privileged, root)


# --- instances ---


def test_an_instance_is_made_with_the_compute_instance_that_fills_it(call: Callable[..., Any], nvml: Nvml) -> None:
    assert call("create_mig", profile="3g.20gb", placement=4) == {"placement": 4}
    assert nvml.instances == [(THREE, 4, True)]
    assert call("mig_instances") == {"instances": [{"profile": "3g.20gb", "placement": 4, "compute": 1}]}


@pytest.mark.parametrize("version", [470, 535, 575])
def test_a_driver_of_any_age_makes_and_removes_them(
    root: Path, nvml: Nvml, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    nvml.serve(monkeypatch, version)
    privileged = start({}, root=str(root))
    try:
        privileged.call("create_mig", LONG, address=GPU, profile="1g.5gb", placement=2)
        assert nvml.instances == [(ONE, 2, True)]
        privileged.call("destroy_mig", LONG, address=GPU, profile="1g.5gb", placement=2)
        assert nvml.instances == []
    finally:
        privileged.stop()


def test_every_session_is_closed(call: Callable[..., Any], nvml: Nvml) -> None:
    call("create_mig", profile="1g.5gb", placement=None)
    refused(call, "create_mig", profile="7g.40gb", placement=None)
    call("mig_mode")
    assert nvml.closed == 3


def test_the_place_leaves_room_for_larger_ones(call: Callable[..., Any], nvml: Nvml) -> None:
    for profile in ("1g.5gb", "2g.10gb", "1g.5gb"):
        call("create_mig", profile=profile, placement=None)
    assert nvml.instances == [(TWO, 4, True), (ONE, 3, True), (ONE, 6, True)]
    assert call("mig_placement", profile="1g.5gb+me", promised=[]) == {"placement": 2}


def test_a_place_that_is_promised_to_another_is_not_given(call: Callable[..., Any], nvml: Nvml) -> None:
    call("create_mig", profile="1g.5gb", placement=6)
    promised = ["1g.5gb@6", "2g.10gb@4", "1g.5gb@63", "9g.99gb@0"]
    assert call("mig_placement", profile="1g.5gb", promised=promised) == {"placement": 3}
    error = refused(call, "mig_placement", profile="3g.20gb", promised=["1g.5gb@0", "1g.5gb@4"])
    assert (error.kind, "no room" in str(error)) == (RefusalKind.RETRY, True)
    assert nvml.instances == [(ONE, 6, True)]


def test_what_is_there_is_not_made_twice(call: Callable[..., Any], nvml: Nvml) -> None:
    for _ in range(2):
        call("create_mig", profile="1g.5gb", placement=6)
    assert nvml.instances == [(ONE, 6, True)]


def test_an_instance_without_a_compute_instance_is_finished(call: Callable[..., Any], nvml: Nvml) -> None:
    """A process that was killed between the two has left it."""
    nvml.says(STATE, ON, f"instance {GPU} {ONE} 6 0")
    assert call("mig_instances")["instances"] == [{"profile": "1g.5gb", "placement": 6, "compute": 0}]
    call("create_mig", profile="1g.5gb", placement=6)
    assert nvml.instances == [(ONE, 6, True)]


def test_an_instance_that_cannot_be_filled_goes_again(call: Callable[..., Any], nvml: Nvml) -> None:
    nvml.says(STATE, ON, "fail nvmlGpuInstanceCreateComputeInstance 999")
    error = refused(call, "create_mig", profile="1g.5gb", placement=6)
    assert str(error) == f"{GPU}: nvmlGpuInstanceCreateComputeInstance answered: Unknown Error"
    assert (error.kind, nvml.instances) == (RefusalKind.RETRY, [])


def test_another_ones_place_is_not_taken(call: Callable[..., Any], nvml: Nvml) -> None:
    nvml.says(STATE, ON, f"instance {GPU} {ONE} 6")
    assert "has a MIG instance 1g.5gb at slice 6" in str(refused(call, "create_mig", profile="1g.5gb+me", placement=6))
    assert "no room" in str(refused(call, "create_mig", profile="3g.20gb", placement=4))
    assert "it stays" in str(refused(call, "destroy_mig", profile="1g.5gb+me", placement=6))
    assert nvml.instances == [(ONE, 6, True)]


def test_without_room_it_is_worth_another_try(call: Callable[..., Any], nvml: Nvml) -> None:
    nvml.says(STATE, ON, f"instance {GPU} {THREE} 0", f"instance {GPU} {THREE} 4")
    error = refused(call, "mig_placement", profile="1g.5gb", promised=[])
    assert str(error) == f"{GPU} has no room for a MIG instance 1g.5gb now"
    assert error.kind is RefusalKind.RETRY


def test_removing_is_done_from_the_inside_and_once(call: Callable[..., Any], nvml: Nvml) -> None:
    nvml.says(STATE, ON, f"instance {GPU} {ONE} 6", f"instance {GPU} {THREE} 0 0")
    for _ in range(2):
        call("destroy_mig", profile="1g.5gb", placement=6)
    assert nvml.instances == [(THREE, 0, False)]
    call("destroy_mig", profile="3g.20gb", placement=0)
    assert nvml.instances == []


def test_an_instance_in_use_stays_and_its_user_is_named(call: Callable[..., Any], nvml: Nvml, root: Path) -> None:
    nvml.says(STATE, ON, f"instance {GPU} {ONE} 6", "fail nvmlComputeInstanceDestroy 19")
    opens(root, 4711, "python3")
    error = refused(call, "destroy_mig", profile="1g.5gb", placement=6)
    assert (error.kind, error.holders) == (RefusalKind.RETRY, (Holder(pid=4711, command="python3"),))
    assert str(error).endswith("is in use: process 4711 (python3) has /dev/nvidia0 open")
    assert nvml.instances == [(ONE, 6, True)]


@pytest.mark.parametrize(
    ("lines", "profile", "kind", "words"),
    [
        ([ON], "2g.20gb", RefusalKind.PERMANENT, "it has 1g.5gb, 2g.10gb, 3g.20gb, 7g.40gb, 1g.5gb+me"),
        ([f"set {GPU} mig 0"], "1g.5gb", RefusalKind.PERMANENT, f"MIG must be on (nvidia-smi -i {GPU} -mig 1)"),
        ([ON, "fail nvmlDeviceCreateGpuInstanceWithPlacement 4"], "1g.5gb", RefusalKind.PERMANENT, "CAP_SYS_ADMIN"),
        ([ON, "fail nvmlDeviceCreateGpuInstanceWithPlacement 23"], "1g.5gb", RefusalKind.RETRY, "has no room for that"),
        ([ON, "fail *@0000:3b:00.0 15"], "1g.5gb", RefusalKind.PERMANENT, "has fallen off the bus"),
        (["fail nvmlInitWithFlags 9"], "1g.5gb", RefusalKind.PERMANENT, "the driver is not loaded"),
    ],
)
def test_what_stands_against_it_is_said(
    call: Callable[..., Any], nvml: Nvml, lines: list[str], profile: str, kind: RefusalKind, words: str
) -> None:
    nvml.says(STATE, *lines)
    error = refused(call, "create_mig", profile=profile, placement=None)
    assert words in str(error)
    assert str(error).startswith(GPU)
    assert error.kind is kind
    assert nvml.instances == []


def test_only_a_gpu_with_nvidias_driver_is_asked(call: Callable[..., Any], root: Path) -> None:
    link = root / f"sys/bus/pci/devices/{GPU}/driver"
    link.unlink()
    link.symlink_to("../../drivers/vfio-pci")
    error = refused(call, "mig_instances")
    assert str(error) == f"{GPU} is bound to vfio-pci: only a GPU with the driver nvidia can be divided"


# --- the mode ---


def test_the_mode_is_turned_on_and_off(call: Callable[..., Any], nvml: Nvml) -> None:
    assert call("set_mig_mode", enabled=1) == {"before": 1, "after": 1}
    assert call("set_mig_mode", enabled=0) == {"before": 1, "after": 0}
    assert call("mig_mode") == {"enabled": 0}


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (19, RefusalKind.RETRY, "cannot be turned on while it is in use: process 812 (nvidia-persiste) has"),
        (16, RefusalKind.PERMANENT, "cannot be turned on without a reset: nvidia-smi -i 0000:3b:00.0 -mig 1"),
        (999, RefusalKind.RETRY, "NVML answered Unknown Error"),
    ],
)
def test_a_mode_that_does_not_come_at_once_is_taken_back(
    call: Callable[..., Any], nvml: Nvml, root: Path, status: int, kind: RefusalKind, words: str
) -> None:
    nvml.says(STATE, f"set {GPU} mig 0", f"set {GPU} activation {status}")
    opens(root, PERSISTENCED, "nvidia-persistenced")
    error = refused(call, "set_mig_mode", enabled=1)
    assert words in str(error)
    assert error.kind is kind
    assert call("mig_mode") == {"enabled": 0}


def test_a_mode_that_waits_for_a_reset_is_no_mode(call: Callable[..., Any], nvml: Nvml) -> None:
    nvml.says(STATE, f"set {GPU} mig 0", f"set {GPU} mig_pending 1")
    error = refused(call, "mig_mode")
    assert "MIG is off, and on after a reset" in str(error)
    assert error.kind is RefusalKind.PERMANENT
    call("set_mig_mode", enabled=0)
    assert call("mig_mode") == {"enabled": 0}


def test_a_divided_gpu_stays_divided(call: Callable[..., Any], nvml: Nvml) -> None:
    nvml.says(STATE, ON, f"instance {GPU} {ONE} 6", f"instance {GPU} {THREE} 0")
    error = refused(call, "set_mig_mode", enabled=0)
    assert "has MIG instances (1g.5gb, 3g.20gb): remove them" in str(error)
    assert call("mig_mode") == {"enabled": 1}


# --- as steps of a plan ---


def make(profile: str = "1g.5gb") -> Step:
    arguments = {"profile": profile, "placement": None}
    return Step("create_mig", GPU, arguments, arguments)


def test_the_place_is_known_before_anything_is_made(machine: PrivilegedMachine, nvml: Nvml) -> None:
    found = machine.before(make(), LONG)
    assert found == {"profile": "1g.5gb", "placement": 6}
    assert nvml.instances == []
    intended = Step("create_mig", GPU, make().arguments, found)
    assert not machine.check(intended, LONG)
    for _ in range(2):  # killed after it was made and before that was known
        machine.do(intended, LONG)
        assert machine.check(intended, LONG)
    assert nvml.instances == [(ONE, 6, True)]
    back = inverse(intended)
    assert back is not None
    assert not machine.check(back, LONG)
    for _ in range(2):
        machine.do(back, LONG)
        assert machine.check(back, LONG)
    assert nvml.instances == []


def test_what_is_half_made_is_neither_there_nor_gone(machine: PrivilegedMachine, nvml: Nvml) -> None:
    nvml.says(STATE, ON, f"instance {GPU} {ONE} 6 0")
    place: dict[str, str | int | None] = {"profile": "1g.5gb", "placement": 6}
    assert not machine.check(Step("create_mig", GPU, place), LONG)
    assert not machine.check(Step("destroy_mig", GPU, place), LONG)


def test_the_mode_is_a_step_too(machine: PrivilegedMachine) -> None:
    off = Step("set_mig_mode", GPU, {"enabled": 0})
    assert machine.before(off, LONG) == {"enabled": 1}
    assert not machine.check(off, LONG)
    machine.do(off, LONG)
    assert machine.check(off, LONG)


def test_a_gpu_that_was_pulled_out_is_gone(machine: PrivilegedMachine, root: Path) -> None:
    (root / f"sys/bus/pci/devices/{GPU}/driver").unlink()
    (root / f"sys/bus/pci/devices/{GPU}").rmdir()
    for ask in (machine.before, machine.do, machine.check):
        with pytest.raises(Gone):
            ask(make(), LONG)


def test_a_library_that_crashes_takes_one_verb_with_it(machine: PrivilegedMachine, nvml: Nvml) -> None:
    nvml.says(STATE, ON, "crash nvmlDeviceCreateGpuInstanceWithPlacement")
    with pytest.raises(StepFailed, match="SIGSEGV"):
        machine.do(make(), LONG)
    nvml.says(STATE, ON)
    machine.do(make(), LONG)
    assert nvml.instances == [(ONE, 6, True)]
