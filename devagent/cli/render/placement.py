# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`-o placement`: the provider tree that a report would make, with inventories and traits."""

from __future__ import annotations

from devagent.cli.render import providers, words
from devagent.model.provider import Provider
from devagent.view import Look


def render(seen: Look) -> str:
    """Gives the desired tree below the compute node's own provider, then the problems."""
    tree = seen.tree()
    root = Provider(tree.root, seen.hostname, None)
    lines = [providers.render(root.uuid, {root.uuid: root, **tree.by_uuid()})]
    return "\n".join([*lines, *words.problem_lines(seen.found.problems)])
