# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The `devagent` command: arguments, errors and exit codes.

Exit codes: 0 done; 1 failed; 2 wrong use or configuration; 3 differs; 4 partial, some source failed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import devagent
from devagent.errors import DevagentError

OUTPUTS = ("tree", "table", "json")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; errors that an operator can act on are one line on stderr."""
    args = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if args.debug else logging.WARNING, format="devagent: %(levelname)s: %(message)s"
    )
    try:
        code = import_module(f"devagent.cli.{args.command}").run(args)
        sys.stdout.flush()
    except DevagentError as error:
        if args.debug:
            logging.getLogger(__name__).debug("the error in full", exc_info=True)
        print(f"devagent: error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="devagent",
        description="Reports this host's accelerators and SR-IOV devices to OpenStack Placement.",
    )
    parser.add_argument("--version", action="version", version=f"devagent {devagent.__version__}")
    parser.add_argument("--debug", action="store_true", help="say more, with tracebacks, on standard error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    discover = commands.add_parser(
        "discover", help="show what this host could give to virtual machines, and why not; needs no root"
    )
    _look_arguments(discover)
    discover.add_argument(
        "-o",
        "--output",
        choices=OUTPUTS,
        metavar="|".join(OUTPUTS),
        help="default: tree on a terminal, table otherwise",
    )
    discover.add_argument("--all", action="store_true", help="list also what no driver knows and no rule wants")

    report = commands.add_parser("report", help="bring Placement to what this host has")
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

    demo = commands.add_parser(
        "demo", help="start a real Placement in this process, report to it, and ask it what a scheduler asks"
    )
    _root_argument(demo)
    return parser


def _look_arguments(parser: argparse.ArgumentParser) -> None:
    _root_argument(parser)
    parser.add_argument(
        "--policy", metavar="FILE", help="the policy (default: /etc/devagent/devices.yaml, or built in)"
    )
    parser.add_argument("--config-file", action="append", default=[], metavar="PATH", help="a configuration file")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="a directory of *.conf files")


def _root_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", default="/", metavar="DIR|ARCHIVE", help="look at a captured sysfs tree instead of this machine"
    )
