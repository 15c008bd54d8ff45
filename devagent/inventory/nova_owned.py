# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the devices that Nova gives away itself on this host: two managers of one device give it away twice.

Matches as Nova does (nova/pci/devspec.py): by ids, and by the address of the function; a single address
of a PF, or the name of its interface, stands for its VFs too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from devagent.model.claim import Claim
from devagent.model.nova import DeviceSpec, NovaDevices
from devagent.model.pci import Function
from devagent.model.snapshot import Snapshot

_PARTS: Final = ("domain", "bus", "slot", "function")
# Nova leaves out what is behind Intel VMD and Hyper-V, whose domains have more digits (bug 1897528).
_DOMAIN_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class NovaOwned:
    """Tells of each function whether Nova's configuration takes it."""

    specs: tuple[_Spec, ...] = ()
    mdev_types: Mapping[str, str] | None = None
    default_type: str | None = None

    def device(self, function: Function) -> str | None:
        """Says why `function` itself is Nova's; None if it is not."""
        return next((spec.reason for spec in self.specs if spec.matches(function, None)), None)

    def vf(self, vf: Function, pf: Function) -> str | None:
        """Says why `vf` is Nova's; None if it is not."""
        return next((spec.reason for spec in self.specs if spec.matches(vf, pf.address)), None)

    def mdevs(self, address: str, claim: Claim | None) -> str | None:
        """Says which mediated devices Nova makes of the parent at `address`; None if it makes none.

        `claim` tells the types that the parent knows; what it does not know Nova cannot make.
        """
        enabled = (self.mdev_types or {}).get(address, self.default_type)
        known = {each.id for each in claim.mdev.types} if claim and claim.mdev else set()
        if enabled is None or (known and enabled not in known):
            return None
        return f"is managed by Nova: its enabled_mdev_types has {enabled}"


def nova_owned(snapshot: Snapshot) -> NovaOwned:
    """Prepares what Nova's configuration says, once for all devices."""
    nova = snapshot.nova
    if nova == NovaDevices():
        return NovaOwned()
    specs = (_spec(spec, snapshot) for spec in nova.specs)
    return NovaOwned(
        specs=tuple(spec for spec in specs if spec is not None),
        mdev_types={address: name for name, addresses in nova.mdev_types for address in addresses},
        # Of several types without addresses, Nova takes the first for all other parents.
        default_type=next((name for name, addresses in nova.mdev_types if not addresses), None),
    )


@dataclass(frozen=True, slots=True)
class _Spec:
    """One spec: the ids and the four parts of the address that must match; `of_pf`: it stands for the VFs too."""

    reason: str
    ids: tuple[str | None, str | None]
    parts: tuple[re.Pattern[str], ...]
    of_pf: bool

    def matches(self, function: Function, pf: str | None) -> bool:
        vendor, product = self.ids
        return (
            vendor in (None, function.vendor_id)
            and product in (None, function.device_id)
            and ((self.of_pf and pf is not None and self._at(pf)) or self._at(function.address))
        )

    def _at(self, address: str) -> bool:
        parts = _split(address)
        if len(parts[0]) > _DOMAIN_DIGITS:
            return False
        return all(pattern.match(part) for pattern, part in zip(self.parts, parts, strict=True))


def _spec(spec: DeviceSpec, snapshot: Snapshot) -> _Spec | None:
    address = spec.keys.get("address", None if "devname" in spec.keys else "*:*:*.*")
    if address is None:  # no such interface now: Nova takes nothing
        return None
    if isinstance(address, str):
        texts = _split(address)
        patterns = [".*" if text == "*" else rf"{text}\Z" for text in texts]
    else:
        texts = patterns = [cast("Mapping[str, str]", address)[part] for part in _PARTS]
    return _Spec(
        reason=f"is managed by Nova: device_spec {spec.text} in {spec.origin}",
        ids=(_text(spec.keys.get("vendor_id")), _text(spec.keys.get("product_id"))),
        parts=tuple(map(re.compile, patterns)),
        of_pf=_is_pf(snapshot.functions.get("{}:{}:{}.{}".format(*texts))),
    )


def _is_pf(function: Function | None) -> bool:
    return function is not None and function.sriov is not None and function.sriov.total_vfs > 0


def _split(address: str) -> list[str]:
    rest, _, function = address.rpartition(".")
    return [*rest.split(":"), function]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
