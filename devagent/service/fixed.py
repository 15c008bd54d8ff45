# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which settings a reload leaves as they are, since sockets, threads and files were made by them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

LOG = logging.getLogger(__name__)

T = TypeVar("T", bound=Any)


def kept(old: T, new: T, fixed: Mapping[str, str]) -> T:
    """Gives `new` with the attributes named in `fixed` as in `old`; says which of these were changed in vain."""
    changed = [name for name in fixed if getattr(old, name) != getattr(new, name)]
    if changed:
        LOG.warning("%s: only a restart changes that", ", ".join(fixed[name] for name in changed))
    return replace(new, **{name: getattr(old, name) for name in changed})
