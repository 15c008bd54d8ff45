# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a Rule of what devices.yaml says of it, once the schema has passed it, and finds what the schema cannot say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from devagent.model.claim import Kind, Mode
from devagent.model.policy import ALL_VFS, Match, Prepare, Rule
from devagent.model.ranges import parse_ranges

_REPORTED: Final = "has no use with owner: nova, which reports the device itself"
_MADE: Final = ("mdev", "vgpu")
# By the classes of PCI that the privileged process wipes so.
_WIPED: Final[Mapping[str | None, tuple[Kind, ...]]] = {
    "nvme-format": (Kind.NVME,),
    "nvme-sanitize": (Kind.NVME,),
    "gpu-reset": (Kind.GPU, Kind.ACCELERATOR),
    "fpga-blank": (Kind.FPGA,),
}
_NO_USE: Final = {
    "resource_class": "has no use with mode {mode}, whose classes stand in types",
    "prepare": "has no use with mode {mode}: what is made for a consumer ends with it",
}


def mistakes(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Gives what is wrong with one rule although each of its values is right: the key's path, and the problem."""
    if "vf_indexes" in raw:
        try:
            parse_ranges(raw["vf_indexes"])
        except ValueError as problem:
            yield ("vf_indexes",), str(problem)
    mode, types = raw["mode"], raw.get("types", {})
    if mode in _MADE:
        yield from (((key,), problem.format(mode=mode)) for key, problem in _NO_USE.items() if key in raw)
        if raw.get("vf_count", "all") != "all":
            yield ("vf_count",), f"can only be all with mode {mode}: NVIDIA's sriov-manage makes all VFs or none"
        if not types:
            yield (), f"types is missing, which says what mode {mode} makes"
    elif types:
        yield ("types",), "goes with mode mdev or vgpu"
    elif mode == "ignore" and "prepare" in raw:
        yield ("prepare",), "goes with mode whole or vf"
    if "owner" in raw:
        if mode not in ("whole", "vf"):
            yield ("owner",), "goes with mode whole or vf"
        yield from (((key,), _REPORTED) for key in ("resource_class", "traits", "physical_network") if key in raw)
    yield from _same_types(types)
    yield from _blank(raw.get("prepare", {}))
    yield from _wipes(raw)


def _same_types(types: Mapping[str, str | None]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each of two classes of one type would be given all there is of it."""
    seen: dict[str | None, str] = {}
    for resource_class, name in types.items():
        if name in seen:
            yield ("types", resource_class), f"is the same as that of {seen[name]}"
        seen[name] = resource_class


def _blank(prepare: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    if prepare.get("scrub") == "fpga-blank" and "blank" not in prepare:
        yield ("prepare", "scrub"), "needs blank, the digest of the image that wipes the FPGA"
    if "blank" in prepare and prepare.get("scrub") != "fpga-blank":
        yield ("prepare", "blank"), "goes with scrub: fpga-blank"


def _wipes(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Says what would be given, and then refused to whoever asks for it."""
    scrub = raw.get("prepare", {}).get("scrub")
    able = _WIPED.get(scrub, ())
    wrong = [kind for kind in _many(raw["match"].get("kind")) if able and kind not in (*able, Kind.OTHER)]
    if wrong:
        yield ("prepare", "scrub"), f"{scrub} wipes no {' and no '.join(wrong)}: it is for kind {' or '.join(able)}"
    if scrub == "nvme-sanitize" and raw["mode"] == "vf":
        yield (
            ("prepare", "scrub"),
            "nvme-sanitize would wipe the drive under all its VFs: use nvme-format, or mode whole",
        )


def rule(raw: Mapping[str, Any]) -> Rule:
    """Gives the rule; `raw` has no mistakes."""
    match, prepare = raw["match"], raw.get("prepare", {})
    return Rule(
        name=raw["name"],
        match=Match(
            kind=tuple(map(Kind, _many(match.get("kind")))),
            vendor=_many(match.get("vendor")),
            device=_many(match.get("device")),
            class_code=_many(match.get("class")),
            address=_many(match.get("address")),
            slot=_many(match.get("slot")),
            serial=_many(match.get("serial")),
            driver=_many(match.get("driver")),
            interface=_many(match.get("interface")),
            numa_node=_many(match.get("numa_node")),
            vfs=match.get("has_vfs"),
        ),
        mode=None if raw["mode"] == "ignore" else Mode(raw["mode"]),
        resource_class=raw.get("resource_class"),
        traits=frozenset(raw.get("traits", ())),
        vf_indexes=parse_ranges(raw["vf_indexes"]) if "vf_indexes" in raw else None,
        vf_count=_vf_count(raw.get("vf_count")),
        physical_network=raw.get("physical_network"),
        types=tuple(raw.get("types", {}).items()),
        prepare=Prepare(**prepare),
        owner=raw.get("owner"),
    )


def _vf_count(value: Any) -> int | None:
    if value is None:
        return None
    return ALL_VFS if value == "all" else int(value)


def _many(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)
