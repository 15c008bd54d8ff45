# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""How a caller may name a device."""

from __future__ import annotations

import re
from typing import Final

_SHORT_ADDRESS: Final = re.compile(r"[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.ASCII)


def full(target: str) -> str:
    """Gives the id or PCI address in full; an address may leave out the domain 0000, as lspci does."""
    target = target.strip().lower()
    return f"0000:{target}" if _SHORT_ADDRESS.fullmatch(target) else target
