# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Has oslo.service use threads: before anything of oslo is imported that would choose eventlet."""

from __future__ import annotations

import sys


def use() -> None:
    """Chooses, once for the process."""
    # futurist imports eventlet where it is installed, for 20 MiB that nothing uses, and a warning at each start.
    sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]
    from oslo_service import backend  # noqa: PLC0415 - it is imported after the line above

    backend.init_backend(backend.BackendType.THREADING)
