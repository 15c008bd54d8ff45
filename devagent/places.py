# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where devagent finds its files, and keeps them, unless it is told otherwise.

Apart from conf.py, whose import takes longer than all that a quick command or libvirt's hook does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

CONFIG_FILE: Final = Path("/etc/devagent/devagent.conf")
CONFIG_DIR: Final = Path("/etc/devagent/devagent.conf.d")
POLICY_FILE: Final = Path("/etc/devagent/devices.yaml")
STATE_PATH: Final = "/var/lib/devagent"
SOCKET: Final = "/run/devagent/devagent.sock"
