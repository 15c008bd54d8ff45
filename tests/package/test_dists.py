# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The sdist and the wheel: what is in them, that they are the same bytes each time, and which version they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from .checkout import REPOSITORY, Checkout, run

TOP: Final = {"CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "constraints.txt", "pyproject.toml", "setup.cfg"}
MADE: Final = {"PKG-INFO", "devagent/_version.py"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout.of(REPOSITORY, tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def dists(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Gives the sdist and the wheel, made from a commit that nothing tags."""
    return checkout.dist(tmp_path_factory.mktemp("dist"))


def shipped(checkout: Checkout) -> set[str]:
    """Gives what both must have of the package: modules, the drivers where they are imported, schemas, the demo."""
    modules = {path for path in checkout.files if path.startswith("devagent/") and path != "devagent/drivers"}
    drivers = {f"devagent/{path}" for path in checkout.files if path.startswith("drivers/")}
    return modules | drivers | {"devagent/_version.py"}


def test_the_sdist_has_the_package_its_documents_and_samples_and_nothing_else(
    checkout: Checkout, dists: tuple[Path, Path]
) -> None:
    with tarfile.open(dists[0]) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
        assert all(member.isfile() or member.isdir() for member in archive.getmembers()), "links do not belong here"
    read = {path for path in checkout.files if path.startswith(("docs/", "etc/", "examples/"))}
    assert {name for name in names if not name.startswith("devagent.egg-info/")} == (
        shipped(checkout) | read | TOP | MADE
    )


def test_the_wheel_has_the_package_and_what_is_installed_beside_it_and_nothing_else(
    checkout: Checkout, dists: tuple[Path, Path]
) -> None:
    with zipfile.ZipFile(dists[1]) as archive:
        names = set(archive.namelist())
    package = {name for name in names if name.startswith("devagent/")}
    assert package == shipped(checkout)
    beside = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    samples = {path for path in checkout.files if path.startswith("etc/") and not path.endswith("generator.conf")}
    pages = {path for path in checkout.files if path.startswith("docs/man/")}
    assert sorted(map(_name, beside)) == sorted(map(_name, samples | pages))
    assert all(name.startswith("share/") for name in beside)
    assert {name for name in names - package if ".dist-info/" not in name and ".data/data/" not in name} == set()


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def test_two_builds_of_one_commit_are_the_same_bytes(
    checkout: Checkout, dists: tuple[Path, Path], tmp_path: Path
) -> None:
    other = Checkout(Path(shutil.copytree(checkout.folder, tmp_path / "elsewhere", symlinks=True)), checkout.files)
    run("git", "checkout", "-q", "-b", "another-branch", folder=other.folder)
    (other.folder / "build/lib/devagent").mkdir(parents=True)
    (other.folder / "build/lib/devagent/left_over.py").touch()
    again = other.dist(tmp_path / "dist")
    assert [path.name for path in again] == [path.name for path in dists]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in dists]


def said(folder: Path) -> str:
    """Gives what `devagent --version` says of a package in a folder, whichever is installed."""
    command = (sys.executable, "-S", "-m", "devagent", "--version")
    return run(*command, folder=folder, environment={"PYTHONPATH": str(folder)}).removeprefix("devagent ")


def test_an_untagged_commit_is_a_development_version_that_names_the_commit(
    checkout: Checkout, dists: tuple[Path, Path], tmp_path: Path
) -> None:
    commit = run("git", "rev-parse", "HEAD", folder=checkout.folder)
    with zipfile.ZipFile(dists[1]) as archive:
        archive.extractall(tmp_path)
    version = said(tmp_path)
    assert version.startswith("0.1.0.dev")
    assert commit.startswith(version.partition("+g")[2])
    assert dists[1].name == f"devagent-{version}-py3-none-any.whl"


def test_a_tag_is_the_version_and_the_sdist_keeps_it_without_git(checkout: Checkout, tmp_path: Path) -> None:
    tagged = Checkout(Path(shutil.copytree(checkout.folder, tmp_path / "tagged", symlinks=True)), checkout.files)
    run("git", "tag", "v7.8.9", folder=tagged.folder)
    sdist, wheel = tagged.dist(tmp_path / "dist")
    assert (sdist.name, wheel.name) == ("devagent-7.8.9.tar.gz", "devagent-7.8.9-py3-none-any.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / "devagent-7.8.9"
    made = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    assert run(sys.executable, "-c", made, folder=unpacked).endswith("devagent-7.8.9-py3-none-any.whl")
    assert said(unpacked) == "7.8.9"


def test_a_checkout_that_nothing_was_built_from_does_not_pretend_to_know(checkout: Checkout, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(checkout.folder / "devagent", bare / "devagent", ignore=shutil.ignore_patterns("_version.py"))
    assert said(bare) == "0+unknown"


def test_a_build_that_fails_leaves_nothing_behind(checkout: Checkout, tmp_path: Path) -> None:
    ran = subprocess.run(
        ["tools/dist", tmp_path],
        cwd=checkout.folder,
        env={**os.environ, "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode != 0
    assert list(tmp_path.iterdir()) == []
