# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""No archive, however it was forged, does more harm than to be refused."""

from __future__ import annotations

import lzma
import tarfile
import time
import tracemalloc
from pathlib import Path

import pytest

from devagent.errors import RootError
from devagent.sources.captures import archive
from devagent.sources.captures.archive import read_archive

PAX, LONG_NAME, LONG_LINK = tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
END = bytes(2 * tarfile.BLOCKSIZE)


def block(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("some")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def header(kind: bytes, content: bytes) -> bytes:
    return block(kind, len(content)) + content.ljust(-(-len(content) // 512) * 512, b"\0")


def refused(path: Path) -> str:
    with pytest.raises(RootError) as caught:
        read_archive(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "content"),
    [(LONG_NAME, b"a" * 511 + b"\0"), (LONG_LINK, b"a" * 511 + b"\0"), (PAX, b"20 path=aaaaaaaaaaa\n")],
)
def test_a_chain_of_headers_is_refused(tmp_path: Path, kind: bytes, content: bytes) -> None:
    path = tmp_path / "host.tar"
    path.write_bytes(header(kind, content) * 3000 + header(tarfile.REGTYPE, b"x") + END)
    assert refused(path).startswith(f"{path}: cannot be read as an archive (")


@pytest.mark.parametrize(
    "record", [b"99999999999999999999 x=y\n", b"0 x=\n", b"20 size=99999999999\n", b"29 size=" + b"9" * 20 + b"\n"]
)
def test_a_header_with_an_absurd_number_does_no_harm(tmp_path: Path, record: bytes) -> None:
    path = tmp_path / "host.tar"
    path.write_bytes(header(PAX, record) + header(tarfile.REGTYPE, b"x") + END)
    try:
        read_archive(path)
    except RootError as error:
        assert str(error).startswith(f"{path}: ")


def bomb(path: Path, start: bytes, mebibytes: int) -> Path:
    compressor = lzma.LZMACompressor(preset=0)
    with path.open("wb") as file:
        file.write(compressor.compress(start))
        for _ in range(mebibytes):
            file.write(compressor.compress(bytes(1 << 20)))
        file.write(compressor.flush())
    return path


def test_a_name_of_gibibytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = bomb(tmp_path / "host.tar.xz", block(LONG_NAME, 3 << 30), 64)
    tracemalloc.start()
    assert refused(path) == f"{path}: too large for a capture (2000000 files, 1 GiB at most)"
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1 << 20, 1 << 40])
def test_what_decompresses_to_more_than_a_capture_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(archive, "_STREAM", 8 << 20)
    path = bomb(tmp_path / "host.tar.xz", block(tarfile.REGTYPE, size), 256)
    start = time.process_time()
    assert "too large for a capture" in refused(path)
    assert time.process_time() - start < 1
