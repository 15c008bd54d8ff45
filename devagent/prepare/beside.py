# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which functions a consumer's devices bring with them: no others are changed for its sake."""

from __future__ import annotations

from collections.abc import Iterable

from devagent.model.handle import Handle
from devagent.prepare.functions import group_obstacle
from devagent.prepare.images import programmer
from devagent.prepare.view import View, functions


def beside(handles: Iterable[Handle], view: View) -> frozenset[str]:
    """Gives the functions that a plan for `handles` may touch, as they stand in `view`.

    These are all of their cards, what programs these, and whatever else is in the IOMMU groups of the handles, as long
    as that may go to one guest.
    """
    found: set[str] = set()
    for handle in handles:
        if handle.function in view.parts:
            device, part = view.parts[handle.function]
            found.update(each.address for each in functions(device))
            found.add(programmer(view, device).address)
            if group_obstacle(view, device, part) is None:
                found.update(each.address for each in view.companions(part))
    return frozenset(found)
