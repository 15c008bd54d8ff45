# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Placement takes for a custom trait or resource class (placement/schemas/trait.py and resource_class.py)."""

from __future__ import annotations

import re


def is_custom(name: str) -> bool:
    """Tells whether `name` is a well-formed custom name."""
    return len(name) <= 255 and re.fullmatch("CUSTOM_[A-Z0-9_]+", name) is not None
