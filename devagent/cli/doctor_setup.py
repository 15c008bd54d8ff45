# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Checks how devagent is set up on this machine: configuration, policy, state, system services, Placement."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from devagent.cli.look import CONFIGURATION, configuration
from devagent.cli.look import policy as find_policy
from devagent.errors import (
    ConfigurationError,
    PlacementDenied,
    PlacementError,
    PlacementUnreachable,
    RootProviderMissing,
)
from devagent.inventory.default_policy import DEFAULT
from devagent.model.finding import Finding, Grade
from devagent.model.policy import Policy
from devagent.model.snapshot import HostFacts, Problem
from devagent.sources import known
from devagent.sources.host import Tree

_CAPTURED: Final = "not checked: a captured host"

# What the errors themselves do not say already.
_CURES: Final[tuple[tuple[type[PlacementError], str], ...]] = (
    (RootProviderMissing, "start nova-compute on this host, or set [DEFAULT] host in devagent.conf"),
    (PlacementDenied, "give [placement] in devagent.conf the credentials that nova.conf has, with the role service"),
    (
        PlacementUnreachable,
        "check [placement] in devagent.conf, and with curl that this host reaches Placement's address",
    ),
    (PlacementError, "`devagent --debug doctor` shows the whole answer"),
)


def configured(args: argparse.Namespace) -> tuple[list[Finding], Any, Policy]:
    """Reads the configuration and the policy; what is wrong with them is a finding, and the default stands in."""
    findings: list[Finding] = []
    conf, rules = None, DEFAULT
    try:
        conf = configuration(args, strict=True)
        findings.append(Finding("configuration", Grade.OK, _named(args) if conf else "none: nothing is reported"))
    except ConfigurationError as error:
        cure = "correct what it names; until then neither `devagent report` nor the agent starts"
        findings.append(Finding("configuration", Grade.FAILED, str(error).removeprefix("configuration: "), cure))
    try:
        rules = find_policy(args, conf)
        findings.append(Finding("policy", Grade.OK, f"{rules.origin}: {len(rules.rules)} rules"))
    except ConfigurationError as error:
        cure = "correct that line; until then the built-in policy stands in for this check-up, and nothing is reported"
        findings.append(Finding("policy", Grade.FAILED, str(error), cure))
    return findings, conf, rules


def _named(args: argparse.Namespace) -> str:
    named = [*args.config_file, *args.config_dir] or [str(path) for path in CONFIGURATION if path.exists()]
    return f"valid: {', '.join(named)}"


def state(tree: Tree, state_path: str) -> Iterator[Finding]:
    """Checks that the state can be kept, and that what is there can be read."""
    problems: list[Problem] = []
    devices = known.load(tree, state_path, problems)
    for problem in problems:
        cure = "restore the file from a backup, or remove it: identities are then settled anew from what devices tell"
        yield Finding("identities", Grade.FAILED, problem.problem, cure)
    if not problems:
        yield Finding("identities", Grade.OK, f"{len(devices)} devices are known" if devices else "none is known yet")
    yield _writable(Path(state_path)) if tree.machine else Finding("state", Grade.SKIPPED, _CAPTURED)


def _writable(path: Path) -> Finding:
    there = next(each for each in (path, *path.parents) if each.exists())
    if os.access(there, os.W_OK | os.X_OK) and there.is_dir():
        return Finding("state", Grade.OK, f"{path} can be written" if there == path else f"{path} can be made")
    if os.geteuid() != 0 and there.is_dir():
        cure = "run devagent doctor as the agent's own user, or as root"
        return Finding("state", Grade.UNKNOWN, f"{path} cannot be written by this user", cure)
    cure = f"make {path} a directory on a file system that is mounted rw; or set [DEFAULT] state_path"
    text = f"{there} cannot be written" if there.is_dir() else f"{there} is no directory"
    return Finding("state", Grade.FAILED, text, cure)


def services(tree: Tree) -> Iterator[Finding]:
    """Checks that udev names and sets up devices, and that systemd can run the agent."""
    if not tree.machine:
        yield Finding("services", Grade.SKIPPED, _CAPTURED)
        return
    faults = []
    if not tree.has("run/udev/control"):
        text = "udev does not run: devices get no names and rights when they appear"
        faults.append((text, "systemctl start systemd-udevd; in a container, mount the host's /run/udev"))
    if not tree.has("run/systemd/system"):
        text = "systemd does not run here: nothing restarts the agent or ends it in time"
        faults.append((text, "start devagent by whatever supervises services here, with SIGTERM to stop it"))
    yield from (Finding("services", Grade.WARNING, text, cure) for text, cure in faults)
    if not faults:
        yield Finding("services", Grade.OK, "udev and systemd run")


def placement(tree: Tree, conf: Any, host: HostFacts) -> Iterator[Finding]:
    """Asks Placement, where it is configured, and looks for this host's provider in it."""
    if not tree.machine:
        yield Finding("placement", Grade.SKIPPED, _CAPTURED)
    elif conf is None:
        yield Finding("placement", Grade.OK, "not configured: `devagent discover` needs none")
    else:
        yield from _asked(conf, host)


def _asked(conf: Any, host: HostFacts) -> Iterator[Finding]:
    from devagent.placement import client
    from devagent.placement.reporter import Reporter

    try:
        reporter = Reporter(client.from_conf(conf))
        version = "{}.{}".format(*reporter.client.version)
        survey = reporter.survey(host.compute_id, conf.host or socket.getfqdn())
    except PlacementError as error:
        cure = next(cure for kind, cure in _CURES if isinstance(error, kind))
        yield Finding("placement", Grade.FAILED, str(error), cure)
    except ConfigurationError as error:
        yield Finding("placement", Grade.FAILED, str(error), "complete [placement] in devagent.conf, as in nova.conf")
    else:
        below = len(survey.listed) - 1
        seen = f"answers ({version}) and knows this host as {survey.root.name}, with {below} providers below"
        yield Finding("placement", Grade.OK, seen)
