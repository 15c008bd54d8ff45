# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Compares two values of the JSON document, field by field, and says in words what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from devagent.model.ranges import format_ranges


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs, in words."""

    path: str
    old: str
    new: str


# What names a member of a list, in the order in which they are tried.
_NAMES: Final = ("id", "name", "uuid")
# More groups of VFs than these that changed alike are summed up by their first and last.
_FEW: Final = 4
_WORDS: Final = {
    "numa_node": "NUMA node",
    "numa_nodes": "NUMA nodes",
    "numa_cpus": "CPUs of NUMA node",
    "iommu": "IOMMU",
    "iommu_group": "IOMMU group",
    "pcie_path": "PCIe path",
    "sriov.num_vfs": "number of VFs",
    "sriov.total_vfs": "possible VFs",
    "vfio_driver": "VFIO driver",
    "decision.managed": "given",
    "decision.reason": "why",
    "decision.rule": "rule",
    "health.state": "health",
    "health.reasons": "health because",
}


def changes(old: Any, new: Any, path: str = "") -> list[Change]:
    """Gives what differs, sorted by path: of mappings each field, of lists of mappings each member by its name."""
    if type(old) is type(new) and old == new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new}, key=str)
        return [each for key in keys for each in changes(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    if isinstance(old, list) and isinstance(new, list):
        return _members(old, new, path)
    return [_change(path, old, new)]


def _change(path: str, old: Any, new: Any) -> Change:
    return Change(_WORDS.get(path, path.replace("_", " ")), text(old), text(new))


def _members(old: list[Any], new: list[Any], path: str) -> list[Change]:
    if _are_named(old, "index") and _are_named(new, "index"):
        return _vfs(_by(old, "index"), _by(new, "index"))
    name = next((name for name in _NAMES if _are_named(old, name) and _are_named(new, name)), None)
    if name is not None:
        return changes(_by(old, name), _by(new, name), path)
    if _are_sets(old, new):
        # Of twenty traits, only the one that came is news.
        return [_change(path, [each for each in old if each not in new], [each for each in new if each not in old])]
    return [_change(path, old, new)]


def _are_named(members: list[Any], name: str) -> bool:
    """Tells whether each member is a mapping with another `name`, all of them texts or all numbers."""
    names = [each.get(name) if isinstance(each, Mapping) else None for each in members]
    kinds = {type(each) for each in names}
    return (kinds <= {str} or kinds <= {int}) and len(set(names)) == len(names)


def _by(members: list[Any], name: str) -> dict[Any, Any]:
    return {each[name]: each for each in members}


def _are_sets(*lists: list[Any]) -> bool:
    """Tells whether the order says nothing: texts, each once, and sorted."""
    return all(all(isinstance(each, str) for each in one) and one == sorted(set(one)) for one in lists)


def _vfs(old: Mapping[int, Any], new: Mapping[int, Any]) -> list[Change]:
    """Says of VFs by ranges which came, went and changed alike."""
    found = [
        *_grouped({index: ("", _vf(old[index]), "none") for index in sorted(old.keys() - new.keys())}),
        *_grouped({index: ("", "none", _vf(new[index])) for index in sorted(new.keys() - old.keys())}),
    ]
    by_path: dict[str, dict[int, tuple[str, str, str]]] = {}
    for index in sorted(old.keys() & new.keys()):
        for each in changes(old[index], new[index]):
            by_path.setdefault(each.path, {})[index] = (each.path, each.old, each.new)
    for _, changed in sorted(by_path.items(), key=lambda item: item[0].lower()):
        found += _grouped(changed)
    return found


def _vf(vf: Mapping[str, Any]) -> str:
    return ", ".join(str(vf[key]) for key in ("driver", "in_use_by") if vf.get(key)) or "no driver"


def _grouped(changed: Mapping[int, tuple[str, str, str]]) -> list[Change]:
    groups: dict[tuple[str, str, str], list[int]] = {}
    for index, words in changed.items():
        groups.setdefault(words, []).append(index)
    if len(groups) > _FEW:
        # Each VF has another address: of 64 that moved, say from where to where.
        (path, *first), (_, *last) = next(iter(groups)), list(groups)[-1]
        olds, news = (f"{one} to {other}" for one, other in zip(first, last, strict=True))
        return [Change(_ranged(changed, path), olds, news)]
    return [Change(_ranged(indexes, path), old, new) for (path, old, new), indexes in groups.items()]


def _ranged(indexes: Iterable[int], path: str) -> str:
    return f"VF {format_ranges(indexes)} {path}".rstrip()


def text(value: Any) -> str:
    """Gives a value as people say it: `none`, `yes`, `a, b`; a mapping as its fields that say something."""
    if value is None or value in ([], {}, ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"{len(value)} VFs" if _are_named(value, "index") else ", ".join(map(text, value))
    if isinstance(value, Mapping):
        said = (
            f"{str(key).replace('_', ' ')} {text(each)}" for key, each in value.items() if each not in (None, [], {})
        )
        return "; ".join(said) or "there, but unknown"
    return str(value)
