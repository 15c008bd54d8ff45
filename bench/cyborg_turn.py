# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="import-not-found"
"""Cyborg's turn of bench.compare: its `pci_driver` looks at all functions of one vendor, several times over.

    .venv/cyborg/bin/python -P bench/cyborg_turn.py ROUNDS VENDOR

It reads the machine's /sys, wherever a mount namespace has put that. Each driver of Cyborg's that asks lspci does it
in its privileged daemon; here it does it in this process, which spares it the way there.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings

warnings.simplefilter("ignore")

import cyborg.cmd.agent  # noqa: E402, F401 - it decides between threads and eventlet before anything else does
from cyborg import objects, privsep  # noqa: E402
from cyborg.accelerator.drivers.pci.pci.driver import PCIDriver  # noqa: E402
from cyborg.conf import CONF  # noqa: E402


def main(rounds: int, vendor: str) -> None:
    """Says of each round what it took, with its lspci, and how many devices were found: in nanoseconds."""
    CONF([], project="cyborg", default_config_files=[])
    CONF.set_override("passthrough_whitelist", [json.dumps({"vendor_id": vendor})], "pci")
    objects.register_all()
    privsep.sys_admin_pctxt.set_client_mode(False)
    driver = PCIDriver()
    driver.discover()
    for _ in range(rounds):
        wall, cpu = time.perf_counter_ns(), _cpu()
        count = len(driver.discover())
        print(time.perf_counter_ns() - wall, _cpu() - cpu, count)  # noqa: T201 - its output


def _cpu() -> int:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + int((children.ru_utime + children.ru_stime) * 1e9)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
