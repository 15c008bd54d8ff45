# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A redacted capture tells no machine from another, and is the same host still."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest

from devagent.sources.captures.archive import Entry, Folder, Link
from devagent.sources.captures.pseudonyms import Pseudonyms
from devagent.sources.captures.redaction import redacted

KEY = b"k" * 32
GPU = "GPU-8f3a1c2e-4b5d-4e6f-8a9b-0c1d2e3f4a5b"
HOME = "sys/devices/pci0000:3a/0000:3b:00.0"
MDEV = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"


def laid(files: dict[str, bytes | str | Link]) -> Folder:
    top: Folder = {}
    for path, content in files.items():
        folder = top
        *parents, name = path.split("/")
        for parent in parents:
            below = folder.setdefault(parent, {})
            assert isinstance(below, dict)
            folder = below
        folder[name] = content.encode() if isinstance(content, str) else content
    return top


def texts(entry: Entry, path: str = "") -> dict[str, str]:
    if isinstance(entry, dict):
        return {where: text for name, below in entry.items() for where, text in texts(below, f"{path}/{name}").items()}
    return {path[1:]: entry.target if isinstance(entry, Link) else entry.decode("latin-1")}


def hidden(files: dict[str, bytes | str | Link], *secrets: str) -> dict[str, str]:
    """Redacts, makes sure that no secret is left, and gives the files by path."""
    found = texts(redacted(laid(files), Pseudonyms(KEY)))
    everything = "\n".join(f"{path}\n{text}" for path, text in found.items()).lower()
    for secret in secrets:
        assert secret.lower() not in everything
    return found


@pytest.mark.parametrize(
    "secret",
    [
        "1324720012345",
        "S4YPNC0R502398",
        "b8-ce-f6-ff-ff-12-34-56",
        "8a4f1c2e9b7d6053",
        "0x8A4F1C2E9B7D6053",
        GPU[4:],
        GPU[4:].upper(),
        "compute-17",
    ],
)
def test_the_shape_stays(secret: str) -> None:
    new = Pseudonyms(KEY).of(secret)
    assert new != secret
    assert len(new) == len(secret)
    for kind in (str.isdigit if secret.isdigit() else str.isalnum, str.isalpha if "S4" in secret else str.isalnum):
        assert [kind(character) for character in new] == [kind(character) for character in secret]
    if re.fullmatch("(?:0x)?[0-9a-fA-F-]+", secret):
        assert re.fullmatch("(?:0x)?[0-9a-fA-F-]+", new)
    assert (new == new.upper()) == (secret == secret.upper()) or secret.startswith("0x")
    assert new[:2] == secret[:2] or not secret.startswith("0x")


def test_a_uuid_is_one_of_the_same_version() -> None:
    new = uuid.UUID(Pseudonyms(KEY).of(GPU[4:]))
    assert (new.version, new.variant) == (4, uuid.RFC_4122)


@pytest.mark.parametrize("nothing", ["", "0", "0000000000000000", "00-00-00-00-00-00-00-00", "ffffffff", "N/A", "None"])
def test_nothing_stays_nothing(nothing: str) -> None:
    assert Pseudonyms(KEY).of(nothing) == nothing


def test_spellings_of_one_number_stay_spellings_of_one_number() -> None:
    some = Pseudonyms(KEY)
    new = some.of("b8cef6ffff123456")
    assert some.of("b8-ce-f6-ff-ff-12-34-56").replace("-", "") == new
    assert some.of("0xB8CEF6FFFF123456") == f"0x{new.upper()}"


def test_another_capture_has_other_replacements() -> None:
    assert Pseudonyms().of("S4YPNC0R502398") != Pseudonyms().of("S4YPNC0R502398")


def test_a_mac_keeps_its_vendor() -> None:
    found = hidden({f"{HOME}/net/eth0/address": "b8:ce:f6:12:34:56\n", "etc/x": "is B8:CE:F6:12:34:56."}, "12:34:56")
    new = found[f"{HOME}/net/eth0/address"].strip()
    assert re.fullmatch("b8:ce:f6(:[0-9a-f]{2}){3}", new)
    assert found["etc/x"].lower() == f"is {new}."
    assert hidden({"sys/a": "00:00:00:00:00:00 ff:ff:ff:ff:ff:ff"})["sys/a"] == "00:00:00:00:00:00 ff:ff:ff:ff:ff:ff"


def test_a_uuid_is_replaced_wherever_it_stands() -> None:
    found = hidden(
        {
            f"{HOME}/mdev/{MDEV}/name": "x",
            "sys/bus/mdev/devices/" + MDEV: Link(f"../../../devices/{MDEV}"),
            "devagent/nvml/0000:3b:00.0.json": json.dumps({"answer": {"facts": {"uuid": GPU}, "mdev": MDEV.upper()}}),
            "devagent/unreadable.json": json.dumps({"file": {f"{HOME}/mdev/{MDEV}/x": "denied"}}),
        },
        GPU[4:],
        MDEV,
    )
    new = next(path for path in found if path.startswith(f"{HOME}/mdev/")).split("/")[-2]
    assert found[f"sys/bus/mdev/devices/{new}"] == f"../../../devices/{new}"
    assert new in found["devagent/unreadable.json"]
    answer = json.loads(found["devagent/nvml/0000:3b:00.0.json"])["answer"]
    assert answer["facts"]["uuid"].startswith("GPU-")
    assert answer["mdev"] == new.upper()


def test_a_serial_number_is_replaced_where_one_file_tells_and_others_repeat_it() -> None:
    identities: dict[str, Any] = {
        "version": 1,
        "devices": [
            {
                "ids": "144d:a824:144d:a801",
                "topology": "pci0000:3a/00.0",
                "identity": {"source": "serial", "value": "S4YPNC0R502398/0"},
                "others": {"dsn": "b8-ce-f6-ff-ff-12-34-56/0", "topology": "pci0000:3a/00.0"},
                "gpu": {"uuid": GPU, "serial": "1324720012345", "memory_mib": 1},
            },
            {
                "ids": "x",
                "topology": "pci0000:3a/01.0",
                "identity": {"source": "topology", "value": "pci0000:3a/01.0"},
                "others": {},
                "gpu": None,
            },
        ],
    }
    found = hidden(
        {
            f"{HOME}/nvme/nvme0/serial": "S4YPNC0R502398      \n",
            f"{HOME}/serial_number": "b8-ce-f6-ff-ff-12-34-56\n",
            f"{HOME}/unique_id": "8a4f1c2e9b7d6053\n",
            "sys/class/kfd/kfd/topology/nodes/1/properties": f"simd_count 4\nunique_id {0x8A4F1C2E9B7D6053}\n",
            "var/lib/devagent/identities.json": json.dumps(identities),
        },
        "S4YPNC0R502398",
        "b8-ce-f6-ff-ff-12-34-56",
        "1324720012345",
        "8a4f1c2e9b7d6053",
        str(0x8A4F1C2E9B7D6053),
    )
    first, second = json.loads(found["var/lib/devagent/identities.json"])["devices"]
    serial = found[f"{HOME}/nvme/nvme0/serial"].strip()
    assert first["identity"] == {"source": "serial", "value": f"{serial}/0"}
    assert first["others"] == {"dsn": found[f"{HOME}/serial_number"].strip() + "/0", "topology": "pci0000:3a/00.0"}
    assert (first["ids"], first["gpu"]["memory_mib"]) == ("144d:a824:144d:a801", 1)
    assert second == identities["devices"][1]
    unique = int(found[f"{HOME}/unique_id"], 16)
    assert found["sys/class/kfd/kfd/topology/nodes/1/properties"] == f"simd_count 4\nunique_id {unique}\n"


def vpd(serial: bytes) -> bytes:
    read_only = b"PN\x03ABC" + b"SN" + bytes([len(serial)]) + serial + b"V3\x04mlx5" + b"RV\x02"
    head = b"\x82\x04\x00Card\x90" + (len(read_only) + 2).to_bytes(2, "little") + read_only
    return head + bytes([-sum(head) & 0xFF, 0]) + b"\x78"


def test_vital_product_data_stay_sound() -> None:
    found = hidden({f"{HOME}/vpd": vpd(b"MT2033X01234"), "etc/x": "sn MT2033X01234"}, "MT2033X01234", "mlx5")
    new = found[f"{HOME}/vpd"].encode("latin-1")
    assert len(new) == len(vpd(b"MT2033X01234"))
    assert b"PN\x03ABCSN\x0c" in new
    assert sum(new[: new.index(b"RV\x02") + 4]) & 0xFF == 0
    assert new[new.index(b"SN") + 3 :][:12].decode() == found["etc/x"].removeprefix("sn ")
    for end in range(len(new)):  # cut off anywhere, it is no reason to fail
        hidden({f"{HOME}/vpd": vpd(b"MT2033X01234")[:end]}, "MT2033X01234")


def test_the_serial_number_in_config_space_is_that_of_sysfs() -> None:
    config = bytearray(0x140)
    config[0x100:0x104] = (0x1302_0001).to_bytes(4, "little")
    config[0x130:0x134] = (0x0001_0003).to_bytes(4, "little")
    config[0x134:0x13C] = 0xB8CEF6FFFF123456.to_bytes(8, "little")
    found = hidden(
        {f"{HOME}/config": bytes(config), f"{HOME}/serial_number": "b8-ce-f6-ff-ff-12-34-56\n"}, "b8-ce-f6-ff-ff"
    )
    place = 0x134 if 0x1302_0001 >> 20 & 0xFFC == 0x130 else 0
    new = int.from_bytes(found[f"{HOME}/config"].encode("latin-1")[place : place + 8], "little")
    assert new.to_bytes(8, "big").hex("-") == found[f"{HOME}/serial_number"].strip()


def test_names_are_hidden_outside_of_sysfs_only() -> None:
    found = hidden(
        {
            "proc/sys/kernel/hostname": "nvidia.corp.example.com\n",
            "proc/sys/kernel/osrelease": "6.12.57-nvidia\n",
            "etc/nova/nova.conf": "host = nvidia.corp.example.com\nmy_ip = 10.1.2.3\nother = 10.1.2.3 fd12::5 ::1\n",
            "proc/4711/cmdline": f"-name\0guest=instance-0000001a,debug=on\0-uuid\0{MDEV}",
            "proc/4712/cmdline": "-name\0web server\0",
            "proc/4711/cgroup": r"0::/machine.slice/machine-qemu\x2d5\x2dinstance\x2d0000001a.scope" + "\n",
            "devagent/name": "nvidia.corp.example.com\n",
            f"{HOME}/uevent": "DRIVER=nvidia\n",
        },
        "nvidia.corp",
        "corp.example.com",
        "10.1.2.3",
        "fd12::5",
        "0000001a",
        "web server",
        MDEV,
    )
    assert found[f"{HOME}/uevent"] == "DRIVER=nvidia\n"
    assert found["proc/sys/kernel/osrelease"] == "6.12.57-nvidia\n"
    name = found["proc/sys/kernel/hostname"].strip()
    assert name.count(".") == 3
    assert found["devagent/name"].strip() == name
    assert re.fullmatch(
        rf"host = {name}\nmy_ip = (198\.1[89]\.\d+\.\d+)\nother = \1 2001:db8:\S+ ::1\n", found["etc/nova/nova.conf"]
    )
    guest = re.search("guest=(instance-[0-9a-f]{8})\0", found["proc/4711/cmdline"])
    assert guest is not None
    assert guest[1].replace("-", r"\x2d") in found["proc/4711/cgroup"]


def test_routes_and_mounts_keep_what_decides() -> None:
    v6 = "{} {} {} 00 {} 00000400 00000001 00000000 00000003 {}\n"
    nothing, gateway, net = "0" * 32, "fe80" + "0" * 22 + "a1b2c3", "fd12" + "0" * 28
    found = hidden(
        {
            "proc/net": Link("self/net"),
            "proc/self/net/route": "eno1 00000000 0100A8C0 0003 0 0 0 00000000 0\n"
            "eno1 0000A8C0 00000000 1 0 0 0 00FFFFFF 0\n",
            "proc/self/net/ipv6_route": v6.format(nothing, "00", nothing, gateway, "eno1")
            + v6.format(net, "40", nothing, nothing, "eno1"),
            "proc/self/mountinfo": "36 35 259:1 /secret/root / rw shared:1 - ext4 /dev/nvme0n1p1 rw,lowerdir=/x\n"
            "48 35 0:41 /vol /home rw - btrfs /dev/nvme1n1p2 rw\n"
            "49 35 0:42 / /mnt rw - nfs4 nas.corp.example.com:/export rw,addr=10.1.2.3\n",
            "proc/version": "Linux version 6.1.0 (builder@secret.example.org) #1 SMP\n",
        },
        "0100A8C0", "0000A8C0", "a1b2c3", net, "secret", "lowerdir", "nas.corp", "10.1.2.3", "builder",
    )  # fmt: skip
    assert re.fullmatch(r"eno1 00000000 [0-9A-F]{8} 0003 0 0 0 00000000 0\n", found["proc/self/net/route"])
    fields = found["proc/self/net/ipv6_route"].split()
    assert (len(fields), fields[:2], fields[9]) == (10, [nothing, "00"], "eno1")
    assert (
        found["proc/self/mountinfo"]
        == ("36 35 259:1 / / rw - ext4 /dev/nvme0n1p1 rw\n48 35 0:41 / /home rw - btrfs /dev/nvme1n1p2 rw\n")
        + found["proc/self/mountinfo"].splitlines(keepends=True)[2]
    )
    assert re.search(
        r"(?m)^49 35 0:42 / /mnt rw - nfs4 \w{3}\.\w{4}\.\w{7}\.\w{3}:/\w{6} rw$", found["proc/self/mountinfo"]
    )
    assert found["proc/version"] == "Linux version 6.1.0\n"


def test_what_names_a_design_stays() -> None:
    files: dict[str, bytes | str | Link] = {
        f"{HOME}/dfl/afu_id": "d8424dc4a4a3c413f89e433683f9040b\n",
        f"{HOME}/interface_uuids": MDEV,
        f"{HOME}/rom.m.1/uuid": MDEV,
        f"{HOME}/uevent": "DRIVER=mlx5_core\nPCI_SLOT_NAME=0000:5e:00.0\n",
        f"{HOME}/binary": b"\xff\x00\xfe",
    }
    assert hidden(files) == texts(laid(files))


def test_a_place_is_never_taken_for_a_serial_number() -> None:
    apart = "pci0000:18/01.0/00.0"
    devices = [
        {"topology": apart, "identity": {"source": source, "value": value}, "others": others}
        for source, value, others in (
            ("dsn", f"b8-ce-f6-ff-ff-12-34-56/1@{apart}", {"dsn": "b8-ce-f6-ff-ff-12-34-56/1", "topology": apart}),
            ("vpd", "MCX623106AN:MT2042X01/0@0000:3b:00.0", {"vpd": "MCX623106AN:MT2042X01/0"}),
            ("topology", apart, {"address": "0000:3b:00.0"}),
            ("serial", "pci0000:18", {"serial": "0000:3b:00.0"}),
            ("nvme", "AB/1", {"nvme": "PM1733-77/0"}),
        )
    ]
    paths = (
        "sys/devices/pci0000:18/0000:18:01.0/0000:3b:00.0/uevent",
        "sys/bus/x/0000:3b:00.0/class",
        "usr/MCX623106AN",
    )
    found = hidden(
        {"var/lib/devagent/identities.json": json.dumps({"devices": devices}), **dict.fromkeys(paths, "0x030200")},
        "b8-ce-f6-ff-ff-12-34-56",
        "MT2042X01",
        "AB/1",
        "PM1733-77",
    )
    assert found.keys() >= set(paths)
    new = json.loads(found["var/lib/devagent/identities.json"])["devices"]
    assert [each["topology"] for each in new] == [apart] * 5
    values = [each["identity"]["value"] for each in new]
    assert values[0] == new[0]["others"]["dsn"] + f"@{apart}"
    assert values[1] == new[1]["others"]["vpd"] + "@0000:3b:00.0"
    assert values[1].startswith("MCX623106AN:")
    assert (values[2], new[2]["others"]) == (apart, {"address": "0000:3b:00.0"})


def test_a_word_is_never_taken_for_a_serial_number() -> None:
    found = hidden({f"{HOME}/nvme/nvme0/serial": "devices\n", f"{HOME}/serial": "pci0000\n", f"{HOME}/uevent": "x"})
    assert f"{HOME}/uevent" in found


def test_a_short_serial_number_is_replaced_where_its_key_tells_it() -> None:
    answer = {"answer": {"facts": {"uuid": GPU, "serial": "AB12", "memory_mib": 1}, "name": "AB12 GPU"}}
    identities = {"devices": [{"identity": {"source": "vpd", "value": "PN:A1/0"}, "gpu": {"serial": "999"}}]}
    found = hidden(
        {"devagent/nvml/0000:3b:00.0.json": json.dumps(answer), "var/identities.json": json.dumps(identities)},
        '"AB12"',
        ":A1/",
        "999",
    )
    new = json.loads(found["devagent/nvml/0000:3b:00.0.json"])["answer"]
    assert re.fullmatch("[0-9a-f]{4}", new["facts"]["serial"].lower())
    assert (new["facts"]["memory_mib"], new["name"]) == (1, "AB12 GPU")
    assert re.fullmatch("PN:[0-9A-F]{2}/0", json.loads(found["var/identities.json"])["devices"][0]["identity"]["value"])


def test_a_failure_tells_no_name() -> None:
    files: dict[str, bytes | str | Link] = {
        "proc/sys/kernel/hostname": "cpu-acme-07\n",
        "proc/4711/cmdline": "-name\0guest=customer-zebra",
        f"{HOME}/serial": "MT2042X01",
        "devagent/failures.json": json.dumps(
            {"device": {"0000:3b:00.0": "on cpu-acme-07, 10.1.2.3, customer-zebra: MT2042X01"}}
        ),
    }
    found = hidden(files, "acme", "zebra", "10.1.2.3", "MT2042X01")
    name = found["proc/sys/kernel/hostname"].strip()
    assert json.loads(found["devagent/failures.json"])["device"]["0000:3b:00.0"].startswith(f"on {name}, 198.1")
    assert (
        hidden({**files, "devagent/failures.json": "{cut off on cpu-acme-07"})["devagent/failures.json"][:8]
        == "{cut off"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-name\0guest=a,,b customer Zebra", r"-name\0guest=[A-Z],,[A-Z] [A-Z]{8} [A-Z]{5}"),
        ("-name\0process=customer-Yak,guest=Zebra.customer", r"-name\0guest=\w{5}\.\w{8}"),
        ("-name\0guest=Zebra-ü", r"-name\0guest=[ -~]+"),
        ("-name\0guest=客户", r"-name\0guest=[ -~]+"),
        (f"-uuid\0{MDEV}\0-smbios\0serial=Zebra", rf"-uuid\0(?!{MDEV})[0-9a-f-]{{36}}"),
    ],
)
def test_no_name_of_a_machine_is_left(arguments: str, expected: str) -> None:
    found = hidden(
        {"proc/4711/cmdline": arguments, "proc/4711/comm": "qemu-kvm\n"}, "zebra", "customer", "yak", "ü", "客"
    )
    assert re.fullmatch(expected, found["proc/4711/cmdline"])
    assert found["proc/4711/comm"] == "qemu-kvm\n"


def test_a_guest_that_is_called_as_something_else_is_replaced_in_its_own_place_only() -> None:
    files: dict[str, bytes | str | Link] = {
        "proc/1/cmdline": "-name\0guest=devices",
        "proc/2/cmdline": "-name\0guest=rw",
        "etc/nova/nova.conf": "[devices]\nenabled_mdev_types = nvidia-558\n",
        "proc/self/mountinfo": "36 35 259:1 / / rw - ext4 /dev/sda1 rw\n",
    }
    found = hidden(files)
    for name in ("etc/nova/nova.conf", "proc/self/mountinfo"):
        assert found[name] == files[name]
    assert found["proc/1/cmdline"] != files["proc/1/cmdline"]
    assert found["proc/2/cmdline"] != files["proc/2/cmdline"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("qemu-system-x86", "qemu-system-x86"),
        ("kvm", "kvm"),
        ("qemu-zebra", "qemu-[a-z]{5}"),
        ("zebra-train 7", "[a-z]{5}-[a-z]{5} [0-9]"),
        ("zebra-ü", "[ -~]+"),
    ],
)
def test_a_process_is_called_otherwise_but_for_qemu(command: str, expected: str) -> None:
    assert re.fullmatch(expected, hidden({"proc/4711/comm": f"{command}\n"}, "zebra", "ü")["proc/4711/comm"].strip())


def test_volumes_and_mount_points_keep_their_places() -> None:
    mount = "{} 35 {} / {} rw - {} {} rw\n"
    found = hidden(
        {
            "proc/self/mountinfo": mount.format(1, "253:0", "/", "ext4", "/dev/mapper/vg--zebra-root")
            + mount.format(2, "253:1", "/var/lib/zebra\\040x", "xfs", "/dev/vg-zebra/lv-a")
            + mount.format(3, "0:44", "/boot/efi", "btrfs", "/dev/nvme0n1p1")
            + mount.format(4, "0:45", "/zebra/a", "zfs", "zebra/a")
            + mount.format(5, "0:46", "/zebra/b", "zfs", "zebra/b")
            + mount.format(6, "0:47", "/x", "bcachefs", "/dev/sda:/dev/mapper/zebra")
            + mount.format(7, "9:1", "/mnt", "ext4", "/dev/cciss/c0d0p1")
            + "8 35 259:1 / /home rw\nzebra\n",
            "proc/swaps": "Filename Type Size\n/dev/mapper/zebra\\040(deleted) partition 1\n"
            "/zebra file 2\n/dev/dm-2 partition 3\n",
            "sys/devices/virtual/block/dm-0/dm/name": "vg--zebra-root\n",
            "sys/devices/virtual/block/dm-1/dm/name": "vg--zebra-lv--a\n",
            "sys/devices/virtual/block/dm-2/dm/name": "zebra\n",
            "sys/devices/virtual/block/dm-2/dm/uuid": "CRYPT-LUKS2-zebra\n",
            "proc/cmdline": "BOOT_IMAGE=/zebra root=/dev/mapper/vg--zebra-root rd.lvm.lv=zebra/x"
            " intel_iommu=on iommu=pt quiet\n",
        },
        "zebra",
    )
    names = [found[f"sys/devices/virtual/block/dm-{number}/dm/name"].strip() for number in range(3)]
    lines = [line.split(" ") for line in found["proc/self/mountinfo"].splitlines()]
    assert lines[0][4::4] == ["/", f"/dev/mapper/{names[0]}"]
    group, volume = (part.replace("--", "-") for part in re.split("(?<!-)-(?!-)", names[1]))
    assert lines[1][8] == f"/dev/{group}/{volume}"
    assert names[0].startswith(group.replace("-", "--") + "-")
    assert re.fullmatch(r"/var/lib/[a-z]{5}\\040[a-z]", lines[1][4])
    assert lines[2][4::4] == ["/boot/efi", "/dev/nvme0n1p1"]
    assert lines[3][8].split("/")[0] == lines[4][8].split("/")[0]
    assert lines[5][8] == f"/dev/sda:/dev/mapper/{names[2]}"
    assert lines[6][8] == "/dev/cciss/c0d0p1"
    assert lines[7][2:6] == ["259:1", "/", "/home", "rw"]
    swaps = found["proc/swaps"].splitlines()
    assert swaps[1] == f"/dev/mapper/{names[2]}\\040(deleted) partition 1"
    assert swaps[3] == "/dev/dm-2 partition 3"
    assert found["sys/devices/virtual/block/dm-2/dm/uuid"].startswith("CRYPT-")
    assert found["proc/cmdline"] == "intel_iommu=on iommu=pt\n"
