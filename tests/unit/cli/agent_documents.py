# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What agents answer: one that is well, one with everything wrong, one that starts; and when they are seen."""

from __future__ import annotations

from datetime import datetime
from typing import Any

Document = dict[str, Any]

NOW = datetime.fromisoformat("2026-11-21T17:00:00Z").timestamp()

RUNNING: Document = {
    "schema_version": 1,
    "host": "gpu8.example.org",
    "version": "0.2.0",
    "pid": 1200,
    "started": "2026-11-18T12:30:00Z",
    "state": "running",
    "reasons": [],
    "loops": [
        {"name": "api", "state": "ok", "beat": "2026-11-21T17:00:00Z", "detail": None},
        {"name": "health", "state": "ok", "beat": "2026-11-21T16:59:18Z", "detail": None},
        {"name": "report", "state": "ok", "beat": "2026-11-21T16:59:40Z", "detail": None},
    ],
    "scan": {"at": "2026-11-21T16:56:00Z", "kind": "full", "took_ms": 34, "devices": 14, "given": 12, "problems": []},
    "report": {
        "at": "2026-11-21T16:59:40Z",
        "state": "current",
        "changes": 0,
        "requests": 1,
        "error": None,
        "retry_at": None,
    },
    "differs": [],
    "fenced": [],
    "refused": [],
    "unexplained": [],
    "stuck": [],
    "configuration": {
        "files": ["/etc/devagent/devagent.conf"],
        "loaded": "2026-11-18T12:30:00Z",
        "policy": "/etc/devagent/devices.yaml",
        "error": None,
    },
    "processes": [
        {"name": "agent", "pid": 1200, "rss_kib": 53248},
        {"name": "privileged", "pid": 1190, "rss_kib": 9216},
        {"name": "look", "pid": 1210, "rss_kib": 31744},
    ],
}

STARTING: Document = {
    **RUNNING,
    "started": "2026-11-21T16:59:58Z",
    "state": "starting",
    "loops": [{"name": "report", "state": "ok", "beat": None, "detail": None}],
    "scan": {"at": None, "kind": None, "took_ms": None, "devices": 0, "given": 0, "problems": []},
    "report": {**RUNNING["report"], "at": None, "state": "never", "changes": None, "requests": None},
    "configuration": {"files": [], "loaded": "2026-11-21T16:59:58Z", "policy": "built in", "error": None},
    "processes": [],
}

_REFUSED = "https://placement.example.org: connection refused"
_WRONG = "/etc/devagent/devices.yaml:7: rules[1].mode: is 'hole'; expected is a mode"
DEGRADED: Document = {
    **RUNNING,
    "state": "degraded",
    "reasons": [f"Placement is not up to date: {_REFUSED}", "the health loop makes no progress"],
    "loops": [
        {"name": "api", "state": "ok", "beat": "2026-11-21T17:00:00Z", "detail": None},
        {"name": "health", "state": "late", "beat": "2026-11-21T16:48:00Z", "detail": "asks NVML"},
        {"name": "reconcile", "state": "failed", "beat": None, "detail": "no answer"},
    ],
    "scan": {
        **RUNNING["scan"],
        "kind": "partial",
        "problems": [
            {"source": "nvml", "device": "0000:19:00.0", "problem": "did not answer within 10 s"},
            {"source": "nova", "device": None, "problem": "/etc/nova/nova.conf: permission denied"},
        ],
    },
    "report": {
        "at": "2026-11-21T14:55:00Z",
        "state": "failed",
        "changes": None,
        "requests": 1,
        "error": _REFUSED,
        "retry_at": "2026-11-21T17:00:08Z",
    },
    "differs": [
        {"provider": f"devagent:gpu8.example.org:0000:{n:02x}:00.0", "what": "PGPU is missing"} for n in range(23)
    ],
    "fenced": [
        {
            "address": "0000:1a:00.0",
            "model": "NVIDIA A100 PCIe 40GB",
            "state": "unhealthy",
            "reasons": ["XID 79: it has fallen off the bus", "its PCIe link is down"],
            "since": "2026-11-21T14:55:00Z",
            "override": False,
        },
        {
            "address": "0000:19:00.0",
            "model": "evil\x1b[2J",
            "state": "unhealthy",
            "reasons": ["the burn-in failed"],
            "since": "2026-11-20T16:00:00Z",
            "override": True,
        },
    ],
    "refused": [{"address": "0000:1b:00.0", "what": "16 VFs", "why": "it has 8, of which 3 are in use"}],
    "unexplained": [{"address": "0000:41:00.0", "what": "open in qemu-system-x86 (4711), allocated to nobody"}],
    "stuck": [
        {"address": "0000:1a:00.0", "what": "reset", "since": "2026-11-21T16:58:00Z"},
        {"address": None, "what": "look", "since": "2026-11-21T16:59:30Z"},
    ],
    "configuration": {**RUNNING["configuration"], "error": _WRONG},
}

HEALTH: Document = {
    "schema_version": 1,
    "devices": [
        {
            "id": "6a4f2c7e-1b1d-5c55-9f3e-0d9b7a4a3c11",
            "address": "0000:19:00.0",
            "kind": "gpu",
            "model": "NVIDIA A100 PCIe 40GB",
            "state": "unhealthy",
            "reasons": ["XID 79: it has fallen off the bus"],
            "since": "2026-11-21T14:55:00Z",
            "clean_checks": 0,
            "flaps": 2,
            "evidence": [
                {"at": "2026-11-21T14:55:00Z", "text": "kernel log: NVRM: Xid (PCI:0000:19:00): 79"},
                {"at": "2026-11-21T14:56:00Z", "text": "NVML: GPU is lost"},
            ],
            "override": None,
        },
        {
            "id": "0d9b7a4a-1b1d-5c55-9f3e-6a4f2c7e3c11",
            "address": "0000:1a:00.0",
            "kind": "gpu",
            "model": "NVIDIA A100 PCIe 40GB",
            "state": "suspect",
            "reasons": ["an operator: it smells"],
            "since": "2026-11-21T16:00:00Z",
            "clean_checks": 60,
            "flaps": 0,
            "evidence": [],
            "override": {
                "state": "suspect",
                "reason": "it smells",
                "by": "uid 0 (root), pid 4711",
                "until": "2026-11-21T18:30:00Z",
            },
        },
        {
            "id": "1b1d7a4a-1b1d-5c55-9f3e-6a4f2c7e3c11",
            "address": "0000:1b:00.0",
            "kind": "nic",
            "model": "Mellanox ConnectX-6 Dx",
            "state": "unmonitored",
            "reasons": [],
            "since": "2026-11-18T12:30:00Z",
            "clean_checks": 0,
            "flaps": 0,
            "evidence": [],
            "override": None,
        },
    ],
}
