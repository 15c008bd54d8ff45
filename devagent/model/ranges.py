# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sets of VF indexes as people write them: `0-3,6`."""

from __future__ import annotations

import re
from collections.abc import Iterable


def format_ranges(numbers: Iterable[int]) -> str:
    """Gives `0-3,6` for 0, 1, 2, 3 and 6, in whatever order they come; an empty string for none."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def parse_ranges(text: str) -> frozenset[int]:
    """Gives the numbers that `0-3,6` stands for. Raises ValueError, also for a range that runs backwards."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?\s*", part)
        if match is None:
            raise ValueError(f"{part.strip()!r} is no VF index and no range such as 0-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the range {part.strip()} runs backwards")
        numbers.update(range(first, last + 1))
    return frozenset(numbers)
