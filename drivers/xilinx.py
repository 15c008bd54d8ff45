# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""AMD (Xilinx) Alveo cards with the Xilinx runtime (XRT): a management PF and a user PF.

Below the management PF, driver xclmgmt, and below the user PF, driver xocl (`.u.` in place of `.m.`):

    rom.m.0/VBNV             xilinx_u250_gen3x16_xdma_shell_4_1
    xmc.m.0/serial_num       213304043022
    dna.m.0/dna              00000000400200000116e26500a04142
    interface_uuids          c5d8d1a5ba0ba6b8a8e6d4d9a4b6bd2e       base first, then shell
    logic_uuids              4a9ba9b5ac8bc0ec9bf1d8bb9f62f1c3
    ready                    1
    dev_offline              0
    xclbinuuid               e1a8d4f0c55b4b8a8d2f8f8a3d6c7b21       of the user PF: what is loaded

Which PF is which follows from the device id alone: even is management, odd is user.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, FpgaFacts, Kind, Mode
from devagent.model.custom import custom
from devagent.model.health import Health, State
from devagent.model.identity import Identity
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# XRT's driver table (xocl/devices.h) and pci.ids 2026.10.24, by the id of the management PF.
_CARDS: Final = {
    "5000": "Alveo U200",
    "5004": "Alveo U250",
    "500c": "Alveo U280",
    "5020": "Alveo U50",
    "503c": "Alveo U30",
    "5044": "VCK5000",
    "5048": "VCK5000",
    "504e": "Alveo U26Z",
    "5050": "Alveo U25",
    "505c": "Alveo U55C",
    "506c": "Alveo U50C",
    "5074": "Alveo X3522PV",
    "5094": "Alveo V70",
    "50b0": "Alveo V70",
    "50b4": "Alveo V80",
    "513c": "Alveo U30",
    "6098": "VCK190",
}
# The image of the factory: it can do nothing but take a shell.
GOLDEN: Final = {
    "d000": "Alveo U200",
    "d004": "Alveo U250",
    "d00c": "Alveo U280",
    "d020": "Alveo U50",
    "d03c": "Alveo U30",
    "d04c": "Alveo U25",
}
MANAGEMENT: Final = {**_CARDS, **GOLDEN}
USER: Final = {f"{int(id, 16) + 1:04x}": card for id, card in _CARDS.items()}

_MANAGEMENT_STAYS: Final = "the management PF stays with the host; the card is given by its user PF"
_UNFLASHED: Final = "runs its golden image: its shell needs flashing first (xbmgmt program --base)"
# Of the card, by XMC or by the satellite controller of newer shells; then of the chip.
_SERIALS: Final = ("xmc.*/serial_num", "hwmon_sdm.*/serial_num")
_DNA: Final = "dna.*/dna"
_UUID: Final = re.compile("[0-9a-f]{32}")


class Xilinx(Driver):
    """Claims both PFs of Alveo cards."""

    name = "xilinx"
    specificity = Specificity.FAMILY
    asks = ("dev_offline", "interface_uuids", "logic_uuids", "ready", "rom.*/VBNV", "xclbinuuid", *_SERIALS, _DNA)

    def recognises(self, function: Function) -> bool:
        """Tells whether the ids are an Alveo card's."""
        return function.vendor_id == "10ee" and (function.device_id in MANAGEMENT or function.device_id in USER)

    def claim(self, function: Function) -> Claim:
        """Offers the user PF; the management PF is the host's, which guards the card's clocks and flash by it."""
        is_user = function.device_id in USER
        card = (USER if is_user else MANAGEMENT)[function.device_id]
        interfaces, loaded = _uuids(function, "interface_uuids"), _uuids(function, "xclbinuuid")
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.FPGA,
            vendor=vendor_name(function.vendor_id),
            model=card if is_user else f"{card} ({_role(function)})",
            offers={Mode.WHOLE: "FPGA"} if is_user else {},
            refusals={} if is_user else {Mode.WHOLE: _UNFLASHED if function.device_id in GOLDEN else _MANAGEMENT_STAYS},
            traits=frozenset(
                [custom("MODEL", card)]
                + [custom("FPGA_REGION", uuid) for uuid in interfaces]
                + [custom("FPGA_FUNCTION", uuid) for uuid in loaded]
            ),
            fpga=FpgaFacts(
                interface_id=interfaces[-1] if interfaces else None,  # the shell's: what an xclbin is made for
                loaded=next(iter(loaded), None),
                shell=_text(function, "rom.*/VBNV"),
            ),
            identities=tuple(_identities(function)),
            facts=tuple(_facts(function)),
            health=_health(function),
        )


def _role(function: Function) -> str:
    return "golden image" if function.device_id in GOLDEN else "management"


def _uuids(function: Function, name: str) -> list[str]:
    """Gives the UUIDs of a file, one per line, as 32 digits; zeros are none."""
    lines = function.attributes.get(name, "").lower().replace("-", "").split()[:16]
    return [line for line in lines if _UUID.fullmatch(line) and line.strip("0")]


def _text(function: Function, pattern: str) -> str | None:
    """Gives the text of the first file that fits, such as `rom.m.0/VBNV`; zeros are nothing."""
    texts = (text.strip()[:80] for text in function.texts(pattern))
    return next((text for text in texts if text.isprintable() and text.strip("0")), None)


def _identities(function: Function) -> Iterator[Identity]:
    """Gives the card's serial number, then its chip's."""
    serial = next(filter(None, (_text(function, pattern) for pattern in _SERIALS)), None)
    for source, text in (("xrt", serial), ("dna", _text(function, _DNA))):
        if text and re.fullmatch("(?:0x)?[0-9A-Za-z]{4,40}", text):
            yield Identity(source, text.removeprefix("0x"))


def _facts(function: Function) -> Iterator[tuple[str, str]]:
    if function.device_id in GOLDEN:
        yield "shell", "needs to be flashed"
    logic = _uuids(function, "logic_uuids")
    if logic:
        yield "shell UUIDs", ", ".join(logic)
    if function.driver == "xclmgmt":
        yield "warning", "XRT's udev rule lets every local user program the card through /dev/xclmgmt*"


def _health(function: Function) -> Health | None:
    """Judges by XRT's word."""
    if function.attributes.get("dev_offline") == "1":
        return Health(State.UNHEALTHY, ("is offline: XRT took it down, for a reset or for an error (dmesg says more)",))
    ready = function.attributes.get("ready")
    if ready == "0":
        return Health(State.SUSPECT, ("is not ready: XRT has not brought up its shell",))
    return Health(State.HEALTHY) if ready == "1" else None
