# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The exit codes of the commands, besides 0 for done, and 2 for wrong use or configuration, which errors.py has."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
DIFFERS: Final = 3
"""Something is otherwise than it was, or than it is to be."""
PARTIAL: Final = 4
"""Not all could be read, not all is well, or it goes on after the command has ended."""
