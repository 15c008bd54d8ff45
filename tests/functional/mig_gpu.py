# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""An A100 with MIG on, as NVML and /proc tell of it, and a privileged process that divides it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devagent.privileged import Privileged, start
from devagent.privileged.refused import VerbRefused

from .nvml.library import Nvml

GPU = "0000:3b:00.0"
STATE = f"gpu {GPU} GPU-3b3b3b3b-2222-3333-4444-555555555555 40960 20f110de NVIDIA A100-PCIE-40GB"
ON = f"set {GPU} mig 1"
ONE, TWO, THREE = 19, 14, 9
"""The ids of 1g.5gb, 2g.10gb and 3g.20gb."""
LONG = 30.0


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nvml:
    found = Nvml(tmp_path)
    found.says(STATE, ON)
    found.serve(monkeypatch)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with the GPU; its driver is nvidia, and its node /dev/nvidia0."""
    folder = tmp_path / "host/sys/bus/pci/devices" / GPU
    folder.mkdir(parents=True)
    (folder / "driver").symlink_to("../../drivers/nvidia")
    information = tmp_path / f"host/proc/driver/nvidia/gpus/{GPU}/information"
    information.parent.mkdir(parents=True)
    information.write_text("Model: \t\t NVIDIA A100-PCIE-40GB\nIRQ:   \t\t 42\nDevice Minor: \t 0\n")
    return tmp_path / "host"


def opens(root: Path, pid: int, command: str, node: str = "/dev/nvidia0") -> None:
    """Lets a process have a node open."""
    (root / f"proc/{pid}/fd").mkdir(parents=True)
    (root / f"proc/{pid}/comm").write_text(f"{command[:15]}\n")
    (root / f"proc/{pid}/fd/5").symlink_to(node)


@pytest.fixture
def privileged(root: Path, nvml: Nvml) -> Iterator[Privileged]:
    started = start({}, root=str(root))
    yield started
    started.stop()


@pytest.fixture
def call(privileged: Privileged) -> Callable[..., dict[str, Any]]:
    return lambda verb, **arguments: privileged.call(verb, LONG, address=GPU, **arguments)


def refused(call: Callable[..., Any], verb: str, **arguments: Any) -> VerbRefused:
    with pytest.raises(VerbRefused) as caught:
        call(verb, **arguments)
    return caught.value
