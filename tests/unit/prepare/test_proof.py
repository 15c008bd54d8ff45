# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which plans show by themselves that nobody has their devices."""

from __future__ import annotations

import pytest

from devagent.model.handle import Handle, MdevHandle, PciHandle
from devagent.model.plan import Plan, Step
from devagent.prepare.proof import unproven

VF = PciHandle("provider", "VF", "0000:10:01.0")
MDEV = MdevHandle("provider", "VGPU", "4b20d080-1b54-4048-85b3-a6a62d165c01", "0000:10:02.0", "nvidia-558")
TO_VFIO = {"driver": "vfio-pci"}


@pytest.mark.parametrize(
    ("handle", "step"),
    [
        (VF, Step("bind", VF.address, TO_VFIO, {"driver": "iavf"})),
        (VF, Step("bind", VF.address, TO_VFIO, {"driver": None})),
        (VF, Step("set_vgpu_type", VF.address, {"type": 557}, {"type": 0})),
        (MDEV, Step("create_mdev", MDEV.parent, {"type": "nvidia-558", "uuid": MDEV.uuid}, {})),
    ],
)
def test_what_the_plan_takes_or_makes_itself_is_free(handle: Handle, step: Step) -> None:
    assert unproven(Plan("A", (step,), (handle,))) is None


@pytest.mark.parametrize(
    ("handle", "steps"),
    [
        (VF, ()),
        (VF, (Step("bind", VF.address, TO_VFIO, {"driver": "mlx5_vfio_pci"}),)),
        (VF, (Step("bind", VF.address, TO_VFIO),)),
        (VF, (Step("bind", "0000:10:01.1", TO_VFIO, {"driver": "iavf"}),)),
        (VF, (Step("set_vgpu_type", VF.address, {"type": 557}, {"type": 558}),)),
        (MDEV, (Step("create_mdev", MDEV.parent, {"type": "nvidia-558", "uuid": "another"}, {}),)),
    ],
)
def test_what_could_be_somebody_elses_is_not_proven(handle: Handle, steps: tuple[Step, ...]) -> None:
    assert unproven(Plan("A", steps, (handle,))) == handle
