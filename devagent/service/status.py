# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent says of itself: the document of `devagent status`, made from the facts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import devagent
from devagent.model.device import Device
from devagent.model.health import Condition
from devagent.model.pci import is_address
from devagent.service.beats import Pulse
from devagent.service.facts import Facts, Reported, Seen
from devagent.sources.abandoned import Stuck

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Self:
    """What the agent knows of itself: `started` and `loaded` in epoch seconds, its processes by name."""

    host: str
    started: float
    stopping: bool
    files: tuple[str, ...]
    policy: str
    loaded: float
    error: str | None
    processes: Mapping[str, int]
    hung: Iterable[tuple[str | None, str, float]] = ()


def status(facts: Facts, pulses: Iterable[Pulse], own: Self) -> dict[str, Any]:
    """Gives the document of `devagent status`."""
    seen, reported, pulses = facts.seen, facts.reported, tuple(pulses)
    reasons = list(_reasons(facts, pulses, own))
    return {
        "schema_version": SCHEMA_VERSION,
        "host": reported.root_name or own.host,
        "version": devagent.__version__,
        "pid": os.getpid(),
        "started": when(own.started),
        "state": _state(facts, reasons, own),
        "reasons": reasons,
        "loops": [_loop(pulse) for pulse in pulses],
        "scan": _scan(seen),
        "report": _report(reported),
        "differs": [{"provider": name, "what": what} for name, what in reported.differs],
        "fenced": [_fenced(each, seen) for each in seen.devices if each.health.state.is_fenced] if seen else [],
        "refused": [asdict(each) for each in (*(seen.refused if seen else ()), *facts.owed())],
        "unexplained": [{"address": address, "what": what} for address, what in facts.unexplained],
        "stuck": [
            *(_hung(address, what, since) for address, what, since in own.hung),
            *(_hanging(each) for each in (seen.view.found.stuck if seen else ())),
        ],
        "configuration": {
            "files": list(own.files),
            "loaded": when(own.loaded),
            "policy": own.policy,
            "error": own.error,
        },
        "processes": [
            {"name": name, "pid": pid, "rss_kib": kib} for name, pid in own.processes.items() if (kib := _rss(pid))
        ],
    }


def when(seconds: float | None) -> str | None:
    """Writes a time as the documents have it."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def since(known: Condition) -> float:
    """Gives since when the state that counts has been so: for an operator's word since it was said."""
    said = [each.at for each in known.evidence if each.subject == "override"]
    return said[-1] if known.override is not None and said else known.since


def _state(facts: Facts, reasons: list[str], own: Self) -> str:
    if own.stopping:
        return "stopping"
    if facts.seen is None:
        return "degraded" if facts.look_error else "starting"
    if facts.seen.configuring and facts.reported.state == "never":
        return "configuring"
    if facts.reported.state == "never" and facts.reported.error is None:
        return "starting"
    return "degraded" if reasons else "running"


def _reasons(facts: Facts, pulses: tuple[Pulse, ...], own: Self) -> Iterable[str]:
    """Says what keeps the agent from doing its work; devices that are not well are not its fault."""
    if facts.look_error is not None:
        yield f"the host cannot be looked at: {facts.look_error}"
    if facts.reported.state in ("waiting", "failed") and facts.reported.error is not None:
        yield f"Placement is not up to date: {facts.reported.error}"
    if facts.state_error is not None:
        yield facts.state_error
    if own.error is not None:
        yield f"the configuration in force is older than the file: {own.error}"
    yield from (f"the {pulse.name} loop makes no progress" for pulse in pulses if pulse.late)
    known = (facts.look_error, facts.reported.error)
    yield from (
        f"the {pulse.name} loop fails: {pulse.detail}"
        for pulse in pulses
        if pulse.failed and not pulse.late and pulse.detail not in known
    )


def _loop(pulse: Pulse) -> dict[str, Any]:
    return {
        "name": pulse.name,
        "state": "late" if pulse.late else "failed" if pulse.failed else "ok",
        "beat": when(pulse.at),
        "detail": pulse.detail,
    }


def _scan(seen: Seen | None) -> dict[str, Any]:
    if seen is None:
        return {"at": None, "kind": None, "took_ms": None, "devices": 0, "given": 0, "problems": []}
    return {
        "at": when(seen.at),
        "kind": "full" if seen.full else "partial",
        "took_ms": round(seen.took * 1000),
        "devices": len(seen.devices),
        "given": sum(device.decision.managed for device in seen.devices),
        "problems": [asdict(problem) for problem in seen.view.found.problems],
    }


def _report(reported: Reported) -> dict[str, Any]:
    return {
        "at": when(reported.at),
        "state": reported.state,
        "changes": reported.changes,
        "requests": reported.requests,
        "error": reported.error,
        "retry_at": when(reported.retry_at),
    }


def _hung(address: str | None, what: str, since: float) -> dict[str, Any]:
    return {"address": address, "what": what.removeprefix(f"{address}: "), "since": when(since)}


def _hanging(stuck: Stuck) -> dict[str, Any]:
    """Says of which device the look has left a question behind that the kernel does not answer."""
    address = stuck.subject if is_address(stuck.subject) else None
    about = f" about {stuck.subject}" if stuck.subject and address is None else ""
    what = f"the {stuck.look} look{about} hangs in the kernel (pid {stuck.pid}); that is not asked again until it ends"
    return {"address": address, "what": what, "since": when(stuck.since)}


def _fenced(device: Device, seen: Seen) -> dict[str, Any]:
    known = seen.book.get(device.key)
    return {
        "address": device.address,
        "model": f"{device.claim.vendor} {device.claim.model}",
        "state": device.health.state,
        "reasons": list(device.health.reasons),
        "since": when(since(known) if known else seen.at),
        "override": bool(known and known.override),
    }


def _rss(pid: int) -> int:
    """Gives the resident memory of a process in KiB; 0 if it is not there any more."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGESIZE") // 1024
