# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Nova's configuration on this host takes for itself: `[pci]device_spec` and `enabled_mdev_types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One entry of `[pci]device_spec` (nova/pci/devspec.py); `text` as written, `keys` its selectors.

    The selectors that name devices are vendor_id, product_id, address (a pattern such as `*:0a:00.*`, lower
    case and padded, or a mapping of regular expressions) and devname. With `devname`, `address` is where that
    interface was found; without one the spec takes nothing.
    """

    text: str
    origin: str
    keys: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NovaDevices:
    """`mdev_types` maps each enabled type to the PCI addresses that it is for; none: every parent."""

    specs: tuple[DeviceSpec, ...] = ()
    mdev_types: tuple[tuple[str, tuple[str, ...]], ...] = ()


NOTHING: Final = NovaDevices()
"""Nova's configuration takes no device, or says nothing."""
