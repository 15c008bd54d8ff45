# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a described host's sysfs and procfs as a directory or an archive.

Usage: python tests/hosts/generate.py tests/hosts/gpu8.yaml DEST
       python tests/hosts/generate.py tests/hosts/gpu8.yaml DEST.tar.xz
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Run as a file, python puts this folder on the path where the repository should be.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    __package__ = "tests.hosts"

from .fpga import write_fpgas
from .kfd import write_kfd
from .mdev import write_mdevs
from .network import write_network
from .node import DescriptionError
from .nvml import write_nvml
from .pci import write_bus
from .reader import read_host
from .storage import write_storage
from .system import write_system
from .topology import Function, place
from .tree import Tree

__all__ = ["DescriptionError", "generate", "generate_archive"]


def generate(description: Mapping[str, Any] | Path, dest: Path) -> Path:
    """Writes the described host's tree below dest and returns dest."""
    tree, _ = _build(description)
    dest.mkdir(parents=True, exist_ok=True)
    tree.write(dest)
    return dest


def generate_archive(description: Mapping[str, Any] | Path, dest: Path) -> Path:
    """Writes the tree as a .tar.xz, below a folder of the host's name."""
    tree, name = _build(description)
    dest.parent.mkdir(parents=True, exist_ok=True)
    tree.archive(dest, name)
    return dest


def _build(description: Mapping[str, Any] | Path) -> tuple[Tree, str]:
    host = read_host(description)
    functions = place(host)
    tree = Tree()
    virtio = _write_virtio(tree, functions)
    write_system(tree, host)
    write_bus(tree, host, functions)
    write_network(tree, host, functions, virtio)
    write_storage(tree, host, functions, virtio)
    write_fpgas(tree, functions)
    write_mdevs(tree, functions)
    write_kfd(tree, host)
    write_nvml(tree, host)
    for path, text in host.files.items():
        folder, _, name = path.rpartition("/")
        tree.files(folder, {name: text})
    return tree, host.name


def _write_virtio(tree: Tree, functions: Sequence[Function]) -> dict[str, str]:
    """Adds the virtio device below each virtio-pci function, by its path."""
    found = [function for function in functions if function.driver == "virtio-pci"]
    paths = {function.path: f"{function.path}/virtio{index}" for index, function in enumerate(found)}
    for path in paths.values():
        tree.files(path, {"uevent": ""})
    return paths


def main(arguments: Sequence[str]) -> int:
    """Generates what the command line names."""
    if len(arguments) != 2:
        sys.stderr.write(f"{__doc__}")
        return 2
    description, dest = (Path(argument) for argument in arguments)
    try:
        (generate_archive if dest.name.endswith(".tar.xz") else generate)(description, dest)
    except DescriptionError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
