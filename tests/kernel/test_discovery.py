# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What discovery says is what the kernel says."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from .cards import altera, dfl, gpu, qat, vgpu
from .guest import NOBODY, PCI, Guest
from .truth import agree, truth

NVME = "0000:41:00.0"
DISPLAY = "0000:00:10.0"
EVERYTHING = "schema_version: 1\nrules:\n- {name: all, match: {}, mode: whole, resource_class: CUSTOM_ANYTHING}\n"
SERIAL = 0x48B02D0000C0FFEE
MDEVS = ("4b20d080-1b54-4048-85b3-a6a62d165c01", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001")
INTERFACE_ID = "f3c994130e6b4f2c9a3b8d6e7a1c0d11"
AFU_ID = "1ab0af00" + "0" * 24


def test_discovery_says_what_the_kernel_shows(guest: Guest) -> None:
    cards = {numa: guest.plug(gpu(numa=numa, vfs=16)) for numa in (0, 1)}
    accelerator = guest.plug(qat(numa=1))
    vfs = guest.set_vfs(cards[1], 16)
    guest.set_vfs(accelerator, 3)
    guest.bind(vfs[2], "vfio-pci")
    found = guest.discover("--all")
    agree(guest, found)
    assert found.problems == []
    assert {numa: found.devices[card]["numa_node"] for numa, card in cards.items()} == {0: 0, 1: 1}
    assert found.devices[accelerator]["kind"] == "qat"
    shown = found.devices[cards[1]]["sriov"]["vfs"]
    assert [vf["address"] for vf in shown] == vfs
    assert [vf["driver"] for vf in shown] == [None, None, "vfio-pci", *[None] * 13]
    # Root ports with ACS: every VF can be given by itself.
    assert len({vf["iommu_group"] for vf in shown}) == 16
    assert found.devices[cards[0]]["link"] == {
        "speed_gt_s": 16.0,
        "width": 16,
        "max_speed_gt_s": 16.0,
        "max_width": 16,
    }
    assert found.host["numa_nodes"] == [0, 1]
    assert found.host["numa_cpus"] == {"0": "0", "1": "1"}
    assert found.host["iommu"] is True


def test_anyone_may_discover(guest: Guest) -> None:
    guest.set_vfs(guest.plug(gpu(vfs=4)), 2)
    guest.plug(dfl(numa=1))
    root, nobody = guest.discover("--all"), guest.discover("--all", user=NOBODY)
    assert nobody.devices == root.devices
    assert nobody.problems == root.problems == []


def test_dfl_card_has_its_region_and_function(guest: Guest) -> None:
    card = guest.plug(dfl(numa=1))
    found = guest.discover("--all")
    agree(guest, found)
    device = found.devices[card]
    assert (device["kind"], device["driver"], device["numa_node"]) == ("fpga", "dfl-pci", 1)
    managers = guest.call(_fpgas)
    assert managers["compat_id"] == [INTERFACE_ID]
    assert device["fpga"]["interface_id"] == INTERFACE_ID
    assert device["fpga"]["regions"] == managers["regions"]
    assert device["fpga"]["loaded"] == AFU_ID
    fme = f"{PCI}/{card}/fpga_region/{managers['base']}/dfl-fme.0"
    assert device["fpga"]["shell"] == guest.read(f"{fme}/bitstream_id")
    assert device["fpga"]["ports"] == int(guest.read(f"{fme}/ports_num")) == 1
    assert {f"CUSTOM_FPGA_REGION_{INTERFACE_ID.upper()}", f"CUSTOM_FPGA_FUNCTION_{AFU_ID.upper()}"} <= set(
        device["placement"]["traits"]
    )


def _fpgas() -> dict[str, object]:
    found, base = {}, None
    for path in Path("/sys/class/fpga_region").glob("*/compat_id"):
        try:
            found[path.parent.name] = path.read_text().strip()
        except FileNotFoundError:  # a base region has the file, but no id
            base = path.parent.name
    return {"regions": sorted(found), "compat_id": list(found.values()), "base": base}


def test_a_plain_fpga_manager_tells_its_region_and_state(guest: Guest) -> None:
    card = guest.plug(altera(numa=0))
    found = guest.discover("--all")
    agree(guest, found)
    device = found.devices[card]
    assert (device["kind"], device["driver"]) == ("fpga", "altera-cvp")
    assert device["fpga"]["regions"] == guest.names(f"{PCI}/{card}/fpga_region")
    assert device["fpga"]["interface_id"] == guest.read(f"{PCI}/{card}/fpga_region/region0/compat_id")
    manager = f"{PCI}/{card}/fpga_manager/fpga0"
    assert (guest.read(f"{manager}/state"), device["fpga"]["state"]) == ("unknown", None)
    guest.run("mkdir", "-p", "/lib/firmware")
    for image, state in (("good", "operating"), ("BAD", "write init error")):
        guest.put(f"/lib/firmware/{image}.bin", image * 1000)
        guest.call(_program, manager, f"{image}.bin")
        assert guest.read(f"{manager}/state") == state
        assert guest.discover("--all").devices[card]["fpga"]["state"] == state


def _program(manager: str, image: str) -> None:
    fd = os.open(f"{manager}/firmware", os.O_WRONLY)
    try:
        os.write(fd, image.encode())
    except OSError:
        return
    finally:
        os.close(fd)


def test_mediated_devices_and_their_types_are_found(guest: Guest) -> None:
    card = guest.plug(vgpu(numa=1))
    types = f"{PCI}/{card}/mdev_supported_types"
    assert guest.names(types) == ["nvidia-222", "nvidia-223"]
    for uuid in MDEVS:
        guest.write(f"{types}/nvidia-222/create", uuid)
    found = guest.discover("--all")
    agree(guest, found)
    device = found.devices[card]
    assert device["model"] == "Tesla T4"
    assert device["mdev"]["devices"] == [[uuid, "nvidia-222"] for uuid in MDEVS]
    for each in device["mdev"]["types"]:
        kernel = {name: guest.read(f"{types}/{each['id']}/{name}") for name in ("name", "device_api", "description")}
        assert {name: each[name] for name in kernel} == kernel
        assert each["available"] == int(guest.read(f"{types}/{each['id']}/available_instances"))
    assert [each["available"] for each in device["mdev"]["types"]] == [14, 7]


def test_a_card_is_known_though_its_driver_does_not_bind(guest: Guest) -> None:
    guest.write("/sys/devices/platform/lab_pci/fail_probe", str(errno.EIO))
    card = guest.plug(gpu(numa=0))
    assert guest.link(f"{PCI}/{card}/driver") is None
    found = guest.discover("--all")
    agree(guest, found)
    assert found.devices[card]["model"] == "A100 PCIe 40GB"
    assert found.devices[card]["driver"] is None


def test_without_nvidias_library_its_card_is_a_problem(guest: Guest) -> None:
    card = guest.plug(gpu(driver="nvidia"))
    found = guest.discover("--all")
    agree(guest, found)
    assert [(each["source"], each["device"]) for each in found.problems] == [("nvml", card)]
    assert found.ran.code == 4


def test_serial_number_is_the_identity(guest: Guest) -> None:
    card = guest.plug(gpu(serial=SERIAL))
    before = guest.discover("--all").devices[card]
    assert before["identity"]["value"] == f"{SERIAL.to_bytes(8).hex('-')}/0"
    guest.unplug(card)
    elsewhere = guest.plug(gpu(serial=SERIAL, numa=1))
    assert elsewhere != card
    assert guest.discover("--all").devices[elsewhere]["id"] == before["id"]


def test_a_domain_may_have_more_than_four_digits(guest: Guest) -> None:
    card = guest.plug(gpu(domain=0x10000, vfs=8, numa=1))
    assert card.startswith("10000:")
    vfs = guest.set_vfs(card, 8)
    found = guest.discover("--all")
    agree(guest, found)
    assert [vf["address"] for vf in found.devices[card]["sriov"]["vfs"]] == vfs
    # The firmware knows nothing of that bus, so the IOMMU does not either.
    assert found.devices[card]["iommu_group"] is None
    assert list(found.devices)[-1] == card


def test_what_the_host_uses_is_left_to_it(guest: Guest) -> None:
    nic = next(address for address, each in truth(guest).items() if each["driver"] == "igb")
    assert guest.read(f"{PCI}/{DISPLAY}/boot_vga") == "1"
    policy = guest.put("/tmp/devices.yaml", EVERYTHING)
    guest.run("sh", "-c", "mkdir -p /mnt/disk && mount -o ro /dev/nvme0n1 /mnt/disk")
    guest.run("sh", "-c", f"ip link set $(ls {PCI}/{nic}/net) up && ip route add default dev $(ls {PCI}/{nic}/net)")
    try:
        found = guest.discover("--all", "--policy", policy)
    finally:
        guest.run("sh", "-c", "umount /mnt/disk; ip route del default")
    assert "/mnt/disk" in found.devices[NVME]["in_use_by"]
    assert "default route" in found.devices[nic]["in_use_by"]
    for address, why in ((NVME, "/mnt/disk"), (nic, "default route"), (DISPLAY, "boot display")):
        assert not found.devices[address]["decision"]["managed"]
        assert why in found.devices[address]["decision"]["reason"]


def test_lock_of_a_device_holds_up_nobody(guest: Guest) -> None:
    card = guest.plug(gpu(vfs=16))
    guest.write("/sys/devices/platform/lab_pci/delay_ms", "20000")
    guest.write(f"{PCI}/{card}/sriov_drivers_autoprobe", "0")
    begun = guest.begin_write(f"{PCI}/{card}/sriov_numvfs", "16")
    reader = guest.begin(_read, f"{PCI}/{card}/sriov_numvfs")
    time.sleep(0.5)
    found = guest.discover("--all")
    assert not begun.done(), "the scenario took longer than the lock was held"
    assert not reader.done(), "reading sriov_numvfs is said to wait for the lock"
    assert found.problems == []
    assert found.devices[card]["sriov"]["total_vfs"] == 16
    assert found.devices[card]["sriov"]["vfs"] == []
    guest.result(begun)
    assert guest.result(reader).strip() == "16"
    agree(guest, guest.discover("--all"))


def _read(path: str) -> str:
    return Path(path).read_text()


@pytest.mark.parametrize("form", ["tree", "table"])
def test_every_form_shows_it(guest: Guest, form: str) -> None:
    card = guest.plug(gpu(numa=1, vfs=4))
    ran = guest.devagent("discover", "-o", form)
    assert (ran.code, ran.err) == (0, "")
    assert card in ran.out
    assert "A100 PCIe 40GB" in ran.out
