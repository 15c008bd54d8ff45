# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A card that another takes the place of while it is looked at: the look has the one or the other, or neither."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from devagent.model.pci import Function
from devagent.model.snapshot import Snapshot
from devagent.sources.host import Directory
from devagent.sources.scan import Seen, scan
from devagent.sources.stamps import FILE

from ..worlds import GPU, NIC, PCI, Link, World, modalias, write

CARD, VF, OTHER = "0000:3b:00.0", "0000:3b:00.1", "0000:3c:00.0"
BUS, ROUTE, MDEV = "sys/devices/pci0000:3a", "proc/net/route", f"sys/class/mdev_bus/{CARD}"
_NO_ROUTE = "Iface Destination Gateway Flags RefCnt Use Metric Mask\n"

NIC_FILES: World = {
    FILE: modalias("15b3:101d", NIC),
    "driver": Link("../../../bus/pci/drivers/mlx5_core"),
    "iommu_group": Link("../../../kernel/iommu_groups/4"),
    "numa_node": "0\n",
    "sriov_totalvfs": "8\n",
    "sriov_vf_device": "101e\n",
    "sriov_offset": "1\n",
    "sriov_stride": "1\n",
    "virtfn0": Link(f"../{VF}"),
    "quick": "nic\n",
    "slow": "nic\n",
    "serial_number": "b8-ce-f6-ff-ff-12-34-56\n",
    "net/eno1/": "",
}
VF_FILES: World = {
    FILE: modalias("15b3:101e", NIC),
    "driver": Link("../../../bus/pci/drivers/vfio-pci"),
    "iommu_group": Link("../../../kernel/iommu_groups/5"),
    "physfn": Link(f"../{CARD}"),
}
GPU_FILES: World = {
    FILE: modalias("10de:20f1", GPU),
    "driver": Link("../../../bus/pci/drivers/vfio-pci"),
    "iommu_group": Link("../../../kernel/iommu_groups/6"),
    "numa_node": "1\n",
    "quick": "gpu\n",
    "slow": "gpu\n",
    "serial_number": "48-b0-2d-ff-ff-65-43-21\n",
}


def files(folder: str, content: World) -> World:
    return {f"{folder}/{name}": each for name, each in content.items()}


def nic_host(top: Path) -> Path:
    """Writes a host with a NIC that has a VF, the default route and mediated devices; a GPU lies ready beside it."""
    return write(
        top,
        {
            **files(f"{BUS}/{CARD}", NIC_FILES),
            **files(f"{BUS}/{VF}", VF_FILES),
            **files(f"spare/{CARD}", GPU_FILES),
            **files(f"sys/devices/pci0000:3b/{OTHER}", GPU_FILES),
            f"{PCI}/{CARD}": Link(f"../../../devices/pci0000:3a/{CARD}"),
            f"{PCI}/{VF}": Link(f"../../../devices/pci0000:3a/{VF}"),
            f"{PCI}/{OTHER}": Link(f"../../../devices/pci0000:3b/{OTHER}"),
            "sys/class/net/eno1": Link(f"../../devices/pci0000:3a/{CARD}/net/eno1"),
            MDEV: Link(f"../../devices/pci0000:3a/{CARD}"),
            ROUTE: f"{_NO_ROUTE}eno1 00000000 010200C0 0003 0 0 0 00000000\n",
            f"{ROUTE}.none": _NO_ROUTE,
            "proc/self/mountinfo": "1 0 0:2 / / rw - rootfs rootfs rw\n",
        },
    )


def pull(top: Path) -> None:
    """Takes the NIC out, with all that leads to it."""
    (top / f"{ROUTE}.none").rename(top / ROUTE)
    for name in ("sys/class/net/eno1", MDEV, f"{PCI}/{VF}", f"{PCI}/{CARD}"):
        (top / name).unlink()
    (top / BUS).rename(top / "pulled")


def swap(top: Path) -> None:
    """Takes the NIC out and puts the GPU where it was."""
    pull(top)
    (top / "spare").rename(top / BUS)
    (top / PCI / CARD).symlink_to(f"../../../devices/pci0000:3a/{CARD}")


Answer = TypeVar("Answer")


class Changing(Directory):
    """A machine to which something happens after its so many-th answer, in whichever process that is asked for."""

    def __init__(self, path: Any, asked: Any, at: int, happens: Callable[[], None], **more: Any) -> None:
        super().__init__(path, machine=True, **more)
        self._asked, self._at, self._happens = asked, at, happens

    def below(self, path: str) -> Changing:
        return self._after(Changing(path, self._asked, self._at, self._happens, dir_fd=self._fd))

    def link(self, path: str) -> str | None:
        return self._after(super().link(path))

    def has(self, path: str) -> bool:
        return self._after(super().has(path))

    def stamp(self, path: str) -> int | None:
        return self._after(super().stamp(path))

    def _list(self, path: str) -> list[str]:
        return self._after(super()._list(path))

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        return self._after(super()._read(path, limit, whole=whole, offset=offset))

    def _after(self, answer: Answer) -> Answer:
        with self._asked:
            self._asked.value += 1
            if self._asked.value == self._at:
                self._happens()
        return answer


def looked(tree: Directory, earlier: Seen | None = None) -> Seen:
    only = frozenset({CARD}) if earlier else frozenset[str]()
    return scan(tree, lambda _: frozenset({"quick"}), lambda _: frozenset({"slow"}), earlier=earlier, only=only)


def whole(found: Snapshot) -> tuple[Function | None, Function | None, str | None]:
    """Gives all that a look says of the card."""
    return found.functions.get(CARD), found.functions.get(VF), found.host_use.get(CARD)


@contextmanager
def changing(top: Path, at: int, happens: Callable[[Path], None]) -> Iterator[tuple[Changing, Any]]:
    asked = multiprocessing.Value("i", 0)
    with Changing(nic_host(top), asked, at, lambda: happens(top)) as tree:
        yield tree, asked


@pytest.mark.parametrize(("happens", "partial", "step"), [(swap, False, 1), (swap, True, 1), (pull, False, 4)])
def test_whenever_a_card_is_replaced_the_look_has_all_of_one_or_nothing(
    tmp_path: Path, happens: Callable[[Path], None], step: int, *, partial: bool
) -> None:
    with changing(tmp_path / "before", -1, happens) as (tree, asked):
        first = looked(tree) if partial else None
        start = asked.value
        before = looked(tree, first).snapshot
        count = asked.value - start
        happens(tmp_path / "before")
        after = looked(tree).snapshot
    either = [whole(before), whole(after)]
    assert either[0] != either[1]
    seen = set[int]()
    for number in range(1, count + 1, step):
        with changing(tmp_path / f"{number}", start + number, happens) as (tree, _):
            found = looked(tree, looked(tree) if partial else None).snapshot
        assert whole(found) in either, f"after answer {number}"
        assert found.problems == before.problems, f"after answer {number}"
        assert not found.unknown
        assert found.functions[OTHER] == before.functions[OTHER]
        seen.add(either.index(whole(found)))
    assert seen == {0, 1}


def test_what_is_replaced_at_every_look_is_unknown_and_said_to_be(tmp_path: Path) -> None:
    class Restless(Directory):
        def _read(self, path: str, *arguments: Any, **named: Any) -> bytes | None:
            if path.endswith(f"{CARD}/slow"):
                place = tmp_path / BUS / CARD / FILE
                (place.parent / "next").write_bytes(place.read_bytes())
                (place.parent / "next").rename(place)
            return super()._read(path, *arguments, **named)

    with Restless(nic_host(tmp_path), machine=True) as tree:
        found = looked(tree).snapshot
    assert found.unknown == {CARD}
    assert whole(found)[:2] == (None, None)
    (problem,) = (each for each in found.problems if each.device)
    assert problem.device == CARD
    assert "pulled out and plugged in" in problem.problem
    assert list(found.functions) == [OTHER]
