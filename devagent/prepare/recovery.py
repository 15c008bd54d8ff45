# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""At start: what an earlier process left half done is finished or undone, each consumer for itself.

    preparing, in time, same boot     its steps go on; each is done again unless the machine shows that it was done
    preparing, failed                 what the steps found is brought back
    releasing                         goes on to its end; what has not begun or has still to wipe, and after a boot all
                                      of it, is planned anew by whoever can look at the devices (Upkeep)
    prepared                          stays; after a boot its steps are done again when the consumer asks again

After a boot there are no bindings, mediated devices or VFs of ours any more, so nothing of that kind is brought back:
what there is now somebody else has made. What lasts is (an FPGA's image, the MIG mode), and what was to be wiped is,
once somebody has looked whether the same devices are still at their addresses: not here.

Consumers can be served meanwhile: each is recovered under its own lock, and a call for one that is not recovered
yet recovers it first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from devagent.model.preparation import Preparation, Refusal
from devagent.prepare.executor import Executor
from devagent.prepare.journal import Journal
from devagent.prepare.runs import REBOOTED

LOG = logging.getLogger(__name__)

_AT_ONCE: Final = 8
"""So many consumers at once, lest one whose device hangs keeps the others waiting."""


def recover(journal: Journal, executor: Executor) -> Mapping[str, Refusal]:
    """Gives, by consumer, why something is left of it, so that it keeps its devices. Raises JournalError."""
    consumers = journal.unfinished()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="recovery") as pool:
        answers = dict(zip(consumers, pool.map(lambda each: executor.recover(each, _unseen), consumers), strict=True))
    left = {consumer: answer for consumer, answer in answers.items() if answer is not None}
    if consumers:
        LOG.info(
            "%d preparations were under way when the agent ended: %d are settled",
            len(consumers),
            len(consumers) - len(left),
        )
    for consumer, refusal in left.items():
        LOG.warning("%s: not finished and not undone: %s", consumer, refusal.reason)
    return left


def _unseen(_: Preparation) -> Refusal:
    return REBOOTED
