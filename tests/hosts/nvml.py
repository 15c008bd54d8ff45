# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What NVML answered about the GPUs, as a capture keeps it."""

import json

from .description import Host
from .tree import Tree


def write_nvml(tree: Tree, host: Host) -> None:
    """Adds a file for each GPU of which the description knows NVML's answer."""
    for address, answer in host.nvml.items():
        text = json.dumps({"answer": {"address": address, **answer}}, indent=1, sort_keys=True)
        tree.files("devagent/nvml", {f"{address}.json": text + "\n"})
