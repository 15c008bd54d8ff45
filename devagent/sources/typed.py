# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes a dataclass again of what `dataclasses.asdict` and JSON made of it; every type is checked."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")


def decode(kind: type[Value], raw: Any) -> Value:
    """Gives `raw` as a value of `kind`: str, int, bool, or a dataclass of these, of tuples and of None.

    Keys that are missing take their default, unknown ones are passed over: other versions have other ones.
    Raises ValueError or TypeError for anything else.
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
    if origin is types.UnionType:
        inner = next(each for each in arguments if each is not type(None))
        return None if raw is None else _decode(inner, raw)
    # A bool is an int to isinstance, but not here.
    if type(raw) is not kind:
        raise ValueError(f"{_short(raw)} is no {kind.__name__}")
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
    return repr(raw)[:40]
