# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How long the end of all servers may take together."""

from __future__ import annotations

from devagent.service.api_loop import Drain


def test_all_servers_together_have_the_time_of_one() -> None:
    asked = iter((1000.0, 2000.0))
    drain = Drain(lambda: next(asked))
    first, second = drain(), drain()
    assert 999 < first <= 1000
    assert second <= first


def test_there_is_never_less_than_no_time() -> None:
    drain = Drain(lambda: -5.0)
    assert drain() == 0.0
