# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Judges by the kernel's counters of uncorrected PCIe errors (Advanced Error Reporting).

aer_dev_fatal and aer_dev_nonfatal (Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats):

    Undefined 0
    DLP 0
    ...
    TOTAL_ERR_FATAL 0

They begin at 0 with each boot and each time the device is found. Corrected errors cost time and nothing
else, so they are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from devagent.model.amount import amount
from devagent.model.health import Health, State
from devagent.model.pci import Function

FATAL: Final = "aer_dev_fatal"
NONFATAL: Final = "aer_dev_nonfatal"


def counts(function: Function) -> dict[str, int]:
    """Gives the totals by file name; what is absent or no such file is left out."""
    found = {name: _total(function.attributes.get(name, "")) for name in (FATAL, NONFATAL)}
    return {name: total for name, total in found.items() if total is not None}


def judge(before: Mapping[str, int], now: Mapping[str, int]) -> Health | None:
    """Gives what the counters say, compared with those of the last look; None if there are none.

    A counter that is seen for the first time, or fell, began without us. The fatal errors in it may have
    been cured since, so they only make the device suspect; non-fatal ones are what many devices have from
    being searched for at boot, and say nothing.
    """
    if not now:
        return None
    health = Health(State.HEALTHY)
    fatal, nonfatal = now.get(FATAL, 0), now.get(NONFATAL, 0)
    if not _is_new(FATAL, before, now):
        if fatal > before[FATAL]:
            more = fatal - before[FATAL]
            health |= Health(State.UNHEALTHY, (f"{amount(more, 'fatal PCIe error')} since the last look (AER)",))
    elif fatal:
        health |= Health(State.SUSPECT, (f"{amount(fatal, 'fatal PCIe error')} since boot, before it was watched",))
    if not _is_new(NONFATAL, before, now) and nonfatal > before[NONFATAL]:
        more = nonfatal - before[NONFATAL]
        health |= Health(State.SUSPECT, (f"{amount(more, 'non-fatal PCIe error')} since the last look (AER)",))
    return health


def _is_new(name: str, before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    return name not in now or name not in before or now[name] < before[name]


def _total(text: str) -> int | None:
    match = re.search(r"^TOTAL_ERR_(?:FATAL|NONFATAL) ([0-9]{1,20})$", text, re.MULTILINE)
    return int(match[1]) if match else None
