# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The guests: booted once, shared by the scenarios, started anew and asked once more where the guest itself failed."""

from __future__ import annotations

import functools
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from functional.cloud import Cloud
from functional.placement_process import processes

from .build import Impossible, Lab, build, cache_folder
from .daemon import UNIT, Daemon
from .guest import Guest
from .machine import GuestFault, Kind
from .payload import REPOSITORY, payload

KEPT = REPOSITORY / "build/kernel"
"""Where the logs of failed scenarios stay."""
_LAB = pytest.StashKey[Lab]()
_KINDS = ("guest_without_iommu", "guest", "daemon")
"""The fixtures of the kinds of guests, in the order in which their scenarios run."""
_FAULT = pytest.StashKey[bool]()
_GUESTS = pytest.StashKey["Guests"]()
_TAIL = 60


class Guests:
    """The guests of this session by what they have, each booted when it is first wanted."""

    def __init__(self, lab: Lab, disk: Path, folder: Path, say: Callable[[str], None]) -> None:
        self._lab, self._disk, self._folder, self._say = lab, disk, folder, say
        self._running: dict[Kind, Guest] = {}
        self._boots = 0
        self.current: tuple[Guest, float] | None = None

    def get(self, kind: Kind) -> Guest:
        """Gives the guest of a kind, and ends those of others; boots twice before it gives up."""
        for other in [guest for each, guest in self._running.items() if each != kind]:
            self.drop(other)  # one that nobody uses still takes a tenth of a CPU
        if kind not in self._running:
            try:
                self._running[kind] = self._boot(kind)
            except GuestFault as fault:
                self._say(f"booting once more: {fault}")
                self._running[kind] = self._boot(kind)
        guest = self._running[kind]
        self.current = (guest, guest.timeline.now)
        return guest

    def drop(self, guest: Guest) -> None:
        """Ends a guest; the next who wants one like it gets a new one."""
        self._running = {kind: each for kind, each in self._running.items() if each is not guest}
        guest.machine.kill()

    def close(self) -> None:
        """Switches all off."""
        for guest in self._running.values():
            guest.close()

    def _boot(self, kind: Kind) -> Guest:
        self._boots += 1
        folder = self._folder / str(self._boots)
        folder.mkdir()
        guest = Guest(self._lab, self._disk, folder, kind)
        first = ", where systemd is the first process," if kind.systemd else ""
        self._say(f"a guest {'with' if kind.iommu else 'without'} an IOMMU{first} is up after {guest.booted:.1f} s")
        return guest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Builds what is not built yet; where that cannot be, every scenario is skipped and says why."""
    scenarios = [item for item in items if item.path.parent == Path(__file__).parent]
    if config.option.collectonly or not scenarios:
        return
    items.sort(key=_kind)
    try:
        config.stash[_LAB] = build(functools.partial(_say, config))
    except Impossible as error:
        for item in scenarios:
            item.add_marker(pytest.mark.skip(reason=str(error)))


def _kind(item: pytest.Item) -> int:
    used = getattr(item, "fixturenames", ())
    return next((number for number, name in enumerate(_KINDS) if name in used), 0)


def _say(config: pytest.Config, text: str) -> None:
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write(f"\n== kernel lab: {text}\n")
        sys.stdout.flush()


@pytest.fixture(scope="session")
def guests(pytestconfig: pytest.Config) -> Iterator[Guests]:
    """Gives the guests of this session."""
    say = functools.partial(_say, pytestconfig)
    # Sockets lie in it, whose paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="devagent-kernel-"))
    lab = pytestconfig.stash[_LAB]
    running = Guests(lab, payload(lab, cache_folder(), folder, say), folder, say)
    pytestconfig.stash[_GUESTS] = running
    yield running
    running.close()
    shutil.rmtree(folder)


@pytest.fixture
def guest(guests: Guests) -> Iterator[Guest]:
    """Gives the guest with two NUMA nodes and an IOMMU, as it was after its boot."""
    yield from _lent(guests, Kind())


@pytest.fixture
def guest_without_iommu(guests: Guests) -> Iterator[Guest]:
    """Gives the same guest, booted without an IOMMU."""
    yield from _lent(guests, Kind(iommu=False))


@pytest.fixture(scope="session")
def placement() -> Iterator[str]:
    """Runs a Placement on this machine and gives its URL."""
    with tempfile.TemporaryDirectory() as folder, processes(f"sqlite:///{folder}/placement.db") as (url,):
        yield url


@pytest.fixture
def daemon(guests: Guests, placement: str) -> Iterator[Daemon]:
    """Gives the daemon, not started, in the guest where systemd is the first process; its compute node is there."""
    cloud = Cloud(placement, str(uuid.uuid4()), f"guest-{uuid.uuid4().hex[:8]}.example.org")
    cloud.create(cloud.name, None, cloud.root)
    port = int(placement.rpartition(":")[2])
    running = Daemon(guests.get(Kind(systemd=True, placement=port)), cloud)
    running.install()
    yield running
    running.tidy()
    # The agent heeds what was logged before its start: the next scenario's card would be taken for this one.
    is_marked = "Xid (PCI:" in running.guest.run("dmesg").out
    _take_back(guests, running.guest)
    if is_marked:
        guests.drop(running.guest)


@pytest.fixture
def boot(guests: Guests, daemon: Daemon) -> Callable[[], None]:
    """Gives what cuts the guest's power and boots it again: what the daemon keeps on disk stays, all else is new."""

    def again() -> None:
        kept = daemon.kept()
        assert not daemon.guest.oopses()
        guests.drop(daemon.guest)
        daemon.guest = guests.get(daemon.guest.kind)
        daemon.install()
        daemon.restore(kept)

    return again


def _lent(guests: Guests, kind: Kind) -> Iterator[Guest]:
    guest = guests.get(kind)
    yield guest
    _take_back(guests, guest)


def _take_back(guests: Guests, guest: Guest) -> None:
    try:
        guest.tidy()
    except GuestFault as fault:
        guest.timeline.add("test", f"the guest is dropped: {fault}")
        guests.drop(guest)
    if oopses := guest.oopses():
        guests.drop(guest)
        pytest.fail("the guest's kernel says that it is broken:\n" + "\n".join(oopses))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Runs a scenario, and once more, in a new guest, if it was the guest that failed: that says nothing about it."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if item.stash.get(_FAULT, False) and _GUESTS in item.config.stash:
        guests = item.config.stash[_GUESTS]
        if guests.current is not None:
            guests.drop(guests.current[0])
        item.stash[_FAULT] = False
        item._initrequest()  # type: ignore[attr-defined]
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Adds to a failed scenario what happened in the guest, and keeps it as files."""
    report: pytest.TestReport = yield
    if call.excinfo is None or not report.failed:
        return report
    if isinstance(call.excinfo.value, GuestFault):
        item.stash[_FAULT] = True
    guests = item.config.stash.get(_GUESTS, None)
    if guests is not None and guests.current is not None:
        _keep(item, report, *guests.current)
    return report


def _keep(item: pytest.Item, report: pytest.TestReport, guest: Guest, start: float) -> None:
    folder = KEPT / re.sub(r"[^\w.-]+", "-", item.nodeid.rpartition("/")[2])
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "timeline": guest.timeline.since(start),
        "console": guest.machine.console.read_text(errors="replace"),
        "dmesg": _said(guest, "dmesg"),
    }
    if guest.kind.systemd:
        texts["journal"] = _said(guest, "journalctl", "-o", "short-monotonic", "--no-pager", "-u", UNIT)
    (folder / "timeline.whole").write_text(guest.timeline.since())
    for name, text in texts.items():
        (folder / name).write_text(text)
        lines = text.splitlines()
        left_out = [f"({len(lines) - _TAIL} lines before these)"] if len(lines) > _TAIL else []
        report.sections.append((f"guest's {name}", "\n".join(left_out + lines[-_TAIL:])))
    report.sections.append(("guest's logs", str(folder)))


def _said(guest: Guest, *command: str) -> str:
    if not guest.machine.alive:
        return "(the guest is gone)"
    try:
        return guest.run(*command, timeout=20).out
    except Exception as error:
        return f"(cannot be had: {error})"
