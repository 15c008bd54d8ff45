# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Spells custom traits and resource classes as Placement wants them: `CUSTOM_` and [A-Z0-9_], 255 at most."""

from __future__ import annotations

import re
from typing import Final

MAX_LENGTH: Final = 255


def custom(*parts: str) -> str:
    """Joins `parts` to one custom name: `custom("MODEL", "A100 80GB")` is `CUSTOM_MODEL_A100_80GB`."""
    text = "_".join(parts).upper()
    return ("CUSTOM_" + re.sub(r"[^A-Z0-9]+", "_", text).strip("_"))[:MAX_LENGTH]


def pci_class(vendor_id: str, device_id: str) -> str:
    """Gives the resource class of a device that no standard class describes: `CUSTOM_PCI_10DE_20F1`."""
    return custom("PCI", vendor_id, device_id)
