# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""FPGA cards with a Device Feature List (Intel PAC, OFS), driven by the kernel's dfl-pci.

What the files look like below a card's PCI function (an N6001):

    fpga_region/region0/dfl-fme.0/ports_num                                            1
    fpga_region/region0/dfl-fme.0/bitstream_id                                         0x5010202aecbd6e5
    fpga_region/region0/dfl-fme.0/dfl-fme-region.1/fpga_region/region1/compat_id       ce3139c959cf528ca27751c50829797a
    fpga_region/region0/dfl-port.0/afu_id                                              56e203e9864f49a7b94b12284c31e02b
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, FpgaFacts, Kind, Mode
from devagent.model.custom import custom
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
_REGION: Final = "fpga_region/*/dfl-fme.*/dfl-fme-region.*/fpga_region/*/compat_id"
_AFU: Final = "fpga_region/*/dfl-port.*/afu_id"


class Dfl(Driver):
    """Claims what dfl-pci drives or is known to drive."""

    name = "dfl"
    specificity = Specificity.FAMILY
    reads = (_REGION, _AFU)

    def recognises(self, function: Function) -> bool:
        """Tells whether dfl-pci is bound, or the ids are in its table."""
        return function.driver == "dfl-pci" or (function.vendor_id, function.device_id) in MODELS

    def claim(self, function: Function) -> Claim:
        """Offers the card, or its VFs, each of which is one port with its accelerator function."""
        model = MODELS.get((function.vendor_id, function.device_id), f"DFL FPGA [{function.device_id}]")
        if function.device_id in ("bcce", "bccf") and function.subsystem_device_id in _CARDS:
            model = model.replace("DFL FPGA", _CARDS[function.subsystem_device_id])
        regions = {path: text for path, text in function.attributes.items() if path.endswith("/compat_id")}
        facts = FpgaFacts(
            interface_id=_first_uuid(regions.values()),
            regions=tuple(sorted(path.split("/")[-2] for path in regions)),
            loaded=_first_uuid(text for path, text in function.attributes.items() if path.endswith("/afu_id")),
        )
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.FPGA,
            vendor=vendor_name(function.vendor_id),
            model=model,
            offers={Mode.WHOLE: "FPGA", Mode.VF: custom("FPGA_VF")},
            traits=_traits(facts),
            fpga=facts,
        )


def _first_uuid(texts: Iterable[str]) -> str | None:
    return next((text for text in (text.lower() for text in texts) if _UUID.fullmatch(text)), None)


def _traits(facts: FpgaFacts) -> frozenset[str]:
    """Names what a scheduler asks for: the region that a bitstream must fit, and the function loaded now."""
    traits = set()
    if facts.interface_id:
        traits.add(custom("FPGA_REGION", facts.interface_id))
    if facts.loaded:
        traits.add(custom("FPGA_FUNCTION", facts.loaded))
    return frozenset(traits)
