# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent demo`: the whole way, from this host's sysfs to a scheduler's answers, with a real Placement."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from devagent.cli import questions
from devagent.cli.exit_code import FAILED, PARTIAL
from devagent.cli.look import look
from devagent.cli.render import providers, tree
from devagent.cli.render.printable import printable
from devagent.inventory.build import root_uuid
from devagent.model.provider import Provider
from devagent.placement import embedded
from devagent.placement.client import PlacementClient
from devagent.placement.reporter import Reporter
from devagent.view import Look

EXAMPLE: Final = "demo-host.tar.xz"


def run(args: argparse.Namespace) -> int:
    """Shows this host or the one of --root; where it has nothing for the questions, a generated host as well."""
    # Before Placement runs in a thread: a look forks.
    seen = look(Path(args.root))
    with _example() as archive:
        example = look(archive)
    with embedded.running() as url:
        client = embedded.client(url)
        failed, answered = _show(seen, client)
        if not answered:
            print("\nThis host has none of what the example questions ask for.")
            print("The same on a generated host with eight GPUs and two dual-port SR-IOV NICs:\n")
            failed |= _show(example, client)[0]
    if failed:
        return FAILED
    return PARTIAL if seen.found.problems else 0


def _show(seen: Look, client: PlacementClient) -> tuple[bool, bool]:
    """Shows one host; tells whether something failed, and whether any question had an answer."""
    print(tree.render(seen))
    root = _nova_compute(client, seen)
    reporter, desired = Reporter(client), seen.tree(root.uuid, root.name)
    before = client.requests
    report = reporter.report(desired)
    first, before = client.requests - before, client.requests
    reporter.report(desired)
    again = client.requests - before
    print(f"\nReported to a real Placement in {first} requests; looking again took {again}.")
    for name, error in report.failures.items():
        print(printable(f"  {name}: {error}"))
    print("The tree as Placement returns it:\n")
    shown = reporter.read(root.uuid)
    print(providers.render(root.uuid, shown))
    print("\nWhat a scheduler asks (here of this host only: in_tree), and what Placement answers:")
    answers = [questions.ask(client, question, shown) for question in questions.about(desired)]
    for answer in answers:
        print("\n" + "\n".join(map(printable, answer.lines)))
    return bool(report.failures), any(answer.found for answer in answers)


def _nova_compute(client: PlacementClient, seen: Look) -> Provider:
    """Makes the compute node's provider, as nova-compute does; devagent itself never would."""
    # The example host and this one may have the same name; to Placement they are two.
    taken = client.find(seen.hostname) is not None
    name, uid = f"generated-{seen.hostname}" if taken else seen.hostname, uuid.uuid4() if taken else None
    root = Provider(str(uid or root_uuid(seen.found.host, name)), name, None)
    client.create(root)
    return root


@contextmanager
def _example() -> Iterator[Path]:
    with resources.as_file(resources.files("devagent.cli").joinpath(EXAMPLE)) as archive:
        yield archive
