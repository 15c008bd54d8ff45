# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What pynvml says of this machine's GPUs when it is asked without devagent."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

# In a process of its own: the session ends with it, and this one keeps the single thread that a look needs.
DIRECTLY = """
import json, pynvml
pynvml.nvmlInit()
found = {}
for index in range(pynvml.nvmlDeviceGetCount()):
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    bus_id = pynvml.nvmlDeviceGetPciInfo(device).busId
    try:
        mig = pynvml.nvmlDeviceGetMigMode(device)
    except pynvml.NVMLError_NotSupported:
        mig = None
    try:
        ecc = pynvml.nvmlDeviceGetEccMode(device)[0] == 1
    except pynvml.NVMLError_NotSupported:
        ecc = None
    found[bus_id.lower()] = {
        "uuid": pynvml.nvmlDeviceGetUUID(device),
        "name": pynvml.nvmlDeviceGetName(device),
        "memory_mib": pynvml.nvmlDeviceGetMemoryInfo(device).total >> 20,
        "mig": mig,
        "ecc": ecc,
        "driver": pynvml.nvmlSystemGetDriverVersion(),
    }
print(json.dumps(found))
"""


@cache
def directly() -> dict[str, Any]:
    """Gives what pynvml says, by the address in the kernel's spelling."""
    done = subprocess.run([sys.executable, "-c", DIRECTLY], capture_output=True, text=True)
    if done.returncode != 0 or done.stdout.strip() == "{}":
        pytest.skip("no NVIDIA GPU, or no driver for it")
    found = json.loads(done.stdout)
    return {f"{int(address[:8], 16):04x}{address[8:]}": facts for address, facts in found.items()}
