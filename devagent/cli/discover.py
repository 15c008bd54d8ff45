# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent discover`: a look at this or a captured host, what differs from an earlier one, or all that follow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Final, NoReturn

from devagent.cli.exit_code import DIFFERS, PARTIAL
from devagent.cli.look import configuration, look, policy
from devagent.errors import ConfigurationError
from devagent.model.policy import Policy
from devagent.view import Look

# For people, so that an explanation can follow, and each change as it happens.
_LISTS: Final = ("tree", "table", "wide")
_DOCUMENTS: Final = ("json", "yaml")


def run(args: argparse.Namespace) -> int:
    """Prints what was found; exit code 4 if something could not be read, 3 if --diff found differences."""
    output = args.output or ("tree" if sys.stdout.isatty() else "table")
    _check(args, output)
    conf = configuration(args)
    rules = policy(args, conf)

    def take(root: Path, pack_into: Path | None = None) -> Look:
        return look(root, rules, conf=conf, every=args.all, pack_into=pack_into, redact=args.redact)

    render = _explained(output, rules) if args.explain else import_module(f"devagent.cli.render.{output}").render
    if args.watch:
        _watch(args, lambda: take(Path(args.root)), render)
    seen = take(Path(args.root), Path(args.capture) if args.capture else None)
    code = PARTIAL if seen.found.problems else 0
    if args.diff:
        return _diff(Path(args.diff), take, seen) or code
    if output == "svg" and isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as its XML is, whatever the terminal's
    print(render(seen))
    return code


def _check(args: argparse.Namespace, output: str) -> None:
    """Refuses what does not go together, before anything is looked at. Raises ConfigurationError."""
    if args.explain and output not in (*_LISTS, *_DOCUMENTS):
        raise ConfigurationError(f"--explain goes with -o {', '.join((*_LISTS, *_DOCUMENTS))}, not {output}")
    if args.explain and args.diff:
        raise ConfigurationError("--explain does not go with --diff, which lists differences only")
    if args.diff and args.output:
        raise ConfigurationError("-o does not go with --diff, which prints each difference on a line")
    if args.watch and output not in _LISTS:
        raise ConfigurationError(f"--watch goes with -o {', '.join(_LISTS)}, not {output}")
    if args.watch and args.capture:
        raise ConfigurationError("--capture packs one look; it does not go with --watch")
    if args.redact and not args.capture:
        raise ConfigurationError("--redact is about what --capture packs: say --capture FILE as well")


def _explained(output: str, rules: Policy) -> Callable[[Look], str]:
    """Gives what renders the look and, behind or in it, how each device was decided about."""
    from devagent.inventory.explain import explain

    renderer = import_module(f"devagent.cli.render.{output}")
    if output in _LISTS:
        from devagent.cli.render.explain import section

        return lambda seen: "\n".join([renderer.render(seen), *section(seen.found.devices, rules)])

    def dumped(seen: Look) -> str:
        from devagent.document import document

        explanations = [asdict(explain(device, rules)) for device in seen.found.devices]
        return str(renderer.dumped({**document(seen), "explanations": explanations}))

    return dumped


def _diff(earlier: Path, take: Callable[[Path], Look], seen: Look) -> int:
    from devagent.cli import difference
    from devagent.cli.earlier import read
    from devagent.document import document

    found = difference.differences(read(earlier, take), document(seen))
    for line in difference.lines(found):
        print(line)
    return DIFFERS if found else 0


def _watch(args: argparse.Namespace, take: Callable[[], Look], render: Callable[[Look], str]) -> NoReturn:
    from devagent.cli.watch import watch
    from devagent.sources.udev import changes

    watch(take, render, changes(machine=args.root == "/"), sys.stdout)
