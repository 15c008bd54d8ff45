# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Prometheus gets: valid text, bounded labels, documented names, and alerts that can fire."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Final

import prometheus_client
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from devagent.model.preparation import Overview, State
from devagent.service.metrics import Metrics

REPOSITORY: Final = Path(__file__).parents[3]
DOCUMENT: Final = REPOSITORY / "docs" / "metrics.md"
RULES: Final = REPOSITORY / "etc" / "prometheus" / "devagent.rules.yaml"
DASHBOARD: Final = REPOSITORY / "etc" / "grafana" / "devagent.json"
NOON, NOON_S = "2026-11-21T12:00:00Z", 1795262400.0

GPU: Final = {
    "id": "5e1f0000-0000-4000-8000-000000000001",
    "address": "0000:3b:00.0",
    "kind": "gpu",
    "model": "NVIDIA A100 PCIe 40GB",
    "state": "unhealthy",
    "reasons": ["XID 79"],
    "since": NOON,
    "clean_checks": 1,
    "flaps": 2,
    "evidence": [{"at": NOON, "text": "XID 79"}],
    "override": {"state": "unhealthy", "reason": "RMA", "by": "root", "until": None},
}
NIC: Final = {**GPU, "address": "0000:3c:00.0", "kind": "nic", "model": "NIC", "state": "healthy", "override": None}
NIC["flaps"] = 0

HEALTH: Final = {"schema_version": 1, "devices": [GPU, NIC]}
STATUS: Final = {
    "schema_version": 1,
    "host": "h1",
    "version": "0.2.0",
    "pid": 4711,
    "started": NOON,
    "state": "degraded",
    "reasons": ["Placement cannot be reached"],
    "loops": [
        {"name": "look", "state": "ok", "beat": NOON, "detail": None},
        {"name": "report", "state": "failed", "beat": NOON, "detail": "refused"},
        {"name": "udev", "state": "late", "beat": None, "detail": None},
    ],
    "scan": {
        "at": NOON,
        "kind": "full",
        "took_ms": 41,
        "devices": 2,
        "given": 1,
        "problems": [
            {"source": "nvml", "device": None, "problem": "a"},
            {"source": "nvml", "device": "0000:3b:00.0", "problem": "b"},
            {"source": "sysfs", "device": None, "problem": "c"},
        ],
    },
    "report": {"at": NOON, "state": "failed", "changes": 0, "requests": 1, "error": "refused", "retry_at": NOON},
    "differs": [{"provider": "devagent:h1:0000:3b:00.0", "what": "in use"}],
    "fenced": [{"address": "0000:3b:00.0", "model": "A100", "state": "unhealthy", "reasons": [], "since": NOON}],
    "refused": [],
    "unexplained": [{"address": "0000:3b:00.0", "what": "x"}, {"address": "0000:3c:00.0", "what": "y"}],
    "stuck": [{"address": None, "what": "x", "since": NOON}],
    "configuration": {"files": [], "loaded": NOON, "policy": "built in", "error": "devices.yaml:3: no"},
    "processes": [{"name": "agent", "pid": 1, "rss_kib": 100}, {"name": "verb", "pid": 2, "rss_kib": 10}],
}
STARTING: Final = {
    **STATUS,
    "state": "starting",
    "loops": [],
    "scan": {"at": None, "kind": None, "took_ms": None, "devices": 0, "given": 0, "problems": []},
    "report": {"at": None, "state": "never", "changes": None, "requests": None, "error": None, "retry_at": None},
    "fenced": [],
    "processes": [],
}

OVERVIEW: Final = Overview({State.PREPARED: 3, State.RELEASING: 1}, stuck=1, releasing_since=5.0, mistrusted_since=7.0)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def busy() -> Metrics:
    """Gives metrics of an agent that did everything once."""
    metrics = Metrics()
    metrics.looked("full", 0.04, ok=True)
    metrics.heard(3, lost=True)
    metrics.reported("ok", 0.02, 5)
    metrics.asked(2)
    metrics.xid(79)
    metrics.verb("set_vf_count", "ok")
    metrics.called("show_status", 200)
    metrics.reloaded(ok=True)
    metrics.prepared("prepared", 0.2, {"looking": 0.05, "doing": 0.1})
    metrics.released("released")
    return metrics


def text(metrics: Metrics, status: Any = STATUS, health: Any = HEALTH, overview: Overview | None = OVERVIEW) -> str:
    return metrics.render(status, health, overview).decode()


def samples(
    metrics: Metrics, status: Any = STATUS, health: Any = HEALTH, overview: Overview | None = OVERVIEW
) -> Samples:
    """Reads the text as Prometheus does; two samples of one series would be refused by it."""
    found: Samples = {}
    for family in text_string_to_metric_families(text(metrics, status, health, overview)):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((f"devagent_{name}", tuple(sorted(labels.items()))))


def series(found: Samples, name: str) -> list[dict[str, str]]:
    return [dict(labels) for full, labels in found if full == f"devagent_{name}"]


def test_everything_that_was_counted_is_there() -> None:
    found = samples(busy())
    assert value(found, "looks_total", kind="full", outcome="ok") == 1
    assert value(found, "look_seconds_count", kind="full") == 1
    assert value(found, "look_seconds_sum", kind="full") == pytest.approx(0.04)
    assert value(found, "look_seconds_bucket", kind="full", le="0.05") == 1
    assert value(found, "look_seconds_bucket", kind="full", le="0.025") == 0
    assert value(found, "uevents_total") == 3
    assert value(found, "uevents_lost_total") == 1
    assert value(found, "reports_total", outcome="ok") == 1
    assert value(found, "report_seconds_count") == 1
    assert value(found, "placement_requests_total") == 7
    assert value(found, "xids_total", xid="79") == 1
    assert value(found, "verbs_total", verb="set_vf_count", outcome="ok") == 1
    assert value(found, "api_requests_total", operation="show_status", status="200") == 1
    assert value(found, "reloads_total", outcome="ok") == 1
    assert value(found, "prepares_total", outcome="prepared") == 1
    assert value(found, "prepare_seconds_count") == 1
    assert value(found, "prepare_seconds_bucket", le="0.25") == 1
    assert value(found, "prepare_phase_seconds_total", phase="doing") == pytest.approx(0.1)
    assert value(found, "releases_total", outcome="released") == 1


@pytest.mark.parametrize("outcome", ["repeated", "retry", "permanent", "invalid", "failed"])
def test_what_was_not_prepared_is_counted_and_not_timed(outcome: str) -> None:
    metrics = Metrics()
    metrics.prepared(outcome, 60.0, {"looking": 60.0})
    found = samples(metrics)
    assert value(found, "prepares_total", outcome=outcome) == 1
    assert value(found, "prepare_seconds_count") == 0
    assert series(found, "prepare_phase_seconds_total") == []


def test_the_journal_is_told() -> None:
    found = samples(Metrics())
    states = {labels["state"]: value(found, "preparations", **labels) for labels in series(found, "preparations")}
    assert states == {"preparing": 0, "prepared": 3, "releasing": 1, "failed": 0}
    assert (value(found, "preparations_stuck"), value(found, "release_oldest_timestamp_seconds")) == (1, 5)
    assert (value(found, "journal_open"), value(found, "journal_trusted")) == (1, 0)
    assert value(found, "journal_mistrusted_timestamp_seconds") == 7
    well = samples(Metrics(), overview=Overview())
    assert value(well, "journal_trusted") == 1
    assert value(well, "release_oldest_timestamp_seconds") is None


def test_without_a_journal_nothing_is_said_of_what_is_in_it() -> None:
    found = samples(Metrics(), overview=None)
    assert value(found, "journal_open") == 0
    assert [name for name, _ in found if name.startswith(("devagent_preparations", "devagent_journal_t"))] == []


def test_failures_are_counted_apart() -> None:
    metrics = busy()
    metrics.looked("full", 60.0, ok=False)
    metrics.reloaded(ok=False)
    metrics.heard(2, lost=False)
    found = samples(metrics)
    assert value(found, "looks_total", kind="full", outcome="failed") == 1
    assert value(found, "reloads_total", outcome="failed") == 1
    assert (value(found, "uevents_total"), value(found, "uevents_lost_total")) == (5, 1)


def test_what_alerts_wait_for_is_there_before_it_happens() -> None:
    found = samples(Metrics())
    assert value(found, "looks_total", kind="partial", outcome="failed") == 0
    assert value(found, "reports_total", outcome="failed") == 0
    assert value(found, "reloads_total", outcome="failed") == 0
    assert value(found, "prepares_total", outcome="permanent") == 0
    assert value(found, "releases_total", outcome="retry") == 0


def test_the_status_is_told() -> None:
    found = samples(Metrics())
    assert value(found, "info", version="0.2.0") == 1
    states = {labels["state"]: value(found, "state", **labels) for labels in series(found, "state")}
    assert states == {"starting": 0, "configuring": 0, "running": 0, "degraded": 1, "stopping": 0}
    assert [value(found, "loop_up", loop=name) for name in ("look", "report", "udev")] == [1, 0, 0]
    assert value(found, "loop_beat_timestamp_seconds", loop="look") == NOON_S
    assert value(found, "scan_timestamp_seconds") == NOON_S
    assert (value(found, "devices"), value(found, "devices_given")) == (2, 1)
    assert [value(found, "scan_problems", source=name) for name in ("nvml", "sysfs")] == [2, 1]
    assert [value(found, "report_state", state=name) for name in ("failed", "current")] == [1, 0]
    assert value(found, "configuration_error") == 1
    found_counts = [value(found, name) for name in ("differs", "refused", "unexplained", "stuck")]
    assert found_counts == [1, 0, 2, 1]
    assert value(found, "process_resident_memory_bytes", process="agent") == 100 * 1024


def test_processes_of_one_name_are_added_up() -> None:
    again = {**STATUS, "processes": [*STATUS["processes"], {"name": "verb", "pid": 3, "rss_kib": 5}]}  # type: ignore[misc]
    assert value(samples(Metrics(), again), "process_resident_memory_bytes", process="verb") == 15 * 1024


def test_the_health_of_each_device_is_one_series() -> None:
    found = samples(Metrics())
    assert sorted(series(found, "device_health"), key=lambda each: each["address"]) == [
        {"address": "0000:3b:00.0", "kind": "gpu", "model": "NVIDIA A100 PCIe 40GB", "state": "unhealthy"},
        {"address": "0000:3c:00.0", "kind": "nic", "model": "NIC", "state": "healthy"},
    ]
    for name, gpu, nic in [("flaps", 2, 0), ("overridden", 1, 0), ("fenced", 1, None)]:
        both = [value(found, f"device_{name}", address=address) for address in ("0000:3b:00.0", "0000:3c:00.0")]
        assert both == [gpu, nic], name


def test_a_device_that_gets_well_or_leaves_has_no_series_left() -> None:
    metrics = Metrics()
    samples(metrics)
    well = samples(metrics, STATUS, {**HEALTH, "devices": [{**GPU, "state": "healthy"}]})
    assert [labels["state"] for labels in series(well, "device_health")] == ["healthy"]
    assert series(samples(metrics, STATUS, {**HEALTH, "devices": []}), "device_health") == []


def test_what_is_unknown_has_no_series() -> None:
    found = samples(Metrics(), STARTING, {"schema_version": 1, "devices": []})
    assert value(found, "scan_timestamp_seconds") is None
    assert value(found, "report_timestamp_seconds") is None
    assert value(samples(Metrics()), "loop_beat_timestamp_seconds", loop="udev") is None
    assert value(found, "devices") == 0


def test_hostile_names_stay_in_their_quotes() -> None:
    evil = 'x"} 1\ndevagent_state{state="running\\'
    [labels] = series(samples(Metrics(), STATUS, {**HEALTH, "devices": [{**GPU, "model": evil}]}), "device_health")
    assert labels["model"] == evil


def test_numbers_from_a_damaged_log_make_one_series() -> None:
    metrics = Metrics()
    for number in (0, -1, 1000, 10**9):
        metrics.xid(number)
    assert series(samples(metrics), "xids_total") == [{"xid": "other"}]


def test_series_do_not_grow_with_use() -> None:
    metrics = busy()
    before = samples(metrics).keys()
    for number in range(100):
        metrics.looked("full", number, ok=True)
        metrics.reported("ok", number, number)
        metrics.heard(number, lost=False)
    assert samples(metrics).keys() == before


def test_two_agents_in_one_process_share_nothing() -> None:
    busy()
    assert value(samples(Metrics()), "uevents_total") == 0
    assert "devagent" not in prometheus_client.generate_latest(prometheus_client.REGISTRY).decode()


def test_nothing_but_our_own_is_told() -> None:
    assert {name.partition("_")[0] for name, _ in samples(busy())} == {"devagent"}
    assert "_created" not in text(busy())


def test_threads_lose_no_count() -> None:
    metrics = Metrics()

    def work() -> None:
        for _ in range(500):
            metrics.heard(1, lost=False)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(samples(metrics), "uevents_total") == 4000


def test_the_documents_are_left_as_they_are() -> None:
    status, health = copy.deepcopy(STATUS), copy.deepcopy(HEALTH)
    text(Metrics(), status, health)
    assert (status, health) == (STATUS, HEALTH)


def kinds() -> dict[str, str]:
    """Gives the type of each metric by the name that its help line has."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text(busy()), re.MULTILINE))


def test_names_follow_the_conventions() -> None:
    for name, kind in kinds().items():
        assert re.fullmatch(r"devagent_[a-z_]+", name)
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name


def documented() -> dict[str, tuple[str, set[str]]]:
    """Gives type and labels of each metric in the tables."""
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `devagent_")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    found = {name.strip("`"): (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}
    assert len(found) == len(rows)
    return found


def test_the_tables_have_each_metric_with_its_type_and_nothing_else() -> None:
    assert {name: kind for name, (kind, _) in documented().items()} == kinds()


def labels_of(name: str) -> set[str]:
    """Gives the labels of a metric, less the `le` of a histogram's buckets."""
    found = samples(busy())
    names = {name, f"{name}_bucket"}
    return {label for full, labels in found if full in names for label, _ in labels} - {"le"}


def test_the_tables_have_each_label() -> None:
    assert {name: labels for name, (_, labels) in documented().items()} == {name: labels_of(name) for name in kinds()}


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    assert group.keys() == {"name", "rules"}
    return list(group["rules"])


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_is_well_formed_and_names_what_exists(rule: dict[str, Any]) -> None:
    assert (
        {"alert", "expr", "labels", "annotations"} <= rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    )
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert re.fullmatch(r"[0-9]+[smh]", rule.get("for", "0s"))
    expression = rule["expr"]
    assert all(expression.count(left) == expression.count(right) for left, right in ("()", "[]", "{}"))
    for name, selectors in re.findall(r"(devagent_\w+)(?:\{([^}]*)\})?", expression):
        assert name in kinds(), name
        assert set(re.findall(r"(\w+)\s*=~?", selectors)) <= labels_of(name), name


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_speaks_only_of_labels_that_its_series_has(rule: dict[str, Any]) -> None:
    names = re.findall(r"devagent_\w+", rule["expr"])
    known = {"instance", "job"}.union(*map(labels_of, names))
    for words in rule["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", words)) <= known


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_state_that_an_alert_waits_for_is_one_that_there_is(rule: dict[str, Any]) -> None:
    known = {"starting", "configuring", "running", "degraded", "stopping", "current", "waiting", "failed", "never"}
    known |= {state.value for state in State} | {"healthy", "suspect", "unhealthy", "lost", "unmonitored"}
    for states in re.findall(r'state=~?"([^"]*)"', rule["expr"]):
        assert set(states.split("|")) <= known


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> list[tuple[str, str]]:
    """Gives expression and legend of each curve."""
    return [(target["expr"], target["legendFormat"]) for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize(("expression", "legend"), targets())
def test_a_curve_names_metrics_and_labels_that_there_are(expression: str, legend: str) -> None:
    assert all(expression.count(left) == expression.count(right) for left, right in ("()", "[]", "{}"))
    outside = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", expression)
    names = re.findall(r"devagent_\w+", outside)
    labels = {"instance"}.union(*map(labels_of_sample, names))
    for selectors in re.findall(r"\{([^}]*)\}", expression):
        assert 'instance=~"$instance"' in selectors
        assert set(re.findall(r"(\w+)\s*=~?", selectors)) <= labels
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", outside) for label in group.split(", ")}
    assert grouped <= labels
    aggregated = re.match(r"(?:sum|count|max|histogram_quantile)\b", expression) is not None
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= (grouped - {"le"} if aggregated else labels)


def labels_of_sample(name: str) -> set[str]:
    """Gives the labels of a series by its full name, which may be that of a histogram's buckets."""
    found = {label for full, labels in samples(busy()) if full == name for label, _ in labels}
    assert name in {full for full, _ in samples(busy())} | set(kinds()), f"{name}: there is no such series"
    return found


def test_the_panels_stand_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & taken, panel["title"]
        taken |= own
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (apt-get install prometheus)")
def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    ran = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    shown = (expression.replace("$__rate_interval", "5m") for expression, _ in targets())
    recorded = [{"record": f"x:{number}", "expr": one} for number, one in enumerate(shown)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    ran = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
