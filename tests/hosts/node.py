# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One mapping of a description, read key by key so that none is missed."""

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class DescriptionError(Exception):
    """A description says something that cannot be."""

    def __init__(self, where: str, problem: str) -> None:
        """Keeps the place and the problem apart, for whoever catches it."""
        self.where = where
        self.problem = problem
        super().__init__(f"{where}: {problem}")


class Node:
    """A mapping whose keys must all be asked for before it is left."""

    def __init__(self, value: Any, where: str) -> None:
        """Refuses what is not a mapping."""
        if not isinstance(value, Mapping):
            raise DescriptionError(where, f"expected a mapping, not {value!r}")
        self._left = {_text(key): item for key, item in value.items()}
        self.where = where

    def __enter__(self) -> Self:
        """Returns the node itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Refuses the keys that nobody asked for."""
        if kind is None and self._left:
            raise DescriptionError(self.where, "unknown key " + ", ".join(sorted(self._left)))

    def __contains__(self, key: str) -> bool:
        """Tells whether the key is there and not yet read."""
        return key in self._left

    def __iter__(self) -> Iterator[str]:
        """Returns the keys not yet read."""
        return iter(tuple(self._left))

    def error(self, key: str, problem: str) -> DescriptionError:
        """Returns the error for one key, to be raised."""
        return DescriptionError(self.place(key), problem)

    def place(self, key: str) -> str:
        """Returns where the key stands, as in host.yaml: bonds.bond0."""
        return f"{self.where}.{key}" if ": " in self.where else f"{self.where}: {key}"

    def take(self, key: str, default: Any = ...) -> Any:
        """Returns the raw value of the key, which is then read."""
        if key not in self._left and default is ...:
            raise DescriptionError(self.where, f"missing key {key}")
        return self._left.pop(key, default)

    def read(self, key: str, convert: Callable[[str], T], default: str | None = None) -> T:
        """Returns the key's text converted, naming the key where it fails."""
        text = _text(self.take(key, ... if default is None else default))
        try:
            return convert(text)
        except ValueError:
            raise self.error(key, f"cannot be {text!r}") from None

    def text(self, key: str, default: str | None = None) -> str:
        """Returns the key's value as text."""
        return self.read(key, str, default)

    def optional(self, key: str) -> str | None:
        """Returns the key's value as text, None where absent or null."""
        text = _text(self.take(key, None))
        return None if text == "null" else text

    def number(self, key: str, default: int | None = None) -> int:
        """Returns the key's value as a decimal number."""
        return self.read(key, int, None if default is None else str(default))

    def flag(self, key: str, default: bool) -> bool:
        """Returns the key's value as true or false."""
        return self.read(key, ["false", "true"].index, str(default).lower()) == 1

    def node(self, key: str) -> "Node":
        """Returns the mapping under the key, empty where absent."""
        return Node(self.take(key, {}), self.place(key))

    def items(self, key: str) -> Iterator[tuple[str, Any]]:
        """Yields the list under the key, each item with its place."""
        found = self.take(key, ())
        if isinstance(found, str | Mapping):
            raise self.error(key, "expected a list")
        for index, item in enumerate(found):
            yield f"{self.place(key)}[{index}]", item

    def texts(self, key: str) -> tuple[str, ...]:
        """Returns the list under the key as text."""
        return tuple(_text(item) for _, item in self.items(key))

    def mapping(self, key: str) -> dict[str, str]:
        """Returns the mapping under the key with its values as text."""
        with self.node(key) as node:
            return {name: node.text(name) for name in node}


def _text(value: Any) -> str:
    # Descriptions from YAML hold nothing but text; those written in Python may hold None, bool and int.
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
