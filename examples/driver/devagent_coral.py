# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Google's Coral Edge TPU, a PCIe accelerator.

What its kernel driver tells below its PCI function (google/gasket-driver, src/gasket_core.c):

    apex/apex_0/status           ALIVE
    apex/apex_0/driver_version   1.2
"""

from __future__ import annotations

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.custom import custom
from devagent.model.health import Health, State
from devagent.model.pci import Function


class Coral(Driver):
    """Claims Edge TPUs, each to be given as a whole."""

    name = "coral"
    specificity = Specificity.FAMILY
    reads = ("apex/*/status", "apex/*/driver_version")

    def recognises(self, function: Function) -> bool:
        """Tells by the ids, which the device has whether or not its driver is there."""
        return (function.vendor_id, function.device_id) == ("1ac1", "089a")

    def claim(self, function: Function) -> Claim:
        """Offers the whole device."""
        told = {path.rpartition("/")[2]: text for path, text in function.attributes.items() if path.startswith("apex/")}
        return Claim(
            driver=self.name,
            address=function.address,
            kind=Kind.ACCELERATOR,
            vendor="Google",
            model="Coral Edge TPU",
            offers={Mode.WHOLE: custom("CORAL_EDGE_TPU")},
            facts=(("apex driver", told["driver_version"]),) if "driver_version" in told else (),
            health=_health(told.get("status")),
        )


def _health(status: str | None) -> Health | None:
    if status == "ALIVE":
        return Health(State.HEALTHY)
    return Health(State.UNHEALTHY, (f"its driver says {status}",)) if status in ("DEAD", "LAMED") else None
