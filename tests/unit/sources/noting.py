# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A directory that notes what is left of its files."""

from __future__ import annotations

from pathlib import Path

from devagent.sources.host import Directory, Excerpt


class Noting(Directory):
    """Notes in `kept` each text that is read, or the excerpt of it."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.kept: list[str] = []

    def file(self, path: str, excerpt: Excerpt | None = None) -> str | None:
        """Reads, and notes what came of it."""
        text = super().file(path, excerpt)
        self.kept.append(text or "")
        return text
