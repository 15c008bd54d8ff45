# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A capture is replayed to the same output, byte for byte; a redacted one to the same but for what it hides."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from devagent import registry
from devagent.cli.render import matrix
from devagent.discovery import discover
from devagent.inventory.build import Nest
from devagent.inventory.default_policy import DEFAULT
from devagent.sources import known, roots
from devagent.sources.captures.archive import Archive
from devagent.view import Look

from .captures import N6000, NEC, looked
from .conftest import HOSTS, NAMES, REPOSITORY

# Of lists, the items stand on lines of their own: the UUIDs of MIG instances and mdevs.
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
CLIQUE = '"CUSTOM_NVLINK_CLIQUE_'  # the trait has the cluster's UUID
SECRET = re.compile(
    rf'"(id|hostname|boot_id|name|parent|value|uuid|serial|mac|cluster|XGMI hive)": |^ *"(MIG-)?{UUID}",?$'
)


def twice(root: Path, top: Path, **how: bool) -> tuple[str, str]:
    """Gives what is found, and what is found in the capture of it, whatever that is called."""
    return looked(root, top / "other-name.tar.xz", **how), looked(top / "other-name.tar.xz")


@pytest.mark.parametrize("name", NAMES)
def test_a_capture_is_the_same_host(hosts: dict[str, Path], tmp_path: Path, name: str) -> None:
    first, again = twice(hosts[name], tmp_path)
    assert again == first


@pytest.mark.recorded
@pytest.mark.parametrize("archive", [N6000, NEC], ids=lambda path: path.name.partition(".")[0])
def test_a_capture_of_a_real_machine_is_the_same_host(archive: Path, tmp_path: Path) -> None:
    if not archive.is_file():
        pytest.skip(f"{archive} is not there")
    first, again = twice(archive, tmp_path)
    assert again == first


def test_a_host_that_cannot_be_read_well_is_no_better_in_its_capture(memory: Path, tmp_path: Path) -> None:
    root = generate(HOSTS / "qat.yaml", tmp_path / "host")
    functions = sorted((root / "sys/bus/pci/devices").iterdir())
    for function, damage in zip(functions, (b"\xff", b"x" * 5000, b"", b"-7\n") * 20, strict=False):
        for name in ("numa_node", "uevent", "sriov_totalvfs", "reset_method"):
            if (function / name).exists():
                (function / name).write_bytes(damage)
    (root / "sys/bus/pci/devices/odd").mkdir()
    (root / "proc/net/route").unlink()
    (root / "proc/net/route").symlink_to("route")
    first, again = twice(root, tmp_path)
    assert len(json.loads(first)["problems"]) > 10
    assert again == first


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_anybody_can_capture_this_machine() -> None:
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o777)
        script = f"import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); same(Path({top!r}))"
        command = [
            sys.executable,
            "-c",
            f"from functional.test_capture import same; from pathlib import Path; {script}",
        ]
        subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": "tests:."}, check=True, timeout=60)


def same(top: Path) -> None:
    """Captures this machine and replays it; what others' processes use is a note, and in no capture."""
    first, again = (json.loads(text) for text in twice(Path("/"), top))
    assert first == again


@pytest.mark.parametrize("name", NAMES)
def test_a_redacted_capture_differs_only_in_what_it_hides(hosts: dict[str, Path], tmp_path: Path, name: str) -> None:
    first, again = twice(hosts[name], tmp_path, redact=True)
    lines = list(zip(first.splitlines(), again.splitlines(), strict=True))
    assert [one for one, other in lines if one != other and not SECRET.search(one) and CLIQUE not in one] == []
    document, redacted = json.loads(first), json.loads(again)
    assert shape(document) == shape(redacted)
    assert document["host"]["boot_id"] != redacted["host"]["boot_id"]


def shape(document: dict[str, Any]) -> list[Any]:
    return [(each["address"], each["vendor_id"], each["model"], each["decision"]) for each in document["devices"]]


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_is_in_the_bytes_of_a_redacted_capture(hosts: dict[str, Path], tmp_path: Path, name: str) -> None:
    looked(hosts[name], tmp_path / "open.tar")
    looked(hosts[name], tmp_path / "hidden.tar", redact=True)
    tell_tale = secrets(hosts[name])
    assert len(tell_tale) > 3
    there, left = ((tmp_path / file).read_bytes().lower() for file in ("open.tar", "hidden.tar"))
    assert any(secret in there for secret in tell_tale)
    assert [secret for secret in tell_tale if secret in left] == []


def secrets(root: Path) -> set[bytes]:
    """Gives what a described host has that no other has: names, ids, addresses."""
    found = {(root / "proc/sys/kernel/hostname").read_bytes().strip()}
    for name in ("proc/sys/kernel/random/boot_id", "etc/machine-id", "var/lib/nova/compute_id"):
        if (root / name).exists():
            found.add((root / name).read_bytes().strip())
    for path in (root / "sys/class/net").glob("*/address"):
        found.add(path.read_bytes().strip())
    for line in (root / "proc/net/route").read_text().splitlines()[1:]:
        found |= {field.encode() for field in line.split()[1:3] if field != "00000000"}
    return {secret.lower() for secret in found if secret not in (b"", b"00:00:00:00:00:00")}


def test_a_redacted_host_of_equal_serial_numbers_has_its_devices_where_they_were(memory: Path, tmp_path: Path) -> None:
    root = generate(HOSTS / "gpu8.yaml", tmp_path / "host")
    devices = root / "sys/bus/pci/devices"
    gpus = [each for each in devices.iterdir() if (each / "vendor").read_text() == "0x10de\n"]
    for number, gpu in enumerate(gpus):
        (gpu / "serial_number").write_text("b8-ce-f6-ff-ff-12-34-56\n")
        (gpu / "vpd").write_bytes(b"\x90\x0d\x00PN\x03ABCSN\x04AB1" + b"%d" % number + b"\x78")
    with roots.open_root(root) as tree:
        known.save(str(root / "var/lib/devagent"), discover(tree, registry.load(), DEFAULT, every=True).known)
    assert "@pci0000:" in (root / "var/lib/devagent/identities.json").read_text()
    matrices = []
    first, again = twice(root, tmp_path, redact=True)
    for path in (root, tmp_path / "other-name.tar.xz"):
        with roots.open_root(path) as tree:
            matrices.append(matrix.render(Look(discover(tree, registry.load(), DEFAULT), "host", Nest.NUMA)))
    document, redacted = json.loads(first), json.loads(again)
    assert shape(document) == shape(redacted)
    assert [each["pcie_path"] for each in document["devices"]] == [each["pcie_path"] for each in redacted["devices"]]
    assert matrices[0] == matrices[1]
    values = [
        [each["identity"]["value"] for each in side["devices"] if each["identity"]["source"] == "dsn"]
        for side in (document, redacted)
    ]
    assert len(values[0]) == len(gpus)
    assert [value.partition("@")[2] for value in values[0]] == [value.partition("@")[2] for value in values[1]]
    assert not any(value.startswith("b8-ce") for value in values[1])


def test_redacting_twice_hides_the_replacements_too(hosts: dict[str, Path], tmp_path: Path) -> None:
    first, again = twice(hosts["gpu8"], tmp_path, redact=True)
    other, _ = twice(hosts["gpu8"], tmp_path, redact=True)
    assert other == first
    assert looked(tmp_path / "other-name.tar.xz") != again


def test_four_thousand_functions_are_packed_in_seconds(host_tree: Callable[[str], Path], tmp_path: Path) -> None:
    first = looked(host_tree("big"))
    start = time.process_time()
    assert twice(host_tree("big"), tmp_path) == (first, first)
    assert time.process_time() - start < 20
    assert (tmp_path / "other-name.tar.xz").stat().st_size < 500_000


def test_what_is_captured_is_an_archive_like_any_other(hosts: dict[str, Path], tmp_path: Path) -> None:
    looked(hosts["vm"], tmp_path / "vm.tar.gz")
    with roots.open_root(tmp_path / "vm.tar.gz") as tree:
        assert isinstance(tree, Archive)
        assert tree.file("proc/sys/kernel/hostname") == "vm.example.org"
