# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Intel QuickAssist (QAT) accelerators for cryptography and compression.

Below a PF of the generations 4xxx and 6xxx (ABI/testing/sysfs-driver-qat):

    qat/state           up
    qat/cfg_services    sym;asym
    qat/num_rps         64
"""

from __future__ import annotations

import re
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import custom
from devagent.model.health import Health, State
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
    reads = ("qat/cfg_services", "qat/num_rps", "qat/state")

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
            facts=_facts(function),
            health=_health(function),
        )


def _services(function: Function) -> list[str]:
    """Gives the configured services: `sym;asym`, `dc`."""
    return re.findall("[a-z]+", function.attributes.get("qat/cfg_services", "")[:80])


def _facts(function: Function) -> tuple[tuple[str, str], ...]:
    services, rings = ", ".join(_services(function)), function.attributes.get("qat/num_rps", "")
    found = [("services", services)] if services else []
    if re.fullmatch("[0-9]{1,4}", rings):
        found.append(("ring pairs", rings))
    if function.sriov is not None:
        found.append(("VFs", f"all {function.sriov.total_vfs} or none"))
    return tuple(found)


def _health(function: Function) -> Health | None:
    """Judges by the PF's state: while it is down, none of its VFs answers."""
    state = function.attributes.get("qat/state")
    if state == "up":
        return Health(State.HEALTHY)
    if state == "down":
        return Health(State.UNHEALTHY, ("is down: its VFs do not work until `up` is written to qat/state",))
    return None
