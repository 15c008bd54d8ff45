# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Gives devices the names that the system's pci.ids has for them; where it has none, the driver's own stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from devagent.model.claim import Claim
from devagent.model.snapshot import Snapshot
from devagent.model.vendors import VENDORS


def named(claims: Mapping[str, Claim], snapshot: Snapshot) -> dict[str, Claim]:
    """Replaces vendor and model, which are for people only: traits and decisions never come from them."""
    return {address: _named(claim, snapshot) for address, claim in claims.items()}


def _named(claim: Claim, snapshot: Snapshot) -> Claim:
    function = snapshot.functions[claim.address]
    found = snapshot.names.get(f"{function.vendor_id}:{function.device_id}")
    if found is None:
        return claim
    vendor, device = found
    return replace(
        claim,
        vendor=VENDORS.get(function.vendor_id) or vendor or claim.vendor,
        model=_marketing(device) or claim.model,
    )


def _marketing(device: str) -> str:
    """Gives what is in brackets at the end, which is what people call it: `GA100 [A100 PCIe 40GB]`."""
    match = re.fullmatch(r".*\[([^\]]+)\]", device)
    return match[1] if match else device
