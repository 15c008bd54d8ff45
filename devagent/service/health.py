# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent says of its devices' health: the document of `devagent health`, made from the facts."""

from __future__ import annotations

from typing import Any, Final

from devagent.inventory.build import device_uuid, root_uuid
from devagent.model.device import Device
from devagent.model.health import Condition, Override
from devagent.service.facts import Facts, Seen
from devagent.service.status import since, when

SCHEMA_VERSION: Final = 1


def health(facts: Facts) -> dict[str, Any]:
    """Gives every device with what is known of how it is."""
    seen = facts.seen
    if seen is None:
        return {"schema_version": SCHEMA_VERSION, "devices": []}
    root = facts.reported.root or root_uuid(seen.view.found.host, seen.view.hostname)
    return {"schema_version": SCHEMA_VERSION, "devices": [_device(each, seen, root) for each in seen.devices]}


def _device(device: Device, seen: Seen, root: str) -> dict[str, Any]:
    known = seen.book.get(device.key, Condition(since=seen.at))
    return {
        "id": device_uuid(root, device),
        "address": device.address,
        "kind": device.claim.kind,
        "model": f"{device.claim.vendor} {device.claim.model}",
        "state": device.health.state,
        "reasons": list(device.health.reasons),
        "since": when(since(known)),
        "clean_checks": known.clean,
        "flaps": len(known.flaps),
        "evidence": [{"at": when(each.at), "text": str(each)} for each in known.evidence],
        "override": _override(known.override) if known.override else None,
    }


def _override(said: Override) -> dict[str, Any]:
    return {"state": said.state, "reason": said.reason, "by": said.by, "until": when(said.until)}
