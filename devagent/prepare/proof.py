# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What can still be given while the journal cannot be trusted, because an earlier one was lost.

Somebody may then hold what the new journal does not know. But whatever devagent has given away shows it: the
function is with a VFIO driver, or the VF has a vGPU type. So a function is provably free if the plan itself takes it
from a driver that is none of VFIO's, or makes a vGPU of a VF that was none; so is a mediated device that the plan
makes, for the kernel makes no second one with its UUID.
"""

from __future__ import annotations

from devagent.model.handle import Handle, PciHandle
from devagent.model.pci import is_vfio
from devagent.model.plan import Plan, Step


def unproven(plan: Plan) -> Handle | None:
    """Gives the first handle of which the plan's steps do not show that nobody has it."""
    return next((handle for handle in plan.handles if not any(_proves(step, handle) for step in plan.steps)), None)


def _proves(step: Step, handle: Handle) -> bool:
    if isinstance(handle, PciHandle):
        before = step.undo or {}
        if step.target != handle.address:
            return False
        if step.verb == "bind":
            return "driver" in before and not is_vfio(str(before["driver"]))
        return step.verb == "set_vgpu_type" and before.get("type") == 0
    return step.verb == "create_mdev" and step.arguments.get("uuid") == handle.uuid
