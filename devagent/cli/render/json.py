# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`-o json`: everything, for machines."""

from __future__ import annotations

import json
from typing import Any

from devagent.document import document
from devagent.view import Look


def render(seen: Look) -> str:
    """Gives the document as text; the same host always gives the same text."""
    return dumped(document(seen))


def dumped(content: dict[str, Any]) -> str:
    """Gives a document as JSON."""
    return json.dumps(content, indent=2, ensure_ascii=True)
