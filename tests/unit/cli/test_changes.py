# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The lines of `report --dry-run`: three signs, and what of a provider changes below it."""

from __future__ import annotations

import uuid
from dataclasses import replace

from devagent.cli.render.changes import lines
from devagent.inventory.diff import Action, Change
from devagent.model.provider import Inventory, Provider

ROOT, NUMA = str(uuid.UUID(int=0)), str(uuid.UUID(int=9))
NAMES = {ROOT: "compute", NUMA: "devagent:h:numa0"}
GPU = Provider(str(uuid.UUID(int=1)), "devagent:h:x", ROOT, {"PGPU": Inventory(1)}, frozenset({"CUSTOM_A"}), 3)


def test_a_new_provider_is_shown_with_all_that_it_has() -> None:
    assert lines(Change(Action.CREATE, None, GPU), NAMES) == ["+ devagent:h:x  PGPU 1", "    + CUSTOM_A"]


def test_a_move_names_the_parents() -> None:
    change = Change(Action.UPDATE, GPU, replace(GPU, parent=NUMA))
    assert lines(change, NAMES)[1:] == ["    devagent:h:x below compute -> devagent:h:x below devagent:h:numa0"]


def test_a_take_over_is_an_update_that_says_so() -> None:
    new = replace(GPU, uuid=str(uuid.UUID(int=2)))
    assert lines(Change(Action.REPLACE, GPU, new), NAMES) == [
        "~ devagent:h:x  PGPU 1",
        f"    takes the place of {GPU.uuid}, of the same name",
    ]


def test_what_goes_is_emptied_or_closed() -> None:
    assert lines(Change(Action.RETIRE, GPU, replace(GPU, inventories={})), NAMES) == [
        "- devagent:h:x  emptied and kept",
        "    PGPU 1 -> none",
    ]
    closed = replace(GPU, inventories={"PGPU": Inventory(1, reserved=1)})
    assert lines(Change(Action.RETIRE, GPU, closed), NAMES)[0] == (
        "- devagent:h:x  in use, closed to new consumers: PGPU 1 (1 reserved)"
    )
