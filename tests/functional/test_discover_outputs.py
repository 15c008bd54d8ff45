# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The outputs of `devagent discover` beyond tree, table and JSON, as an operator runs them on generated hosts."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from hosts.generate import generate, generate_archive

from .conftest import HOSTILE, HOSTS, NAMES, REPOSITORY, Describe, Devagent, Write
from .descriptions import GPU, small

FORMS = ("wide", "matrix", "yaml", "svg")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_host_can_be_shown_and_every_device_is_there(
    hosts: dict[str, Path], devagent: Devagent, name: str, form: str
) -> None:
    ran = devagent("discover", "--root", hosts[name], "-o", form)
    assert (ran.code, ran.err) == (0, "")
    devices = json.loads(devagent("discover", "--root", hosts[name], "-o", "json").out)["devices"]
    assert all(device["address"] in ran.out for device in devices)


@pytest.mark.parametrize("form", FORMS)
def test_output_does_not_depend_on_the_hash_seed(hosts: dict[str, Path], devagent_process: Devagent, form: str) -> None:
    arguments = ("discover", "--all", "--root", hosts["gpu8"], "-o", form)
    runs = [devagent_process(*arguments, PYTHONHASHSEED=seed) for seed in ("1", "4242")]
    assert runs[0].code == 0
    assert runs[0] == runs[1]


@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_name_moves_no_cursor(describe: Describe, devagent: Devagent, form: str) -> None:
    ran = devagent("discover", "--root", describe(small(name=HOSTILE)), "-o", form)
    assert ran.code == 0
    assert all(line.isprintable() for line in ran.out.split("\n"))


@pytest.mark.parametrize("form", FORMS)
def test_a_host_without_devices_is_no_error(describe: Describe, devagent: Devagent, form: str) -> None:
    host = small(gpu=None)
    host["pci"][0]["devices"] = []
    ran = devagent("discover", "--root", describe(host), "-o", form)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out


def test_yaml_is_json(hosts: dict[str, Path], devagent: Devagent) -> None:
    as_json, as_yaml = (devagent("discover", "--root", hosts["gpu8"], "-o", form).out for form in ("json", "yaml"))
    assert yaml.safe_load(as_yaml) == json.loads(as_json)


def test_svg_is_xml_that_needs_nothing_else(hosts: dict[str, Path], devagent: Devagent) -> None:
    text = devagent("discover", "--root", hosts["gpu8"], "-o", "svg").out
    assert ElementTree.fromstring(text).get("role") == "img"
    assert set(re.findall(r"https?://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}


def test_matrix_is_what_the_description_of_gpu8_says(hosts: dict[str, Path], devagent: Devagent) -> None:
    """Two GPUs and a NIC behind one switch, two GPUs behind another, and the same again on node 1."""
    lines = devagent("discover", "--root", hosts["gpu8"], "-o", "matrix").out.split("\n")
    heads, rows = lines[0].split(), {line.split()[0]: line.split()[1:] for line in lines[1:15]}
    assert heads[:14] == [*(f"GPU{n}" for n in range(8)), *(f"NIC{n}" for n in range(6))]
    first = ["X", "PIX", "NODE", "NODE", *["SYS"] * 4, "NODE", "NODE", "PIX", "PIX", "SYS", "SYS"]
    assert rows["GPU0"] == [*first, "0-31,64-95", "0"]
    assert rows["GPU7"][-2:] == ["32-63,96-127", "1"]
    assert [[rows[a][heads.index(b)] for a in rows] for b in rows] == [rows[a][:14] for a in rows]


def explained(devagent: Devagent, host: Path, *more: str | Path) -> list[str]:
    ran = devagent("discover", "--root", host, "--explain", *more)
    assert (ran.code, ran.err) == (0, "")
    return ran.out.split("\n")


@pytest.mark.parametrize("form", ["tree", "table", "wide"])
def test_explain_says_below_the_devices_what_decided(
    hosts: dict[str, Path], devagent: Devagent, write: Write, form: str
) -> None:
    policy = write(
        "devices.yaml",
        "schema_version: 1\nrules:\n- {name: intel, match: {vendor: '8086'}, mode: ignore}\n"
        "- {name: all, match: {}, mode: whole}\n",
    )
    lines = explained(devagent, hosts["gpu8"], "-o", form, "--policy", policy)
    start = lines.index("0000:19:00.0  gpu  NVIDIA A100 PCIe 40GB")
    assert lines[start + 1 : start + 3] == [
        "  rule intel does not fit: vendor: is 10de, wanted 8086",
        "  rule all fits: mode whole",
    ]
    assert "  rule intel fits: mode ignore" in lines
    assert "  guard: has 8 VFs: it can be given whole only without any" in lines


def test_explain_is_part_of_the_document(hosts: dict[str, Path], devagent: Devagent) -> None:
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        document = read("\n".join(explained(devagent, hosts["gpu8"], "-o", form)))
        addresses = [device["address"] for device in document["devices"]]
        assert [each["address"] for each in document["explanations"]] == addresses
        assert all(each["tried"] for each in document["explanations"])


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_host_does_not_differ_from_itself(
    hosts: dict[str, Path], devagent: Devagent, write: Write, form: str
) -> None:
    for name in NAMES:
        earlier = write("earlier", devagent("discover", "--root", hosts[name], "-o", form).out)
        ran = devagent("discover", "--root", hosts[name], "--diff", earlier)
        assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_diff_tells_what_changed_since_a_document_and_since_a_capture(
    describe: Describe, devagent: Devagent, write: Write, tmp_path: Path
) -> None:
    before = small(name="h", vfs=4)
    after = describe(small(name="h", gpu=GPU | {"driver": "vfio-pci"}, vfs=2))
    earlier = write("earlier.json", devagent("discover", "--root", describe(before), "-o", "json").out)
    capture = generate_archive(before, tmp_path / "earlier.tar.xz")
    for known in (earlier, capture, describe(before)):
        ran = devagent("discover", "--root", after, "--diff", known)
        assert (ran.code, ran.err) == (3, "")
        lines = ran.out.split("\n")
        assert lines[0].startswith("~ 0000:3b:00.0 gpu NVIDIA A100")
        assert "    driver: nvidia -> vfio-pci" in lines
        assert "    number of VFs: 4 -> 2" in lines
        assert "    VF 2-3: vfio-pci -> none" in lines


def test_diff_tells_of_a_card_that_was_pulled_and_one_that_was_put_in(
    describe: Describe, devagent: Devagent, write: Write
) -> None:
    full, empty = describe(small(name="h")), describe(small(name="h", gpu=None))
    for one, other, sign in ((full, empty, "-"), (empty, full, "+")):
        earlier = write("earlier.json", devagent("discover", "--root", one, "-o", "json").out)
        ran = devagent("discover", "--root", other, "--diff", earlier)
        assert ran.code == 3
        assert [line for line in ran.out.split("\n") if "0000:3b:00.0" in line and line[0] == sign]


@pytest.mark.parametrize("text", ["", "{}", "hello", '{"schema_version": 7, "devices": []}', "- " * 10_000])
def test_a_file_that_is_no_document_exits_2_in_one_line(
    hosts: dict[str, Path], devagent: Devagent, write: Write, text: str
) -> None:
    earlier = write("earlier.json", text)
    ran = devagent("discover", "--root", hosts["vm"], "--diff", earlier)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"devagent: error: {earlier}: ")
    assert len(ran.err.splitlines()) == 1


def hears_ctrl_c() -> None:
    """Undoes what a shell does to what it starts in the background: such programs ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def watching(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Runs the command with its output in a pipe, for the time of a `with`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "devagent", "discover", "--watch", *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hears_ctrl_c,
    )
    overdue = threading.Timer(60, process.kill)
    overdue.start()
    try:
        yield process
    finally:
        overdue.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def until(process: subprocess.Popen[str], wanted: str) -> str:
    """Reads lines until one holds `wanted`, and gives it; the end of the output is none."""
    assert process.stdout is not None
    line = next((line for line in process.stdout if wanted in line), None)
    assert line is not None
    return line


def test_watch_prints_the_table_and_then_each_change_with_its_time(describe: Describe) -> None:
    host = describe(small())
    driver = (host / "sys/bus/pci/devices/0000:3b:00.0").resolve() / "driver"
    with watching("--root", host) as process:
        until(process, "0000:3c:00.0")
        driver.unlink()
        uevent = driver.parent / "uevent"
        uevent.write_text(re.sub("DRIVER=.*\n", "", uevent.read_text()))
        line = until(process, "0000:3b:00.0")
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S+ ~ 0000:3b:00\.0 gpu ", line)
        assert until(process, "driver: nvidia -> none")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_watch_ends_quietly_when_its_reader_does(describe: Describe) -> None:
    with watching("--root", describe(small())) as process:
        until(process, "0000:3b:00.0")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_watch_draws_anew_on_a_terminal(describe: Describe) -> None:
    host = describe(small())
    child, terminal = pty.fork()
    if child == 0:
        hears_ctrl_c()
        os.chdir(REPOSITORY)
        os.execv(sys.executable, [sys.executable, "-m", "devagent", "discover", "--watch", "--root", str(host)])
    seen = b""
    end = time.monotonic() + 30
    while seen.count(b"Looked at") < 2 and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536)
    os.write(terminal, b"\x03")
    status = os.waitpid(child, 0)[1]
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    assert seen.count(b"\x1b[H\x1b[2J") >= 2
    assert "└── ".encode() in seen


def test_big_is_drawn_and_measured_in_a_moment(memory: Path, devagent: Devagent) -> None:
    host: Any = generate(HOSTS / "big.yaml", memory / "big-outputs")
    for form in FORMS:
        started = time.monotonic()
        assert devagent("discover", "--root", host, "-o", form).code == 0
        assert time.monotonic() - started < 20
