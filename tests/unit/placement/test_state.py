# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The state file saves requests, and never does harm, whatever stands in it or in its way."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.errors import StateError
from devagent.model.provider import Inventory, Provider
from devagent.placement.state import FILE, Contest, Memory, StateFile

ROOT = str(uuid.UUID(int=1))


def provider(number: int = 2, **more: object) -> Provider:
    inventories = {"PGPU": Inventory(1, reserved=1, max_unit=1, allocation_ratio=1.5)}
    values = {"inventories": inventories, "traits": frozenset({"CUSTOM_DEVAGENT"}), "generation": 7} | more
    return Provider(str(uuid.UUID(int=number)), f"devagent:h:{number}", ROOT, **values)  # type: ignore[arg-type]


def memory() -> Memory:
    return Memory(
        ROOT,
        root_name="h",
        microversion=(1, 39),
        providers={each.uuid: each for each in (provider(2), provider(3, inventories={}, traits=frozenset()))},
        names={"CUSTOM_DEVAGENT", "CUSTOM_X"},
        contests={str(uuid.UUID(int=2)): Contest(2, 1.5)},
        reshape_refused=3.25,
        full_read=1_800_000_000.5,
    )


@pytest.fixture
def state(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path)


def test_what_is_saved_is_loaded(state: StateFile) -> None:
    for saved in (memory(), Memory(ROOT), replace(memory(), microversion=None)):
        state.save(saved)
        assert state.load() == saved
    assert [path.name for path in state.path.parent.iterdir()] == [FILE]


def test_no_file_is_no_memory_and_no_complaint(state: StateFile, caplog: pytest.LogCaptureFixture) -> None:
    assert state.load() is None
    assert caplog.messages == []


def aside(state: StateFile) -> list[bytes]:
    """Gives what was set aside, and takes it away."""
    found = sorted(state.path.parent.glob("placement.damaged-*"))
    contents = [path.read_bytes() for path in found]
    for path in found:
        path.unlink()
    return contents


def test_damage_at_any_byte_is_seen_and_the_file_set_aside(state: StateFile) -> None:
    saved = Memory(ROOT, root_name="h")
    state.save(saved)
    whole = state.path.read_bytes()
    for position in range(len(whole)):
        for damaged in (whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :], whole[:position]):
            state.path.write_bytes(damaged)
            found = state.load()
            # A flipped bit between the head's values, such as a space, may still mean the same.
            assert found in (None, saved)
            if found is None:
                assert not state.path.exists()
                assert aside(state) == [damaged]
            else:
                assert damaged[whole.index(b"\n") :] == whole[whole.index(b"\n") :]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"null\nnull",
        b"[]\n{}",
        b"{}\n{}",
        b'"x"\n',
        b"\xff\xfe",
        b"\0" * 4096,
        b"[" * 100_000,
        b'{"format": "devagent placement state", "version": 1}\n{}',
        b'{"format": "devagent placement state", "version": 1, "bytes": 2, "sha256": 5}\n{}',
    ],
)
def test_any_other_content_is_set_aside(state: StateFile, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    state.path.write_bytes(content)
    assert state.load() is None
    assert aside(state) == [content]
    (message,) = caplog.messages
    assert "set aside as placement.damaged-" in message
    assert state.load() is None


@given(content=st.binary(max_size=200))
def test_nothing_makes_loading_raise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    state = StateFile(tmp_path_factory.mktemp("state"))
    state.path.write_bytes(content)
    assert state.load() is None


@pytest.mark.parametrize(("key", "value"), [("version", 2), ("version", 0), ("format", "another program's")])
def test_another_version_is_set_aside(state: StateFile, key: str, value: object) -> None:
    state.save(memory())
    head, _, data = state.path.read_bytes().partition(b"\n")
    state.path.write_bytes(json.dumps({**json.loads(head), key: value}).encode() + b"\n" + data)
    assert state.load() is None
    assert len(aside(state)) == 1


def test_a_file_that_cannot_be_read_is_a_warning(state: StateFile, caplog: pytest.LogCaptureFixture) -> None:
    state.path.mkdir()
    assert state.load() is None
    state.save(memory())
    assert [message.partition(" (")[0] for message in caplog.messages] == [
        f"{state.path} cannot be read",
        f"{state.path} cannot be written",
    ]
    assert sorted(path.name for path in state.path.parent.iterdir()) == [FILE]


def test_a_directory_that_cannot_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As where it is read-only; root may write everywhere, but below a file nobody can."""
    (tmp_path / "file").write_text("")
    state = StateFile(tmp_path / "file" / "state")
    ran = False
    with caplog.at_level(logging.WARNING), state.locked():
        assert state.load() is None
        state.save(memory())
        ran = True
    assert ran
    assert "no state is kept" in caplog.messages[0]
    assert "cannot be written" in caplog.messages[-1]


def test_a_failing_save_leaves_the_old_file(state: StateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    state.save(memory())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    state.save(Memory(ROOT, root_name="other"))
    assert state.load() == memory()
    assert [path.name for path in state.path.parent.iterdir()] == [FILE]


@pytest.fixture
def other_process(state: StateFile) -> Iterator[subprocess.Popen[str]]:
    """Gives a process that holds the lock."""
    code = (
        "import sys; from pathlib import Path; from devagent.placement.state import StateFile\n"
        f"with StateFile(Path({str(state.path.parent)!r})).locked():\n"
        " print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_reporter_is_kept_out_until_the_first_is_gone(
    state: StateFile, other_process: subprocess.Popen[str]
) -> None:
    with pytest.raises(StateError, match="another devagent is reporting from here") as caught, state.locked():
        pass
    assert caught.value.exit_code == 1
    other_process.kill()  # a lock of the kernel's: nothing is left behind
    other_process.wait()
    with state.locked():
        pass


def test_the_lock_is_given_back(state: StateFile) -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError), state.locked():
            raise RuntimeError


def test_a_directory_is_made(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "a" / "b")
    with state.locked():
        state.save(memory())
    assert state.load() == memory()


def test_a_provider_is_recalled_while_its_generation_stands_still() -> None:
    known = provider()
    held = Memory(ROOT)
    held.remember(known)
    listed = replace(known, inventories={}, traits=frozenset())
    assert held.recall(listed) == known
    assert held.recall(replace(listed, generation=8)) is None
    assert held.recall(provider(9)) is None
    # Renaming and re-parenting do not move the generation.
    moved = held.recall(replace(listed, name="devagent:h:other", parent=None))
    assert moved == replace(known, name="devagent:h:other", parent=None)
    held.forget(known.uuid)
    held.forget(known.uuid)
    assert held.recall(listed) is None
