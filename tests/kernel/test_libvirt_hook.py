# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The libvirt hook, where a real libvirtd starts a QEMU with a VF of a real kernel that Nova's own tracking gave."""

from __future__ import annotations

from typing import Final

from . import libvirtd
from .daemon import Daemon
from .preparing import driver, nic, override, shown, vfs

_NOVA: Final = "/etc/nova/nova.conf"
_SPEC: Final = '[pci]\ndevice_spec = {"vendor_id": "8086", "product_id": "10ca", "managed": "no"}\n'
_RULES: Final = """
- name: nics
  match: {kind: nic, driver: igb}
  mode: vf
  owner: nova
"""


def test_a_domain_gets_its_vf_when_libvirt_starts_it_and_gives_it_back_however_it_ends(daemon: Daemon) -> None:
    pf = nic(daemon)
    daemon.guest.run("mkdir", "-p", "/etc/nova")
    daemon.guest.put(_NOVA, _SPEC)
    daemon.guest.set_vfs(pf, 4)
    daemon.configure(_RULES)
    daemon.start()
    vf, other = vfs(daemon, pf)[:2]
    before, own = state(daemon, vf), vlan(daemon, pf)
    one, two = server(daemon), server(daemon)
    with libvirtd.running(daemon.guest) as libvirt:
        libvirt.define("one", one, vf, vlan="120")
        libvirt.define("two", two, vf)

        libvirt.start("one")
        assert (libvirt.functions("one"), libvirt.opened("one", vf)) == ([vf], True)
        assert (state(daemon, vf), vlan(daemon, pf)) == (("vfio-pci", "vfio-pci"), 120)
        assert state(daemon, other) == before

        said = libvirt.refuses("two")
        assert f"devagent: two: the agent: {vf} is held by consumer {one}" in said
        assert "another host may have one" in said
        assert (libvirt.state("two"), libvirt.opened("one", vf)) == ("shut off (failed)", True)

        libvirt.destroy("one")
        daemon.until(lambda: (state(daemon, vf), vlan(daemon, pf)) == (before, own), f"{vf} is given back")

        libvirt.start("two")
        assert daemon.ask(f"/v1/preparations/{two}")["handles"][0]["address"] == vf
        assert (libvirt.opened("two", vf), vlan(daemon, pf)) == (True, own)
        libvirt.kill("two")
        daemon.until(lambda: state(daemon, vf) == before, f"{vf} is given back, though nobody ended its domain")
        assert libvirt.state("two") == "shut off (crashed)"
        daemon.until(lambda: not daemon.ask("/v1/preparations")["preparations"], "nothing is prepared any more")
    daemon.guest.run("rm", _NOVA)


def state(daemon: Daemon, vf: str) -> tuple[str | None, str]:
    """Gives who drives a function, and who it is reserved for."""
    return driver(daemon, vf), override(daemon, vf)


def vlan(daemon: Daemon, pf: str) -> int:
    """Gives the VLAN of a NIC's first VF, 0 for none."""
    vlans = shown(daemon, pf)[0].get("vlan_list", [{}])
    return int(vlans[0].get("vlan", 0))


def server(daemon: Daemon) -> str:
    """Makes what Nova has in Placement of a server; its VF is in Nova's database alone."""
    compute = daemon.cloud.create(f"{daemon.cloud.name}-{len(daemon.cloud.tree())}", daemon.cloud.root)
    daemon.cloud.set(compute, {"VCPU": 1})
    return daemon.cloud.allocate(compute, VCPU=1)
