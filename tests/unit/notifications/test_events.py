# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Nova's notifications mean, and that nothing that comes can do more than be refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.errors import NotificationError
from devagent.notifications.events import EVENTS, Event, Meaning, event

SERVER = "178b0921-8f85-4257-88b6-2e743b5a975c"


def payload(**data: Any) -> dict[str, Any]:
    """Gives a payload in the form that Nova's notification objects have."""
    return {
        "nova_object.name": "InstanceActionPayload",
        "nova_object.namespace": "nova",
        "nova_object.version": "1.9",
        "nova_object.data": {"uuid": SERVER, "host": "source", **data},
    }


def heard(kind: str, publisher: str = "nova-compute:cmp1", **data: Any) -> Event:
    found = event(publisher, kind, payload(**data))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "kind",
    [
        "instance.create.error",
        "instance.delete.end",
        "instance.shelve_offload.end",
        "instance.resize.error",
        "instance.resize_confirm.end",
        "instance.resize_revert.end",
        "instance.live_migration_post.end",
        "instance.live_migration_rollback.end",
        "instance.live_migration_rollback_dest.end",
        "instance.live_migration_abort.end",
        "instance.rebuild.error",
    ],
)
def test_what_may_free_a_device_is_looked_after(kind: str) -> None:
    assert heard(kind).meaning is Meaning.LOOK


@pytest.mark.parametrize(
    "kind",
    [
        "instance.create.start",
        "instance.create.end",
        "instance.delete.start",
        "instance.shutdown.end",
        "instance.soft_delete.end",
        "instance.shelve.end",
        "instance.resize.start",
        "instance.resize.end",
        "instance.resize_prep.end",
        "instance.resize_finish.end",
        "instance.resize_confirm.start",
        "instance.live_migration_pre.end",
        "instance.live_migration_post_dest.end",
        "instance.live_migration_force_complete.end",
        "instance.evacuate",
        "instance.rebuild.start",
        "instance.rebuild.end",
        "instance.rebuild_scheduled",
        "instance.power_off.end",
        "instance.something_new.error",
    ],
)
def test_what_frees_nothing_or_is_unknown_means_nothing(kind: str) -> None:
    assert heard(kind).meaning is Meaning.NOTHING


@pytest.mark.parametrize("kind", ["service.update", "scheduler.select_destinations.end", "aggregate.create.end", "x"])
def test_what_is_about_no_virtual_machine_is_none(kind: str) -> None:
    assert event("nova-compute:cmp1", kind, payload()) is None


def test_the_host_is_the_one_that_speaks_and_not_the_one_of_the_payload() -> None:
    assert heard("instance.live_migration_rollback_dest.end", "nova-compute:destination").host == "destination"
    assert heard("instance.create.error", host=None).host == "cmp1"


def test_for_a_host_that_is_down_the_api_speaks() -> None:
    assert heard("instance.delete.end", "nova-api:controller", host="cmp7").host == "cmp7"
    assert heard("instance.delete.end", "nova-api:controller", host=None).host is None


def test_a_build_that_failed_everywhere_is_told_by_the_conductor_which_names_no_host() -> None:
    found = event(
        "nova-conductor:c", "compute_task.build_instances.error", {"nova_object.data": {"instance_uuid": SERVER}}
    )
    assert found is not None
    assert (found.consumer, found.host, found.meaning) == (SERVER, None, Meaning.LOOK)


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        (None, payload()),
        ("instance delete", payload()),
        ("instance.delete.end", None),
        ("instance.delete.end", []),
        ("instance.delete.end", {"instance_id": SERVER}),
        ("instance.delete.end", {"nova_object.data": "x"}),
        ("instance.delete.end", payload(uuid=None)),
        ("instance.delete.end", payload(uuid="../../etc")),
        ("instance.delete.end", payload(uuid=[SERVER])),
        ("compute_task.build_instances.error", payload()),
    ],
)
def test_what_cannot_be_understood_is_refused_in_words(kind: object, broken: object) -> None:
    with pytest.raises(NotificationError):
        event("nova-compute:cmp1", kind, broken)


@pytest.mark.parametrize("publisher", [None, "", "nova-compute:", "nova-compute:a/b", "nova-compute:a b", 7])
def test_a_host_that_is_no_name_is_none(publisher: object) -> None:
    found = event(publisher, "instance.delete.end", payload(host=None))
    assert found is not None
    assert found.host is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["nova_object.data", "uuid", "host", "x"]), inner),
)


@given(anything, st.sampled_from(["instance.delete.end", "compute_task.x.error", "x"]) | anything, anything)
def test_whatever_comes_is_understood_or_refused(publisher: object, kind: object, broken: object) -> None:
    try:
        found = event(publisher, kind, broken)
    except NotificationError:
        return
    assert found is None or len(found.consumer) == 36


def test_every_row_counts_for_some_event() -> None:
    """A row behind one that takes all of its events would be a lie."""
    for number, row in enumerate(EVENTS):
        name = row.pattern.replace("*", "x")
        assert event("p", name, {"nova_object.data": {"uuid": SERVER, "instance_uuid": SERVER}}).row is row, number  # type: ignore[union-attr]
