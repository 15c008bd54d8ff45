# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is told: what the agent counted since it started, and beside it how things stand now (gauges.py).

The registry is our own, without the library's collectors of the process and the platform. Labels are
bounded by the code and by the devices of this host: one series per device, none per VF, consumer or path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from devagent.model.preparation import Overview, RefusalKind
from devagent.service.gauges import gauges

LOOKS: Final = ("full", "partial")
OUTCOMES: Final = ("ok", "failed")
REPORTS: Final = ("ok", "partial", "failed")
REFUSALS: Final = tuple(kind.value for kind in RefusalKind)
PREPARES: Final = ("prepared", "repeated", *REFUSALS, "failed")
RELEASES: Final = ("released", *REFUSALS, "failed")

_LOOK_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_REPORT_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_PREPARE_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240)
_MOST_XIDS: Final = 1000
_CREATED: Final = "_created"


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
        self._prepares = self._counter("prepares", "Requests to prepare devices for a consumer.", "outcome")
        self._prepare_s = self._seconds("prepare_seconds", "How long devices took to be ready.", _PREPARE_S)
        self._phases = self._counter("prepare_phase_seconds", "Seconds that preparing spent in each phase.", "phase")
        self._releases = self._counter("releases", "Tries to release the devices of a consumer.", "outcome")
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

    def prepared(self, outcome: str, seconds: float, phases: Mapping[str, float]) -> None:
        """Counts a request to prepare; the time counts if `outcome` is `prepared`, `phases` being seconds by phase."""
        self._prepares.labels(outcome).inc()
        if outcome == "prepared":
            self._prepare_s.observe(seconds)
            for phase, spent in phases.items():
                self._phases.labels(phase).inc(spent)

    def released(self, outcome: str) -> None:
        """Counts a try to release a consumer's devices."""
        self._releases.labels(outcome).inc()

    def render(self, status: Mapping[str, Any], health: Mapping[str, Any], overview: Overview | None) -> bytes:
        """Gives everything in Prometheus' text form (version 0.0.4), with how things stand now: see gauges."""
        return generate_latest(_Page(self._registry, gauges(status, health, overview)))

    def _begin(self) -> None:
        """Lets what an alert waits for be there as 0: a series that is born as 1 has not increased."""
        for outcome in OUTCOMES:
            self._reloads.labels(outcome)
            for kind in LOOKS:
                self._looks.labels(kind, outcome)
        for outcome in REPORTS:
            self._reports.labels(outcome)
        for outcome in PREPARES:
            self._prepares.labels(outcome)
        for outcome in RELEASES:
            self._releases.labels(outcome)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"devagent_{name}", text, labels, registry=self._registry)

    def _seconds(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"devagent_{name}", text, labels, buckets=buckets, registry=self._registry)


class _Page(Collector):
    """One answer: what was counted, less the library's doubles of each series, and the documents as gauges."""

    def __init__(self, registry: CollectorRegistry, gauges: Iterable[Metric]) -> None:
        self._registry, self._gauges = registry, gauges

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith(_CREATED)]
            yield metric
        yield from self._gauges


def _outcome(ok: bool) -> str:
    return "ok" if ok else "failed"
