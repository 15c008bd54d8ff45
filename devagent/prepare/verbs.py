# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The verbs that a plan is made of, on one screen: what each means, and which one takes it back.

Every verb is done to the function at the step's target. `arguments` are what it takes besides;
`inverse` names the verb that takes it back, with the arguments of the step's `undo`, on the same target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from devagent.model.plan import Step


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb; `inverse` is None where nothing takes it back. Of its arguments `optional` may be left out."""

    name: str
    meaning: str
    arguments: tuple[str, ...]
    inverse: str | None
    optional: tuple[str, ...] = ()


_TABLE: Final = (
    Verb(
        "bind",
        "binds the function to `driver`, or with None to no driver; its driver_override is `override` then, and where"
        " that is not said the driver if it is one of VFIO's, else none",
        ("driver", "override"),
        "bind",
        optional=("override",),
    ),
    Verb("create_mdev", "makes a mediated device of `type` with this `uuid`", ("type", "uuid"), "remove_mdev"),
    Verb("remove_mdev", "removes the mediated device `uuid`, which is of `type`", ("type", "uuid"), "create_mdev"),
    Verb(
        "set_vgpu_type",
        "makes the NVIDIA VF a vGPU of the `type` with this number, 0: none",
        ("type",),
        "set_vgpu_type",
    ),
    Verb(
        "set_vf_attributes",
        "sets for VF `index` of the PF what is not None: MAC, VLAN (0: none), trust (0, 1), rate (Mbit/s, 0: any)",
        ("index", "mac", "vlan", "trust", "rate"),
        "set_vf_attributes",
    ),
    Verb("set_vf_count", "makes the PF have `count` VFs", ("count",), "set_vf_count"),
    Verb(
        "create_mig",
        "makes a GPU instance of `profile` and one compute instance that fills it; without `placement` (the first"
        " memory slice) the driver chooses, and what is found tells it",
        ("profile", "placement"),
        "destroy_mig",
    ),
    Verb("destroy_mig", "removes the GPU instance of `profile` at `placement`", ("profile", "placement"), "create_mig"),
    Verb("set_mig_mode", "turns MIG on (1) or off (0)", ("enabled",), "set_mig_mode"),
    Verb(
        "program_fpga",
        "loads the image with this `digest` into `region` (None: the only one) for the slot `port` (None: all);"
        " the region's interface id must be `interface`, unless that is None",
        ("region", "port", "digest", "interface"),
        "program_fpga",
    ),
    Verb("reset", "resets the function by `method`, or with None as the kernel prefers", ("method",), None),
    Verb(
        "scrub",
        "wipes what a tenant left, in the way that `how` names; an NVMe drive only if it has the number `serial`",
        ("how", "serial"),
        None,
        optional=("serial",),
    ),
)

VERBS: Final = {verb.name: verb for verb in _TABLE}

WIPING: Final = ("scrub", "program_fpga")
"""In a release: what destroys what is on the device, whoever's that is."""


def inverse(step: Step) -> Step | None:
    """Gives the step that takes `step` back, itself taken back by `step`; None where nothing does."""
    name = VERBS[step.verb].inverse
    return None if step.undo is None or name is None else Step(name, step.target, step.undo, step.arguments)
