# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Consumers ask the daemon for devices, use them, and give them back: under systemd, on a kernel, with a Placement."""

from __future__ import annotations

from .cards import flex, gpu, gvt
from .daemon import Daemon
from .guest import PCI
from .preparing import (
    GPU,
    GPU_VF,
    LONG_S,
    MDEVS,
    MEDIATED,
    NIC_VF,
    NICS,
    SHARES,
    VGPU,
    WHOLE,
    consumer,
    driver,
    machine,
    nic,
    override,
    shown,
    stranger,
    vfs,
)
from .qemu import NAME


def test_a_virtual_machine_gets_a_nics_vf_as_it_was_asked_for_and_the_next_one_finds_nothing_of_it(
    daemon: Daemon,
) -> None:
    pf = nic(daemon)
    daemon.guest.run("modprobe", "-r", "vfio-pci")  # the unit has it loaded
    daemon.configure(NICS)
    daemon.start()
    one = consumer(daemon, {pf: {NIC_VF: 1}}, mac="fa:16:3e:0b:7c:01", vlan="120", trust="true")
    (group,) = one.groups
    asked = f"{group['provider']}:{NIC_VF}=1,mac=fa:16:3e:0b:7c:01,vlan=120,trust=true"
    ran = daemon.guest.run("devagent", "prepare", one.uuid, "--group", asked, timeout=LONG_S, check=False)
    assert ran.code == 0, f"{ran.err}\n{daemon.journal()}"
    (handle,) = one.prepared()
    vf = handle["address"]
    assert vf in ran.out
    info = handle["info"]
    assert f"{info['domain']}:{info['bus']}:{info['device']}.{info['function']}" == vf
    index = vfs(daemon, pf).index(vf)
    now = shown(daemon, pf)[index]
    assert (now["address"], now["vlan_list"][0]["vlan"], now["trust"]) == ("fa:16:3e:0b:7c:01", 120, True)
    assert [driver(daemon, each) for each in vfs(daemon, pf)].count("vfio-pci") == 1

    with machine(daemon, vf) as emulator:
        status, left = one.delete(wait=3)
        assert status == 202
        assert (left["state"], left["error"]["type"], left["error"]["address"]) == ("releasing", "retry", vf)
        assert [(each["pid"], each["command"]) for each in left["error"]["holders"]] == [(emulator.pid, NAME)]
        assert driver(daemon, vf) == "vfio-pci"
    one.released()
    assert (driver(daemon, vf), override(daemon, vf)) == (None, "(null)")
    after = shown(daemon, pf)[index]
    assert after["address"] != "fa:16:3e:0b:7c:01"
    assert (after["vlan_list"], after["trust"]) == ([{}], False)
    assert one.seen() is None


def test_whole_gpus_and_their_vfs_and_mediated_devices_are_given_to_many_at_once(daemon: Daemon) -> None:
    whole, shared, mediated = (daemon.guest.plug(card) for card in (gpu(numa=1), flex(), gvt()))
    daemon.configure(WHOLE + SHARES + MEDIATED)
    daemon.start()
    several = [consumer(daemon, {shared: {GPU_VF: 1}}) for _ in range(3)]
    mixed = consumer(daemon, {whole: {GPU: 1}, shared: {GPU_VF: 1}, mediated: {VGPU: 2}})
    everybody = [*several, mixed]
    begun = [each.begin() for each in everybody]
    answers = [daemon.answered(each, LONG_S) for each in begun]
    assert [status for status, _ in answers] == [200] * 4, f"{answers}\n{daemon.journal()}"
    handles = [handle for _, found in answers for handle in found["handles"]]
    functions = [each["address"] for each in handles if each["type"] == "PCI"]
    assert sorted(functions) == sorted([whole, *vfs(daemon, shared)])
    assert {driver(daemon, each) for each in functions} == {"vfio-pci"}
    made = [each["uuid"] for each in handles if each["type"] == "MDEV"]
    assert daemon.guest.names(MDEVS) == sorted(made)
    assert len(made) == 2
    assert {daemon.guest.link(f"{MDEVS}/{each}/mdev_type") for each in made} == {"i915-222"}

    refused, why = stranger(daemon, mixed).put()
    assert (refused, "holds 0 " in str(why)) == (400, True)
    user = daemon.guest.hold(whole)
    status, left = mixed.delete(wait=3)
    assert (status, [each["pid"] for each in left["error"]["holders"]]) == (202, [user.pid])
    assert daemon.guest.names(MDEVS) == sorted(made)
    user.end()
    for each in everybody:
        each.released()
    assert daemon.guest.names(MDEVS) == []
    assert (driver(daemon, whole), override(daemon, whole)) == ("nouveau", "(null)")
    assert {driver(daemon, each) for each in vfs(daemon, shared)} == {None}
    assert {override(daemon, each) for each in vfs(daemon, shared)} == {"(null)"}
    assert daemon.guest.names(f"{PCI}/{mediated}/mdev_supported_types") == ["i915-222", "i915-223"]
