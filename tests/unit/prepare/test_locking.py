# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Locks by name keep apart who must be apart, and nobody else."""

from __future__ import annotations

import random
import threading
import time

import pytest

from devagent.prepare.locking import Busy, Locks


def test_two_never_have_the_same_key_and_nobody_waits_in_a_circle() -> None:
    locks, inside = Locks(), dict.fromkeys("abcd", 0)
    clashes: list[str] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(200):
            keys = chance.sample("abcd", 2)
            with locks.holding(keys, time.monotonic() + 60):
                for key in keys:
                    inside[key] += 1
                clashes.extend(key for key in keys if inside[key] != 1)
                for key in keys:
                    inside[key] -= 1

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []
    assert len(locks) == 0


def test_who_waits_in_vain_keeps_nothing() -> None:
    locks = Locks()
    with locks.holding(["b"], time.monotonic()):
        with pytest.raises(Busy) as busy, locks.holding(["a", "b", "a"], time.monotonic() + 0.01):
            pass
        assert busy.value.key == "b"
        with locks.holding(["a"], time.monotonic()):
            pass
    assert len(locks) == 0
