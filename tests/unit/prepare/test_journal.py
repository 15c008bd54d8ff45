# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the journal remembers, refuses and survives."""

from __future__ import annotations

import logging
import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from devagent.errors import JournalError
from devagent.model.handle import Handle, MdevHandle, PciHandle
from devagent.model.plan import Group, Plan, Step
from devagent.model.preparation import Holder, Preparation, Refusal, RefusalKind, State
from devagent.prepare.database import Database
from devagent.prepare.entry import Entry
from devagent.prepare.journal import Held, Journal
from devagent.prepare.journal_tables import MIGRATIONS

BOOT = "boot 1"
VF = PciHandle("provider", "CUSTOM_VF", "0000:10:01.0")
MDEV = MdevHandle("provider", "CUSTOM_VGPU", "4b20d080-1b54-4048-85b3-a6a62d165c01", "0000:10:02.0", "nvidia-558")
BIND = Step("bind", VF.address, {"driver": "vfio-pci"}, {"driver": "iavf"})
RESET = Step("reset", VF.address, {"method": None})
BUSY = Refusal(RefusalKind.RETRY, "it is in use", VF.address, (Holder(pid=4711, command="qemu"),))


def preparation(consumer: str = "A", *handles: Handle, created: float = 1000.0) -> Preparation:
    group = Group("provider", {"CUSTOM_VF": 1}, properties={"mac": "02:00:00:00:00:01"})
    plan = Plan(consumer, (BIND, RESET), handles or (VF,), ("pf:0000:10:00.0",))
    return Preparation(consumer, (group,), plan, State.PREPARING, created, BOOT, 1240.0, "project", expires=5000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with closing(Journal(path, BOOT)) as opened:
        yield opened


def vf(number: int) -> PciHandle:
    return PciHandle("provider", "CUSTOM_VF", f"0000:10:{number >> 3:02x}.{number & 7}")


def reopened(journal: Journal, path: Path, boot_id: str = BOOT) -> Journal:
    """As a kill leaves it: the file as it is, and nothing closed in an orderly way."""
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
    return Journal(copy, boot_id)


def test_everything_is_there_after_a_crash(journal: Journal, path: Path) -> None:
    begun = preparation("A", VF, MDEV)
    journal.begin(begun)
    journal.intend("A", 0, {"driver": "ice"})
    journal.intend("A", 1, {}, {0: {"driver": "ice"}})
    with closing(reopened(journal, path)) as again:
        assert again.get("A") == Entry(replace(begun, done=(0,), found={0: {"driver": "ice"}, 1: {}}))
        assert again.holdings() == journal.holdings()
        assert again.holdings().consumers == {VF.address: "A", MDEV.uuid: "A"}
        assert again.holdings().parents == {MDEV.uuid: MDEV.parent}
        assert again.trusted


def test_a_life_from_begin_to_forget(journal: Journal) -> None:
    journal.begin(preparation())
    assert journal.unfinished() == ("A",)
    journal.finish("A", {"doing": 0.5})
    ready = journal.get("A")
    assert ready is not None
    assert (ready.preparation.state, ready.preparation.handles) == (State.PREPARED, (VF,))
    assert ready.preparation.timings == {"doing": 0.5}
    assert journal.unfinished() == ()
    back = Plan("A", (RESET,), (), ())
    journal.releasing("A", back)
    journal.released("A", 0)
    journal.blocked("A", BUSY)
    going = journal.get("A")
    assert going is not None
    assert (going.release, going.released, going.preparation.error) == (back, frozenset({0}), BUSY)
    assert going.preparation.handles == (VF,)
    assert journal.holdings().stuck == {VF.address: "it is in use"}
    journal.forget("A", 2000.0, 30.0)
    assert journal.entries() == ()
    assert journal.holdings().consumers == {}
    assert journal.holdings().released == {VF.address: 2000.0}


def test_a_device_has_one_holder_and_what_is_refused_leaves_nothing(journal: Journal) -> None:
    journal.begin(preparation("A", VF))
    with pytest.raises(Held) as held:
        journal.begin(preparation("B", MDEV, VF))
    assert held.value.key == VF.address
    assert [entry.preparation.consumer for entry in journal.entries()] == ["A"]
    assert journal.holdings().consumers == {VF.address: "A"}


def test_a_failure_holds_its_devices_while_there_are_steps_to_take_back(journal: Journal) -> None:
    journal.begin(preparation())
    journal.intend("A", 0, {"driver": "iavf"})
    journal.failed("A", BUSY)
    assert journal.unfinished() == ("A",)
    assert journal.holdings().consumers == {VF.address: "A"}
    journal.undone("A", 0)
    journal.failed("A", BUSY)
    assert journal.unfinished() == ()
    assert journal.holdings().consumers == {}
    journal.begin(preparation())
    assert journal.unfinished() == ("A",)


def test_a_failure_can_be_looked_at_for_a_day(journal: Journal) -> None:
    for consumer in ("old", "young"):
        journal.begin(preparation(consumer, created=1000.0 if consumer == "old" else 80_000.0))
        journal.failed(consumer, BUSY)
    journal.begin(preparation("new", created=90_000.0))
    assert [entry.preparation.consumer for entry in journal.entries()] == ["new", "young"]


def test_what_was_begun_and_is_neither_done_nor_undone_is_known_to_others(journal: Journal, path: Path) -> None:
    journal.begin(preparation("A"))
    journal.begin(preparation("B", MDEV))
    journal.intend("A", 0, {"driver": "ice"})
    journal.intend("B", 0, {"driver": "iavf"})
    assert journal.begun("bind", VF.address) == ({"driver": "ice"}, {"driver": "iavf"})
    assert journal.begun("reset", VF.address) == journal.begun("bind", MDEV.function) == ()
    journal.undone("A", 0)
    assert journal.begun("bind", VF.address) == ({"driver": "iavf"},)
    journal.finish("B", {}, {0: {"driver": "iavf"}})
    assert journal.begun("bind", VF.address) == ()


def test_what_was_begun_before_a_boot_is_in_nobodys_way(journal: Journal, path: Path) -> None:
    journal.begin(preparation())
    journal.intend("A", 0, {"driver": "ice"})
    assert reopened(journal, path, "another boot").begun("bind", VF.address) == ()


class Host:
    """A host that is booted now and then; `up` are the seconds since, which no clock changes."""

    def __init__(self, path: Path) -> None:
        self.path, self.up = path, 5000.0

    def start(self, boot_id: str = BOOT) -> closing[Journal]:
        return closing(Journal(self.path, boot_id, lambda: self.up))


@pytest.mark.parametrize("restarted", [True, False])
def test_a_tombstone_stands_for_a_while(path: Path, *, restarted: bool) -> None:
    host = Host(path)
    with host.start() as journal:
        journal.forget("A", 1000.0, 30.0)
        assert (journal.tombstone("A"), journal.tombstone("B")) == (30.0, None)
        host.up += 29.0
        if not restarted:
            assert journal.tombstone("A") == 1.0
    with host.start() as journal:
        assert journal.tombstone("A") == 1.0
        host.up += 1.0
        assert journal.tombstone("A") is None
        journal.forget("B", 1e12, 0.0)
        assert journal._database.rows("SELECT * FROM tombstones") == []


def test_after_a_boot_a_tombstone_stands_no_longer_than_it_ever_did(path: Path) -> None:
    host = Host(path)
    with host.start() as journal:
        journal.forget("A", 1000.0, 30.0)
    host.up = 20.0
    with host.start("boot 2") as journal:
        assert journal.tombstone("A") == 10.0
        host.up = 30.0
        assert journal.tombstone("A") is None
        journal.forget("B", 1000.0, 0.0)
        assert journal._database.rows("SELECT * FROM tombstones") == []


@pytest.mark.parametrize("jump", [365 * 86400.0, -365 * 86400.0])
def test_a_clock_that_jumps_neither_ends_nor_prolongs_anything(
    path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    host, now = Host(path), time.time()
    with host.start() as journal:
        lasting = replace(preparation(created=now), expires=now + 60, term=journal.term(60.0))
        journal.begin(lasting)
        journal.finish("A", {})
        journal.forget("B", now, 60.0)
        monkeypatch.setattr(time, "time", lambda: now + jump)
        journal.begin(preparation("C", MDEV, created=now + jump))
        assert (journal.has_expired(lasting), journal.tombstone("B")) == (False, 60.0)
        host.up += 60.0
        assert (journal.has_expired(lasting), journal.tombstone("B")) == (True, None)
    with host.start() as journal:
        (known,) = (entry.preparation for entry in journal.entries() if entry.preparation.consumer == "A")
        assert journal.has_expired(known)


def test_what_is_made_again_after_a_boot_has_all_its_time_again_and_no_more(path: Path) -> None:
    host = Host(path)
    with host.start() as journal:
        journal.begin(replace(preparation(), term=journal.term(60.0)))
        journal.finish("A", {})
    host.up = 500.0
    with host.start("boot 2") as journal:
        (known,) = journal.entries()
        assert journal.has_expired(known.preparation)
        journal.again("A", 1e10, frozenset())
        (known,) = journal.entries()
        assert not journal.has_expired(known.preparation)
        assert known.preparation.expires == pytest.approx(time.time() + 60, abs=30)
        host.up += 60.0
        assert journal.has_expired(known.preparation)


def test_what_an_earlier_version_wrote_expires_by_the_clock(journal: Journal) -> None:
    assert journal.has_expired(replace(preparation(), expires=time.time() - 1))
    assert not journal.has_expired(replace(preparation(), expires=time.time() + 60))
    assert not journal.has_expired(replace(preparation(), expires=None))


def test_of_failures_that_nobody_releases_the_oldest_are_dropped_and_no_others(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    """What is given or has something left to undo stays, however much fails after it."""
    caplog.set_level(logging.INFO)
    journal.begin(preparation("given", vf(1)))
    journal.finish("given", {})
    journal.failed("given", BUSY)
    journal.displaced("given", [vf(1).key])
    journal.begin(preparation("half", vf(2)))
    journal.intend("half", 0, {"driver": "iavf"})
    journal.failed("half", BUSY)
    for number in range(260):
        # The clock runs backwards meanwhile.
        journal.begin(preparation(f"{number:03}", vf(3), created=1000.0 - number))
        journal.failed(f"{number:03}", BUSY)
    journal.begin(preparation("last", vf(3)))
    left = [entry.preparation.consumer for entry in journal.entries()]
    assert left == [f"{number:03}" for number in range(4, 260)] + ["given", "half", "last"]
    assert "000 had failed and nobody released it" in caplog.text


def test_an_earlier_boot_is_left_behind(journal: Journal, path: Path) -> None:
    journal.begin(preparation())
    journal.finish("A", {}, {0: {}, 1: {}})
    with closing(reopened(journal, path, "boot 2")) as later:
        later.rebooted("A", frozenset({1}))
        entry = later.get("A")
        assert entry is not None
        assert (entry.preparation.boot_id, entry.preparation.done) == ("boot 2", (1,))
        later.again("A", 9000.0, frozenset({1}))
        entry = later.get("A")
        assert entry is not None
        assert (entry.preparation.state, entry.preparation.done) == (State.PREPARING, (1,))


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_every_older_version_becomes_the_newest(path: Path, version: int) -> None:
    Database(path, MIGRATIONS[:version]).close()
    with closing(Journal(path, BOOT)) as journal:
        journal.begin(preparation())
        assert journal._database.rows("PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_a_migration_that_fails_leaves_the_older_version(path: Path) -> None:
    first = "CREATE TABLE a (key TEXT PRIMARY KEY NOT NULL, sum INTEGER NOT NULL) STRICT"
    with closing(Database(path, (first,))) as database, database.transaction() as transaction:
        transaction.put("a", "kept")
    with pytest.raises(JournalError):
        Database(path, (first, "CREATE TABLE b (x TEXT); CREATE TABLE a (y TEXT)"))
    with closing(Database(path, (first,))) as database:
        assert database.rows("SELECT key FROM a") == [("kept",)]
        assert database.rows("SELECT name FROM sqlite_schema WHERE name = 'b'") == []


def test_a_newer_version_is_refused_in_words(path: Path) -> None:
    Database(path, (*MIGRATIONS, "CREATE TABLE more (x TEXT)")).close()
    with pytest.raises(JournalError, match=r"of version 3, .* versions up to 2"):
        Journal(path, BOOT)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"resource_class"', '"class"', "KeyError: 'resource_class'"),
        ('"timings"', '"phases"', "KeyError: 'timings'"),
        ('"kind":"retry"', '"kind":"perhaps"', "ValueError: 'perhaps' is not a valid RefusalKind"),
        ('"handles":[', '"handles":[7,', "TypeError: 'int' object is not subscriptable"),
    ],
)
def test_an_entry_of_another_form_is_named_with_its_consumer(
    journal: Journal, path: Path, old: str, new: str, problem: str
) -> None:
    """Its sum is right: so a devagent has written it."""
    journal.begin(preparation())
    journal.failed("A", BUSY)
    (row,) = journal._database.rows("SELECT * FROM preparations")
    assert old in row[4]
    with journal._database.transaction() as transaction:
        transaction.put("preparations", *row[:4], row[4].replace(old, new))
    for ask in (journal.entries, lambda: journal.get("A"), lambda: journal.blocked("A", BUSY)):
        with pytest.raises(JournalError) as raised:
            ask()
        assert str(raised.value) == (
            f"{path}: what it has of consumer A is of another form ({problem}): start the devagent that wrote it"
        )


def test_a_second_agent_is_refused_in_words(path: Path) -> None:
    with closing(Journal(path, BOOT)):
        child = os.fork()
        if not child:
            try:
                Journal(path, BOOT)
                os._exit(1)
            except JournalError as error:
                os._exit(0 if "another devagent has it open" in str(error) else 2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("path", ["/proc/devagent/journal.db", "/sys/journal.db", "/dev/null/journal.db"])
def test_a_place_that_cannot_be_written_is_refused_in_words(path: str) -> None:
    with pytest.raises(JournalError, match=f"^{path}: (cannot|it cannot) be opened"):
        Journal(Path(path), BOOT)


def test_a_full_disk_is_an_error_and_nothing_is_half_written(path: Path) -> None:
    child = os.fork()
    if not child:
        try:
            os._exit(_fill(path))
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with closing(Journal(path, BOOT)) as journal:
        assert journal.trusted
        consumers = [entry.preparation.consumer for entry in journal.entries()]
        assert sorted(journal.holdings().consumers.values()) == consumers
        assert len(consumers) > 2


def _fill(path: Path) -> int:
    """Fills the disk, as far as a limit on the size of files is like it; gives 0 if it ends as it should."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    journal = Journal(path, BOOT)
    for number in range(200):
        before = journal.entries()
        try:
            journal.begin(preparation(f"{number:04}", vf(number)))
        except JournalError:
            return 0 if journal.entries() == before else 1
    return 2


def test_a_full_database_says_so(journal: Journal) -> None:
    journal._database.rows("PRAGMA max_page_count = 15")
    with pytest.raises(JournalError, match="the disk is full"):
        for number in range(100):
            journal.begin(preparation(f"{number}", vf(number)))
    journal._database.rows("PRAGMA max_page_count = 1000")
    journal.begin(preparation("later", MDEV))


def contents(journal: Journal) -> object:
    return (
        journal.entries(),
        journal.holdings(),
        journal._database.rows("SELECT * FROM tombstones"),
        journal._database.rows("PRAGMA user_version"),
    )


def test_no_changed_byte_goes_unnoticed(path: Path) -> None:
    with closing(Journal(path, BOOT)) as journal:
        for number in range(6):
            consumer = f"consumer {number}"
            journal.begin(preparation(consumer, vf(number)))
            journal.intend(consumer, 0, {"driver": "iavf"})
        journal.finish("consumer 1", {})
        journal.forget("X", 0.0, 1e9)
        wanted = contents(journal)
    whole = path.read_bytes()
    noticed = 0
    for position in random.Random(3).sample(range(len(whole)), 150):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            with closing(Journal(path, BOOT)) as journal:
                assert contents(journal) == wanted if journal.trusted else journal.entries() == ()
                noticed += not journal.trusted
            path.with_name("journal.db.untrusted").unlink(missing_ok=True)
        except JournalError as error:
            noticed += 1
            assert "start the newer devagent" in str(error), position
        for other in path.parent.glob("journal.db-*"):
            other.unlink()
    assert noticed > 10


def test_a_damaged_journal_is_set_aside_and_mistrusted_until_somebody_removes_its_mark(path: Path) -> None:
    with closing(Journal(path, BOOT)) as journal:
        journal.begin(preparation())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"0000:10:01.0", b"0000:10:01.7"))
    for _ in range(2):
        with closing(Journal(path, BOOT)) as journal:
            assert not journal.trusted
            assert journal.entries() == ()
    (aside,) = path.parent.glob("journal.db.damaged-*")
    assert aside.read_bytes() != whole
    assert aside.name in path.with_name("journal.db.untrusted").read_text()
    path.with_name("journal.db.untrusted").unlink()
    with closing(Journal(path, BOOT)) as journal:
        assert journal.trusted


def test_a_log_without_its_end_loses_that_end_only(journal: Journal, path: Path) -> None:
    journal.begin(preparation())
    log = path.with_name("journal.db-wal")
    whole = log.read_bytes()
    path.with_name("copy.db").write_bytes(path.read_bytes())
    path.with_name("copy.db-wal").write_bytes(whole[:-100])
    with closing(Journal(path.with_name("copy.db"), BOOT)) as again:
        assert again.entries() == ()
        assert again.trusted


def test_the_file_can_be_read_by_hand(path: Path) -> None:
    with closing(Journal(path, BOOT)) as journal:
        journal.begin(preparation())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT consumer, state FROM preparations").fetchall() == [("A", "preparing")]
