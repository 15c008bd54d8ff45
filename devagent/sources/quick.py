# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes frozen dataclasses at the price of mutable ones, where a scan makes thousands of them.

A frozen dataclass sets each of its fields through `object.__setattr__`: to make a Function of 22 fields takes
as long as to read its modalias from the kernel. A mutable twin with the same slots takes a third of that, and
an object may change its class for one that is laid out alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, make_dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")


def maker(kind: Callable[..., Value]) -> Callable[..., Value]:
    """Gives what makes a `kind`: a frozen dataclass with slots, without `__post_init__`. That takes a millisecond."""
    own: Any = kind
    twin: Any = make_dataclass(f"_{own.__name__}", [(each.name, each.type, each) for each in fields(own)], slots=True)

    def make(*values: object, **named: object) -> Any:
        made = twin(*values, **named)
        made.__class__ = own
        return made

    return make
