# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""THE table: what each of Nova's versioned notifications means for what is prepared on a host. Pure.

    publisher_id   nova-compute:cmp1
    event_type     instance.create.error
    payload        {"nova_object.name": "InstanceCreatePayload", "nova_object.namespace": "nova",
                    "nova_object.version": "1.13", "nova_object.data": {"uuid": "178b0921-...", "host": null, ...}}

No notification says who holds which device, and any may be late, lost, doubled or out of order: each is a hint to
look at Placement and at the processes, never a proof. Names and publishers are those of Nova 34.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from devagent.errors import NotificationError

COMPUTE: Final = "nova-compute"

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")
_MINE: Final = re.compile(r"instance\..*|compute_task\..*")


class Meaning(enum.StrEnum):
    """What an agent does about an event."""

    LOOK = "look"  # whether the consumer still holds its devices; what nobody holds and nobody has open is released
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Row:
    """Events whose type fits `pattern` (as shell patterns do), what they mean, and why."""

    pattern: str
    meaning: Meaning
    why: str


EVENTS: Final = (
    Row("instance.create.error", Meaning.LOOK, "the build failed here; its allocation goes, or is on the next host"),
    Row("compute_task.build_instances.error", Meaning.LOOK, "the build failed on every host that was tried"),
    Row("compute_task.*.error", Meaning.LOOK, "a move ended before it began: what the destination had is given back"),
    Row("instance.delete.end", Meaning.LOOK, "the allocation is gone by then"),
    Row("instance.soft_delete.*", Meaning.NOTHING, "it may be restored, and holds its allocation until then"),
    Row("instance.shelve_offload.end", Meaning.LOOK, "its allocation is gone by then"),
    Row("instance.shelve.*", Meaning.NOTHING, "it holds its allocation until it is offloaded"),
    Row("instance.resize.error", Meaning.LOOK, "the allocation on the destination goes back"),
    Row("instance.resize_confirm.end", Meaning.LOOK, "the migration gives back what it held on the source"),
    Row("instance.resize_revert.end", Meaning.LOOK, "what it had on the destination goes back"),
    Row("instance.resize*", Meaning.NOTHING, "the migration holds the source, the instance the destination"),
    Row("instance.live_migration_post.end", Meaning.LOOK, "the migration gives back what it held on the source"),
    Row("instance.live_migration_rollback*.end", Meaning.LOOK, "what it had on the destination goes back"),
    Row("instance.live_migration_abort.end", Meaning.LOOK, "what it had on the destination goes back"),
    Row("instance.live_migration*", Meaning.NOTHING, "the migration holds the source, the instance the destination"),
    Row("instance.evacuate", Meaning.NOTHING, "the source is dead; it is looked for there when its agent is back"),
    Row("instance.rebuild.error", Meaning.LOOK, "an evacuation that failed leaves nothing on its destination"),
    Row("instance.rebuild*", Meaning.NOTHING, "it keeps its allocation, and with it its devices"),
)
"""The first that fits counts; what fits none means nothing."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a consumer, and on which host; None where the notification does not say.

    `host` is what Nova calls the host (`[DEFAULT] host` of nova-compute), `row` the one of EVENTS that it fits.
    """

    kind: str
    consumer: str
    host: str | None
    row: Row | None

    @property
    def meaning(self) -> Meaning:
        """What is to be done about it."""
        return self.row.meaning if self.row else Meaning.NOTHING


def event(publisher: object, kind: object, payload: object) -> Event | None:
    """Reads one notification; None for one that is about no virtual machine.

    Raises NotificationError for what should be about one, but does not say about which.
    """
    if not isinstance(kind, str) or not _NAME.fullmatch(kind):
        raise NotificationError(f"the event type {kind!r:.80} is none of Nova's")
    if not _MINE.fullmatch(kind):
        return None
    data = payload.get("nova_object.data") if isinstance(payload, Mapping) else None
    if not isinstance(data, Mapping):
        raise NotificationError(f"{kind}: is not versioned: set [notifications] notification_format in nova.conf")
    return Event(kind, _consumer(kind, data), _host(publisher, data), _row(kind))


def _consumer(kind: str, data: Mapping[str, Any]) -> str:
    named = data.get("instance_uuid" if kind.startswith("compute_task.") else "uuid")
    text = named.lower() if isinstance(named, str) else ""
    if not _UUID.fullmatch(text):
        raise NotificationError(f"{kind}: {named!r:.80} is no instance's UUID")
    return text


def _host(publisher: object, data: Mapping[str, Any]) -> str | None:
    """Gives the host that speaks.

    Of a failed build the payload names none, and of a migration on its destination the source. Only what the API
    tells in place of a host that is down is about the host of the payload.
    """
    service, _, name = publisher.partition(":") if isinstance(publisher, str) else ("", "", "")
    found = name if service == COMPUTE else data.get("host")
    return found if isinstance(found, str) and _HOST.fullmatch(found) else None


def _row(kind: str) -> Row | None:
    return next((row for row in EVENTS if fnmatchcase(kind, row.pattern)), None)
