# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent report`: brings Placement to what this host has, once."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from pathlib import Path

from devagent.cli.look import configuration, look, policy
from devagent.cli.render import changes, words
from devagent.errors import RootProviderMissing
from devagent.model.provider import Provider, ProviderTree
from devagent.model.snapshot import HostFacts
from devagent.placement import client
from devagent.placement.reporter import Reporter

FAILED, DIFFERS, PARTIAL = 1, 3, 4
_WAIT = 10  # seconds between two looks for the compute node's provider


def run(args: argparse.Namespace) -> int:
    """Reports, or with --dry-run says what would change; each line is one provider."""
    conf = configuration(args, required=True)
    reporter = Reporter(client.from_conf(conf))
    seen = look(Path(args.root), policy(args, conf), conf=conf)
    root = _root(reporter, seen.found.host, _hostname(args, conf, seen.hostname), wait=not args.once)
    desired = seen.tree(root.uuid, root.name)
    for line in words.problem_lines(seen.found.problems):
        print(line, file=sys.stderr)
    code = _dry_run(reporter, desired) if args.dry_run else _report(reporter, desired)
    return code or (PARTIAL if seen.found.problems else 0)


def _dry_run(reporter: Reporter, desired: ProviderTree) -> int:
    planned = reporter.plan(desired)
    for change in planned:
        print("\n".join(changes.lines(change)))
    if not planned:
        print(f"Placement is as it should be: {_providers(len(desired.providers))} ({_requests(reporter)})")
    return DIFFERS if planned else 0


def _report(reporter: Reporter, desired: ProviderTree) -> int:
    report = reporter.report(desired, done=lambda change: print(changes.headline(change), flush=True))
    for name, error in report.failures.items():
        print(f"devagent: error: {name}: {error}", file=sys.stderr)
    summary = f"{_providers(len(desired.providers))}, {len(report.changes)} changed, {len(report.failures)} failed"
    print(f"{summary} ({_requests(reporter)})")
    return FAILED if report.failures else 0


def _root(reporter: Reporter, host: HostFacts, hostname: str, *, wait: bool) -> Provider:
    """Finds the compute node's provider, and waits for nova-compute to make it where that is wanted."""
    said = False
    while True:
        try:
            return reporter.find_root(host.compute_id, hostname)
        except RootProviderMissing as error:
            if not wait:
                raise
            if not said:
                print(f"devagent: waiting: {error}", file=sys.stderr, flush=True)
                said = True
            time.sleep(_WAIT)


def _hostname(args: argparse.Namespace, conf: object, seen: str) -> str:
    """Gives the name to look for; libvirt, and so Nova, takes the full one."""
    configured = getattr(conf, "host", None)
    return configured or (socket.getfqdn() if args.root == "/" else seen)


def _requests(reporter: Reporter) -> str:
    count = reporter.client.requests
    return f"{count} request{'s' if count != 1 else ''}"


def _providers(count: int) -> str:
    return f"{count} provider{'s' if count != 1 else ''}"
