# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""FPGAs on PCI with a plain fpga_manager of the kernel, such as Altera's CvP.

    fpga_manager/fpga0/name       Altera CvP FPGA Manager @0000:65:00.0
    fpga_manager/fpga0/state      operating
    fpga_manager/fpga0/status     reconfig CRC error                      a line per error, or none
    fpga_region/region0/compat_id

The last holds 32 hex digits where the driver knows which images fit.
"""

from __future__ import annotations

import re
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, FpgaFacts, Kind, Mode
from devagent.model.custom import custom
from devagent.model.health import Health, State
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# Functions of these vendors can be any class; 12 is `processing accelerator`.
_VENDORS: Final = ("1172", "10ee")
# XRT's drivers make an fpga_manager too, for cards that the driver xilinx knows better.
_XRT: Final = ("xclmgmt", "xocl")
_COMPAT_ID: Final = re.compile("[0-9a-f]{32}")
# drivers/fpga/fpga-mgr.c of Linux 7.2, errors apart: each state but the first can end in one.
_STATES: Final = frozenset(
    {"power off", "power up", "reset", "firmware request", "parse header", "write init", "write", "write complete"}
)


class FpgaManager(Driver):
    """Claims functions below which the kernel has an fpga_manager, and all of Altera's."""

    name = "fpga_manager"
    specificity = Specificity.FAMILY
    reads = ("fpga_manager/*/name", "fpga_manager/*/state", "fpga_region/*/compat_id")
    asks = ("fpga_manager/*/status",)

    def recognises(self, function: Function) -> bool:
        """Tells whether it can be an FPGA: by vendor, or by the class of accelerators."""
        return function.driver not in _XRT and (function.vendor_id in _VENDORS or function.class_code.startswith("12"))

    def claim(self, function: Function) -> Claim | None:
        """Offers the function if there is a manager; Altera's stays an FPGA on vfio-pci too."""
        managers = function.names("fpga_manager")
        if not managers and function.vendor_id != "1172":
            return None
        regions = function.names("fpga_region")
        ids = [function.attributes.get(f"fpga_region/{region}/compat_id", "").lower() for region in regions]
        ids = [text for text in ids if _COMPAT_ID.fullmatch(text)]
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.FPGA,
            vendor=vendor_name(function.vendor_id),
            model=f"FPGA [{function.device_id}]",
            offers={Mode.WHOLE: "FPGA", Mode.VF: custom("FPGA_VF")},
            traits=frozenset(custom("FPGA_REGION", text) for text in ids),
            fpga=FpgaFacts(ids[0] if ids else None, regions, state=_state(function, managers)),
            facts=tuple(_facts(function, managers)),
            health=_health(function, managers),
        )


def _state(function: Function, managers: tuple[str, ...]) -> str | None:
    """Gives the first state that says something is wrong, else the first manager's; `unknown` is None."""
    texts = [function.attributes.get(f"fpga_manager/{manager}/state", "") for manager in managers]
    states = [text for text in texts if text == "operating" or text.removesuffix(" error") in _STATES]
    return next((text for text in states if text.endswith(" error")), next(iter(states), None))


def _facts(function: Function, managers: tuple[str, ...]) -> list[tuple[str, str]]:
    names = [function.attributes.get(f"fpga_manager/{manager}/name", "")[:80] for manager in managers]
    names = [name for name in names if name and name.isprintable()]
    return [("manager", ", ".join(names))] if names else []


def _health(function: Function, managers: tuple[str, ...]) -> Health | None:
    """Judges by the state, whose name ends in `error` after a failed load, and by the status lines."""
    state = _state(function, managers)
    reasons = []
    for manager in managers:
        if function.attributes.get(f"fpga_manager/{manager}/state", "") == state and (state or "").endswith(" error"):
            reasons.append(f"{manager} is in state {state!r}: its last load failed")
        lines = function.attributes.get(f"fpga_manager/{manager}/status", "").splitlines()[:8]
        reasons += [f"{manager} says {line.strip()[:80]!r}" for line in lines if line.strip()]
    if reasons:
        return Health(State.UNHEALTHY, tuple(reasons))
    return Health(State.HEALTHY) if state == "operating" else None
