# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told: what the agent counted, and what its status and health documents say now.

The registry is our own, without the library's collectors of the process and the platform. Labels are
bounded by the code and by the devices of this host: one series per device, none per VF, consumer or path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

STATES: Final = ("starting", "configuring", "running", "degraded", "stopping")
REPORT_STATES: Final = ("current", "waiting", "failed", "never")
LOOKS: Final = ("full", "partial")
OUTCOMES: Final = ("ok", "failed")
REPORTS: Final = ("ok", "partial", "failed")

_LOOK_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_REPORT_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_MOST_XIDS: Final = 1000
_CREATED: Final = "_created"

Samples = Mapping[tuple[str, ...], float | None]
"""Values by those of the labels; None is unknown and left out."""


class Metrics:
    """Counts what the agent does; any thread may call any method."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._looks = self._counter("looks", "Looks at the host.", "kind", "outcome")
        self._look_s = self._seconds("look_seconds", "How long looks at the host took.", _LOOK_S, "kind")
        self._uevents = self._counter("uevents", "Events of the kernel about devices.")
        self._lost = self._counter("uevents_lost", "Times that events were lost, or could be about any device.")
        self._reports = self._counter("reports", "Cycles of reporting to Placement.", "outcome")
        self._report_s = self._seconds("report_seconds", "How long cycles of reporting took.", _REPORT_S)
        self._requests = self._counter("placement_requests", "Requests sent to Placement.")
        self._xids = self._counter("xids", "XIDs that NVIDIA's driver wrote to the kernel's log.", "xid")
        self._verbs = self._counter("verbs", "Changes made to the machine.", "verb", "outcome")
        self._calls = self._counter("api_requests", "Requests to the API.", "operation", "status")
        self._reloads = self._counter("reloads", "Reloads of configuration and policy.", "outcome")
        self._begin()

    def looked(self, kind: str, seconds: float, ok: bool) -> None:
        """Counts a look; `kind` is `full` or `partial`."""
        self._looks.labels(kind, _outcome(ok)).inc()
        self._look_s.labels(kind).observe(seconds)

    def heard(self, events: int, lost: bool) -> None:
        """Counts events of the kernel; `lost`: there may have been more, so everything is looked at."""
        self._uevents.inc(events)
        if lost:
            self._lost.inc()

    def reported(self, outcome: str, seconds: float, requests: int) -> None:
        """Counts a cycle of reporting and its requests; `outcome` is `ok`, `partial` or `failed`."""
        self._reports.labels(outcome).inc()
        self._report_s.observe(seconds)
        self.asked(requests)

    def asked(self, requests: int) -> None:
        """Counts further requests to Placement."""
        self._requests.inc(requests)

    def xid(self, number: int) -> None:
        """Counts an XID; a number that no driver has is `other`."""
        self._xids.labels(str(number) if 0 < number < _MOST_XIDS else "other").inc()

    def verb(self, verb: str, outcome: str) -> None:
        """Counts a change to the machine; `outcome` is `ok`, `failed` or `stuck`."""
        self._verbs.labels(verb, outcome).inc()

    def called(self, operation: str, status: int) -> None:
        """Counts a request to the API by the name of its operation, which must not be a path, and its HTTP status."""
        self._calls.labels(operation, str(status)).inc()

    def reloaded(self, ok: bool) -> None:
        """Counts a reload."""
        self._reloads.labels(_outcome(ok)).inc()

    def render(self, status: Mapping[str, Any], health: Mapping[str, Any]) -> bytes:
        """Gives everything in Prometheus' text form (version 0.0.4), with what the two documents say now."""
        return generate_latest(_Page(self._registry, status, health))

    def _begin(self) -> None:
        """Lets what an alert waits for be there as 0: a series that is born as 1 has not increased."""
        for outcome in OUTCOMES:
            self._reloads.labels(outcome)
            for kind in LOOKS:
                self._looks.labels(kind, outcome)
        for outcome in REPORTS:
            self._reports.labels(outcome)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"devagent_{name}", text, labels, registry=self._registry)

    def _seconds(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"devagent_{name}", text, labels, buckets=buckets, registry=self._registry)


class _Page(Collector):
    """One answer: what was counted, less the library's doubles of each series, and the documents as gauges."""

    def __init__(self, registry: CollectorRegistry, status: Mapping[str, Any], health: Mapping[str, Any]) -> None:
        self._registry, self._status, self._health = registry, status, health

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith(_CREATED)]
            yield metric
        yield from _agent(self._status)
        yield from _work(self._status)
        yield from _findings(self._status)
        yield from _devices(self._status, self._health)


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


def _outcome(ok: bool) -> str:
    return "ok" if ok else "failed"
