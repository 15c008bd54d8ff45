# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Intel QuickAssist (QAT) accelerators for cryptography and compression."""

from __future__ import annotations

import re
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import custom
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# drivers/crypto/intel/qat of Linux 7.2.
MODELS: Final = {
    "0435": "QAT DH895xCC",
    "18a0": "QAT C4xxx",
    "18ee": "QAT 200xx",
    "19e2": "QAT C3xxx",
    "37c8": "QAT C62x",
    "4940": "QAT 4xxx",
    "4942": "QAT 401xx",
    "4944": "QAT 402xx",
    "4946": "QAT 420xx",
    "4948": "QAT 6xxx",
    "6f54": "QAT D15xx",
}
# vfio-pci refuses these and their VFs (drivers/vfio/pci/vfio_pci.c, vfio_pci_dev_in_denylist).
_DENIED: Final = frozenset({"0435", "19e2", "37c8"})


class Qat(Driver):
    """Claims the PFs of the QAT generations."""

    name = "qat"
    specificity = Specificity.FAMILY
    reads = ("qat/cfg_services", "qat/state")

    def recognises(self, function: Function) -> bool:
        """Tells whether the ids are a QAT PF's."""
        return function.vendor_id == "8086" and function.device_id in MODELS

    def claim(self, function: Function) -> Claim:
        """Offers VFs only: the PF is the host's, and enables all its VFs or none."""
        refusals = {Mode.WHOLE: "a QAT PF stays with the host; give its VFs"}
        denied = function.device_id in _DENIED
        if denied:
            refusals[Mode.VF] = "vfio-pci refuses this QAT generation (its denylist: the device is unsafe in a guest)"
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.QAT,
            vendor=vendor_name(function.vendor_id),
            model=MODELS[function.device_id],
            offers={} if denied else {Mode.VF: custom("QAT_VF")},
            refusals=refusals,
            traits=frozenset(custom("QAT_SERVICE", name) for name in _services(function)),
        )


def _services(function: Function) -> list[str]:
    """Gives the configured services: `sym;asym`, `dc` (ABI/testing/sysfs-driver-qat)."""
    return re.findall("[a-z]+", function.attributes.get("qat/cfg_services", ""))
