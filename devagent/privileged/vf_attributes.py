# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sets what a NIC's VF may do, through its PF: MAC, VLAN, trust and rate, as `ip link set NIC vf N` does."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from devagent.cause import system_words
from devagent.privileged import rtnetlink
from devagent.privileged.device import Device, Meanings
from devagent.privileged.refused import PERMANENT, RETRY, VerbRefused

NAMES: Final = ("mac", "vlan", "trust", "rate")

_MEANINGS: Final[Meanings] = {
    errno.EPERM: (PERMANENT, "not permitted; the privileged process needs CAP_NET_ADMIN (see devagent.service)"),
    errno.EOPNOTSUPP: (PERMANENT, "its driver cannot set that"),
    errno.EINVAL: (PERMANENT, "its driver does not take that value"),
    errno.ENODEV: (RETRY, "its network interface has gone"),
}


def vf_attributes(root: Path, address: str, index: int) -> dict[str, Any]:
    """Gives mac, vlan, trust and rate of a PF's VF; None is what the driver does not tell. Raises VerbRefused."""
    return dict(_find(Device("vf_attributes", root, address), index)[1])


def set_vf_attributes(root: Path, address: str, index: int, **values: str | int | None) -> dict[str, Any]:
    """Sets those of mac, vlan, trust and rate (Mbit/s) that are not None, each if it is not so; gives all.

    Raises VerbRefused if the driver does not take a value, or takes it and does not keep it.
    """
    device = Device("set_vf_attributes", root, address)
    interface, now = _find(device, index)
    for name, value in values.items():
        if value is not None and now[name] != value:
            try:
                rtnetlink.set_vf(interface, index, name, value)
            except OSError as error:
                raise _refusal(device, f"VF {index}: {name} {value}", error) from None
    after = _find(device, index)[1]
    for name, value in values.items():
        # What the driver does not tell cannot be checked.
        if value is not None and after[name] not in (value, None):
            text = f": VF {index} has {name} {after[name]}, though {value} was reported set"
            raise device.refusal(PERMANENT, text)
    return dict(after)


def _find(device: Device, index: int) -> tuple[int, Mapping[str, str | int | None]]:
    """Gives the index of the PF's interface that knows the VF, and how the VF is."""
    device.names()
    try:
        for folder in sorted((device.folder / "net").iterdir()):
            interface = int((folder / "ifindex").read_text())
            # With representors there are several, of which one only has the VFs.
            known = rtnetlink.vfs(interface)
            if index in known:
                return interface, known[index]
    except FileNotFoundError:
        text = f" has no network interface with its driver {device.driver()}: its VFs cannot be set"
        raise device.refusal(PERMANENT, text) from None
    except OSError as error:
        raise _refusal(device, f"VF {index}", error) from None
    raise device.refusal(PERMANENT, f": its network interface knows no VF {index}")


def _refusal(device: Device, what: str, error: OSError) -> VerbRefused:
    kind, meaning = _MEANINGS.get(error.errno or 0, (RETRY, f"its driver {device.driver()} answered"))
    return device.refusal(kind, f": {what}: {meaning} ({system_words(error)})")
