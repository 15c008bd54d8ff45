# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names what must be locked while functions are changed: their PFs and their IOMMU groups, never the host."""

from __future__ import annotations

from collections.abc import Iterable

from devagent.prepare.view import View


def lock_keys(view: View, addresses: Iterable[str]) -> tuple[str, ...]:
    """Gives the keys, sorted: who takes them in this order never waits in a circle. What is gone has none."""
    found = set()
    for address in addresses:
        if address in view.parts:
            card, part = view.parts[address]
            found.add(f"pf:{card.address}")
            found.update([f"group:{part.iommu_group}"] if part.iommu_group is not None else [])
    return tuple(sorted(found))
