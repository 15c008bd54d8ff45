# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which devices of a domain are devagent's, and what is asked for in their names.

    domain's functions ── physfn ──> PF ── GET /v1/devices/PF ──> managed, or owner nova: one group, by its address
                                                              └─> else: nothing of devagent's

Mediated devices are made by whoever allocates them, never here: of those it is only known whose they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from devagent.errors import DomainError
from devagent.integration.domain import Domain
from devagent.sources.host import Tree

Document = dict[str, Any]
Known = Callable[[str], Document | None]

PREFIX: Final = "devagent:"
# Of a flavor's extra specs, and what kind of device each is for. How a device is wiped is the policy's matter alone.
KINDS: Final = {
    "bitstream": "fpga",
    "mac": "nic",
    "vlan": "nic",
    "trust": "nic",
    "rate": "nic",
    "vgpu_type": "gpu",
    "mdev_type": "gpu",
    "mig_profile": "gpu",
}
_CLASS: Final = "PCI_DEVICE"
"""Stands for what Nova tracks itself: the agent asks nobody for an inventory of it."""


def groups(domain: Domain, known: Known, tree: Tree) -> list[Document]:
    """Gives what to ask for, sorted by address: all that `known` knows of the domain's devices as devagent's.

    `known` gives a device as the API has it, by its address. Raises DomainError.
    """
    foreign = [mdev for mdev in domain.mdevs if _of_mdev(mdev, known, tree)]
    if foreign:
        why = "was not made for this server: who allocated it prepares it, and puts the handle's UUID into the domain"
        raise DomainError(f"mediated device {', '.join(foreign)} {why}")
    cards = {address: known(card(address, tree)) for address in sorted(set(domain.functions))}
    ours = {address: found for address, found in cards.items() if found is not None}
    asked = _asked(domain)
    unfit = sorted(name for name in asked if KINDS[name] not in {found["kind"] for found in ours.values()})
    if unfit:
        wanted = ", ".join(f"{PREFIX}{name}" for name in unfit)
        raise DomainError(f"{wanted} of the flavor is for a {KINDS[unfit[0]]}, and devagent has none for this server")
    return [_group(address, found, asked) for address, found in ours.items()]


def lacking(domain: Domain, prepared: Document, known: Known, tree: Tree) -> list[str]:
    """Gives those of a domain's devices that are devagent's and that its preparation has not."""
    given = {handle.get("uuid") or handle.get("address") for handle in prepared["handles"]}
    functions = [each for each in domain.functions if each not in given and known(card(each, tree))]
    return functions + [each for each in domain.mdevs if each not in given and _of_mdev(each, known, tree)]


def card(address: str, tree: Tree) -> str:
    """Gives the address of the PF for a VF's, else the same: `physfn -> ../0000:3b:00.0`."""
    link = tree.link(f"sys/bus/pci/devices/{address}/physfn")
    return link.rpartition("/")[2] if link else address


def _of_mdev(mdev: str, known: Known, tree: Tree) -> Document | None:
    """Gives the device behind a mediated one: `UUID -> ../../../devices/pci0000:00/0000:00:02.0/UUID`."""
    link = tree.link(f"sys/bus/mdev/devices/{mdev}")
    return known(card(link.split("/")[-2], tree)) if link and link.count("/") else None


def _asked(domain: Domain) -> dict[str, str]:
    """Gives the properties that the flavor asks for. Raises DomainError."""
    specs = {name.removeprefix(PREFIX): text for name, text in domain.extra_specs.items() if name.startswith(PREFIX)}
    unknown = sorted(set(specs) - set(KINDS))
    if unknown:
        names = ", ".join(PREFIX + name for name in unknown)
        raise DomainError(f"{names} of the flavor is unknown to devagent; known are {', '.join(sorted(KINDS))}")
    return specs


def _group(address: str, device: Document, asked: Mapping[str, str]) -> Document:
    group: Document = {"provider": device["id"], "resources": {_CLASS: 1}, "address": address}
    properties = {name: text for name, text in sorted(asked.items()) if KINDS[name] == device["kind"]}
    if properties:
        group["properties"] = properties
    if device["decision"]["owner"]:
        return {**group, "owner": device["decision"]["owner"]}
    classes = sorted((device["placement"] or {}).get("inventories", ()))
    if len(classes) != 1:
        given = ", ".join(classes) or "nothing now"
        raise DomainError(f"{address} is of a device that gives {given}: who allocated it must have it prepared first")
    return {**group, "resources": {classes[0]: 1}}
