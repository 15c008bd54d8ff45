# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The kernel's PCIe error counters, as its ABI document shows them."""

from __future__ import annotations

import pytest

from devagent.inventory.aer import FATAL, NONFATAL, counts, judge
from devagent.model.health import State

from ..worlds import function

# Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats, with other numbers
FATAL_TEXT = """Undefined 0
DLP 0
SDES 0
TLP 0
FCP 0
CmpltTO 1
CmpltAbrt 0
UnxCmplt 0
RxOF 0
MalfTLP 2
ECRC 0
UnsupReq 0
ACSViol 0
UncorrIntErr 0
BlockedTLP 0
AtomicOpBlocked 0
TLPBlockedErr 0
TOTAL_ERR_FATAL 3"""


def test_the_totals_are_read() -> None:
    of = function(attributes={FATAL: FATAL_TEXT, NONFATAL: FATAL_TEXT.replace("FATAL 3", "NONFATAL 4")})
    assert counts(of) == {FATAL: 3, NONFATAL: 4}


@pytest.mark.parametrize("text", ["", "DLP 0", "TOTAL_ERR_FATAL -1", "TOTAL_ERR_FATAL", "TOTAL_ERR_FATAL " + "9" * 30])
def test_what_is_no_such_file_counts_nothing(text: str) -> None:
    assert counts(function(attributes={FATAL: text})) == {}


@pytest.mark.parametrize(
    ("before", "now", "state", "reasons"),
    [
        ({}, {}, None, ()),
        ({FATAL: 1}, {}, None, ()),
        ({}, {FATAL: 0, NONFATAL: 5}, "healthy", ()),
        ({}, {FATAL: 2}, "suspect", ("2 fatal PCIe errors since boot, before it was watched",)),
        ({FATAL: 2, NONFATAL: 5}, {FATAL: 2, NONFATAL: 5}, "healthy", ()),
        ({FATAL: 2}, {FATAL: 3}, "unhealthy", ("1 fatal PCIe error since the last look (AER)",)),
        ({NONFATAL: 2}, {NONFATAL: 5}, "suspect", ("3 non-fatal PCIe errors since the last look (AER)",)),
        ({NONFATAL: 2}, {NONFATAL: 2}, "healthy", ()),
        ({FATAL: 2, NONFATAL: 2}, {NONFATAL: 2}, "healthy", ()),
        ({FATAL: 2, NONFATAL: 2}, {FATAL: 2}, "healthy", ()),
        ({FATAL: 9, NONFATAL: 9}, {FATAL: 0, NONFATAL: 3}, "healthy", ()),
        ({FATAL: 9}, {FATAL: 1}, "suspect", ("1 fatal PCIe error since boot, before it was watched",)),
    ],
)
def test_only_what_rose_since_the_last_look_is_judged_in_full(
    before: dict[str, int], now: dict[str, int], state: State | None, reasons: tuple[str, ...]
) -> None:
    health = judge(before, now)
    assert (health.state if health else None, health.reasons if health else ()) == (state, reasons)
