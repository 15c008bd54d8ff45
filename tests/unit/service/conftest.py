# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""oslo.service is told to use threads before anything imports it, as the command does; what several tests need."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.nvml_gate import NvmlGate
from devagent.service import threads

threads.use()


@pytest.fixture
def gate(tmp_path: Path) -> NvmlGate:
    made = NvmlGate(tmp_path)
    made.make()
    return made
