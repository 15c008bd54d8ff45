# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Steps of a plan on the real kernel, with the user and the capabilities that the unit gives, and no others."""

from __future__ import annotations

import json
from pathlib import Path

from .cards import gpu, vgpu
from .guest import CONTROL, PCI, Guest, eventually
from .plan_steps import UNDO, bind, executing, step, steps

UUID = "4b20d080-1b54-4048-85b3-a6a62d165c0{}"
TRACING = "/sys/kernel/tracing"


def test_a_vf_goes_to_vfio_and_back_to_what_it_had(guest: Guest) -> None:
    card = guest.plug(gpu(vfs=4))
    vf = guest.set_vfs(card, 2)[1]
    guest.run("modprobe", "pci-pf-stub")
    drivers = ("vfio-pci", "vfio-pci", None, "pci-pf-stub", "vfio-pci", "pci-pf-stub", None, None)
    said = steps(guest, *(bind(vf, driver) for driver in drivers))
    assert [each.get("before") for each in said] == [{"driver": driver} for driver in (None, *drivers[:-1])]
    assert all(each["holds"] for each in said)
    assert [each["override"] for each in said] == [
        "vfio-pci" if driver == "vfio-pci" else "(null)" for driver in drivers
    ]


def test_a_pf_goes_to_vfio_and_back_unless_it_has_vfs(guest: Guest) -> None:
    card = guest.plug(gpu(vfs=4))
    said = steps(guest, bind(card, "vfio-pci"), UNDO)
    assert [each["holds"] for each in said] == [True, True]
    assert (guest.link(f"{PCI}/{card}/driver"), guest.read(f"{PCI}/{card}/driver_override")) == ("nouveau", "(null)")
    guest.set_vfs(card, 2)
    (refused,) = steps(guest, bind(card, "vfio-pci"))
    assert refused["reason"] == f"{card} has 2 VFs, which would go with its driver nouveau: remove them first"
    assert guest.link(f"{PCI}/{card}/driver") == "nouveau"


def test_override_that_was_there_before_comes_back(guest: Guest) -> None:
    card = guest.plug(gpu(vfs=4))
    guest.write(f"{PCI}/{card}/driver_override", "nouveau")
    there, back = steps(guest, bind(card, "vfio-pci"), UNDO)
    assert there["before"] == {"driver": "nouveau", "override": "nouveau"}
    assert [each["holds"] for each in (there, back)] == [True, True]
    assert there["override"] == "vfio-pci"
    assert (guest.link(f"{PCI}/{card}/driver"), guest.read(f"{PCI}/{card}/driver_override")) == ("nouveau", "nouveau")


def test_driver_that_does_not_take_the_device(guest: Guest) -> None:
    card = guest.plug(gpu())
    unknown, there = steps(guest, bind(card, "qat_vfio_pci"), bind(card, "vfio-pci"))
    assert (unknown["error"], unknown["kind"]) == ("StepFailed", "permanent")
    assert "this host has no driver qat_vfio_pci" in unknown["reason"]
    assert there["before"] == {"driver": "nouveau"}
    guest.write(f"{CONTROL}/fail_probe", "5")
    other, failed = steps(guest, bind(card, "amdgpu"), bind(card, "nouveau"))
    assert (other["kind"], failed["kind"]) == ("permanent", "retry")
    assert "is not for this device" in other["reason"]
    assert "input/output error" in failed["reason"]
    assert guest.link(f"{PCI}/{card}/driver") is None
    guest.write(f"{CONTROL}/fail_probe", "0")
    (again,) = steps(guest, bind(card, "nouveau"))
    assert again["holds"]
    assert again["override"] == "(null)"


def test_without_an_iommu_vfio_takes_nothing(guest_without_iommu: Guest) -> None:
    guest = guest_without_iommu
    card = guest.plug(gpu())
    refused, back = steps(guest, bind(card, "vfio-pci"), bind(card, "nouveau"))
    assert (refused["error"], refused["kind"]) == ("StepFailed", "permanent")
    assert "it is in no IOMMU group" in refused["reason"]
    assert back["holds"]


def test_device_that_a_machine_has_is_left_alone_and_the_machine_named(guest: Guest) -> None:
    card = guest.plug(gpu(vfs=4))
    vf = guest.set_vfs(card, 2)[1]
    guest.bind(vf, "vfio-pci")
    machine = guest.hold(vf)
    said = steps(guest, bind(vf, None), step("reset", vf, method=None), step("set_vf_count", card, count=0))
    assert [each["kind"] for each in said] == ["retry"] * 3
    assert [each["holders"] for each in said] == [[[machine.pid, "python3"]]] * 3
    assert guest.link(f"{PCI}/{vf}/driver") == "vfio-pci"
    machine.end()
    (freed,) = steps(guest, bind(vf, None))
    assert freed["holds"]


def test_unbind_that_hangs_is_left_behind_until_it_ends(guest: Guest) -> None:
    """Who opened the device is not seen: so it is, too, when a machine opens it just after it was looked for."""
    card = guest.plug(gpu(vfs=4))
    held, other = guest.set_vfs(card, 2)
    for vf in (held, other):
        guest.bind(vf, "vfio-pci")
    stuck, again, meanwhile, after = executing(guest, "hang", held, other)
    assert (stuck["error"], again["error"]) == ("StepStuck", "StepStuck")
    assert "hangs in the kernel" in stuck["reason"]
    assert again["took"] < stuck["took"]
    assert meanwhile["holds"]
    assert after["holds"]
    assert guest.link(f"{PCI}/{held}/driver") is None


def test_mediated_device_comes_and_goes(guest: Guest) -> None:
    card, other = guest.plug(vgpu()), guest.plug(vgpu())
    types = guest.names(f"{PCI}/{card}/mdev_supported_types")
    first = {"type": types[0], "uuid": UUID.format(1)}
    said = steps(
        guest,
        step("create_mdev", card, **first),
        step("create_mdev", card, **first),
        step("create_mdev", other, **first),
        step("create_mdev", card, type="nvidia-999", uuid=UUID.format(2)),
        step("remove_mdev", card, type=types[1], uuid=UUID.format(1)),
        step("remove_mdev", card, **first),
        step("remove_mdev", card, **first),
        step("create_mdev", card, **first),
        UNDO,
    )
    made, there, elsewhere, unknown, wrong, removed, gone, again, undone = said
    assert all(each["holds"] for each in (made, removed, gone, again, undone))
    assert "already, of no consumer" in there["reason"]
    assert "another device of this host" in elsewhere["reason"]
    assert "makes no mediated devices of the type nvidia-999" in unknown["reason"]
    assert "it stays" in wrong["reason"]
    assert guest.names("/sys/bus/mdev/devices") == []


def test_a_mediated_device_too_many_is_refused_for_now(guest: Guest) -> None:
    card = guest.plug(vgpu())
    (kind,) = guest.names(f"{PCI}/{card}/mdev_supported_types")[-1:]
    room = int(guest.read(f"{PCI}/{card}/mdev_supported_types/{kind}/available_instances"))
    said = steps(
        guest, *(step("create_mdev", card, type=kind, uuid=f"{UUID.format(0)[:-2]}{n:02x}") for n in range(room + 1))
    )
    assert [each.get("holds") for each in said] == [True] * room + [None]
    assert said[-1]["kind"] == "retry"


def test_reset_by_function_level_reset(guest: Guest) -> None:
    card = guest.plug(gpu())
    guest.bind(card, "vfio-pci")
    order = guest.read(f"{PCI}/{card}/reset_method")
    guest.run("mount", "-t", "tracefs", "tracefs", TRACING)
    guest.call(_count_flrs, TRACING)
    said = steps(guest, step("reset", card, method="flr"), step("reset", card, method="acpi"))
    counted = guest.call(_counted, TRACING)
    guest.run("umount", TRACING)
    assert counted == 1
    assert said[0]["holds"]
    assert said[1]["reason"] == f"{card} cannot be reset by acpi: it has {order}"
    assert guest.read(f"{PCI}/{card}/reset_method") == order


def test_a_nics_vf_takes_its_attributes(guest: Guest) -> None:
    (nic,) = guest.names("/sys/bus/pci/drivers/igb")[:1]
    guest.set_vfs(nic, 2)
    (name,) = guest.names(f"{PCI}/{nic}/net")
    guest.run("ip", "link", "set", name, "up")
    eventually(lambda: guest.read(f"/sys/class/net/{name}/carrier") == "1")
    wanted: dict[str, str | int | None] = {"mac": "fa:16:3e:0b:7c:01", "vlan": 120, "trust": 1, "rate": 100}
    said = steps(
        guest,
        step("set_vf_attributes", nic, index=1, **wanted),
        step("set_vf_attributes", nic, index=1, mac=None, vlan=7, trust=None, rate=None),
        UNDO,
        step("set_vf_attributes", nic, index=1, mac="00:00:00:00:00:00", vlan=0, trust=0, rate=0),
        UNDO,
        step("set_vf_attributes", nic, index=0, mac=None, vlan=None, trust=None, rate=4_000_000),
        step("set_vf_attributes", nic, index=5, mac=None, vlan=5, trust=None, rate=None),
    )
    assert [each["holds"] for each in said[:5]] == [True] * 5
    assert said[1]["before"] == {"index": 1, "mac": None, "vlan": 120, "trust": None, "rate": None}
    assert said[3]["before"] == {"index": 1, **wanted}
    assert "VF 0: rate 4000000: its driver does not take that value" in said[5]["reason"]
    assert "knows no VF 5" in said[6]["reason"]
    shown = json.loads(guest.run("ip", "-json", "link", "show", name).out)[0]["vfinfo_list"]
    assert [vf["address"] == wanted["mac"] for vf in shown] == [False, True]
    assert shown[1]["vlan_list"][0]["vlan"] == 120
    assert (shown[1]["trust"], shown[1]["rate"]["max_tx"]) == (True, 100)


def _count_flrs(tracing: str) -> None:
    """Runs in the guest: has the kernel note every function level reset."""
    Path(tracing, "kprobe_events").write_text("p:lab/flr pcie_flr")
    Path(tracing, "events/lab/flr/enable").write_text("1")


def _counted(tracing: str) -> int:
    """Runs in the guest: gives how many resets there were, and forgets them."""
    count = sum(": flr:" in line for line in Path(tracing, "trace").read_text().splitlines())
    Path(tracing, "events/lab/flr/enable").write_text("0")
    Path(tracing, "kprobe_events").write_text("")
    return count
