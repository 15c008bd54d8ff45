# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent discover` on each generated host, as an operator runs it.

What it prints is kept in golden/. After a change that is meant to change it, write the files anew and
read the difference before you commit it:

    DEVAGENT_GOLDEN=1 python -m pytest tests/functional/test_discover.py && git diff tests/functional/golden
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import jsonschema
import pytest
from hosts.generate import generate, generate_archive

from .conftest import FORMATS, GOLDEN, HOSTILE, HOSTS, NAMES, REPOSITORY, SCHEMA, Describe, Devagent, Write, has_room
from .descriptions import GPU, small


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_output_is_the_golden_one(hosts: dict[str, Path], devagent: Devagent, name: str, form: str) -> None:
    ran = devagent("discover", "--root", hosts[name], "-o", form)
    assert (ran.code, ran.err) == (0, "")
    golden = GOLDEN / f"{name}.{form}"
    if os.environ.get("DEVAGENT_GOLDEN"):
        golden.write_text(ran.out)
    assert ran.out == golden.read_text()


def test_every_golden_file_is_compared() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"{name}.{form}" for name in (*NAMES, "guest") for form in FORMATS
    }


def test_the_picture_of_the_readme_is_what_is_drawn(hosts: dict[str, Path], devagent: Devagent) -> None:
    ran = devagent("discover", "--root", hosts["hgx"], "-o", "svg")
    picture = REPOSITORY / "docs/host.svg"
    if os.environ.get("DEVAGENT_GOLDEN"):
        picture.write_text(ran.out)
    assert ran.out == picture.read_text()


@pytest.mark.parametrize("every", [(), ("--all",)])
@pytest.mark.parametrize("name", NAMES)
def test_json_is_what_the_shipped_schema_says(
    hosts: dict[str, Path], devagent: Devagent, name: str, every: tuple[str, ...]
) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(devagent("discover", "--root", hosts[name], "-o", "json", *every).out)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["schema_version"] == 1


@pytest.mark.parametrize("form", FORMATS)
def test_directory_and_archive_say_the_same(
    hosts: dict[str, Path], devagent: Devagent, tmp_path: Path, form: str
) -> None:
    archive = generate_archive(HOSTS / "gpu8.yaml", tmp_path / "other-name.tar.xz")
    one, other = (devagent("discover", "--root", root, "-o", form) for root in (hosts["gpu8"], archive))
    assert one == other


@pytest.mark.parametrize("form", FORMATS)
def test_output_does_not_depend_on_the_hash_seed(hosts: dict[str, Path], devagent_process: Devagent, form: str) -> None:
    arguments = ("discover", "--all", "--root", hosts["gpu8"], "-o", form)
    runs = [devagent_process(*arguments, PYTHONHASHSEED=seed) for seed in ("1", "4242")]
    assert runs[0].code == 0
    assert runs[0] == runs[1]


def test_without_a_terminal_the_table_is_printed(hosts: dict[str, Path], devagent: Devagent) -> None:
    plain = devagent("discover", "--root", hosts["gpu8"])
    assert plain == devagent("discover", "--root", hosts["gpu8"], "-o", "table")


def test_all_lists_what_nobody_knows_but_never_a_vf(hosts: dict[str, Path], devagent: Devagent) -> None:
    def addresses(*more: str) -> set[str]:
        ran = devagent("discover", "--root", hosts["gpu8"], "-o", "json", *more)
        return {device["address"] for device in json.loads(ran.out)["devices"]}

    some, more = addresses(), addresses("--all")
    assert more - some == {"0000:03:00.0", "0000:04:00.0"}  # the console and the system disk
    assert not any(address.startswith("0000:1b:00.2") for address in more)


def test_the_console_and_the_system_disk_are_never_given(
    hosts: dict[str, Path], devagent: Devagent, write: Write
) -> None:
    policy = write("all.yaml", "schema_version: 1\nrules:\n- {name: all, match: {}, mode: whole}\n")
    ran = devagent("discover", "--root", hosts["gpu8"], "-o", "json", "--all", "--policy", policy)
    reasons = {device["address"]: device["decision"] for device in json.loads(ran.out)["devices"]}
    assert reasons["0000:03:00.0"]["reason"] == "is the boot display: the host's console would be lost"
    assert reasons["0000:04:00.0"]["reason"].startswith("is used by the host: mounted on")
    assert reasons["0000:01:00.0"]["reason"].startswith("is used by the host: default route")
    assert not any(reasons[address]["managed"] for address in ("0000:03:00.0", "0000:04:00.0", "0000:01:00.0"))


def test_policy_decides(hosts: dict[str, Path], devagent: Devagent, write: Write) -> None:
    policy = write(
        "devices.yaml",
        "schema_version: 1\nrules:\n"
        '- {name: one, match: {address: "0000:19:00.0"}, mode: whole, resource_class: CUSTOM_GOLD}\n'
        "- {name: none, match: {kind: gpu}, mode: ignore}\n",
    )
    ran = devagent("discover", "--root", hosts["gpu8"], "-o", "json", "--policy", policy)
    gpus = [device for device in json.loads(ran.out)["devices"] if device["kind"] == "gpu"]
    given = [(gpu["address"], list(gpu["placement"]["inventories"])) for gpu in gpus if gpu["placement"]]
    assert given == [("0000:19:00.0", ["CUSTOM_GOLD"])]
    assert {gpu["decision"]["reason"] for gpu in gpus[1:]} == {"rule none ignores it"}


def test_shipped_policy_says_what_the_built_in_one_does(hosts: dict[str, Path], devagent: Devagent) -> None:
    shipped = REPOSITORY / "etc/devagent/devices.yaml"
    with_file = devagent("discover", "--root", hosts["fpga"], "-o", "json", "--policy", shipped)
    assert with_file == devagent("discover", "--root", hosts["fpga"], "-o", "json")


def test_an_unknown_format_exits_2(hosts: dict[str, Path], devagent: Devagent) -> None:
    ran = devagent("discover", "--root", hosts["vm"], "-o", "toml")
    assert (ran.code, ran.out) == (2, "")
    assert "invalid choice: 'toml'" in ran.err


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("discover", "--frobnicate"), ("report", "-o", "json")])
def test_wrong_use_exits_2(devagent: Devagent, arguments: tuple[str, ...]) -> None:
    ran = devagent(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "usage: devagent" in ran.err


def test_what_is_no_sysfs_tree_exits_2_with_one_line(devagent: Devagent, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        ran = devagent("discover", "--root", root)
        assert (ran.code, ran.out) == (2, "")
        assert len(ran.err.splitlines()) == 1
        assert str(root) in ran.err


@pytest.mark.parametrize("suffix", ["xz", "gz", "bz2"])
@pytest.mark.parametrize("share", [0.02, 0.98])
def test_a_truncated_archive_exits_2_with_one_line(
    hosts: dict[str, Path], devagent: Devagent, tmp_path: Path, suffix: str, share: float
) -> None:
    archive = packed(hosts["fpga"], tmp_path / f"host.tar.{suffix}", suffix)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * share)])
    ran = devagent("discover", "--root", archive)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err
    assert ran.err.startswith(f"devagent: error: {archive}: cannot be read as an archive")


def test_an_archive_cannot_write_outside(hosts: dict[str, Path], devagent: Devagent, tmp_path: Path) -> None:
    archive = packed(hosts["gpu8"], tmp_path / "host.tar", "")
    with tarfile.open(archive, "a") as tar:
        for name in ("../escaped", str(tmp_path / "absolute")):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    assert devagent("discover", "--root", archive).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host.tar"]


def packed(host: Path, archive: Path, suffix: str) -> Path:
    with tarfile.open(archive, f"w:{suffix}") as tar:  # type: ignore[call-overload]
        tar.add(host, arcname=host.name)
    return archive


@pytest.fixture
def broken(describe: Describe) -> Path:
    """Gives a host with one attribute that cannot be read."""
    host = describe(small())
    method = (host / "sys/bus/pci/devices/0000:3b:00.0/reset_method").resolve()
    method.unlink()
    method.mkdir()
    return host


@pytest.mark.parametrize("form", FORMATS)
def test_a_problem_is_shown_in_every_format_and_exits_4(broken: Path, devagent: Devagent, form: str) -> None:
    ran = devagent("discover", "--root", broken, "-o", form)
    assert ran.code == 4
    assert "0000:3b:00.0" in ran.out
    if form == "json":
        assert json.loads(ran.out)["problems"] == [
            {"source": "pci", "device": "0000:3b:00.0", "problem": "reset_method is a directory"}
        ]
    else:
        assert "0000:3b:00.0: reset_method is a directory [pci]" in ran.out


RULE = "schema_version: 1\nrules:\n- name: a\n  match: {}\n  mode: vf\n"
ODD_POLICIES = {
    "a list as a key": "{[a]: b}\n",
    "a mapping as a key": "schema_version: 1\n? {a: b}\n: c\n",
    "a merge of a number": RULE + "  <<: 3\n",
    "a merge of itself": "&a {<<: *a}\n",
    "the value tag": RULE + "  vf_count: =\n",
    "a date that is none": RULE + "  vf_count: 2024-13-45\n",
    "a date": RULE + "  vf_count: 2024-12-24\n",
    "a number without digits": RULE + "  vf_count: 0x_\n",
    "a sexagesimal number": RULE + "  vf_count: 190:20:30\n",
    "a tag that lies": RULE + "  vf_count: !!int abc\n",
    "a binary that is none": RULE + "  vf_count: !!binary x\n",
    "a set": RULE + "  vf_count: !!set {a}\n",
    "not a number": RULE + "  vf_count: .nan\n",
    "infinity": RULE + "  vf_count: .inf\n",
    "5000 digits": RULE + f"  vf_count: {'9' * 5000}\n",
    "a trailing newline": RULE + "  resource_class: |\n    CUSTOM_X\n",
    "an alias bomb": "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10) if n else 'x'}]\n" for n in range(12)),
    "an alias to itself": "a: &a [*a]\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a control character": "a: \x07\n",
    "a tag of python": "!!python/object/apply:os.system [id]\n",
    "nothing": "",
    "a number": "7\n",
}


@pytest.mark.parametrize("what", ODD_POLICIES)
def test_an_odd_policy_exits_2_in_one_line(describe: Describe, devagent: Devagent, write: Write, what: str) -> None:
    policy = write("devices.yaml", ODD_POLICIES[what])
    started = time.monotonic()
    ran = devagent("discover", "--root", describe(small()), "--policy", policy)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith(f"devagent: error: {policy}:")
    assert len(ran.err) < 7000
    assert time.monotonic() - started < 10


def test_a_policy_that_is_not_text_exits_2_in_one_line(describe: Describe, devagent: Devagent, write: Write) -> None:
    policy = write("devices.yaml", "")
    policy.write_bytes(b"\xff\xfe")
    ran = devagent("discover", "--root", describe(small()), "--policy", policy)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"devagent: error: the policy {policy} cannot be read: it is not UTF-8 text\n"


def test_a_plain_archive_cut_between_two_members_exits_2(
    hosts: dict[str, Path], devagent: Devagent, tmp_path: Path
) -> None:
    archive = packed(hosts["fpga"], tmp_path / "host.tar", "")
    data = archive.read_bytes()
    with tarfile.open(archive) as tar:
        offsets = [member.offset for member in tar.getmembers()]
    for offset in (*offsets[1 :: len(offsets) // 5], offsets[-1]):
        archive.write_bytes(data[:offset])
        ran = devagent("discover", "--root", archive)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == f"devagent: error: {archive}: is cut off: the end of the archive is missing\n"


@pytest.mark.parametrize("suffix", ["xz", "gz", "bz2"])
def test_an_archive_whose_checksum_at_the_end_is_wrong_exits_2(
    describe: Describe, devagent: Devagent, tmp_path: Path, suffix: str
) -> None:
    archive = packed(describe(small()), tmp_path / f"host.tar.{suffix}", suffix)
    data = bytearray(archive.read_bytes())
    data[{"xz": -9, "gz": -6, "bz2": -3}[suffix]] ^= 0x10
    archive.write_bytes(data)
    ran = devagent("discover", "--root", archive)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"devagent: error: {archive}: cannot be read as an archive")
    assert len(ran.err.splitlines()) == 1


def test_a_member_of_negative_size_exits_2(describe: Describe, devagent: Devagent, tmp_path: Path) -> None:
    archive = packed(describe(small()), tmp_path / "host.tar", "")
    data = bytearray(archive.read_bytes())
    with tarfile.open(archive) as tar:
        header = next(member.offset for member in tar if member.isfile())
    data[header + 124 : header + 136] = b"\xff" * 11 + b"\x00"  # base 256: -256
    field = data[header : header + 148] + b" " * 8 + data[header + 156 : header + 512]
    data[header + 148 : header + 156] = b"%06o\0 " % sum(field)
    archive.write_bytes(data)
    ran = devagent("discover", "--root", archive)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("root", ["/etc/passwd", "/dev/null", "x" * 300, "a/" * 3000, "", "\x1b[2J", "."])
def test_a_root_that_is_none_exits_2_with_one_printable_line(
    devagent: Devagent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = devagent("discover", "--root", root)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.rstrip("\n").isprintable()


@pytest.mark.parametrize("form", FORMATS)
def test_an_output_that_is_full_exits_1_in_one_line(hosts: dict[str, Path], form: str) -> None:
    command = [sys.executable, "-m", "devagent", "discover", "--root", str(hosts["gpu8"]), "-o", form]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "devagent: error: the output cannot be written: no space left on device\n"


def test_a_closed_output_is_no_traceback(hosts: dict[str, Path]) -> None:
    command = f'exec "{sys.executable}" -m devagent discover --root "{hosts["gpu8"]}" >&-'
    done = subprocess.run(["sh", "-c", command], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


def test_a_terminal_without_the_characters_shows_question_marks(
    hosts: dict[str, Path], devagent_process: Devagent
) -> None:
    arguments = ("discover", "--root", hosts["gpu8"], "-o", "tree")
    ascii, utf8 = (devagent_process(*arguments, PYTHONIOENCODING=name) for name in ("ascii", "utf-8"))
    assert (ascii.code, ascii.err) == (0, "")
    assert ascii.out == "".join(char if char.isascii() else "?" for char in utf8.out)


def hostile_archive(path: Path) -> Path:
    """Packs a small host whose names are terminal escape sequences, wherever text from sysfs is shown."""
    with tempfile.TemporaryDirectory() as top:
        host = generate(small(gpu={**GPU, "driver": "nvidia"}), Path(top, "host"))
        gpu = (host / "sys/bus/pci/devices/0000:3b:00.0").resolve()
        uevent = (gpu / "uevent").read_text()
        (gpu / "uevent").write_text("".join(line for line in uevent.splitlines(True) if "DRIVER=" not in line))
        (gpu / "driver").unlink()
        (gpu / "driver").symlink_to(f"../../../bus/pci/drivers/{HOSTILE}")
        net = (host / "sys/bus/pci/devices/0000:3c:00.0/net").resolve()
        (net / "ens1").rename(net / HOSTILE)
        (gpu / "numa_node").write_text(HOSTILE)
        (host / "proc/sys/kernel/hostname").write_text(HOSTILE)
        (host / "proc/sys/kernel/osrelease").write_text(HOSTILE)
        (host / "sys/bus/pci/devices" / HOSTILE).symlink_to(gpu)
        return packed(host, path, "gz")


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_names_never_reach_the_terminal(devagent_process: Devagent, tmp_path: Path, form: str) -> None:
    archive = hostile_archive(tmp_path / "hostile.tar.gz")
    ran = devagent_process("discover", "--root", archive, "-o", form)
    assert ran.code == 4  # the number of the NUMA node is none
    assert "evil" in ran.out
    controls = {char for char in ran.out + ran.err if char != "\n" and not char.isprintable()}
    assert controls == set()


def test_a_reader_that_has_seen_enough_is_no_error(hosts: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "devagent", "discover", "--root", str(hosts["gpu8"]), "-o", "json"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(not has_room(), reason="no 1 GiB of memory for 111,000 files")
def test_big_host_is_discovered_whole(devagent: Devagent, memory: Path) -> None:
    ran = devagent("discover", "--root", generate(HOSTS / "big.yaml", memory / "big"), "-o", "json")
    document = json.loads(ran.out)
    assert (ran.code, document["problems"]) == (0, [])
    # Eight slots of two PFs with 252 VFs each, sixteen GPUs.
    assert [device["sriov"]["num_vfs"] for device in document["devices"] if device["kind"] == "nic"] == [252] * 16
    assert [device["placement"]["inventories"].keys() for device in document["devices"] if device["kind"] == "gpu"] == [
        {"PGPU"}
    ] * 16
