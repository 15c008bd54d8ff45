# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A generated host on which devices come and go, VFs are made and removed, and drivers change, as on a real one."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

from devagent.model.pci import is_address

from .worlds import PCI

DRIVERS = "sys/bus/pci/drivers"

Links = list[tuple[Path, Path]]


class ChangingHost:
    """A copy of a generated tree; what is taken out of it is kept beside it, and can be put back."""

    def __init__(self, generated: Path, folder: Path) -> None:
        self.top, self._aside = folder / "host", folder / "aside"
        shutil.copytree(generated, self.top, symlinks=True, copy_function=os.link)
        self._aside.mkdir()
        self._links = {self.top / link: self.top / target for link, target in links(generated)}
        self._places: dict[str, tuple[Path, Links]] = {}

    def there(self) -> list[str]:
        """Gives the functions that are there and have no other below them, of which the kernel would tell as well."""
        places = {each: self.place(each) for each in functions(self.top / PCI)}
        above = {folder for place in places.values() for folder in place.parents}
        return [each for each, place in places.items() if place not in above]

    def away(self) -> list[str]:
        """Gives the functions that were taken out, a VF only if its PF is there."""
        here = functions(self.top / PCI)
        return [each for each in sorted(self._places) if self._pf(self._aside / each) in (None, *here)]

    def pfs(self) -> list[str]:
        """Gives the PFs that have VFs."""
        return [each for each in self.there() if (self.place(each) / "virtfn0").is_symlink()]

    def place(self, address: str) -> Path:
        """Gives the directory of a function."""
        return (self.top / PCI / address).resolve()

    def vfs(self, pf: str) -> list[str]:
        """Gives the VFs of a PF by their indexes."""
        links = sorted(self.place(pf).glob("virtfn*"), key=lambda link: int(link.name.removeprefix("virtfn")))
        return [link.readlink().name for link in links]

    def unplug(self, address: str) -> None:
        """Takes a function out, with its VFs and every link that leads to it."""
        for vf in self.vfs(address):
            self.unplug(vf)
        place = self.place(address)
        # Its own links go with it.
        leading = (link for link, target in self._links.items() if target == place or place in target.parents)
        links = [(link, link.readlink()) for link in leading if link.is_symlink() and place not in link.parents]
        for link, _ in links:
            link.unlink()
        self._places[address] = (place, links)
        place.rename(self._aside / address)

    def plug(self, address: str) -> None:
        """Puts a function back where it was."""
        place, links = self._places.pop(address)
        (self._aside / address).rename(place)
        for link, target in links:
            if link.parent.is_dir() and not link.is_symlink():
                link.symlink_to(target)

    def remove_vfs(self, pf: str, left: int) -> list[str]:
        """Leaves so many VFs to a PF, and gives the others."""
        removed = self.vfs(pf)[left:]
        for vf in reversed(removed):
            self.unplug(vf)
        return removed

    def bind(self, address: str, driver: str | None) -> None:
        """Gives a function to another driver, or to none."""
        place = self.place(address)
        link = place / "driver"
        if link.is_symlink():
            (self.top / DRIVERS / link.readlink().name / address).unlink()
            link.unlink()
        if driver is not None:
            folder = self.top / DRIVERS / driver
            folder.mkdir(exist_ok=True)
            link.symlink_to(os.path.relpath(folder, place))
            (folder / address).symlink_to(os.path.relpath(place, folder))
            self._links[folder / address] = place

    def say(self, address: str, name: str, text: str) -> None:
        """Writes a file of a function."""
        file = self.place(address) / name
        file.unlink(missing_ok=True)  # it is the generated tree's, too
        file.write_text(text)

    def _pf(self, place: Path) -> str | None:
        link = place / "physfn"
        return link.readlink().name if link.is_symlink() else None


def functions(folder: Path) -> list[str]:
    """Gives the addresses that a directory has entries of, in order."""
    return sorted(each.name for each in folder.iterdir() if is_address(each.name))


@cache
def links(generated: Path) -> tuple[tuple[Path, Path], ...]:
    """Gives the links of a tree below sys, and where they lead to, both from its top."""
    found = []
    for folder, folders, files in os.walk(generated / "sys"):
        for link in (Path(folder, name) for name in (*folders, *files)):
            if link.is_symlink():
                target = os.path.normpath(link.parent / link.readlink())
                found.append((link.relative_to(generated), Path(target).relative_to(generated)))
    return tuple(found)
