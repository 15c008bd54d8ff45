# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent report`: brings Placement to what this host has, once."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from devagent.cli.exit_code import DIFFERS, FAILED, PARTIAL
from devagent.cli.look import configuration, look, policy
from devagent.cli.render import changes, words
from devagent.cli.render.printable import printable
from devagent.errors import RootProviderMissing
from devagent.inventory import condition
from devagent.model.amount import amount
from devagent.model.health import Kept
from devagent.model.provider import ProviderTree
from devagent.placement import client
from devagent.placement.reporter import Report, Reporter, Survey
from devagent.placement.state import StateFile
from devagent.sources import condition_file, known
from devagent.sources.kernel_log import KernelLog, Told
from devagent.view import Look

_WAIT = 10  # seconds between two looks for the compute node's provider

_PURGE = (
    "devagent: a running nova-compute that has these providers cached fails its builds on this host for up to "
    "300 s (nova.conf [compute]resource_provider_association_refresh); SIGHUP or restart it to end that at once"
)


def run(args: argparse.Namespace) -> int:
    """Reports, or with --dry-run says what would change; each line is one provider."""
    conf = configuration(args, required=True)
    placement = client.from_conf(conf)
    rules = policy(args, conf)
    state = StateFile(Path(conf.state_path))
    with nullcontext() if args.dry_run else state.locked():
        reporter = Reporter(placement, state.load())
        seen = look(Path(args.root), rules, conf=conf)
        for line in words.problem_lines(seen.found.problems):
            print(line, file=sys.stderr)
        seen, kept = _followed(seen, conf, here=args.root == "/")
        _fences(seen)
        survey = _survey(reporter, seen, conf.host or _full_name(args, seen), wait=not (args.once or args.dry_run))
        desired = seen.tree(survey.root.uuid, survey.root.name)
        if args.dry_run:
            code = _dry_run(reporter, desired, survey, purge=args.purge)
        else:
            if args.root == "/":  # before any provider has a UUID made of them
                known.save(conf.state_path, seen.found.known)
                condition_file.save(conf.state_path, kept)
            try:
                code = _report(reporter, desired, survey, purge=args.purge)
            finally:
                state.save(reporter.memory)
    return code or (PARTIAL if seen.found.problems else 0)


def _followed(seen: Look, conf: Any, *, here: bool) -> tuple[Look, Kept]:
    """Gives the look with the health that counts, and what is to be kept of it.

    What was kept before, and the kernel log, are of this machine: they say nothing of a captured host.
    """
    now, found, options = time.time(), seen.found, conf.health
    kept = condition.resume(condition_file.load(conf.state_path) if here else Kept(), found.host.boot_id)
    told: tuple[Told, ...] = ()
    if here and options.kernel_log and any(device.function.vendor_id == "10de" for device in found.devices):
        with closing(KernelLog(kept.log_position)) as log:
            told = log.read()
            kept = replace(kept, log_position=log.position)
    rules = condition.Rules(options.clean_checks, options.flap_limit, options.flap_window, options.xids)
    complete = found.complete and not found.unknown
    book = condition.follow(found.devices, kept.book, told, now, rules, complete=complete)
    devices = condition.settled(found.devices, book, now)
    return replace(seen, found=replace(found, devices=devices)), replace(kept, book=book)


def _fences(seen: Look) -> None:
    """Says which devices are closed to new consumers because of their health."""
    for device in seen.found.devices:
        if device.decision.managed and device.health.state.is_fenced:
            text = f"devagent: {device.address}: closed to new consumers: {words.health(device)}"
            print(printable(text), file=sys.stderr)


def _dry_run(reporter: Reporter, desired: ProviderTree, survey: Survey, *, purge: bool) -> int:
    planned = reporter.plan(desired, survey)
    _warn(planned)
    names = {uuid: provider.name for uuid, provider in {**survey.listed, **desired.by_uuid()}.items()}
    for change in planned.changes:
        print("\n".join(changes.lines(change, names)))
    doomed = reporter.purgeable(desired, survey) if purge else []
    for provider in doomed:
        print(printable(f"- {provider.name}  deleted"))
    if not planned.changes and not doomed:
        print(f"Placement is as it should be: {amount(len(desired.providers), 'provider')} ({_requests(reporter)})")
    return DIFFERS if planned.changes or doomed else 0


def _report(reporter: Reporter, desired: ProviderTree, survey: Survey, *, purge: bool) -> int:
    report = reporter.report(
        desired,
        survey,
        done=lambda change: print(changes.headline(change), flush=True),
        step=_progress if sys.stderr.isatty() else None,
    )
    _warn(report)
    failed = len(report.failures)
    if purge:
        print(_PURGE, file=sys.stderr)
        purged = reporter.purge(desired)
        _warn(purged)
        failed += len(purged.failures)
        for change in purged.changes:
            print(printable(f"- {change.after.name}  deleted"))
    summary = f"{amount(len(desired.providers), 'provider')}, {len(report.changes)} changed, {failed} failed"
    print(f"{summary} ({_requests(reporter)})")
    return FAILED if failed else 0


def _warn(report: Report) -> None:
    """Says what the operator should know besides the changes."""
    for owned in report.owned:
        print(printable(f"devagent: warning: {owned}"), file=sys.stderr)
    for provider in report.held:
        text = f"devagent: {provider.name}: in use; closed to new consumers until it is free"
        print(printable(text), file=sys.stderr)
    for name, error in report.failures.items():
        print(printable(f"devagent: error: {name}: {error}"), file=sys.stderr)


def _progress(made: int, total: int) -> None:
    print(f"\r{made} of {total} providers created", end="\n" if made == total else "", file=sys.stderr, flush=True)


def _survey(reporter: Reporter, seen: Look, hostname: str, *, wait: bool) -> Survey:
    """Finds the compute node's provider, and waits for nova-compute to make it where that is wanted."""
    said = False
    while True:
        try:
            return reporter.survey(seen.found.host.compute_id, hostname)
        except RootProviderMissing as error:
            if not wait:
                raise
            if not said:
                print(f"devagent: waiting: {error}", file=sys.stderr, flush=True)
                said = True
            time.sleep(_WAIT)


def _full_name(args: argparse.Namespace, seen: Look) -> str:
    """Gives the host's full name, which libvirt, and so Nova, calls the hypervisor; a captured host has its own."""
    return socket.getfqdn() if args.root == "/" else seen.hostname


def _requests(reporter: Reporter) -> str:
    return amount(reporter.client.requests, "request")
