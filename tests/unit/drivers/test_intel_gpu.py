# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Intel GPUs, with VFs where the kernel makes them PFs."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.drivers.intel_gpu import IntelGpu
from devagent.model.claim import Kind, Mode

from ..worlds import function, look_at, port

FLEX = {"id": "8086:56c0", "class": "038000", "driver": "xe"}


def test_a_gpu_is_given_whole(tmp_path: Path) -> None:
    (device,) = look_at(tmp_path, port(FLEX)).values()
    assert (device.claim.driver, device.claim.kind) == ("intel_gpu", Kind.GPU)
    assert device.claim.model == "Data Center GPU Flex 170"
    assert device.claim.offers == {Mode.WHOLE: "PGPU"}
    assert device.decision.managed


def test_a_gpu_with_vfs_is_given_by_them(tmp_path: Path) -> None:
    vfs = {"total": 31, "count": 3, "device": "56c0", "driver": "vfio-pci"}
    found = look_at(tmp_path, port(FLEX | {"vfs": vfs}))
    decision = found["0000:3b:00.0"].decision
    assert list(found) == ["0000:3b:00.0"]
    assert (decision.mode, decision.resource_class, decision.total) == (Mode.VF, "CUSTOM_PCI_8086_56C0", 3)


@pytest.mark.parametrize(
    ("ids", "class_code", "recognised"),
    [("8086:56c0", "030000", True), ("8086:4940", "0b4000", False), ("10de:56c0", "030000", False)],
)
def test_displays_are_recognised(ids: str, class_code: str, recognised: bool) -> None:
    assert IntelGpu().recognises(function(ids=ids, class_code=class_code)) is recognised


def test_an_unknown_gpu_is_named_by_its_id() -> None:
    claim = IntelGpu().claim(function(ids="8086:9999"))
    assert (claim.model, claim.traits) == ("GPU [9999]", frozenset())
