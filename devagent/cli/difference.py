# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent discover --diff FILE`: what is there now and was not, is gone, or is otherwise than before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from devagent.cli.fields import Change, changes
from devagent.cli.render.printable import printable

Document = Mapping[str, Any]

# Each of these is compared in its own way, but for the explanations: how a decision was come to, which stands
# in the decision itself; and the version, which is checked on reading.
_APART: Final = frozenset({"schema_version", "host", "devices", "problems", "notes", "explanations"})


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that came (`+`), went (`-`) or changed (`~`)."""

    sign: str
    subject: str
    changes: tuple[Change, ...] = ()


def differences(before: Document, after: Document) -> list[Difference]:
    """Compares two documents of `discover -o json`: the host, its devices in bus order, problems and notes."""
    before, after = _plain(before), _plain(after)
    found = []
    host = [*changes(before.get("host"), after.get("host")), *changes(_rest(before), _rest(after))]
    if host:
        found.append(Difference("~", "host", tuple(host)))
    found += _devices(before["devices"], after["devices"])
    found += _said("problem", _problems(before), _problems(after))
    found += _said("note", before.get("notes") or (), after.get("notes") or ())
    return found


def lines(found: Iterable[Difference]) -> list[str]:
    """Gives the differences for people: a sign and what it is about, then a line for each field."""
    return [
        printable(line)
        for each in found
        for line in (
            f"{each.sign} {each.subject}",
            *(f"    {change.path}: {change.old} -> {change.new}" for change in each.changes),
        )
    ]


def _plain(document: Document) -> dict[str, Any]:
    """Gives the document as it is once written and read: lists and texts, no tuples and no enumerations."""
    plain: dict[str, Any] = json.loads(json.dumps(document, default=str))
    return plain


def _rest(document: Document) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in _APART}


def _problems(document: Document) -> list[str]:
    return [
        f"{each.get('device') or 'host'}: {each.get('problem')} [{each.get('source')}]"
        for each in document.get("problems") or ()
    ]


def _said(what: str, before: Iterable[str], after: Iterable[str]) -> list[Difference]:
    old, new = set(before), set(after)
    gone = [Difference("-", f"{what}: {text}") for text in sorted(old - new)]
    return gone + [Difference("+", f"{what}: {text}") for text in sorted(new - old)]


def _devices(before: Sequence[Document], after: Sequence[Document]) -> list[Difference]:
    found = []
    for old, new in _pairs(before, after):
        either = new or old or {}
        differ = tuple(changes(old, new)) if old and new else ()
        if differ or not (old and new):
            sign = "~" if old and new else "+" if new else "-"
            found.append((either["address"], Difference(sign, _name(either, with_verdict=not differ), differ)))
    return [each for _, each in sorted(found, key=lambda pair: (len(pair[0]), pair[0], "-~+".index(pair[1].sign)))]


def _pairs(before: Sequence[Document], after: Sequence[Document]) -> Iterator[tuple[Document | None, Document | None]]:
    """Finds each device again: by its id, else by address and model, whose identity then is what changed."""
    left = dict(enumerate(before))
    right = list(after)
    for key in (_by_id, _by_place):
        there = {key(old): number for number, old in reversed(left.items())}
        alone = []
        for new in right:
            number = there.pop(key(new), None)
            if number is None:
                alone.append(new)
            else:
                yield left.pop(number), new
        right = alone
    yield from ((old, None) for old in left.values())
    yield from ((None, new) for new in right)


def _by_id(device: Document) -> Any:
    return str(device.get("id", id(device)))


def _by_place(device: Document) -> Any:
    return tuple(str(device.get(key)) for key in ("address", "vendor_id", "device_id"))


def _name(device: Document, *, with_verdict: bool) -> str:
    text = " ".join(str(device.get(key, "")) for key in ("address", "kind", "vendor", "model"))
    decision = device.get("decision")
    if not with_verdict or not isinstance(decision, Mapping):
        return text
    return f"{text}, {'given' if decision.get('managed') else 'not given'}: {decision.get('reason')}"
