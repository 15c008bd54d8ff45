# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which devices a domain gets, read from XML as Nova and libvirt write it, and from what nobody should."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.errors import DomainError
from devagent.integration.domain import MAX_SIZE, Domain, read

SERVER = "5e1f0f6a-27d4-4a3c-9a3e-0c1d2e3f4a5b"
MDEV = "4b20d080-1b54-4048-85b3-a6a62d165c01"
DOMAIN = f"""<?xml version="1.0"?>
<domain type='kvm' id='3'>
  <name>instance-0000001a</name>
  <uuid>{SERVER.upper()}</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:name>a &lt;server&gt;</nova:name>
      <nova:flavor name="fpga.small">
        <nova:memory>64</nova:memory>
        <nova:extraSpecs>
          <nova:extraSpec name="devagent:bitstream">gzip &amp; v2</nova:extraSpec>
          <nova:extraSpec name="hw:cpu_policy">dedicated</nova:extraSpec>
        </nova:extraSpecs>
      </nova:flavor>
    </nova:instance>
  </metadata>
  <devices>
    <disk type='file'><source file='/x'><address domain='9'/></source></disk>
    <interface type='bridge'><source bridge='br0'/></interface>
    <interface type='hostdev' managed='yes'>
      <mac address='52:54:00:6d:90:02'/>
      <source><address type='pci' domain='0x0000' bus='0x3b' slot='0x00' function='0x3'/></source>
      <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/>
    </interface>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <driver name='vfio'/>
      <source><address domain='0x10000' bus='0x81' slot='0x1f' function='0x7'/></source>
      <address type='pci' domain='0x0000' bus='0x06' slot='0x00' function='0x0'/>
    </hostdev>
    <hostdev mode='subsystem' type='mdev' model='vfio-pci'>
      <source><address uuid='{MDEV}'/></source>
    </hostdev>
    <hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><address bus='1' device='2'/></source></hostdev>
    <hostdev mode='capabilities' type='misc'><source><char>/dev/x</char></source></hostdev>
  </devices>
</domain>
"""


def test_a_domain_says_which_devices_of_the_host_it_gets_and_not_where_the_guest_sees_them() -> None:
    assert read(DOMAIN.encode()) == Domain(
        SERVER,
        "instance-0000001a",
        ("0000:3b:00.3", "10000:81:1f.7"),
        (MDEV,),
        {"devagent:bitstream": "gzip & v2", "hw:cpu_policy": "dedicated"},
    )


def with_devices(inner: str) -> bytes:
    return f"<domain><uuid>{SERVER}</uuid><devices>{inner}</devices></domain>".encode()


def hostdev(source: str, kind: str = "pci") -> bytes:
    return with_devices(f"<hostdev mode='subsystem' type='{kind}'><source>{source}</source></hostdev>")


def test_numbers_may_be_decimal_and_a_part_that_is_left_out_is_0() -> None:
    assert read(hostdev("<address bus='59' slot='0' function='2'/>")).functions == ("0000:3b:00.2",)


def test_only_novas_own_metadata_says_what_a_flavor_wants() -> None:
    foreign = DOMAIN.replace("http://openstack.org/xmlns/libvirt/nova/1.1", "http://example.org/nova")
    assert read(foreign.encode()).extra_specs == {}


def test_a_domain_without_devices_of_the_host_gets_none() -> None:
    found = read(with_devices("<disk/>"))
    assert (found.functions, found.mdevs) == ((), ())


BOMB = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><domain><uuid>&b;</uuid></domain>'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "cannot be read"),
        (b"no XML", "cannot be read"),
        (DOMAIN[:-12].encode(), "cannot be read"),
        (b"<domain/>", "has no UUID"),
        (b"<network><uuid>" + SERVER.encode() + b"</uuid></network>", "has no UUID"),
        (BOMB.encode(), "has a DOCTYPE"),
        (b"<d>" * 100 + b"</d>" * 100, "elements deep"),
        (b" " * (MAX_SIZE + 1), "no domain has more"),
        (hostdev("<address bus='0x100'/>"), "the bus '0x100'"),
        (hostdev("<address function='8'/>"), "the function '8'"),
        (hostdev("<address bus='-1'/>"), "the bus '-1'"),
        (hostdev("<address bus='0x3b/../x'/>"), "the bus"),
        (hostdev("<address uuid='x'/>", "mdev"), "has no UUID"),
    ],
)
def test_what_is_no_domain_is_refused_in_words(text: bytes, said: str) -> None:
    with pytest.raises(DomainError, match=said):
        read(text)


@given(st.binary() | st.text("<>/ domainuuidhostdev'=&;").map(str.encode))
def test_whatever_comes_is_read_or_refused(text: bytes) -> None:
    with suppress(DomainError):
        read(text)
