# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One look at a host together with the name by which Nova knows it: all that output and reports are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from devagent.discovery import Discovery
from devagent.inventory.build import Nest, build, root_uuid
from devagent.model.provider import ProviderTree


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a host, under the name by which Nova knows it or, until it is asked, its own.

    `root` is the UUID of the compute node's provider, once Placement has named it. `returning` is what is being brought
    back of what consumers had, by the provider's UUID and the resource class.
    """

    found: Discovery
    hostname: str
    nest: Nest
    root: str | None = None
    returning: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

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
            returning=self.returning,
        )
