# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""FPGA cards with a Device Feature List (Intel PAC, OFS), driven by the kernel's dfl-pci.

What the files look like below a card's PCI function (an N6001):

    fpga_region/region0/dfl-fme.0/ports_num                                            1
    fpga_region/region0/dfl-fme.0/bitstream_id                                         0x5010202aecbd6e5
    fpga_region/region0/dfl-fme.0/dfl-fme-region.1/fpga_region/region1/compat_id       ce3139c959cf528ca27751c50829797a
    fpga_region/region0/dfl-fme.0/errors/fme_errors                                    0x0
    fpga_region/region0/dfl-port.0/afu_id                                              56e203e9864f49a7b94b12284c31e02b
    fpga_region/region0/dfl-port.0/power_state                                         0x0

afu_id answers EBUSY while its port is disabled, which is no fault; the base region has a compat_id that
answers ENOENT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, FpgaFacts, Kind, Mode
from devagent.model.custom import custom
from devagent.model.health import Health, State
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# drivers/fpga/dfl-pci.c of Linux 7.2: PFs, then VFs (met as plain functions inside a guest).
MODELS: Final = {
    ("8086", "09c4"): "PAC Arria 10 GX",
    ("8086", "0b2b"): "PAC D5005",
    ("8086", "0b30"): "PAC N3000",
    ("8086", "bcbd"): "Xeon FPGA 5.x",
    ("8086", "bcc0"): "Xeon FPGA 6.x",
    ("8086", "bcce"): "DFL FPGA",
    ("1c2c", "1000"): "N5010",
    ("1c2c", "1001"): "N5011",
    ("8086", "09c5"): "PAC Arria 10 GX VF",
    ("8086", "0b2c"): "PAC D5005 VF",
    ("8086", "bcbf"): "Xeon FPGA 5.x VF",
    ("8086", "bcc1"): "Xeon FPGA 6.x VF",
    ("8086", "bccf"): "DFL FPGA VF",
}
# bcce and bccf are generic; the subsystem tells the card.
_CARDS: Final = {"138d": "PAC D5005", "1770": "N6000", "1771": "N6001", "17d4": "C6100"}

_UUID: Final = re.compile("[0-9a-f]{32}")
_FME: Final = "fpga_region/*/dfl-fme.*"
_PORT: Final = "fpga_region/*/dfl-port.*"
# Each is a register; cleared by writing back what was read.
_ERRORS: Final = {
    "catfatal_errors": State.UNHEALTHY,
    "fme_errors": State.SUSPECT,
    "nonfatal_errors": State.SUSPECT,
    "pcie0_errors": State.SUSPECT,
    "pcie1_errors": State.SUSPECT,
}
# ABI/testing/sysfs-platform-dfl-port: the card's power limits in two steps, and its thermal shutdown.
_POWER: Final = {
    1: (State.SUSPECT, "is throttled (power state AP1)"),
    2: (State.SUSPECT, "is throttled hard (power state AP2)"),
    6: (State.UNHEALTHY, "is shut down by heat (power state AP6)"),
}


class Dfl(Driver):
    """Claims what dfl-pci drives or is known to drive."""

    name = "dfl"
    specificity = Specificity.FAMILY
    reads = (
        f"{_FME}/dfl-fme-mgr.*/fpga_manager/*/state",
        f"{_FME}/dfl-fme-region.*/fpga_region/*/compat_id",
    )
    # All the rest are registers of the card.
    asks = (
        *(f"{_FME}/errors/{name}" for name in _ERRORS),
        f"{_FME}/bitstream_id",
        f"{_FME}/ports_num",
        f"{_PORT}/afu_id",
        f"{_PORT}/errors/errors",
        f"{_PORT}/power_state",
    )

    def recognises(self, function: Function) -> bool:
        """Tells whether dfl-pci is bound, or the ids are in its table."""
        return function.driver == "dfl-pci" or (function.vendor_id, function.device_id) in MODELS

    def claim(self, function: Function) -> Claim:
        """Offers the card, or its VFs, each of which is one port with its accelerator function."""
        model = MODELS.get((function.vendor_id, function.device_id), f"DFL FPGA [{function.device_id}]")
        if function.device_id in ("bcce", "bccf") and function.subsystem_device_id in _CARDS:
            model = model.replace("DFL FPGA", _CARDS[function.subsystem_device_id])
        interfaces, loaded = _uuids(function, "compat_id"), _uuids(function, "afu_id")
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.FPGA,
            vendor=vendor_name(function.vendor_id),
            model=model,
            offers={Mode.WHOLE: "FPGA", Mode.VF: custom("FPGA_VF")},
            traits=frozenset(
                # What a scheduler asks for: the regions that a bitstream must fit, and the functions loaded now.
                [custom("FPGA_REGION", uuid) for uuid in interfaces]
                + [custom("FPGA_FUNCTION", uuid) for uuid in loaded]
            ),
            fpga=_fpga(function, interfaces, loaded),
            facts=tuple(_facts(function)),
            health=_health(function),
        )


def _files(function: Function, name: str) -> list[tuple[str, str]]:
    """Gives the device (`dfl-port.0`, `region1`) and text of each file of that name."""
    end = f"/{name}"
    found = [(path[: -len(end)], text) for path, text in function.attributes.items() if path.endswith(end)]
    return [(folder.rpartition("/")[2], text) for folder, text in sorted(found)]


def _uuids(function: Function, name: str) -> list[str]:
    texts = (text.lower() for _, text in _files(function, name))
    return [text for text in texts if _UUID.fullmatch(text)]


def _fpga(function: Function, interfaces: list[str], loaded: list[str]) -> FpgaFacts:
    """Gives the facts; of several regions, interfaces and functions the first stands for all."""
    shells = [text.lower() for _, text in _files(function, "bitstream_id") if _number(text)]
    states = [text for _, text in _files(function, "state") if text.isprintable() and text not in ("", "unknown")]
    ports = _ports(function)
    return FpgaFacts(
        interface_id=next(iter(interfaces), None),
        regions=tuple(region for region, _ in _files(function, "compat_id")),
        loaded=next(iter(loaded), None),
        shell=next(iter(shells), None),
        ports=ports,
        state=states[0][:40] if states else None,
    )


def _ports(function: Function) -> int | None:
    texts = [text for _, text in _files(function, "ports_num")]
    return int(texts[0]) if texts and re.fullmatch("[0-9]{1,2}", texts[0]) else None


def _facts(function: Function) -> Iterator[tuple[str, str]]:
    # A port that was released, for a VF to have it, is no device of the PF any more.
    ports, held = _ports(function), len(_files(function, "power_state"))
    hidden = any(path.endswith("power_state") for path in function.unread)
    if ports is not None and held <= ports and not hidden:
        yield "ports", f"{held} with the PF, {ports - held} released for VFs"
    for port, text in _files(function, "afu_id"):
        if _UUID.fullmatch(text.lower()):
            yield f"function of {port}", text.lower()


def _health(function: Function) -> Health | None:
    """Judges by the card's error registers and its ports' power; without any, nothing is known."""
    health = None
    for name, state in _ERRORS.items():
        for device, text in _files(function, f"errors/{name}"):
            health = _worse(health, _number(text), state, f"{device} reports {name} {text}")
    for device, text in _files(function, "errors/errors"):
        health = _worse(health, _number(text), State.SUSPECT, f"{device} reports errors {text}")
    for device, text in _files(function, "power_state"):
        number = _number(text)
        state, what = _POWER.get(number or 0, (State.SUSPECT, f"is in power state {text}"))
        health = _worse(health, number, state, f"{device} {what}")
    return health


def _worse(health: Health | None, number: int | None, state: State, reason: str) -> Health | None:
    """Adds one register, in which zero is well; one that is no number says nothing."""
    if number is None:
        return health
    return (health or Health()) | (Health(state, (reason,)) if number else Health(State.HEALTHY))


def _number(text: str) -> int | None:
    return int(text, 16) if re.fullmatch("(?:0x)?[0-9a-fA-F]{1,16}", text) else None
