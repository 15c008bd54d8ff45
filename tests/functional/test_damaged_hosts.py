# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A host that is damaged in any one place, in several, or while it is looked at, is discovered all the same.

Whatever is damaged: nothing is raised; no device is taken for another; nothing is given away that was not
before; what the damage does not touch stays as it is; and what could not be read is told. Each entry of
the host is damaged in each way, then several at random. DEVAGENT_MUTATIONS=20 does twenty times as many at random.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hosts.generate import generate

from devagent import registry
from devagent.cli.render import json as rendered
from devagent.discovery import Discovery, discover
from devagent.errors import DevagentError
from devagent.inventory.build import Nest
from devagent.inventory.default_policy import DEFAULT
from devagent.model.claim import Kind, Mode
from devagent.model.device import Device
from devagent.model.pci import Function, is_address
from devagent.model.policy import Match, Policy, Rule
from devagent.sources import scan
from devagent.sources.apart import Look as Asked
from devagent.sources.apart import Outcome
from devagent.sources.captures.archive import Entry, Folder, Link
from devagent.sources.captures.layout import lay_out
from devagent.sources.captures.recorder import Recorder
from devagent.sources.host import Tree
from devagent.sources.pci import DEVICES
from devagent.view import Look

from .conftest import SCHEMA, Devagent
from .damaged import CHANGES, Change, Damaged, Watch, changed, load, paths

FACTOR = int(os.environ.get("DEVAGENT_MUTATIONS", "1"))
REGISTRY = registry.load()
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
PARTS = 10
# What these do not say any more, nobody knows: that the host itself uses the device.
_WITNESS = re.compile(r"^proc|^sys$|^sys/(class|dev)|/boot_vga$")
# Nothing but the guards keeps a device from being given.
EVERYTHING = Policy((Rule("vfs", Match(vfs=True), Mode.VF), Rule("rest", Match(), Mode.WHOLE)), "test")
DESCRIPTION = Path(__file__).with_name("damaged.yaml")


@dataclass(frozen=True)
class World:
    """The host as it should be: its files, those that discovery asks for, and what is found."""

    top: Folder
    everything: tuple[str, ...]
    asked: tuple[str, ...]
    homes: dict[str, str]
    found: Discovery
    document: dict[str, Any]
    default: dict[str, Any]
    calls: int

    def concerns(self, path: str) -> frozenset[str]:
        """Gives the addresses of the devices that a path is about: the one that it is in, and those below it.

        What is a VF's is its PF's. None: the path is about the host as a whole.
        """
        if f"{DEVICES}/".startswith(f"{path}/"):
            return frozenset(self.homes)
        entry = entry_at(self.top, path)
        if isinstance(entry, Link) and not path.startswith("sys/devices/"):
            path = f"{path}/{entry.target}"
        inside = [part for part in path.split("/") if is_address(part)][-1:]
        below = [address for address, home in self.homes.items() if home.startswith(f"{path}/")]
        return frozenset(self.pfs.get(address, address) for address in (*inside, *below))

    @property
    def pfs(self) -> dict[str, str]:
        return {vf.address: device.address for device in self.found.devices for vf in device.vfs}


@pytest.fixture(scope="module")
def world(memory: Path) -> World:
    top = load(generate(DESCRIPTION, memory / "damaged"))
    watch = Watch()
    recorder = Recorder(Damaged([top], watch))
    found = looked_at(recorder)
    assert found.problems == ()
    everything = tuple(paths(top))
    laid_out = frozenset(paths(lay_out(recorder.notes, recorder.unrecorded)))
    homes = {path.rpartition("/")[2]: path for path in everything if path.startswith("sys/devices/")}
    homes = {name: path for name, path in homes.items() if is_address(name)}
    asked = tuple(path for path in everything if path in laid_out)
    default = document(discover(Damaged([top], Watch()), REGISTRY, DEFAULT))
    return World(top, everything, asked, homes, found, document(found), default, watch.calls)


def entry_at(folder: Folder, path: str) -> Entry | None:
    entry: Entry | None = folder
    for name in path.split("/"):
        entry = entry.get(name) if isinstance(entry, dict) else None
    return entry


@pytest.fixture(scope="module", autouse=True)
def without_children() -> Iterator[None]:
    """Asks devices in this process: a thousand children would take minutes, and nothing here hangs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "look_apart", look_here)
        yield


def look_here(tree: Tree, looks: Iterable[Asked]) -> dict[str, Outcome]:
    outcomes = {look.name: Outcome() for look in looks if look.subjects}
    for look in looks:
        for subject in look.subjects:
            try:
                with look.open(tree) as ask:
                    outcomes[look.name].answers[subject] = ask(subject)
            except DevagentError as error:  # anything else is a mistake, which children would hide
                outcomes[look.name].failures[subject] = str(error)
    return outcomes


def looked_at(tree: Tree) -> Discovery:
    return discover(tree, REGISTRY, EVERYTHING, every=True)


def document(found: Discovery) -> dict[str, Any]:
    parsed = json.loads(rendered.render(Look(found, found.host.hostname or "damaged", Nest.NUMA)))
    assert isinstance(parsed, dict)
    return parsed


def check(world: World, damage: Mapping[str, str], tree: Damaged) -> None:
    """Discovers a damaged host and holds it against the sound one; `damage` maps paths to what is wrong there."""
    found = looked_at(tree)
    before = {device.address: device for device in world.found.devices}
    concerned = frozenset().union(*map(world.concerns, damage))
    whole = not all(map(world.concerns, damage))
    for device in found.devices:
        assert device.address in before, f"{device.address} does not exist"
        was = before[device.address]
        compare(device, was, concerned=device.address in concerned, whole=whole)
        if device.decision.managed and given(device) != given(was):
            assert was.decision.managed or any(map(_WITNESS.search, damage)), f"given: {device.address}"
            assert device.decision.total <= max(1, was.decision.total)
    lost = before.keys() - {device.address for device in found.devices}
    assert lost <= concerned, f"lost: {lost - concerned}"
    unread = [(path, reason) for path, reason in tree.watch.raised if reason != "permission denied"]
    assert found.problems or not unread, f"nothing is said of {unread}"
    valid(document(found), world.document)


def compare(device: Device, was: Device, *, concerned: bool, whole: bool) -> None:
    now, before = device.function, was.function
    assert ids(now) == ids(before)
    # What does not say that it is a PF is none; an operator's rule may give it all the same.
    assert device.claim.kind in (was.claim.kind, Kind.OTHER)
    if not concerned:
        assert facts(now) == facts(before)
        assert replace(device.claim, net=None) == replace(was.claim, net=None)
    if not concerned and not whole:
        assert device.identity == was.identity


def ids(function: Function) -> tuple[str | None, ...]:
    subsystem = function.subsystem_vendor_id, function.subsystem_device_id
    return function.vendor_id, function.device_id, function.class_code, *subsystem


def facts(function: Function) -> Function:
    """Gives what the function's own files say."""
    return replace(function, drivers=(), vfio_driver=None, vf_vfio_driver=None, mdev_parent=False)


def valid(document: dict[str, Any], before: dict[str, Any]) -> None:
    """Holds what differs from the sound document against the schema; all of it would take minutes."""
    new = [device for device in document["devices"] if device not in before["devices"]]
    VALIDATOR.validate(document | {"devices": new})


def given(device: Device) -> tuple[str | None, int]:
    return device.decision.resource_class, device.decision.total


def rounds(count: int) -> int:
    return count * FACTOR


@pytest.mark.parametrize("part", range(PARTS))
def test_an_entry_is_damaged(world: World, part: int) -> None:
    random_ = random.Random(f"one {part}")
    for path in world.asked[part::PARTS]:
        for name in random_.sample(sorted(CHANGES), min(len(CHANGES), rounds(6))):
            with telling(f"{path}: {name}"):
                check(world, {path: name}, Damaged([changed(world.top, path, CHANGES[name])], Watch()))


@pytest.mark.parametrize("part", range(PARTS))
def test_several_entries_are_damaged(world: World, part: int) -> None:
    random_ = random.Random(f"several {part}")
    for _ in range(rounds(700 // PARTS)):
        damage = {path: random_.choice(sorted(CHANGES)) for path in random_.sample(world.asked, random_.randint(2, 6))}
        top = world.top
        for path, name in damage.items():
            top = changed(top, path, CHANGES[name])
        with telling(str(damage)):
            check(world, damage, Damaged([top], Watch()))


@pytest.mark.parametrize("part", range(PARTS))
def test_an_entry_changes_while_it_is_looked_at(world: World, part: int) -> None:
    random_ = random.Random(f"meanwhile {part}")
    for _ in range(rounds(700 // PARTS)):
        path, at = random_.choice(world.asked), random_.randrange(world.calls)
        name = random_.choice(["missing", "missing", "broken", "directory", "dangling link", "empty"])
        with telling(f"{path}: {name} from call {at} on"):
            top = changed(world.top, path, lambda entry: entry)
            watch = Watch(at=at, then=partial(put, top, path, CHANGES[name]))
            check(world, {path: name}, Damaged([top], watch))


def put(top: Folder, path: str, change: Change) -> None:
    """Changes an entry in its place, for those who have its directory open already."""
    parent, _, name = path.rpartition("/")
    folder = entry_at(top, parent) if parent else top
    assert isinstance(folder, dict)
    made = change(folder.pop(name, None))
    if made is not None:
        folder[name] = made


def test_what_nobody_asks_for_changes_nothing(world: World) -> None:
    random_ = random.Random("unasked")
    unasked = sorted(set(world.everything) - set(world.asked))
    unasked = [path for path in unasked if isinstance(entry_at(world.top, path), bytes)]
    for path in random_.sample(unasked, min(len(unasked), rounds(60))):
        change = CHANGES[random_.choice(["binary", "huge", "denied", "broken", "link to itself", "text"])]
        assert looked_at(Damaged([changed(world.top, path, change)], Watch())) == world.found


@pytest.mark.parametrize(
    "name",
    [
        "00000000:3b:00.0",
        "100000000:3b:00.0",
        "ffffffff:ff:1f.7",
        "0000:3b:00.8",
        "0000:3b:20.0",
        "0000:3B:00.0",
        "0000:3b:00",
        "..0000",
        "x" * 255,
        "\x1b[2J",
        "\udcff",
    ],
)
@pytest.mark.parametrize("change", ["empty", "empty directory", "dangling link", "link to itself", "link to root"])
def test_a_strange_name_stands_among_the_functions(world: World, name: str, change: str) -> None:
    tree = Damaged([changed(world.top, f"{DEVICES}/{name}", CHANGES[change])], Watch())
    found = looked_at(tree)
    assert found.devices == world.found.devices
    assert found.problems
    valid(document(found), world.document)


@pytest.mark.parametrize("name", ["binary", "huge", "directory", "link to itself", "empty"])
def test_the_command_says_what_it_could_not_read(
    world: World, memory: Path, devagent: Devagent, tmp_path: Path, name: str
) -> None:
    home = world.homes["0000:3b:00.0"]
    root = shutil.copytree(memory / "damaged", tmp_path / "damaged", symlinks=True)
    (root / home / "modalias").unlink()
    store(root / home / "modalias", CHANGES[name](None))
    store(root / home / "vendor", None)
    ran = devagent("discover", "--root", root, "-o", "json")
    assert (ran.code, ran.err) == (4, "")
    shown = json.loads(ran.out)
    VALIDATOR.validate(shown)
    assert {problem["device"] for problem in shown["problems"]} == {"0000:3b:00.0"}
    assert {device["address"] for device in shown["devices"]} == {
        device["address"] for device in world.default["devices"]
    } - {"0000:3b:00.0"}


def store(path: Path, entry: Entry | None) -> None:
    """Writes an entry in the place of what stands there."""
    path.unlink(missing_ok=True)
    if isinstance(entry, dict):
        path.mkdir()
        for name, below in entry.items():
            store(path / name, below)
    elif isinstance(entry, Link):
        path.symlink_to(entry.target)
    elif entry is not None:
        path.write_bytes(entry)


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Names the damage with whatever goes wrong."""
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise
