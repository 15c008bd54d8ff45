# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How the policy wants one device to be given and taken back."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from devagent.model.claim import Mode


class Reset(enum.StrEnum):
    """Whether a function is reset between two consumers; `required`: one that cannot be is not given at all."""

    NEVER = "never"
    POSSIBLE = "possible"
    REQUIRED = "required"


class Scrub(enum.StrEnum):
    """What is wiped between two consumers besides a reset, and how; the device's own driver does it."""

    NVME_FORMAT = "nvme-format"
    NVME_SANITIZE = "nvme-sanitize"
    GPU_RESET = "gpu-reset"
    FPGA_BLANK = "fpga-blank"


@dataclass(frozen=True, slots=True)
class Treatment:
    """How one device is treated, of which a consumer gets what `mode` says.

    `driver` is the VFIO driver to give it with, None for what the kernel offers. `keep`: between two
    consumers it stays on that driver. `types` names, by resource class, the type of mediated device or
    vGPU that the class stands for; None leaves the choice to the consumer. `vf_indexes`
    None gives every VF. `blank` is the digest (sha256, 64 hex digits) of the image that wipes an FPGA.
    """

    mode: Mode
    driver: str | None = None
    keep: bool = False
    reset: Reset = Reset.POSSIBLE
    scrub: Scrub | None = None
    blank: str | None = None
    types: Mapping[str, str | None] = field(default_factory=dict)
    vf_indexes: frozenset[int] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a wipe without the image that it needs, or an image without a use."""
        if (self.scrub is Scrub.FPGA_BLANK) != (self.blank is not None):
            raise ValueError("the digest of a blank image goes with scrub fpga-blank, and it with the digest")

    @classmethod
    def usual(cls, mode: Mode | None) -> Treatment:
        """Gives how a device is treated of which no rule says more than its mode; without one it is given whole."""
        return cls(mode or Mode.WHOLE)

    @property
    def wipe(self) -> Mapping[str, str | None] | None:
        """How it is wiped, as a plan remembers it; None if it is not."""
        return None if self.scrub is None else {"how": self.scrub.value, "image": self.blank}


def wiped(treatment: Treatment, wipe: Mapping[str, str | None]) -> Treatment:
    """Gives how a device is treated that was to be wiped when it was given, whatever the policy says by now.

    How, the policy may say anew: what was wanted then may be what this device cannot do.
    """
    if treatment.scrub is not None:
        return treatment
    return replace(treatment, scrub=Scrub(str(wipe["how"])), blank=wipe["image"])
