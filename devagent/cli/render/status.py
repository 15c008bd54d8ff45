# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent status` for people: one line that says it all, then what is amiss, then how it goes, small."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from devagent.cli.render.printable import printable
from devagent.cli.render.times import since, until
from devagent.model.amount import amount

Document = Mapping[str, Any]
Section = tuple[str, list[str]]

_MOST: Final = 10
_STATES: Final = {
    "starting": "starting for {}",
    "configuring": "configuring devices, up for {}",
    "running": "running for {}",
    "degraded": "degraded, up for {}",
    "stopping": "stopping, was up for {}",
}


def render(document: Document, now: float) -> str:
    """Gives the lines; `now` is the epoch time from which it is seen."""
    lines = [_headline(document, now)]
    for heading, found in amiss(document, now):
        more = [f"... and {len(found) - _MOST} more: devagent status -o json"] if len(found) > _MOST else []
        lines += ["", heading, *(f"  {line}" for line in [*found[:_MOST], *more])]
    return "\n".join(map(printable, [*lines, "", *_footer(document, now)]))


def amiss(document: Document, now: float) -> list[Section]:
    """Gives all that is not as it should be, under headings; nothing if all is well."""
    sections = (
        ("Not as it should be:", _troubles(document, now)),
        ("Loops that are late or fail ({}):", _loops(document, now)),
        ("Given to nobody new, for their health ({}):", _fenced(document, now)),
        (
            "Otherwise in Placement than wanted ({}):",
            (f"{each['provider']}: {each['what']}" for each in document["differs"]),
        ),
        (
            "Asked for by the policy, and not done ({}):",
            (f"{each['address']}: {each['what']}: {each['why']}" for each in document["refused"]),
        ),
        (
            "In use or allocated, and nobody knows why ({}):",
            (f"{each['address']}: {each['what']}" for each in document["unexplained"]),
        ),
        (
            "Hanging in the kernel ({}); leave the device alone:",
            (
                f"{each['address'] or 'host'}: {each['what']}, for {since(each['since'], now)}"
                for each in document["stuck"]
            ),
        ),
        ("Problems ({}), everything else was read:", _problems(document["scan"])),
    )
    listed = ((heading, list(lines)) for heading, lines in sections)
    return [(heading.format(len(lines)), lines) for heading, lines in listed if lines]


def problem_lines(scan: Document) -> list[str]:
    """Gives what a look could not read, as lines with a heading; none if there is nothing."""
    lines = [f"  {line}" for line in _problems(scan)]
    return ["", f"Problems ({len(lines)}), everything else was read:", *map(printable, lines)] if lines else []


def _headline(document: Document, now: float) -> str:
    report = document["report"]
    placement = {
        "current": f"Placement current {since(report['at'], now)} ago",
        "waiting": "Placement waits for nova-compute",
        "failed": "Placement not current",
        "never": "nothing reported yet",
    }[report["state"]]
    state = _STATES[document["state"]].format(since(document["started"], now))
    scan = document["scan"]
    looked = f"{amount(scan['devices'], 'device')}, {scan['given']} given" if scan["at"] else "not looked yet"
    return " · ".join((document["host"], state, looked, placement))


def _troubles(document: Document, now: float) -> Iterator[str]:
    """Gives the agent's reasons, and the errors that none of them has in it already."""
    report, wrong = document["report"], document["configuration"]["error"]
    said = document["reasons"]
    yield from said
    if report["error"] and not _stands_in(report["error"], said):
        yield f"Placement: {report['error']}"
    if wrong and not _stands_in(wrong, said):
        yield f"the configuration was not reloaded: {wrong}"
    if report["state"] in ("failed", "waiting"):
        last = f"last report {since(report['at'], now)} ago" if report["at"] else "no report yet"
        again = f", next try in {until(report['retry_at'], now)}" if report["retry_at"] else ""
        yield f"Placement: {last}{again}"


def _stands_in(text: str, said: Iterable[str]) -> bool:
    return any(text in each for each in said)


def _loops(document: Document, now: float) -> Iterator[str]:
    for loop in document["loops"]:
        if loop["state"] != "ok":
            last = f"{since(loop['beat'], now)} ago" if loop["beat"] else "never"
            detail = f": {loop['detail']}" if loop["detail"] else ""
            yield f"{loop['name']}: {loop['state']}, last progress {last}{detail}"


def _fenced(document: Document, now: float) -> Iterator[str]:
    for each in document["fenced"]:
        reasons = f": {'; '.join(each['reasons'])}" if each["reasons"] else ""
        by = f" (an operator's word: devagent health show {each['address']})" if each["override"] else ""
        yield f"{each['address']}  {each['model']}  {each['state']} for {since(each['since'], now)}{reasons}{by}"


def _problems(scan: Document) -> Iterator[str]:
    for each in scan["problems"]:
        yield f"{each['device'] or 'host'}: {each['problem']} [{each['source']}]"


def _footer(document: Document, now: float) -> Iterator[str]:
    scan, configuration = document["scan"], document["configuration"]
    if scan["at"]:
        yield f"last look: {scan['kind']}, {since(scan['at'], now)} ago, took {scan['took_ms']} ms"
    well = [loop for loop in document["loops"] if loop["state"] == "ok" and loop["beat"]]
    if well:
        yield "last progress: " + ", ".join(f"{loop['name']} {since(loop['beat'], now)} ago" for loop in well)
    sizes = [f"{each['name']} {each['pid']} ({each['rss_kib'] / 1024:.0f} MiB)" for each in document["processes"]]
    yield f"processes: {', '.join(sizes) or 'unknown'}"
    files = ", ".join(configuration["files"]) or "none"
    loaded = since(configuration["loaded"], now)
    yield f"devagent {document['version']}, configuration {files}, policy {configuration['policy']}, read {loaded} ago"
