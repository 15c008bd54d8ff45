# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a dataclass again of what `dataclasses.asdict` and JSON made of it; every type is checked."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final, TypeVar

Value = TypeVar("Value")

# What is asked counts in 64 bits; JSON would hold any number, which then is too large for a float.
_NUMBERS: Final = range(-(1 << 63), 1 << 63)


def decode(kind: type[Value], raw: Any) -> Value:
    """Gives `raw` as a value of `kind`: str, int, bool, an enum of texts, or a dataclass of these and of None.

    A field may be a tuple or a frozenset of them as well, both of which are lists in JSON.
    Keys that are missing take their default, unknown ones are passed over: other versions have other ones.
    Raises ValueError or TypeError for anything else, and for a number that no library gives.
    """
    value: Value = _decode(kind, raw)
    return value


def _decode(kind: Any, raw: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        if not isinstance(raw, dict):
            raise ValueError(f"{_short(raw)} is no object")
        hints = typing.get_type_hints(kind)
        given = {each.name: _decode(hints[each.name], raw[each.name]) for each in fields(kind) if each.name in raw}
        return typing.cast(type, kind)(**given)
    if origin is tuple:
        return _tuple(arguments, raw)
    if origin is frozenset:
        return frozenset(_tuple((arguments[0], Ellipsis), raw))
    if origin is types.UnionType:
        inner = next(each for each in arguments if each is not type(None))
        return None if raw is None else _decode(inner, raw)
    if isinstance(kind, enum.EnumType):
        return typing.cast(type[enum.Enum], kind)(_decode(str, raw))
    # A bool is an int to isinstance, but not here.
    if type(raw) is not kind:
        raise ValueError(f"{_short(raw)} is no {kind.__name__}")
    if kind is int and raw not in _NUMBERS:
        raise ValueError(f"{_short(raw)} is too large a number")
    if kind is str:
        raw.encode()  # half of a surrogate pair, which JSON can hold, cannot be printed
    return raw


def _tuple(arguments: Sequence[Any], raw: Any) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise ValueError(f"{_short(raw)} is no list")
    if arguments[-1] is Ellipsis:
        return tuple(_decode(arguments[0], each) for each in raw)
    return tuple(_decode(kind, each) for kind, each in zip(arguments, raw, strict=True))


def _short(raw: Any) -> str:
    return (hex(raw) if type(raw) is int else repr(raw))[:40]
