# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What --root may name: a directory or an archive with sysfs in it, whatever the folders above are called."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate, generate_archive

from devagent.errors import RootError
from devagent.sources import roots

from ..worlds import PCI, described, look, modalias, port, write

SUFFIXES = ".tar, .tar.gz, .tgz, .tar.bz2, .tar.xz"
GPU_HOST = described(port({"id": "10de:20f1", "class": "030200", "driver": "nvidia"}))
FUNCTION = {f"{PCI}/0000:3b:00.0/modalias": modalias("10de:20f1")}


def addresses(root: Path) -> list[str]:
    return [device.address for device in look(root).devices]


def packed(path: Path, *members: tarfile.TarInfo | tuple[str, str], mode: Any = "w") -> Path:
    """Packs a GPU's capture and these members: a TarInfo as it is, or a file of this name and content."""
    contents = [*FUNCTION.items(), *members]
    with tarfile.open(path, mode) as archive:
        for each in contents:
            if isinstance(each, tarfile.TarInfo):
                archive.addfile(each)
                continue
            member = tarfile.TarInfo(each[0])
            member.size = len(each[1].encode())
            archive.addfile(member, io.BytesIO(each[1].encode()))
    return path


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refused(root: Path) -> str:
    with pytest.raises(RootError) as caught, roots.open_root(root):
        pass
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".capture"])
def test_an_archive_is_read_whatever_compresses_it(tmp_path: Path, suffix: str) -> None:
    kind = {".tar": "w", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}.get(suffix, "w:gz")
    assert addresses(packed(tmp_path / f"host{suffix}", mode=kind)) == ["0000:3b:00.0"]


@pytest.mark.parametrize("folders", ["", "host", "a b/ü", "one/two/three"])
@pytest.mark.parametrize("packing", [False, True])
def test_the_sysfs_tree_is_found_up_to_three_folders_down(tmp_path: Path, folders: str, packing: bool) -> None:
    generate(GPU_HOST, tmp_path / "top" / folders)
    root = tmp_path / "top"
    if packing:
        root = tmp_path / "host.tar.gz"
        with tarfile.open(root, "w:gz") as archive:
            archive.add(tmp_path / "top", "." if folders == "" else "")
    assert addresses(root) == ["0000:3b:00.0"]


def test_four_folders_down_is_too_deep(tmp_path: Path) -> None:
    generate(GPU_HOST, tmp_path / "1/2/3/4")
    assert "not a sysfs tree" in refused(tmp_path)


def test_an_archive_and_its_directory_are_the_same_host(host_tree: Callable[[str], Path], tmp_path: Path) -> None:
    description = Path(__file__).parents[2] / "hosts/gpu8.yaml"
    archive = generate_archive(description, tmp_path / "gpu8.tar.xz")
    assert look(archive, every=True) == look(host_tree("gpu8"), every=True)


def test_the_demo_host_is_what_is_generated_now(tmp_path: Path) -> None:
    fresh = generate_archive(Path(__file__).parents[2] / "hosts/gpu8.yaml", tmp_path / "gpu8.tar.xz")
    with resources.as_file(resources.files("devagent.cli").joinpath("demo-host.tar.xz")) as shipped:
        assert unpacked(shipped) == unpacked(fresh)


def unpacked(path: Path) -> dict[str, tuple[bytes, str, bytes]]:
    """Gives type, link target and content of each member by name."""
    with tarfile.open(path) as archive:
        return {
            each.name: (each.type, each.linkname, file.read() if (file := content(archive, each)) else b"")
            for each in archive
        }


def content(archive: tarfile.TarFile, each: tarfile.TarInfo) -> Any:
    return archive.extractfile(each) if each.isreg() else None


def test_nothing_escapes_from_an_archive(tmp_path: Path) -> None:
    secret = write(tmp_path, {"secret/hostname": "secret\n"}) / "secret"
    escaping = packed(
        tmp_path / "host.tar",
        ("../escaped", "x"),
        ("sys/../../escaped", "x"),
        (f"{tmp_path}/escaped", "x"),
        member("proc", tarfile.SYMTYPE, str(secret)),
        member("proc/sys/kernel/hostname", tarfile.LNKTYPE, f"{secret}/hostname"),
        member("etc", tarfile.SYMTYPE, "../" * 20 + f"{secret}"),
        ("etc/written", "x"),
        member("var", tarfile.SYMTYPE, "/etc"),
        member("dev/mem", tarfile.CHRTYPE),
        member("dev/sda", tarfile.BLKTYPE),
        member("dev/fifo", tarfile.FIFOTYPE),
    )
    before = sorted(tmp_path.rglob("*"))
    with roots.open_root(escaping) as tree:
        assert tree.names("dev") == []
        assert ".." not in tree.names()
        assert tree.names("sys") == ["bus"]
        assert tree.names("proc") == tree.names("etc") == tree.names("var") == []
        assert tree.text("proc/sys/kernel/hostname") is None
        assert tree.text("../../../etc/hostname") is None
        assert tree.names("..") == tree.names("../..") == tree.names(".")
        assert [each.address for each in look(escaping).devices] == ["0000:3b:00.0"]
    assert sorted(tmp_path.rglob("*")) == before


def test_an_absolute_link_stays_in_the_archive(tmp_path: Path) -> None:
    root = packed(
        tmp_path / "host.tar",
        ("etc/hostname", "inside\n"),
        member("sys/linked", tarfile.SYMTYPE, "/etc"),
    )
    with roots.open_root(root) as tree:
        assert tree.file("sys/linked/hostname") == "inside"


def test_members_that_contradict_each_other_do_no_harm(tmp_path: Path) -> None:
    root = packed(
        tmp_path / "host.tar",
        ("etc/hostname", "first\n"),
        ("etc/hostname/below", "x"),
        ("etc", "a file"),
        member("etc/hostname", tarfile.SYMTYPE, "elsewhere"),
        member("etc/hostname", tarfile.DIRTYPE),
    )
    with roots.open_root(root) as tree:
        assert tree.file("etc/hostname") == "first"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, mode: str, share: float) -> None:
    whole = packed(tmp_path / "host.tar", ("sys/noise", "".join(map(str, range(9000)))), mode=mode).read_bytes()
    if mode == "w":  # the last blocks of a bare archive are padding
        whole = whole.rstrip(b"\0")
    (tmp_path / "cut.tar").write_bytes(whole[: int(len(whole) * share)])
    assert refused(tmp_path / "cut.tar").startswith(f"{tmp_path}/cut.tar: cannot be read as an archive ({SUFFIXES}): ")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_damaged_archive_is_refused(tmp_path: Path, mode: str) -> None:
    data = bytearray(
        packed(tmp_path / "host.tar", ("sys/noise", "".join(map(str, range(9000)))), mode=mode).read_bytes()
    )
    middle = len(data) // 2
    data[middle : middle + 64] = b"\xff" * 64
    (tmp_path / "host.tar").write_bytes(data)
    assert refused(tmp_path / "host.tar").startswith(f"{tmp_path}/host.tar: cannot be read as an archive ({SUFFIXES})")


@pytest.mark.parametrize("data", [b"", b"hello\n", b"\x1f\x8b", b"\xfd7zXZ\0broken", b"BZh9broken", b"\0" * 100])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "host.tar.gz").write_bytes(data)
    assert f"{tmp_path}/host.tar.gz: cannot be read as an archive ({SUFFIXES})" in refused(tmp_path / "host.tar.gz")


def test_an_archive_larger_than_any_capture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devagent.sources.captures.archive._MEMBERS", 3)
    more = packed(tmp_path / "host.tar", *((f"sys/{number}", "x") for number in range(4)))
    assert refused(more) == f"{more}: too large for a capture (3 files, 1 GiB at most)"


def test_what_holds_no_sysfs_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d", {"etc/hostname": "x\n"})
    expected = f"{tmp_path}/d: not a sysfs tree: no {PCI} in it or in up to 3 folders below"
    assert refused(tmp_path / "d") == expected
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "d", "d")
    assert refused(tmp_path / "a.tar") == expected.replace("/d:", "/a.tar:")


def test_a_link_is_not_searched_for_sysfs(tmp_path: Path) -> None:
    generate(GPU_HOST, tmp_path / "real")
    (tmp_path / "top").mkdir()
    (tmp_path / "top/link").symlink_to("../real")
    assert "not a sysfs tree" in refused(tmp_path / "top")


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "no") == f"{tmp_path}/no: no such directory or archive"
    (tmp_path / "dangling").symlink_to("nowhere")
    assert refused(tmp_path / "dangling") == f"{tmp_path}/dangling: no such directory or archive"


@pytest.mark.parametrize(
    ("name", "host"),
    [("gpu8.tar.xz", "gpu8"), ("gpu8.tgz", "gpu8"), ("gpu8", "gpu8"), ("my.host.tar", "my.host"), ("a.zip", "a.zip")],
)
def test_a_capture_names_its_host(tmp_path: Path, name: str, host: str) -> None:
    assert roots.name_of(tmp_path / name) == host
