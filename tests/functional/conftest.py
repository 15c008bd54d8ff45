# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The real Placement, the generated hosts, and the command as a user runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from devagent.cli.main import main
from devagent.placement import embedded

from . import broker
from .broker import Broker
from .cloud import Cloud
from .descriptions import small
from .running_daemon import folder

GOLDEN = Path(__file__).parent / "golden"
HOSTS = Path(__file__).parents[1] / "hosts"
REPOSITORY = HOSTS.parents[1]

MEMORY = Path("/dev/shm")
ROOM = 1 << 30

FORMATS = ("tree", "table", "wide", "matrix", "json")
SCHEMA = resources.files("devagent").joinpath("schemas/discover.schema.json")
NAMES = ("gpu8", "hgx", "fpga", "qat", "zoo", "vm")
# Terminal escape sequences, where a host's name should be.
HOSTILE = "evil\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"

Describe = Callable[[Mapping[str, Any]], Path]
Write = Callable[[str, str], Path]


@dataclass(frozen=True)
class Ran:
    """What one run of the command gave."""

    code: int
    out: str
    err: str


Devagent = Callable[..., Ran]


def has_room() -> bool:
    """Tells whether memory can take 111,000 files."""
    return MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM


@pytest.fixture(scope="session")
def placement() -> Iterator[str]:
    """Runs the one Placement of this process and gives its URL."""
    with embedded.running() as url:
        yield url


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Broker]:
    """Runs a RabbitMQ that nobody kills and gives it; each test has queues of its own in it."""
    with broker.running() as running:
        yield running


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """Gives a folder for trees of many small files, which a disk takes ten times as long to write."""
    with tempfile.TemporaryDirectory(dir=MEMORY if has_room() else None) as top:
        yield Path(top)


@pytest.fixture(scope="session")
def hosts(memory: Path) -> dict[str, Path]:
    """Writes the described hosts, but the big one; nobody may change them."""
    return {name: generate(HOSTS / f"{name}.yaml", memory / name) for name in NAMES}


@pytest.fixture
def empty_cloud(placement: str) -> Cloud:
    """Gives a compute node that nova-compute has not made yet."""
    return Cloud(placement, str(uuid.uuid4()), f"host-{uuid.uuid4().hex[:12]}.example.org")


@pytest.fixture
def cloud(empty_cloud: Cloud) -> Cloud:
    """Gives a compute node as nova-compute makes it."""
    empty_cloud.create(empty_cloud.name, None, empty_cloud.root)
    return empty_cloud


@pytest.fixture
def describe(memory: Path) -> Describe:
    """Writes a host from its description, each in a folder of its own."""
    return lambda description: generate(description, Path(tempfile.mkdtemp(dir=memory)))


@pytest.fixture
def host(describe: Describe, cloud: Cloud) -> Path:
    """Writes a host that a test may change: a GPU, and a NIC with four VFs."""
    return describe(small(compute_id=cloud.root))


@pytest.fixture
def place() -> Iterator[Path]:
    """Gives the folder that a daemon has for itself."""
    with folder() as path:
        yield path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file by name and text."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def devagent(capsys: pytest.CaptureFixture[str]) -> Devagent:
    """Runs the command in this process."""

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # argparse's way to say that the arguments are wrong
            code = exit.code if isinstance(exit.code, int) else 1
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def devagent_process() -> Devagent:
    """Runs the command in a process of its own."""

    def run(*arguments: str | Path, **environment: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "devagent", *map(str, arguments)],
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the demo's tests last: it runs beside all others."""
    items.sort(key=_is_demo)


@pytest.fixture(scope="session", autouse=True)
def demos(
    request: pytest.FixtureRequest, hosts: dict[str, Path], memory: Path, devagent_process: Devagent
) -> Iterator[dict[str, Future[Ran]]]:
    """Runs the demo on each host, one after the other, while other tests run: it takes a Placement of its own each."""
    names = (*NAMES, HOSTILE) if any(map(_is_demo, request.session.items)) else ()
    roots = {**hosts, HOSTILE: generate(small(name=HOSTILE), memory / "hostile")}
    with ThreadPoolExecutor(1) as pool:
        yield {name: pool.submit(devagent_process, "demo", "--root", roots[name]) for name in names}


def _is_demo(item: pytest.Item) -> bool:
    return item.path == Path(__file__).with_name("test_demo.py")
