# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""FPGAs are programmed from memory with what was asked for, only where it fits and nobody is at work."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devagent.privileged import dfl, xclbin
from devagent.privileged.programming import fpga_image, program_fpga
from devagent.privileged.refused import VerbRefused

from ..model import images
from ..model.images import FUNCTION, INTERFACE, gbs, legacy, metadata
from ..worlds import Link, World, write

CARD = "0000:3b:00.0"
FOLDER = f"sys/bus/pci/devices/{CARD}"
BASE = f"{FOLDER}/fpga_region/region0"
DFL_PCI = "sys/bus/pci/drivers/dfl-pci"
OTHER = "38d782e3b6125343b9342433e348ac4c"


def driver(name: str) -> World:
    return {f"{FOLDER}/driver": Link(f"../../drivers/{name}"), "proc/": ""}


def card(*ports: int, count: int = 1, afu: str = FUNCTION) -> World:
    """Gives a DFL card with these ports; all others of `count` are with VFs."""
    world: dict[str, Any] = {
        **driver("dfl-pci"),
        f"{BASE}/dfl-fme.0/ports_num": f"{count}\n",
        f"{BASE}/dfl-fme.0/dfl-fme-region.1/fpga_region/region1/compat_id": f"{INTERFACE}\n",
        f"{BASE}/dfl-fme.0/dfl-fme-mgr.0/fpga_manager/fpga0/status": "",
        f"{DFL_PCI}/bind": "",
        f"{DFL_PCI}/unbind": "",
        "dev/dfl-fme.0": "",
    }
    for port in ports:
        folder = f"{BASE}/dfl-port.{port + 5}"
        world |= {f"{folder}/id": f"{port}\n", f"{folder}/afu_id": f"{afu}\n", f"{folder}/errors/errors": "0x0\n"}
        world |= {f"dev/dfl-port.{port + 5}": ""}
    return world


class Host:
    """A host's tree with images in the agent's cache, and what stands in for the kernel's ioctls."""

    def __init__(self, top: Path) -> None:
        self.root, self.cache = top / "host", top / "images"
        self.cache.mkdir()
        self.programmed: list[tuple[str, int, bytes]] = []
        self.refuses: int | None = None

    def build(self, *worlds: World) -> None:
        for world in worlds:
            write(self.root, world)

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.cache / digest).write_bytes(data)
        return digest

    def program(
        self, data: bytes, *, region: str | None = None, port: int | None = None, wanted: str | None = None
    ) -> None:
        program_fpga(self.root, self.cache, CARD, region, port, self.put(data), wanted)

    def holds(self, data: bytes, *, region: str | None = None, port: int | None = None) -> bool:
        return bool(fpga_image(self.root, self.cache, CARD, region, port, self.put(data))["holds"])

    def refused(self, data: bytes, **where: Any) -> VerbRefused:
        with pytest.raises(VerbRefused) as caught:
            self.program(data, **where)
        assert str(caught.value).startswith(CARD)
        return caught.value

    def ioctl(self, fd: int, request: int, argument: bytes) -> int:
        node = Path(f"/proc/self/fd/{fd}").readlink().name
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        if request == dfl.PORT_PR:
            size, flags, port, length, address = struct.unpack("=IIIIQ", argument)
            assert (size, flags) == (24, 0)
        else:
            assert request == xclbin.DOWNLOAD
            ((address,), port) = struct.unpack("=Q", argument), 0
            (length,) = struct.unpack("<Q", ctypes.string_at(address + 304, 8))
        self.programmed.append((node, port, ctypes.string_at(address, length)))
        return 0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(fcntl, "ioctl", made.ioctl)
    return made


def written(
    monkeypatch: pytest.MonkeyPatch, does: Callable[[Path, bytes], None] = lambda path, data: None
) -> list[tuple[str, bytes]]:
    """Notes what is written to sysfs, and does there what the kernel does."""
    noted: list[tuple[str, bytes]] = []
    real = os.write

    def stored(fd: int, data: bytes) -> int:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if "/sys/" not in str(path):
            return real(fd, data)
        noted.append((path.name, bytes(data)))
        does(path, bytes(data))
        return len(data)

    monkeypatch.setattr(os, "write", stored)
    return noted


def test_only_the_raw_part_of_a_gbs_reaches_the_port(host: Host) -> None:
    host.build(card(0))
    host.program(gbs(b"raw part"), region="region1", port=0, wanted=INTERFACE)
    assert host.programmed == [("dfl-fme.0", 0, b"raw part")]
    assert host.holds(gbs(b"raw part"))
    assert not host.holds(gbs(told=metadata(INTERFACE, OTHER)))


def test_without_a_port_all_are_programmed(host: Host) -> None:
    host.build(card(0, 1, count=3))
    host.program(gbs(b"raw part"))
    assert [port for _, port, _ in host.programmed] == [0, 1, 2]


def test_the_name_of_a_region_is_of_an_earlier_binding(host: Host) -> None:
    host.build(card(0))
    host.program(legacy(b"raw part"), region="region7")
    assert host.programmed == [("dfl-fme.0", 0, b"raw part")]


def test_of_several_regions_none_is_guessed(host: Host) -> None:
    host.build(card(0), {f"{BASE}/dfl-fme.0/dfl-fme-region.2/fpga_region/region2/compat_id": INTERFACE})
    assert str(host.refused(gbs(), region="region7")) == f"{CARD} has no region7; its regions are region1, region2"


@pytest.mark.parametrize(
    ("data", "where", "kind", "says"),
    [
        (gbs(told=metadata(OTHER)), {}, "permanent", f"has the interface {INTERFACE}, its image is for {OTHER}"),
        (gbs(), {"wanted": OTHER}, "retry", f"has the interface {INTERFACE} now, and not {OTHER}"),
        (gbs(), {"port": 1}, "permanent", "has 1 ports, and none with the number 1"),
        (images.xclbin(), {}, "permanent", "is no GBS"),
        (b"\xff raw", {}, "permanent", "is no GBS"),
        (gbs(b""), {}, "permanent", "cannot be programmed: it is a GBS that ends before its data begins"),
        (gbs(told=metadata(values={"clock-frequency-high": 200})), {}, "permanent", "does not say what its user clock"),
    ],
)
def test_what_does_not_fit_a_port_never_reaches_it(host: Host, data: bytes, where: Any, kind: str, says: str) -> None:
    host.build(card(0))
    refused = host.refused(data, **where)
    assert (refused.kind, says in str(refused)) == (kind, True), refused
    assert host.programmed == []


@pytest.mark.parametrize(("now", "fits"), [("156250 312500", True), ("157000 311000", True), ("100000 200000", False)])
def test_an_image_finds_the_user_clock_that_it_wants(host: Host, now: str, fits: bool) -> None:
    host.build(card(0), {f"{BASE}/dfl-port.5/dfl_dev.4/userclk/frequency": f"{now}\n"})
    data = gbs(told=metadata(values={"clock-frequency-high": 312.5, "clock-frequency-low": 156}))
    if fits:
        host.program(data)
    else:
        assert "wants a user clock of 313 and 156 MHz, and the port has 200 and 100 MHz" in str(host.refused(data))


@pytest.mark.parametrize(
    ("node", "who"),
    [("/dev/dfl-port.5", "port 0 is in use"), ("/dev/vfio/12", " is in use"), ("/dev/vfio/30", "VF 0 is in use")],
)
def test_who_uses_a_port_is_told(host: Host, node: str, who: str) -> None:
    groups = {f"{FOLDER}/iommu_group": Link("../../groups/12"), f"{FOLDER}/virtfn0/iommu_group": Link("../groups/30")}
    host.build(card(0), groups, {"proc/4711/fd/9": Link(node), "proc/4711/comm": "qemu\n"})
    refused = host.refused(gbs())
    assert (refused.kind, who in str(refused)) == ("retry", True)
    assert [each.pid for each in refused.holders] == [4711]
    assert host.programmed == []


def test_a_port_of_another_vf_may_be_in_use(host: Host) -> None:
    vfs = {f"{FOLDER}/virtfn{index}/iommu_group": Link(f"../groups/{30 + index}") for index in range(2)}
    host.build(card(count=2), vfs, {"proc/4711/fd/9": Link("/dev/vfio/31"), "proc/4711/comm": "qemu\n"})
    host.program(gbs(b"raw part"), port=0)
    assert [port for _, port, _ in host.programmed] == [0]
    assert "VF 1 is in use" in str(host.refused(gbs(), port=1))


def test_errors_that_a_port_has_latched_are_cleared(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.build(card(0))
    (host.root / BASE / "dfl-port.5/errors/errors").write_text("0x1c\n")
    noted = written(monkeypatch)
    host.program(gbs())
    assert noted == [("errors", b"0x1c")]


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [
        (errno.EIO, "permanent", "port 0: the card refused the image (input/output error; reconfig CRC error)"),
        (errno.ETIMEDOUT, "permanent", "did not finish in its time"),
        (errno.EBUSY, "retry", "being programmed already"),
        (errno.ENXIO, "retry", "its driver could not program it (no such device or address; reconfig CRC error)"),
    ],
)
def test_the_cards_answer_is_explained(host: Host, number: int, kind: str, says: str) -> None:
    host.build(card(0))
    (host.root / BASE / "dfl-fme.0/dfl-fme-mgr.0/fpga_manager/fpga0/status").write_text("reconfig CRC error\n")
    host.refuses = number
    refused = host.refused(gbs())
    assert (refused.kind, says in str(refused)) == (kind, True), refused


def disabled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Has ports say that they are disabled until the list is emptied."""
    real, is_so = Path.read_text, [True]

    def reading(path: Path, *arguments: Any, **more: Any) -> str:
        if path.name == "afu_id" and is_so:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return real(path, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", reading)
    return is_so


def test_a_port_that_an_earlier_image_disabled_is_enabled_by_binding_the_driver_anew(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.build(card(0))
    is_so = disabled(monkeypatch)
    assert not host.holds(gbs())
    noted = written(monkeypatch, lambda path, _: is_so.clear() if path.name == "bind" else None)
    host.program(gbs())
    assert noted == [("unbind", CARD.encode()), ("bind", CARD.encode())]


@pytest.mark.parametrize(
    ("more", "kind", "says"),
    [
        ({f"{FOLDER}/virtfn0/uevent": ""}, "permanent", "its 1 VFs would go"),
        (
            {"proc/4711/fd/9": Link("/dev/dfl-fme.0"), "proc/4711/comm": "fpgad\n"},
            "retry",
            "its FME is in use: process",
        ),
        ({"proc/4711/fd/9": Link("/dev/dfl-port.6"), "proc/4711/comm": "afu\n"}, "retry", "port 1 is in use: process"),
    ],
)
def test_the_driver_stays_where_somebody_needs_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, more: World, kind: str, says: str
) -> None:
    host.build(card(0, 1, count=2), more)
    disabled(monkeypatch)
    noted = written(monkeypatch)
    refused = host.refused(gbs(), port=0)
    assert (refused.kind, says in str(refused)) == (kind, True), refused
    assert noted == []


def test_a_success_that_is_none_is_noticed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.build(card(0, afu=OTHER))
    assert f"was programmed with {FUNCTION}, and says that it is {OTHER}" in str(host.refused(gbs()))
    disabled(monkeypatch)
    written(monkeypatch)
    refused = str(host.refused(gbs()))
    assert "port 0 was programmed and is disabled all the same; its port stays disabled until dfl-pci" in refused


def test_an_image_is_what_its_name_says_or_nothing(host: Host) -> None:
    host.build(card(0))
    digest = host.put(gbs())
    (host.cache / digest).write_bytes(gbs(b"forged"))
    for place, says in ((digest, "is not what its name says"), ("0" * 64, "must be fetched")):
        with pytest.raises(VerbRefused, match=says) as caught:
            program_fpga(host.root, host.cache, CARD, None, None, place, None)
        assert caught.value.kind == "retry"
    (host.cache / digest).unlink()
    (host.cache / "elsewhere").write_bytes(gbs())
    (host.cache / digest).symlink_to("elsewhere")
    with pytest.raises(VerbRefused, match="cannot be read"):
        program_fpga(host.root, host.cache, CARD, None, None, digest, None)
    (host.cache / digest).unlink()
    os.mkfifo(host.cache / digest)
    with pytest.raises(VerbRefused, match="it is no file"):
        program_fpga(host.root, host.cache, CARD, None, None, digest, None)
    assert host.programmed == []


def test_an_image_beyond_all_bounds_is_not_read(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devagent.privileged.images.MAX_SIZE", 100)
    host.build(card(0))
    assert "100 are the most" in str(host.refused(gbs(bytes(200))))


def alveo(interfaces: str = INTERFACE, shell: str = "xilinx_u250_gen3x16_xdma_shell_4_1") -> World:
    return {
        **driver("xclmgmt"),
        f"{FOLDER}/interface_uuids": f"{OTHER}\n{interfaces}\n",
        f"{FOLDER}/rom.m.0/VBNV": f"{shell}\n",
        f"{FOLDER}/xrt_mgmt/xclmgmt15104/dev": "240:0\n",
        "dev/xclmgmt15104": "",
        f"sys/bus/pci/devices/{CARD[:-1]}1/iommu_group": Link("../../groups/13"),
    }


def test_an_xclbin_goes_whole_to_the_management_pf(host: Host) -> None:
    host.build(alveo())
    host.program(images.xclbin(), wanted=INTERFACE)
    assert host.programmed == [("xclmgmt15104", 0, images.xclbin())]
    assert host.holds(images.xclbin())
    (host.root / FOLDER / "dev_offline").write_text("1\n")
    assert not host.holds(images.xclbin())


def test_an_xclbin_without_an_interface_fits_the_shell_that_it_names(host: Host) -> None:
    host.build(alveo())
    data = bytearray(images.xclbin("0" * 32))
    assert "does not say for which" in str(host.refused(bytes(data)))
    data[352:386] = b"xilinx_u250_gen3x16_xdma_shell_4_1"
    host.program(bytes(data))
    data[352:353] = b"X"
    assert "has the shell xilinx_u250_gen3x16_xdma_shell_4_1, its image is for X" in str(host.refused(bytes(data)))
    assert len(host.programmed) == 1


@pytest.mark.parametrize(
    ("number", "kind", "says"),
    [(errno.EBUSY, "retry", "something on this host uses it"), (errno.EINVAL, "permanent", "does not take the image")],
)
def test_the_word_of_xrts_driver_is_explained(host: Host, number: int, kind: str, says: str) -> None:
    host.build(alveo())
    host.refuses = number
    refused = host.refused(images.xclbin())
    assert (refused.kind, says in str(refused)) == (kind, True), refused


def test_an_alveo_whose_user_pf_a_guest_has_is_left_alone(host: Host) -> None:
    host.build(alveo(), {"proc/4711/fd/9": Link("/dev/vfio/13"), "proc/4711/comm": "qemu\n"})
    assert f"{CARD[:-1]}1 is in use: process 4711" in str(host.refused(images.xclbin()))
    assert "is no xclbin" in str(host.refused(gbs()))


def manager(state: str = "operating", compat_id: str | None = INTERFACE) -> World:
    world: dict[str, Any] = {
        **driver("altera-cvp"),
        f"{FOLDER}/fpga_manager/fpga0/state": f"{state}\n",
        "lib/firmware/devagent/": "",
    }
    world |= {f"{FOLDER}/fpga_manager/fpga0/{name}": "" for name in ("firmware", "flags", "status")}
    return world | ({f"{FOLDER}/fpga_region/region0/compat_id": f"{compat_id}\n"} if compat_id else {})


def kernel(host: Host, monkeypatch: pytest.MonkeyPatch, refuses: int | None = None) -> list[tuple[str, bytes]]:
    """Notes what the kernel would load of /lib/firmware."""

    def load(path: Path, data: bytes) -> None:
        if path.name == "firmware":
            host.programmed.append(("fpga0", 0, (host.root / "lib/firmware" / data.decode()).read_bytes()))
            if refuses:
                raise OSError(refuses, os.strerror(refuses))

    return written(monkeypatch, load)


def test_an_image_lies_below_lib_firmware_only_while_the_kernel_reads_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.build(manager())
    noted = kernel(host, monkeypatch)
    host.program(b"\x55" * 5000, region="region0", wanted=INTERFACE)
    assert [name for name, _ in noted] == ["flags", "firmware"]
    assert host.programmed == [("fpga0", 0, b"\x55" * 5000)]
    assert list((host.root / "lib/firmware/devagent").iterdir()) == []
    host.program(gbs(b"raw part"))
    assert host.programmed[1] == ("fpga0", 0, b"raw part")


def test_what_an_fpga_manager_refuses_is_told_with_its_state(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.build(manager("write init error"))
    (host.root / FOLDER / "fpga_manager/fpga0/status").write_text("reconfig incompatible image\n")
    kernel(host, monkeypatch, errno.EINVAL)
    refused = host.refused(b"raw")
    says = (
        f"{CARD}: it does not take the image (invalid argument); it says: write init error, reconfig incompatible image"
    )
    assert (refused.kind, str(refused)) == ("permanent", says)
    assert list((host.root / "lib/firmware/devagent").iterdir()) == []


def test_an_fpga_manager_that_does_not_operate_afterwards_has_failed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.build(manager("write error"))
    kernel(host, monkeypatch)
    assert "says that it is in the state 'write error'" in str(host.refused(b"raw"))
    assert not host.holds(b"raw")


def test_mainline_has_no_way_to_program_an_fpga_manager(host: Host) -> None:
    host.build(manager())
    (host.root / FOLDER / "fpga_manager/fpga0/firmware").unlink()
    refused = host.refused(b"raw")
    assert (refused.kind, "the kernel of this host lets nobody load an image" in str(refused)) == ("permanent", True)


@pytest.mark.parametrize(
    ("world", "data", "wanted", "says"),
    [
        (manager(compat_id=OTHER), gbs(), None, f"has the interface {OTHER}, its image is for {INTERFACE}"),
        (manager(compat_id=None), gbs(), None, f"has the interface none, its image is for {INTERFACE}"),
        (manager(), b"raw", OTHER, f"has the interface {INTERFACE} now, and not {OTHER}"),
        ({**manager(), f"{FOLDER}/fpga_manager/fpga1/state": ""}, b"raw", None, "has 2 fpga_managers"),
        ({**manager(), f"{FOLDER}/fpga_region/region1/compat_id": ""}, b"raw", None, "regions region0, region1: which"),
    ],
)
def test_what_does_not_fit_an_fpga_manager(
    host: Host, monkeypatch: pytest.MonkeyPatch, world: World, data: bytes, wanted: str | None, says: str
) -> None:
    host.build(world)
    kernel(host, monkeypatch)
    assert says in str(host.refused(data, wanted=wanted))
    assert host.programmed == []


def test_where_lib_firmware_cannot_be_written(host: Host) -> None:
    host.build(manager())
    (host.root / "lib/firmware/devagent").rmdir()
    refused = host.refused(b"raw")
    assert "systemd-tmpfiles --create makes it" in str(refused)


@pytest.mark.parametrize(
    ("name", "says"), [("vfio-pci", "is on vfio-pci: only its own driver"), ("foo", "nothing is known by which its")]
)
def test_without_its_own_driver_nothing_is_programmed(host: Host, name: str, says: str) -> None:
    host.build(driver(name))
    assert says in str(host.refused(gbs()))


def test_a_card_with_a_guest_has_what_it_was_given_with(host: Host) -> None:
    host.build(driver("vfio-pci"))
    assert host.holds(gbs())


def test_a_card_that_is_gone_is_told_as_gone(host: Host) -> None:
    host.build({"sys/bus/pci/devices/": ""})
    assert host.refused(gbs()).gone


def test_a_port_is_claimed_while_it_is_programmed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens it between the look and the ioctl would have it change below him: dfl-afu then refuses to open it."""
    host.build(card(0))
    opened, really = list[tuple[str, int]](), os.open

    def noting(path: Any, flags: int, *more: Any, **named: Any) -> int:
        opened.append((Path(path).name, flags & os.O_EXCL))
        return really(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", noting)
    host.program(gbs())
    (port,) = (flags for name, flags in opened if name.startswith("dfl-port."))
    assert port == os.O_EXCL
