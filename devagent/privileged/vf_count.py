# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes and removes the VFs of a PF.

    # ls -l /sys/bus/pci/devices/0000:3b:00.0/
    --w--w---- sriov_numvfs                       sriov_totalvfs
    lrwxrwxrwx virtfn0 -> ../0000:3b:00.1         iommu_group -> ../../../../kernel/iommu_groups/12

How many there are is counted by the links: reading sriov_numvfs waits for the device's lock, which a hanging
removal holds for ever (seen on 6.1 and 6.12). NVIDIA's driver makes none so: see sriov_manage.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, Final

from devagent.privileged import sriov_manage
from devagent.privileged.device import Device, Meanings
from devagent.privileged.refused import PERMANENT, RETRY

NAME: Final = "set_vf_count"


def set_vf_count(root: Path, address: str, count: int) -> dict[str, Any]:
    """Brings a PF from no VFs to `count`, or from any number to none; gives how many there were and are.

    Raises VerbRefused if the kernel refuses, if what came of it is another number, or if VFs that are to go are open.
    """
    device = Device(NAME, root, address)
    vfs = device.vfs()
    before = len(vfs)
    if before != count:
        if before and count:
            text = f" has {before} VFs: they must be removed before there can be {count}"
            raise device.refusal(PERMANENT, text)
        if device.driver() == "nvidia":
            sriov_manage.set_vfs(device, count)
        else:
            device.nobody_has(device.vf_folders(vfs))
            missing = " is no SR-IOV PF: it cannot have VFs"
            device.write(device.folder / "sriov_numvfs", str(count), missing, _meanings(device.driver(), count))
    after = len(device.vfs())
    if after != count:
        asked = f"{count} were asked for and its driver {device.driver() or ''} reported success"
        raise device.refusal(PERMANENT, f" has {after} VFs, though {asked}")
    return {"before": before, "after": after}


def _meanings(driver: str | None, count: int) -> Meanings:
    """Says what the kernel's answer to the write means (drivers/pci/iov.c, sriov_numvfs_store)."""
    unable = f"its driver {driver} cannot make VFs; bind one that can"
    bare = "it has no driver, and VFs are made by the driver; bind one"
    exact = f"its driver {driver} cannot make just {count} VFs; dfl-pci makes as many as ports were released"
    room = "the firmware left no room for VFs; look for SR-IOV, ARI and decoding above 4G in its set-up"
    return {
        errno.ENOENT: (PERMANENT, unable if driver else bare),
        errno.EBUSY: (RETRY, f"its driver {driver} is busy; it is worth another try"),
        errno.ERANGE: (PERMANENT, f"it cannot have {count} VFs; its firmware or driver offers fewer"),
        errno.EINVAL: (PERMANENT, exact),
        errno.ENOMEM: (PERMANENT, room),
        errno.EPERM: (RETRY, f"its driver {driver} does not permit it while VFs are given away"),
    }
