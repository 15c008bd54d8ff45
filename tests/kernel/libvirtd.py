# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A libvirtd in the guest: Debian's, with the hook where docs/nova.md puts it, and domains as Nova writes them.

Its QEMU is the one of qemu.py. Processors of the domains do not run: emulated twice, they would take the guest's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from xml.etree import ElementTree

from .guest import PCI, Guest, Ran
from .qemu import THERE, has_open

PATIENCE_S: Final = 600
_HOOK: Final = "/etc/libvirt/hooks/qemu.d/devagent"
_COMMAND: Final = "import sys; from devagent.cli.libvirt_hook import main; sys.exit(main())"
_EMULATOR: Final = f'LD_LIBRARY_PATH={THERE}/lib exec {THERE}/qemu-system-x86_64 -L {THERE}/share "$@"'

# What Debian's package libvirt-daemon-system would do, without what it needs of others: a user, a unit. The filter of
# system calls costs an emulated CPU 12 s per domain, a name that nobody resolves some more.
_START: Final = f"""
set -e
printf 'g libvirt-qemu 64055\\nu libvirt-qemu 64055:64055\\n' | systemd-sysusers -
printf '127.0.0.1 localhost guest\\n' >/etc/hosts
printf 'stdio_handler = "file"\\nseccomp_sandbox = 0\\n' >/etc/libvirt/qemu.conf
printf '#!/bin/sh\\n%s\\n' '{_EMULATOR}' >/usr/bin/qemu-system-x86_64
printf '#!/bin/sh\\nPYTHONPATH=/opt/devagent/lib exec python3 -c "{_COMMAND}" "$@"\\n' >/usr/bin/devagent-libvirt-hook
chmod 755 /usr/bin/qemu-system-x86_64 /usr/bin/devagent-libvirt-hook
install -m 755 -D /opt/devagent/etc/libvirt/hooks/qemu.d/devagent {_HOOK}
systemd-run --quiet --unit=libvirtd --service-type=notify -p KillMode=process -p TimeoutStartSec={PATIENCE_S} libvirtd
"""
_END: Final = f"""
for name in $(virsh list --name); do virsh destroy $name; done
systemctl stop libvirtd
rm -f {_HOOK} /etc/libvirt/qemu/*.xml
"""

# The metadata are what nova.virt.libvirt.config of Nova 34 makes of an instance.
_DOMAIN: Final = """
<domain type="qemu">
  <uuid>{uid}</uuid>
  <name>{name}</name>
  <memory>16384</memory>
  <vcpu>1</vcpu>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:package version="34.0.0"/>
      <nova:name>{name}</nova:name>
      <nova:creationTime>2026-11-22 01:00:00</nova:creationTime>
      <nova:flavor name="net.small" id="42">
        <nova:memory>16</nova:memory>
        <nova:disk>0</nova:disk>
        <nova:swap>0</nova:swap>
        <nova:ephemeral>0</nova:ephemeral>
        <nova:vcpus>1</nova:vcpus>
        <nova:extraSpecs>
          <nova:extraSpec name="pci_passthrough:alias">nic:1</nova:extraSpec>
          {specs}
        </nova:extraSpecs>
      </nova:flavor>
      <nova:owner>
        <nova:user uuid="8c6ecc5f-52f4-4b6f-a0b1-5a4e5d8b6a51">demo</nova:user>
        <nova:project uuid="5f705e37-30c2-4b9e-a5e9-5cd8c1b1b2a5">demo</nova:project>
      </nova:owner>
    </nova:instance>
  </metadata>
  <os><type arch="x86_64" machine="pc">hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type="usb" model="none"/>
    <hostdev mode="subsystem" type="pci" managed="no">
      <source>
        <address domain="0x{domain}" bus="0x{bus}" slot="0x{slot}" function="0x{function}"/>
      </source>
    </hostdev>
    <memballoon model="none"/>
  </devices>
</domain>
"""


class Libvirtd:
    """What `virsh` does in a guest."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def define(self, name: str, uid: str, address: str, **specs: str) -> None:
        """Makes a domain that has a function of the guest's, and whose flavor has `devagent:` extra specs."""
        domain, bus, rest = address.split(":")
        slot, function = rest.split(".")
        extra = "".join(f'<nova:extraSpec name="devagent:{key}">{text}</nova:extraSpec>' for key, text in specs.items())
        parts = {"domain": domain, "bus": bus, "slot": slot, "function": function}
        path = self._guest.put(f"/tmp/{name}.xml", _DOMAIN.format(uid=uid, name=name, specs=extra, **parts).strip())
        self._virsh("define", path)

    def start(self, name: str) -> None:
        """Starts a domain."""
        self._virsh("start", "--paused", name)

    def refuses(self, name: str) -> str:
        """Starts a domain, which must fail, and gives what libvirt says."""
        return self._virsh("start", "--paused", name, fails=True).err

    def destroy(self, name: str) -> None:
        """Ends a domain as Nova does."""
        self._virsh("destroy", name)

    def kill(self, name: str) -> None:
        """Kills a domain's QEMU."""
        self._guest.run("kill", "-KILL", str(self._pid(name)))

    def state(self, name: str) -> str:
        """Gives `paused (starting up)`, `shut off (crashed)`, ..."""
        return self._virsh("domstate", "--reason", name).out.strip()

    def functions(self, name: str) -> list[str]:
        """Gives which functions a running domain has by VFIO, as libvirt tells."""
        hostdevs = ElementTree.fromstring(self._virsh("dumpxml", name).out).iterfind("devices/hostdev")
        sources = [each.find("source/address") for each in hostdevs if each.find("driver[@name='vfio']") is not None]
        parts = [{key: int(text, 16) for key, text in each.items()} for each in sources if each is not None]
        return ["{domain:04x}:{bus:02x}:{slot:02x}.{function:x}".format(**each) for each in parts]

    def opened(self, name: str, address: str) -> bool:
        """Tells whether a domain's QEMU has a function open, and the VFIO group around it."""
        group = self._guest.link(f"{PCI}/{address}/iommu_group")
        return bool(self._guest.call(has_open, self._pid(name), group))

    def _pid(self, name: str) -> int:
        return int(self._guest.read(f"/run/libvirt/qemu/{name}.pid"))

    def _virsh(self, *arguments: str, fails: bool = False) -> Ran:
        ran = self._guest.run("virsh", "--quiet", *arguments, check=False, timeout=PATIENCE_S)
        assert (ran.code != 0) is fails, f"virsh {arguments}: {ran}\n{_said(self._guest)}"
        return ran


@contextmanager
def running(guest: Guest) -> Iterator[Libvirtd]:
    """Runs one: it looks for hooks when it starts."""
    guest.run("sh", "-c", _START, timeout=PATIENCE_S)
    try:
        yield Libvirtd(guest)
    finally:
        guest.run("sh", "-c", _END, check=False, timeout=PATIENCE_S)


def _said(guest: Guest) -> str:
    return guest.run("journalctl", "-o", "cat", "--no-pager", "-u", "libvirtd").out
