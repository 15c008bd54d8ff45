# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""FPGAs on PCI with a plain fpga_manager of the kernel, such as Altera's CvP.

    fpga_manager/fpga0/name     Altera CvP FPGA Manager @0000:65:00.0
    fpga_manager/fpga0/state    operating
    fpga_region/region0/compat_id

The last holds 32 hex digits where the driver knows which images fit.
"""

from __future__ import annotations

import re
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, FpgaFacts, Kind, Mode
from devagent.model.custom import custom
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# Functions of these vendors can be any class; 12 is `processing accelerator`.
_VENDORS: Final = ("1172", "10ee")
_COMPAT_ID: Final = re.compile("[0-9a-f]{32}")


class FpgaManager(Driver):
    """Claims functions below which the kernel has an fpga_manager, and all of Altera's."""

    name = "fpga_manager"
    specificity = Specificity.FAMILY
    reads = ("fpga_manager/*/name", "fpga_manager/*/state", "fpga_region/*/compat_id")

    def recognises(self, function: Function) -> bool:
        """Tells whether it can be an FPGA: by vendor, or by the class of accelerators."""
        return function.vendor_id in _VENDORS or function.class_code.startswith("12")

    def claim(self, function: Function) -> Claim | None:
        """Offers the function if there is a manager; Altera's stays an FPGA on vfio-pci too."""
        managers = function.names("fpga_manager")
        if not managers and function.vendor_id != "1172":
            return None
        regions = function.names("fpga_region")
        ids = (function.attributes.get(f"fpga_region/{region}/compat_id", "").lower() for region in regions)
        interface_id = next((text for text in ids if _COMPAT_ID.fullmatch(text)), None)
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.FPGA,
            vendor=vendor_name(function.vendor_id),
            model=f"FPGA [{function.device_id}]",
            offers={Mode.WHOLE: "FPGA", Mode.VF: custom("FPGA_VF")},
            traits=frozenset({custom("FPGA_REGION", interface_id)}) if interface_id else frozenset(),
            fpga=FpgaFacts(interface_id=interface_id, regions=regions),
        )
