# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The arguments of the `devagent` command, of all of its commands."""

from __future__ import annotations

import argparse
from typing import Any

import devagent

OUTPUTS = ("tree", "table", "wide", "matrix", "json", "yaml", "svg", "placement")


def parser() -> argparse.ArgumentParser:
    """Gives what understands a command line, and writes the help."""
    made = argparse.ArgumentParser(
        prog="devagent",
        description="Reports this host's accelerators and SR-IOV devices to OpenStack Placement.",
    )
    made.add_argument("--version", action="version", version=f"devagent {devagent.__version__}")
    made.add_argument("--debug", action="store_true", help="say more, with tracebacks, on standard error")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    _discover_arguments(
        commands.add_parser(
            "discover", help="show what this host could give to virtual machines, and why not; needs no root"
        )
    )

    _report_arguments(commands.add_parser("report", help="bring Placement to what this host has"))
    _agent_commands(commands)

    doctor = commands.add_parser("doctor", help="check this host and its set-up, and say how to mend what is wrong")
    _look_arguments(doctor)
    _output_argument(doctor)

    demo = commands.add_parser(
        "demo", help="start a real Placement in this process, report to it, and ask it what a scheduler asks"
    )
    _root_argument(demo)
    return made


def _discover_arguments(discover: argparse.ArgumentParser) -> None:
    _look_arguments(discover)
    discover.add_argument(
        "-o",
        "--output",
        choices=OUTPUTS,
        metavar="|".join(OUTPUTS),
        help="default: tree on a terminal, table otherwise",
    )
    discover.add_argument("--all", action="store_true", help="list also what no driver knows and no rule wants")
    discover.add_argument(
        "--explain", action="store_true", help="say for each device which rules were tried, and what decided"
    )
    discover.add_argument(
        "--capture", metavar="FILE", help="pack what was read into FILE (.tar.xz), for --root on another machine"
    )
    discover.add_argument(
        "--redact", action="store_true", help="with --capture: hide serial numbers, UUIDs, names and addresses"
    )
    later = discover.add_mutually_exclusive_group()
    later.add_argument(
        "--diff", metavar="FILE", help="show what differs from FILE, an earlier `-o json` or a capture; exit 3 if any"
    )
    later.add_argument("--watch", action="store_true", help="go on, and show each change as it happens")


def _health_arguments(health: argparse.ArgumentParser) -> None:
    _agent_arguments(health)
    _output_argument(health)
    actions = health.add_subparsers(dest="action", metavar="show|set|clear")
    show = actions.add_parser("show", help="all devices, or one with the evidence (the default)")
    _device_argument(show, nargs="?")
    _output_argument(show, default=argparse.SUPPRESS)
    override = actions.add_parser("set", help="say how a device is, whatever the monitors say")
    _device_argument(override)
    override.add_argument("state", choices=("healthy", "suspect", "unhealthy"), metavar="healthy|suspect|unhealthy")
    override.add_argument("--reason", required=True, metavar="TEXT", help="why, for whoever sees it next")
    override.add_argument(
        "--for",
        dest="expires_in",
        type=_duration,
        metavar="TIME",
        help="90s, 30m, 2h, 7d (default: until it is cleared)",
    )
    clear = actions.add_parser("clear", help="let the monitors decide again")
    _device_argument(clear)
    for action in (show, override, clear):
        _socket_argument(action, default=argparse.SUPPRESS)
        _configuration_arguments(action, default=argparse.SUPPRESS)


def _device_argument(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument("device", nargs=nargs, metavar="DEVICE", help="its PCI address or id")


def _duration(text: str) -> int:
    from devagent.cli.health import duration

    return duration(text)


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) > 300:
        raise argparse.ArgumentTypeError(f"{text!r}: say 0 to 300 seconds")
    return int(text)


def _agent_arguments(parser: argparse.ArgumentParser) -> None:
    _socket_argument(parser)
    _configuration_arguments(parser)


def _socket_argument(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    parser.add_argument(
        "--socket",
        default=default,
        metavar="PATH",
        help="the agent's socket (default: as configured, else /run/devagent/devagent.sock)",
    )
    parser.add_argument(
        "--url",
        default=default,
        help="another host's agent instead: https://HOST:PORT, with --cert or a token in OS_TOKEN",
    )
    parser.add_argument("--cacert", default=default, metavar="FILE", help="with --url: who issues agents' certificates")
    parser.add_argument("--cert", default=default, metavar="FILE", help="with --url: your own certificate")
    parser.add_argument("--key", default=default, metavar="FILE", help="with --url: its private key")


def _output_argument(parser: argparse.ArgumentParser, default: str = "table") -> None:
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default=default, metavar="table|json", help="default: table"
    )


def _report_arguments(report: argparse.ArgumentParser) -> None:
    _look_arguments(report)
    report.add_argument("--dry-run", action="store_true", help="only print what would change (+ ~ -); exit 3 if any")
    report.add_argument(
        "--once", action="store_true", help="do not wait for nova-compute to make this host's provider: fail at once"
    )
    report.add_argument(
        "--purge",
        action="store_true",
        help="delete the emptied providers of devices that are gone; disturbs a running nova-compute for up to 300 s",
    )


def _agent_commands(commands: Any) -> None:
    """Adds the daemon, and the commands that talk to it."""
    agent = commands.add_parser("agent", help="the daemon: keeps Placement equal to this host, and serves its API")
    _root_argument(agent)
    _policy_argument(agent)
    _configuration_arguments(agent)

    _configuration_arguments(
        commands.add_parser("listener", help="the daemon that tells agents what Nova's notifications say")
    )

    status = commands.add_parser("status", help="how the agent of this host is, and what wants an eye; exit 4 if any")
    _agent_arguments(status)
    _output_argument(status)

    _health_arguments(
        commands.add_parser("health", help="how each device is; set or clear an operator's word about it")
    )

    rescan = commands.add_parser("rescan", help="have the agent look at the whole host now")
    _agent_arguments(rescan)
    rescan.add_argument("--wait", type=_seconds, default=60, metavar="S", help="seconds to wait for it (default: 60)")

    _prepare_arguments(commands.add_parser("prepare", help="make devices ready for a consumer, and wait for it"))
    _unprepare_arguments(commands.add_parser("unprepare", help="release all devices of a consumer, and wait for it"))
    _preparations_arguments(
        commands.add_parser("preparations", help="whose devices are ready, on their way, or refused")
    )


def _prepare_arguments(prepare: argparse.ArgumentParser) -> None:
    _consumer_argument(prepare)
    prepare.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="PROVIDER:CLASS=N[,name=value]",
        help="what the consumer has of a resource provider, and what it becomes: address=0000:3b:00.2, vlan=120",
    )
    prepare.add_argument("--project", metavar="ID", help="the consumer's project")
    prepare.add_argument(
        "--expires-in",
        type=_duration,
        metavar="TIME",
        help="90s, 30m, 2h, 7d: released then, unless a virtual machine has used it (default: as configured)",
    )
    prepare.add_argument("--file", metavar="FILE", help="all of the request as JSON; - reads standard input")
    _output_argument(prepare)
    _patience_argument(prepare)
    _agent_arguments(prepare)


def _unprepare_arguments(unprepare: argparse.ArgumentParser) -> None:
    _consumer_argument(unprepare)
    _patience_argument(unprepare)
    _agent_arguments(unprepare)


def _preparations_arguments(shown: argparse.ArgumentParser) -> None:
    shown.add_argument(
        "action", nargs="?", choices=("list", "show", "abort", "forget"), default="list",
        metavar="list|show|abort|forget",
        help="all (the default); one with its steps; give back what one has, or is about to have; end what cannot be "
        "given back: its devices are unhealthy until `devagent health clear DEVICE`",
    )  # fmt: skip
    _consumer_argument(shown, nargs="?")
    _patience_argument(shown, "with abort: ")
    shown.add_argument("--reason", metavar="TEXT", help="with forget: why, for the log and for whoever comes after you")
    shown.add_argument(
        "--offer", action="store_true", help="with forget: offer the devices again at once, as they are, not wiped"
    )
    _output_argument(shown)
    _agent_arguments(shown)


def _patience_argument(parser: argparse.ArgumentParser, when: str = "") -> None:
    parser.add_argument("--wait", type=_seconds, default=60, metavar="S", help=f"{when}seconds to wait (default: 60)")


def _consumer_argument(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument("consumer", nargs=nargs, metavar="CONSUMER", help="its UUID in Placement")


def _look_arguments(parser: argparse.ArgumentParser) -> None:
    _root_argument(parser)
    _policy_argument(parser)
    _configuration_arguments(parser)


def _policy_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--policy", metavar="FILE", help="the policy (default: /etc/devagent/devices.yaml, or built in)"
    )


def _configuration_arguments(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    none: str | list[str] = default or []
    parser.add_argument("--config-file", action="append", default=none, metavar="PATH", help="a configuration file")
    parser.add_argument(
        "--config-dir", action="append", default=none, metavar="DIR", help="a directory of *.conf files"
    )


def _root_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", default="/", metavar="DIR|ARCHIVE", help="look at a captured sysfs tree instead of this machine"
    )
