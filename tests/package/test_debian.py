# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The Debian package: built from its source package without a network, installed where nothing else is, and purged."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .checkout import REPOSITORY, Checkout, run
from .roots import Impossible, Root, builder, host, wheels

# What is there after any package was installed, and what root's own commands keep.
NOT_OURS = (
    "etc/",
    "proc",
    "root/.cache",
    "run",
    "sys",
    "tmp",
    "var/cache",
    "var/lib/dpkg",
    "var/lib/systemd",
    "var/log",
)


@dataclass(frozen=True)
class Built:
    """A package, the version that it must say, and where it was built."""

    deb: Path
    version: str
    root: Root


@pytest.fixture(scope="module")
def clean() -> Root:
    try:
        return host()
    except Impossible as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def built(clean: Root, tmp_path_factory: pytest.TempPathFactory) -> Built:
    try:
        root = builder(clean).copy(tmp_path_factory.mktemp("builder") / "root")
    except Impossible as why:
        pytest.skip(str(why))
    checkout = Checkout.of(REPOSITORY, tmp_path_factory.mktemp("checkout"))
    out = root.folder / "build"
    environment = {"PYTHON": sys.executable, "WHEELS": str(wheels()), "DISTRIBUTION": "unstable"}
    run("tools/debian-source", out, folder=checkout.folder, environment=environment)
    root.gives("sh", "-c", "cd /build && dpkg-source -x *.dsc tree")
    # -d: nothing is compiled, so build-essential, which is always wanted, is not there.
    root.gives("sh", "-c", "cd /build/tree && dpkg-buildpackage -us -uc -b -d")
    (deb,) = out.glob("*.deb")
    version = (checkout.folder / "devagent/_version.py").read_text().split('"')[1]
    return Built(deb, version, root)


@pytest.fixture(scope="module")
def installed(clean: Root, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = clean.copy(tmp_path_factory.mktemp("host") / "root")
    os.link(built.deb, root.folder / "tmp/devagent.deb")
    root.gives("dpkg", "--install", "/tmp/devagent.deb")
    return root


def test_lintian_finds_no_error(built: Built) -> None:
    ran = built.root.run("sh", "-c", "cd /build && lintian --allow-root --fail-on error --suppress-tags "
                         "bogus-mail-host,bogus-mail-host-in-debian-changelog *.changes")  # fmt: skip
    assert (ran.returncode, [line for line in ran.stdout.splitlines() if line.startswith("E:")]) == (0, [])


def test_an_operators_files_are_configuration_files(built: Built) -> None:
    told = run("dpkg-deb", "--info", built.deb, "conffiles", folder=REPOSITORY).split()
    assert told == ["/etc/devagent/devagent.conf", "/etc/devagent/devices.yaml"]


def test_the_package_names_the_libraries_that_are_in_it(installed: Root, built: Built) -> None:
    listed = (installed.folder / "usr/share/devagent/wheels.sha256").read_text().splitlines()
    assert {line.split()[1] for line in listed} == {
        path.name for path in built.root.folder.glob("build/tree/wheels/*.whl")
    }


def test_each_command_runs_and_says_the_version_of_the_commit(installed: Root, built: Built) -> None:
    assert installed.gives("devagent", "--version") == f"devagent {built.version}"
    for name in ("devagent-agent", "devagent-listener"):
        assert installed.gives(name, "--help").startswith("usage: devagent ")
    assert installed.run("devagent-libvirt-hook", "a", "started", "begin", "-").returncode == 0


def test_everything_that_a_configuration_may_want_is_installed(installed: Root) -> None:
    wanted = "import cryptography, keystonemiddleware, oslo_messaging, oslo_policy, pynvml"
    installed.gives("/usr/lib/devagent/bin/python3", "-W", "ignore", "-c", wanted)


def test_this_machine_and_a_captured_host_are_discovered(installed: Root) -> None:
    assert installed.run("devagent", "discover").returncode in (0, 4)
    (demo,) = installed.folder.glob("usr/lib/devagent/lib/python3.*/site-packages/devagent/cli/demo-host.tar.xz")
    captured = f"/{demo.relative_to(installed.folder)}"
    found = json.loads(installed.gives("devagent", "discover", "--root", captured, "-o", "json"))
    assert len([device for device in found["devices"] if device["kind"] == "gpu"]) == 8


def test_nothing_is_compiled_again_by_a_user_who_could_not_keep_it(installed: Root) -> None:
    (package,) = installed.folder.glob("usr/lib/devagent/lib/python3.*/site-packages")
    sources = {path for path in package.rglob("*.py") if "templates" not in path.parts}
    compiled = {path.parent.parent / f"{path.name.split('.')[0]}.py" for path in package.rglob("__pycache__/*.pyc")}
    assert sources - compiled == set()


def test_the_user_is_there_and_alone_reads_the_configuration_besides_root(installed: Root) -> None:
    assert installed.gives("id", "--name", "--user", "devagent") == "devagent"
    assert installed.gives("stat", "-c", "%a %U %G", "/etc/devagent/devagent.conf") == "640 root devagent"
    assert installed.gives("stat", "-c", "%a %U %G", "/etc/devagent/devagent.conf.d") == "750 root devagent"


def test_systemd_understands_the_units_and_starts_none_by_itself(installed: Root) -> None:
    units = ("devagent.service", "devagent-listener.service")
    # It says what it does not understand, and ends with 0 all the same.
    assert installed.run("systemd-analyze", "verify", "--man=no", *units).stderr == ""
    assert installed.run("systemctl", "is-enabled", *units).stdout.split() == ["disabled", "disabled"]


def test_the_unconfigured_agent_says_what_it_lacks(installed: Root) -> None:
    ran = installed.run("devagent", "agent")
    assert ran.returncode == 2
    assert "[placement]" in ran.stderr


def test_samples_pages_and_completion_are_where_they_are_looked_for(installed: Root) -> None:
    share = installed.folder / "usr/share"
    for name in ("devagent.conf.sample", "systemd/devagent.service.d/wiping.conf.sample"):
        assert (share / "devagent" / name).is_file()
    assert {path.name for path in share.glob("man/man?/*")} >= {
        *(f"{name}.gz" for name in ("devagent.conf.5", "devices.yaml.5", "devagent.8")),
        *(f"devagent-{name}.8.gz" for name in ("agent", "listener", "libvirt-hook")),
    }
    assert (share / "bash-completion/completions/devagent").is_file()


def test_the_libvirt_hook_waits_for_an_operator(installed: Root) -> None:
    assert (installed.folder / "usr/share/devagent/libvirt/hooks/qemu.d/devagent").is_file()
    assert not (installed.folder / "etc/libvirt").exists()


def test_a_purge_leaves_nothing_but_the_user(clean: Root, installed: Root, tmp_path: Path) -> None:
    root = installed.copy(tmp_path / "root")
    state = root.folder / "var/lib/devagent/preparations.db"
    state.parent.mkdir()
    state.touch()
    root.gives("dpkg", "--purge", "devagent")
    left = {path for path in root.files() - clean.files() if not path.startswith(NOT_OURS)}
    assert (left, (root.folder / "etc/devagent").exists()) == (set(), False)
    assert root.gives("id", "--name", "--user", "devagent") == "devagent"
