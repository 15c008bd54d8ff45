# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""PFs and VFs in every state that drivers and virtual machines leave them in."""

from __future__ import annotations

from .cards import gpu
from .guest import NOBODY, PCI, Guest, eventually
from .truth import agree, truth

LONGEST_S = 25


def test_a_nic_and_an_nvme_controller_are_known_with_their_vfs(guest: Guest) -> None:
    pfs = {each["driver"]: address for address, each in truth(guest).items() if each["driver"] in ("igb", "nvme")}
    for pf in pfs.values():
        guest.set_vfs(pf, 4)
    found = guest.discover("--all")
    agree(guest, found)
    nic, controller = found.devices[pfs["igb"]], found.devices[pfs["nvme"]]
    assert (nic["kind"], controller["kind"]) == ("nic", "nvme")
    (interface,) = nic["net"]["interfaces"]
    assert [interface["name"]] == guest.names(f"{PCI}/{pfs['igb']}/net")
    assert interface["mac"] == guest.read(f"/sys/class/net/{interface['name']}/address")
    assert (nic["sriov"]["total_vfs"], controller["sriov"]["total_vfs"]) == (7, 4)


def test_a_pf_on_another_driver_or_none_is_seen_as_it_is(guest: Guest) -> None:
    card = guest.plug(gpu(vfs=8, numa=1))
    guest.set_vfs(card, 2)
    guest.write(f"{PCI}/{card}/driver/unbind", card)
    found = guest.discover("--all")
    agree(guest, found)
    assert (found.devices[card]["driver"], found.devices[card]["sriov"]["num_vfs"]) == (None, 0)
    guest.run("modprobe", "pci-pf-stub")
    guest.bind(card, "pci-pf-stub")
    guest.set_vfs(card, 3)
    agree(guest, guest.discover("--all"))
    guest.write(f"{PCI}/{card}/sriov_numvfs", "0")
    guest.bind(card, "vfio-pci")
    found = guest.discover("--all")
    agree(guest, found)
    assert found.devices[card]["driver"] == "vfio-pci"


def test_vf_that_a_machine_holds_while_it_is_removed_is_no_device(guest: Guest) -> None:
    """The kernel takes the links between PF and VF away first, and then waits for the machine."""
    card = guest.plug(gpu(vfs=4))
    vf = guest.set_vfs(card, 2)[1]
    guest.bind(vf, "vfio-pci")
    machine = guest.hold(vf)
    removal = guest.begin_write(f"{PCI}/{card}/sriov_numvfs", "0")
    eventually(lambda: guest.link(f"{PCI}/{vf}/physfn") is None)
    try:
        found = guest.discover("--all", timeout=LONGEST_S)
        assert not removal.done()
        assert vf in guest.names(PCI)
        assert vf not in found.devices
    finally:
        machine.end()
        guest.result(removal)
    agree(guest, guest.discover("--all"))


def test_vf_in_use_by_a_machine(guest: Guest) -> None:
    card = guest.plug(gpu(vfs=4))
    vfs = guest.set_vfs(card, 2)
    guest.bind(vfs[1], "vfio-pci")
    machine = guest.hold(vfs[1])
    found, nobody = guest.discover("--all"), guest.discover("--all", user=NOBODY)
    machine.end()
    agree(guest, found)
    shown = found.devices[card]["sriov"]["vfs"]
    assert [vf["in_use_by"] for vf in shown] == [None, f"python3 (pid {machine.pid})"]
    assert (found.problems, found.notes, nobody.problems) == ([], [], [])
    assert [vf["in_use_by"] for vf in nobody.devices[card]["sriov"]["vfs"]] == [None, None]
    assert any("may not be looked at" in note for note in nobody.notes)
