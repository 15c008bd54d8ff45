# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A PCI function as the verbs see it: its folder in sysfs, its driver, who has it open, and one write to a file.

Whatever is refused says which device it is about, what the kernel's answer means, and whether to try again.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devagent.cause import system_words
from devagent.model.preparation import Holder, RefusalKind
from devagent.privileged import users
from devagent.privileged.refused import PERMANENT, RETRY, VerbRefused

Meanings = Mapping[int, tuple[RefusalKind, str]]
"""By errno: whether to try again, and what the answer means for an operator."""

_CLOSED: Final = {
    errno.EACCES: "; the privileged process needs CAP_DAC_OVERRIDE (see devagent.service)",
    errno.EROFS: "; /sys is mounted read-only, as in a container",
}

_CURES: Final = {
    "nvidia-persiste": "; nvidia-persistenced lets go of it after nvidia-smi -i {address} -pm 0",
    "nv-hostengine": "; it is DCGM: stop nvidia-dcgm for as long",
}
"""What to do about those who have GPUs open all the time, by the 15 letters of the command that the kernel keeps."""
_FORBIDDEN: Final = (
    "; the unit must allow it (DeviceAllow in devagent.service), and looks up its driver only at its start: restart"
    " devagent if the driver was loaded later"
)
_NODE: Final[Meanings] = {
    errno.EPERM: (PERMANENT, _FORBIDDEN),
    errno.EACCES: (PERMANENT, "; the privileged process needs CAP_DAC_OVERRIDE (see devagent.service)"),
    errno.EBUSY: (RETRY, "; somebody has it open"),
}


@dataclass(frozen=True, slots=True)
class Device:
    """The function at `address`, to which `verb` is done; `root` is where the host's tree begins."""

    verb: str
    root: Path
    address: str

    @property
    def folder(self) -> Path:
        """Its folder in sysfs."""
        return self.root / "sys/bus/pci/devices" / self.address

    def refusal(self, kind: RefusalKind, text: str, holders: tuple[Holder, ...] = ()) -> VerbRefused:
        """Gives what is to be raised; `text` is about the device."""
        return VerbRefused(self.verb, f"{self.address}{text}", kind, holders)

    def names(self) -> list[str]:
        """Gives what is in its folder. Raises VerbRefused if it is not there."""
        try:
            return [each.name for each in self.folder.iterdir()]
        except FileNotFoundError:
            text = f"{self.address}: there is no such PCI device (any more)"
            raise VerbRefused(self.verb, text, PERMANENT, gone=True) from None

    def vfs(self) -> list[str]:
        """Gives its links to VFs (virtfn0, ...). Raises VerbRefused if it is not there."""
        return [name for name in self.names() if re.fullmatch("virtfn[0-9]+", name)]

    def vf_folders(self, links: Iterable[str]) -> list[tuple[Path, str]]:
        """Gives the folders of the VFs behind these links, each with how it is called: `VF 3`."""
        return [(self.folder / link, f"VF {link.removeprefix('virtfn')}") for link in sorted(links)]

    def driver(self) -> str | None:
        """Gives the driver that it is bound to; following the link waits for no lock."""
        try:
            return (self.folder / "driver").readlink().name
        except OSError:
            return None

    def write(self, path: Path, text: str, missing: str, meanings: Meanings) -> None:
        """Writes to a file of sysfs, once. Raises VerbRefused; `missing` says what it means that there is none."""
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self.names()
            raise self.refusal(PERMANENT, missing) from None
        except OSError as error:
            hint = _CLOSED.get(error.errno or 0, "")
            raise self.refusal(PERMANENT, f": {path.name} cannot be opened: {system_words(error)}{hint}") from None
        try:
            # One write: a Python file object would do a failing one twice.
            os.write(fd, text.encode())
        except OSError as error:
            self.names()  # it may have been pulled out meanwhile
            raise self._answered(error, meanings) from None
        finally:
            os.close(fd)

    def _answered(self, error: OSError, meanings: Meanings) -> VerbRefused:
        kind, meaning = meanings.get(error.errno or 0, (RETRY, ""))
        if meaning:
            return self.refusal(kind, f": {meaning} ({system_words(error)})")
        driver = self.driver()
        who = f"its driver {driver}" if driver else "the kernel"
        return self.refusal(kind, f": {who} answered: {system_words(error)}")

    def nobody_has(self, folders: Iterable[tuple[Path, str]], nodes: Iterable[tuple[str, str]] = ()) -> None:
        """Raises VerbRefused if a process has one of the functions or mediated devices open, or one of `nodes`.

        Each comes as its folder in sysfs, or as its name in /dev, and how it is called where it is not the device
        itself.
        """
        named = dict(folders)
        found = {node: name for folder, name in named.items() for node in users.nodes(folder)}
        found |= {f"/dev/{node}": name for node, name in nodes}
        if self.folder in named:
            found |= dict.fromkeys(users.gpu_nodes(self.root / "proc", self.address), "")
        self.nobody_opens(found)

    def nobody_opens(self, nodes: Mapping[str, str]) -> None:
        """Raises VerbRefused if another process has one of the device nodes open; they come with names as above."""
        for holder, node in self._openers(nodes):
            what = f": {nodes[node]} is in use" if nodes[node] else " is in use"
            cure = _CURES.get(holder.command or "", "").format(address=self.address)
            raise self.refusal(RETRY, f"{what}: process {holder.pid} has {node} open{cure}", (holder,))

    def openers(self, folders: Iterable[Path]) -> Iterator[tuple[Holder, str]]:
        """Gives which other processes have one of them open, and by which node.

        Raises VerbRefused where that may not be seen.
        """
        proc, named = self.root / "proc", list(folders)
        nodes = {node for folder in named for node in users.nodes(folder)}
        if self.folder in named:
            nodes.update(users.gpu_nodes(proc, self.address))
        return self._openers(nodes)

    def _openers(self, nodes: Collection[str]) -> Iterator[tuple[Holder, str]]:
        proc, itself = self.root / "proc", str(os.getpid())
        try:
            for process, node in users.opened(proc) if nodes else ():
                if node in nodes and process != itself:
                    yield users.holder(proc, process), node
        except PermissionError:
            why = ": whether it is in use may not be seen; the privileged process needs CAP_SYS_PTRACE"
            raise self.refusal(PERMANENT, f"{why} (see devagent.service)") from None


@contextmanager
def opening(device: Device, node: str, flags: int = 0) -> Iterator[int]:
    """Opens a node in /dev while something is done. Raises VerbRefused; with O_EXCL if somebody has it open."""
    try:
        fd = os.open(device.root / "dev" / node, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags)
    except OSError as error:
        kind, hint = _NODE.get(error.errno or 0, (RETRY, ""))
        raise device.refusal(kind, f": /dev/{node} cannot be opened: {system_words(error)}{hint}") from None
    try:
        yield fd
    finally:
        os.close(fd)


def text(path: Path) -> str:
    """Gives what a file of sysfs says, stripped; nothing where it says nothing."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def lines(path: Path) -> list[str]:
    """Gives the first lines of a file of sysfs, such as an fpga_manager's `status`."""
    return [line.strip()[:80] for line in text(path).splitlines()[:8]]
