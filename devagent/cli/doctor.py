# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent doctor`: checks the host and the set-up, and says how to mend what is wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from devagent import registry
from devagent.cli import doctor_files, doctor_setup
from devagent.cli.exit_code import FAILED, PARTIAL
from devagent.cli.render.printable import printable
from devagent.discovery import Discovery, discover
from devagent.inventory.checkup import examine
from devagent.inventory.patient import Patient
from devagent.model.finding import Finding, Grade
from devagent.model.policy import Policy
from devagent.places import STATE_PATH
from devagent.sources import known, roots
from devagent.sources.host import Tree
from devagent.sources.vitals import vitals

SCHEMA_VERSION: Final = 1
_WIDTH: Final = max(map(len, Grade))


def run(args: argparse.Namespace) -> int:
    """Prints what each check found; exit code 1 if one failed, else 4 if one could not be made."""
    findings, conf, policy = doctor_setup.configured(args)
    state_path = conf.state_path if conf else STATE_PATH
    with roots.open_root(Path(args.root)) as tree:
        found = discover(tree, registry.load(), policy, state_path=state_path)
        findings += _host(tree, found, policy)
        findings += doctor_setup.state(tree, state_path)
        findings += doctor_setup.services(tree)
        findings += doctor_files.checked(tree, conf)
        findings += doctor_setup.placement(tree, conf, found.host)
    text = _json(found.host.hostname, findings) if args.output == "json" else "\n".join(_lines(findings))
    print(text)
    grades = {finding.grade for finding in findings}
    return FAILED if Grade.FAILED in grades else PARTIAL if Grade.UNKNOWN in grades else 0


def _host(tree: Tree, found: Discovery, policy: Policy) -> Iterator[Finding]:
    addresses = [address for device in found.devices for address in device.addresses]
    pfs = [device.address for device in found.devices if device.function.sriov]
    seen = vitals(tree, found.host.kernel, addresses, pfs)
    yield from _scan(found)
    yield from examine(Patient(seen, found.devices, policy))


def _scan(found: Discovery) -> Iterator[Finding]:
    """Says what discovery could not read, and what it could not see for lack of rights."""
    for problem in found.problems:
        # What is amiss with the file of identities is a check of its own.
        if (problem.source, problem.device) != (known.SOURCE, None):
            cure = "`devagent discover` shows what was read all the same; dmesg may say why this was not"
            text = f"{problem.problem} [{problem.source}]"
            yield Finding("scan", Grade.UNKNOWN, text, cure, problem.device)
    for note in found.notes:
        yield Finding("scan", Grade.UNKNOWN, f"not seen: {note}", "run devagent doctor as root")
    if not found.problems and not found.notes:
        managed = sum(device.decision.managed for device in found.devices)
        yield Finding("scan", Grade.OK, f"{len(found.devices)} devices, {managed} of them given; all could be read")


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    counts = dict.fromkeys(Grade, 0)
    for finding in findings:
        counts[finding.grade] += 1
        where = f"{finding.device}: " if finding.device else ""
        yield printable(f"{finding.grade:<{_WIDTH}}  {finding.check}: {where}{finding.seen}")
        if finding.cure:
            yield printable(f"{'':<{_WIDTH}}    cure: {finding.cure}")
    yield "; ".join(f"{grade}: {count}" for grade, count in counts.items())


def _json(hostname: str | None, findings: Iterable[Finding]) -> str:
    ordered = sorted(findings, key=lambda each: (each.check, each.device or "", each.seen))
    document = {"schema_version": SCHEMA_VERSION, "hostname": hostname, "findings": [asdict(each) for each in ordered]}
    return json.dumps(document, indent=2, ensure_ascii=True)
