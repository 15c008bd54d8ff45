# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One look at a host together with the name by which Nova knows it: all that output and reports are made of."""

from __future__ import annotations

from dataclasses import dataclass

from devagent.discovery import Discovery
from devagent.inventory.build import Nest, build, root_uuid
from devagent.model.provider import ProviderTree


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a host, under the name by which Nova knows it or, until it is asked, its own.

    `root` is the UUID of the compute node's provider, once Placement has named it.
    """

    found: Discovery
    hostname: str
    nest: Nest
    root: str | None = None

    def tree(self, root: str | None = None, hostname: str | None = None) -> ProviderTree:
        """Builds the desired provider tree; without `root`, below the UUID that the host's own files tell."""
        name = hostname or self.hostname
        return build(
            self.found.devices,
            root or self.root or root_uuid(self.found.host, name),
            name,
            self.nest,
            unknown=self.found.unknown,
            complete=self.found.complete,
        )
