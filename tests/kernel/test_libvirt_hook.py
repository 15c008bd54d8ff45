# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The libvirt hook, called as libvirt calls it, where QEMU has a VF of a real kernel that Nova's own tracking gave."""

from __future__ import annotations

from typing import Final

from .daemon import Daemon
from .preparing import LONG_S, driver, machine, nic, override, vfs

HOOK: Final = "/opt/devagent/etc/libvirt/hooks/qemu.d/devagent"
_COMMAND: Final = "import sys; from devagent.cli.libvirt_hook import main; sys.exit(main())"
_INSTALL: Final = f"""
printf '#!/bin/sh\\nPYTHONPATH=/opt/devagent/lib exec python3 -c "{_COMMAND}" "$@"\\n' >/usr/bin/devagent-libvirt-hook
chmod 755 /usr/bin/devagent-libvirt-hook
mkdir -p /etc/nova
"""
_NOVA: Final = '[pci]\ndevice_spec = {"vendor_id": "8086", "product_id": "10ca"}\n'

_RULES: Final = """
- name: nics
  match: {kind: nic, driver: igb}
  mode: vf
  owner: nova
"""


def test_the_hook_has_a_vf_made_ready_for_a_virtual_machine_and_given_back_after_it(daemon: Daemon) -> None:
    pf = nic(daemon)
    daemon.guest.run("sh", "-c", _INSTALL)
    daemon.guest.put("/etc/nova/nova.conf", _NOVA)
    daemon.guest.set_vfs(pf, 4)
    daemon.configure(_RULES)
    daemon.start()
    vf, other = vfs(daemon, pf)[:2]
    one, two = server(daemon), server(daemon)

    assert hook(daemon, one, vf, "prepare", "begin") == (0, "", "")
    assert (driver(daemon, vf), override(daemon, vf)) == ("vfio-pci", "vfio-pci")
    assert driver(daemon, other) != "vfio-pci"
    with machine(daemon, vf):
        code, out, err = hook(daemon, two, vf, "prepare", "begin")
        assert (code, out) == (1, "")
        assert f"{vf} is held by consumer {one}" in err
        assert hook(daemon, one, vf, "started", "begin") == (0, "", "")
    assert hook(daemon, one, vf, "release", "end") == (0, "", "")
    daemon.until(lambda: driver(daemon, vf) != "vfio-pci", f"{vf} is given back")
    assert override(daemon, vf) == "(null)"
    assert hook(daemon, two, vf, "prepare", "begin") == (0, "", "")
    assert daemon.ask(f"/v1/preparations/{two}")["handles"][0]["address"] == vf
    assert hook(daemon, two, vf, "release", "end") == (0, "", "")
    daemon.guest.run("rm", "/etc/nova/nova.conf")


def server(daemon: Daemon) -> str:
    """Makes what Nova has in Placement of a server; its VF is in Nova's database alone."""
    compute = daemon.cloud.create(f"{daemon.cloud.name}-{len(daemon.cloud.tree())}", daemon.cloud.root)
    daemon.cloud.set(compute, {"VCPU": 1})
    return daemon.cloud.allocate(compute, VCPU=1)


def hook(daemon: Daemon, uid: str, vf: str, *operation: str) -> tuple[int, str, str]:
    """Calls the hook for a domain with one VF; gives its exit code, what it printed, and what it said."""
    domain, bus, slot = vf.split(":")
    slot, function = slot.split(".")
    address = f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
    device = f"<hostdev mode='subsystem' type='pci' managed='no'><source>{address}</source></hostdev>"
    xml = f"<domain type='kvm'><name>server</name><uuid>{uid}</uuid><devices>{device}</devices></domain>"
    ran = daemon.guest.run("sh", HOOK, "server", *operation, "-", text=xml, check=False, timeout=LONG_S)
    return ran.code, ran.out, ran.err
