# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Any SR-IOV PF that no more specific driver knows: NICs above all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from devagent.driver import Driver, Specificity
from devagent.model.claim import Claim, Kind, Mode, NetFacts, NetInterface
from devagent.model.custom import pci_class
from devagent.model.identity import Identity
from devagent.model.pci import Function
from devagent.model.vendors import vendor_name

# pci.ids 2026.10.24.
MODELS: Final = {
    ("15b3", "1013"): "ConnectX-4",
    ("15b3", "1015"): "ConnectX-4 Lx",
    ("15b3", "1017"): "ConnectX-5",
    ("15b3", "1019"): "ConnectX-5 Ex",
    ("15b3", "101b"): "ConnectX-6",
    ("15b3", "101d"): "ConnectX-6 Dx",
    ("15b3", "101f"): "ConnectX-6 Lx",
    ("15b3", "1021"): "ConnectX-7",
    ("15b3", "1023"): "ConnectX-8",
    ("15b3", "1025"): "ConnectX-9",
    ("15b3", "a2d2"): "BlueField",
    ("15b3", "a2d6"): "BlueField-2",
    ("15b3", "a2d9"): "BlueField-3 Lx",
    ("15b3", "a2dc"): "BlueField-3",
    ("15b3", "a2df"): "BlueField-4",
    ("8086", "10fb"): "82599",
    ("8086", "1521"): "I350",
    ("8086", "1563"): "X550",
    ("8086", "1572"): "X710",
    ("8086", "1581"): "X710",
    ("8086", "1586"): "X710",
    ("8086", "15ff"): "X710",
    ("8086", "104e"): "X710",
    ("8086", "1583"): "XL710",
    ("8086", "1584"): "XL710",
    ("8086", "158a"): "XXV710",
    ("8086", "158b"): "XXV710",
    ("8086", "1591"): "E810-C",
    ("8086", "1592"): "E810-C",
    ("8086", "1593"): "E810-C",
    ("8086", "1599"): "E810-XXV",
    ("8086", "159a"): "E810-XXV",
    ("8086", "159b"): "E810-XXV",
    ("8086", "12d2"): "E830",
    ("8086", "12d3"): "E830",
    ("8086", "37d2"): "X722",
}

# What an interface in switchdev mode stands for (include/net/devlink.h): a VF, a scalable function or another
# host's PF, `pf0vf3`, `c1pf0vf3`, `pf0sf88`, `c1pf0`, `pf0hpf`. The NIC's own port is `p0`, or says nothing.
_REPRESENTOR: Final = re.compile(r"(?:c[0-9]+)?pf[0-9]+(?:(?:vf|sf)[0-9]+|hpf)?")
# systemd puts it at the end of an interface's name.
_REPRESENTOR_NAME: Final = re.compile(r".+n(?:c[0-9]+)?pf[0-9]+(?:vf|sf)[0-9]+")
_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_PERMANENT: Final = "0"
"""addr_assign_type of an address that is the NIC's own; that of a bonded one is 3."""
_LINK: Final = {"up": True, "down": False, "lowerlayerdown": False, "notpresent": False}


class Sriov(Driver):
    """Claims every function with the SR-IOV capability."""

    name = "sriov"
    specificity = Specificity.CAPABILITY
    reads = ("net/*/address", "net/*/addr_assign_type", "net/*/operstate")
    # These take the lock of all network configuration, and most ask the driver.
    asks = ("net/*/speed", "net/*/phys_port_name", "net/*/phys_switch_id")

    def recognises(self, function: Function) -> bool:
        """Tells whether VFs exist or could be made."""
        return function.is_divisible

    def claim(self, function: Function) -> Claim:
        """Offers the VFs, and the PF as a whole to a rule that asks for it by name."""
        kind, vf_class = _kind(function)
        net = _net(function) if kind is Kind.NIC else None
        return Claim(
            driver=self.name,
            address=function.address,
            kind=kind,
            vendor=vendor_name(function.vendor_id),
            model=MODELS.get((function.vendor_id, function.device_id), f"{_NOUNS[kind]} [{function.device_id}]"),
            offers={Mode.VF: vf_class, Mode.WHOLE: pci_class(function.vendor_id, function.device_id)},
            traits=_traits(net) if net else frozenset(),
            net=net,
            identities=tuple(_identities(function, net)) if net else (),
        )


_NOUNS: Final = {Kind.NIC: "NIC", Kind.OTHER: "SR-IOV device"}


def _kind(function: Function) -> tuple[Kind, str]:
    """Gives the kind by base class, and the resource class of a VF."""
    if function.class_code.startswith("02"):
        return Kind.NIC, "SRIOV_NET_VF"
    return Kind.OTHER, pci_class(function.vendor_id, function.vf_device_id)


def _net(function: Function) -> NetFacts:
    """Tells the NIC's own interfaces from those that stand for its VFs."""
    names = function.names("net")
    own = [name for name in names if not _is_representor(function, name)]
    return NetFacts(
        interfaces=tuple(_interface(function, name) for name in own),
        eswitch=_eswitch(function, own),
        representors=len(names) - len(own),
    )


def _is_representor(function: Function, name: str) -> bool:
    port = function.attributes.get(f"net/{name}/phys_port_name")
    return bool(_REPRESENTOR_NAME.fullmatch(name) if port is None else _REPRESENTOR.fullmatch(port))


def _interface(function: Function, name: str) -> NetInterface:
    mac, speed = _read(function, name, "address"), _read(function, name, "speed")
    return NetInterface(
        name,
        mac=mac if _MAC.fullmatch(mac) else None,
        link=_LINK.get(_read(function, name, "operstate")),
        # Without a link the speed is -1, or by older drivers 4294967295.
        speed_mbps=int(speed) if re.fullmatch("[1-9][0-9]{0,8}", speed) else None,
    )


def _eswitch(function: Function, interfaces: Iterable[str]) -> str | None:
    """In switchdev mode a port tells which switch it is part of; one that could not be asked tells nothing."""
    files = [f"net/{name}/phys_switch_id" for name in interfaces]
    if any(function.attributes.get(file) for file in files):
        return "switchdev"
    return None if not files or function.unread & {"answers", *files} else "legacy"


def _traits(net: NetFacts) -> frozenset[str]:
    return frozenset({"HW_NIC_SRIOV", *(["HW_NIC_OFFLOAD_SWITCHDEV"] if net.eswitch == "switchdev" else [])})


def _identities(function: Function, net: NetFacts) -> Iterator[Identity]:
    """Gives the first permanent MAC address, if there is one; a multicast or empty one is a driver's accident."""
    for interface in net.interfaces:
        mac = interface.mac
        permanent = _read(function, interface.name, "addr_assign_type") == _PERMANENT
        if permanent and mac is not None and not int(mac[:2], 16) & 1 and mac.strip("0:"):
            yield Identity("mac", mac)
            return


def _read(function: Function, interface: str, name: str) -> str:
    return function.attributes.get(f"net/{interface}/{name}", "")
