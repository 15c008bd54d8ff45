# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What an FPGA is to be programmed with, as the ways of programming are given it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devagent.privileged.device import Device
from devagent.privileged.images import Image
from devagent.privileged.refused import PERMANENT, RETRY


@dataclass(frozen=True, slots=True)
class Job:
    """An image for `region` (None: the only one) and the slot `port` (None: all).

    The region's interface id must be `interface`, unless that is None.
    """

    device: Device
    image: Image
    region: str | None
    port: int | None
    interface: str | None = None

    def fits(self, interfaces: Sequence[str]) -> None:
        """Raises VerbRefused unless what is wanted, and what the image is for, are among these ids of interfaces."""
        has, theirs = " ".join(interfaces) or "none", self.image.header.interface_id
        if self.interface is not None and self.interface not in interfaces:
            raise self.device.refusal(RETRY, f" has the interface {has} now, and not {self.interface}")
        if theirs is not None and theirs not in interfaces:
            raise self.device.refusal(PERMANENT, f" has the interface {has}, its image is for {theirs}")
