# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The policy of a host without devices.yaml: accelerators that are safe to give, and VFs that someone made.

etc/devagent/devices.yaml says the same in YAML, for an operator to start from; a test keeps them equal.
"""

from __future__ import annotations

from typing import Final

from devagent.model.claim import Kind, Mode
from devagent.model.policy import Match, Policy, Rule

DEFAULT: Final = Policy(
    rules=(
        # Whoever made VFs wants them given, and a PF with VFs cannot be given whole.
        Rule("default-vfs", Match(vfs=True), Mode.VF),
        Rule("default-gpus", Match(kind=(Kind.GPU,)), Mode.WHOLE),
        Rule("default-accelerators", Match(kind=(Kind.FPGA, Kind.ACCELERATOR)), Mode.WHOLE),
    ),
    origin="built in",
)
