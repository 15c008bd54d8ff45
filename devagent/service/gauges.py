# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How things stand now, as Prometheus is told: the status and health documents, and the journal of preparations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric

from devagent.model.preparation import Overview, State

STATES: Final = ("starting", "configuring", "running", "degraded", "stopping")
REPORT_STATES: Final = ("current", "waiting", "failed", "never")

Samples = Mapping[tuple[str, ...], float | None]
"""Values by those of the labels; None is unknown and left out."""


def gauges(status: Mapping[str, Any], health: Mapping[str, Any], overview: Overview | None) -> Iterator[Metric]:
    """Gives everything; without `overview` the journal is not open."""
    yield from _agent(status)
    yield from _work(status)
    yield from _findings(status)
    yield from _devices(status, health)
    yield from _preparations(overview)


def _agent(status: Mapping[str, Any]) -> Iterator[Metric]:
    loops, processes = status["loops"], status["processes"]
    yield _gauge("info", "The agent's version.", {(status["version"],): 1}, "version")
    yield _gauge("state", "1 for the agent's state, 0 for the others.", _one_of(STATES, status["state"]), "state")
    yield _gauge("start_timestamp_seconds", "When the agent started.", {(): _epoch(status["started"])})
    text = "1 while the loop makes progress and succeeds."
    yield _gauge("loop_up", text, {(each["name"],): each["state"] == "ok" for each in loops}, "loop")
    beats: Samples = {(each["name"],): _epoch(each["beat"]) for each in loops}
    yield _gauge("loop_beat_timestamp_seconds", "When the loop last made progress.", beats, "loop")
    memory: dict[tuple[str, ...], float | None] = {}
    for each in processes:
        memory[each["name"],] = (memory.get((each["name"],)) or 0) + each["rss_kib"] * 1024
    yield _gauge("process_resident_memory_bytes", "Resident memory of the agent's processes.", memory, "process")


def _work(status: Mapping[str, Any]) -> Iterator[Metric]:
    scan, report, configuration = status["scan"], status["report"], status["configuration"]
    yield _gauge("scan_timestamp_seconds", "When the last look at the host ended.", {(): _epoch(scan["at"])})
    yield _gauge("devices", "Devices of the host.", {(): scan["devices"]})
    yield _gauge("devices_given", "Devices that are given to virtual machines.", {(): scan["given"]})
    yield _gauge("scan_problems", "What the last look could not read, by source.", _counted(scan["problems"]), "source")
    text = "1 for how Placement stands, 0 for the others."
    yield _gauge("report_state", text, _one_of(REPORT_STATES, report["state"]), "state")
    yield _gauge("report_timestamp_seconds", "When Placement was last up to date.", {(): _epoch(report["at"])})
    text = "When the configuration in force was loaded."
    yield _gauge("configuration_loaded_timestamp_seconds", text, {(): _epoch(configuration["loaded"])})
    text = "1 if the configuration or policy on disk is wrong and an earlier one is in force."
    yield _gauge("configuration_error", text, {(): configuration["error"] is not None})


def _findings(status: Mapping[str, Any]) -> Iterator[Metric]:
    text = "Providers that are not in Placement as they should be."
    yield _gauge("differs", text, {(): len(status["differs"])})
    text = "What the policy wants of a device and cannot be had."
    yield _gauge("refused", text, {(): len(status["refused"])})
    text = "Where allocations in Placement and this host do not fit."
    yield _gauge("unexplained", text, {(): len(status["unexplained"])})
    text = "Steps that hang in the kernel."
    yield _gauge("stuck", text, {(): len(status["stuck"])})


def _devices(status: Mapping[str, Any], health: Mapping[str, Any]) -> Iterator[Metric]:
    devices, labels = health["devices"], ("address", "kind", "model", "state")
    text = "1 for each device, with its health as a label."
    known: Samples = {tuple(str(each[label]) for label in labels): 1 for each in devices}
    yield _gauge("device_health", text, known, *labels)
    text = "When the device's health became what it is."
    since: Samples = {(each["address"],): _epoch(each["since"]) for each in devices}
    yield _gauge("device_health_since_timestamp_seconds", text, since, "address")
    text = "How often the device went bad, got well and went bad again of late."
    yield _gauge("device_flaps", text, {(each["address"],): each["flaps"] for each in devices}, "address")
    text = "1 where an operator's word stands above what the monitors say."
    overridden: Samples = {(each["address"],): each["override"] is not None for each in devices}
    yield _gauge("device_overridden", text, overridden, "address")
    text = "1 for each device that is closed to new virtual machines because of its health."
    yield _gauge("device_fenced", text, {(each["address"],): 1 for each in status["fenced"]}, "address")


def _preparations(overview: Overview | None) -> Iterator[Metric]:
    yield _gauge("journal_open", "1 while the journal of preparations can be used.", {(): overview is not None})
    known = overview or Overview()
    text = "0 after a damaged journal was set aside, until an operator says otherwise."
    yield _gauge("journal_trusted", text, {(): known.mistrusted_since is None if overview else None})
    text = "Since when the journal is not trusted."
    yield _gauge("journal_mistrusted_timestamp_seconds", text, {(): known.mistrusted_since})
    text = "Preparations by their state."
    counts: Samples = {(state.value,): known.states.get(state, 0) if overview else None for state in State}
    yield _gauge("preparations", text, counts, "state")
    text = "Devices that nobody gets since something of an earlier consumer hangs or could not be undone."
    yield _gauge("preparations_stuck", text, {(): known.stuck if overview else None})
    text = "When the oldest release that has not ended began."
    yield _gauge("release_oldest_timestamp_seconds", text, {(): known.releasing_since})


def _gauge(name: str, text: str, samples: Samples, *labels: str) -> Metric:
    metric = GaugeMetricFamily(f"devagent_{name}", text, labels=labels)
    for values, value in sorted(samples.items()):
        if value is not None:
            metric.add_metric(values, float(value))
    return metric


def _one_of(states: Iterable[str], now: str) -> Samples:
    return {(state,): state == now for state in states}


def _counted(problems: Iterable[Mapping[str, Any]]) -> Samples:
    sources = [problem["source"] for problem in problems]
    return {(source,): sources.count(source) for source in sources}


def _epoch(time: str | None) -> float | None:
    """Reads a time of the documents; unknown stays unknown."""
    return None if time is None else datetime.fromisoformat(time).timestamp()
