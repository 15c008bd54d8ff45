# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent report` as an operator runs it: a configuration file, a host, and the real Placement."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .cloud import Cloud
from .conftest import Describe, Devagent, Write
from .descriptions import small

Configure = Callable[[Cloud], Path]


@pytest.fixture
def configure(write: Write) -> Configure:
    """Writes devagent.conf for a compute node."""
    return lambda cloud: write(
        "devagent.conf",
        f"[DEFAULT]\nhost = {cloud.name}\n"
        f"[placement]\nauth_type = admin_token\nendpoint = {cloud.url}\ntoken = admin\n",
    )


def test_dry_run_then_report_then_dry_run(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    arguments = ("report", "--once", "--root", describe(small()), "--config-file", configure(cloud))
    planned = devagent(*arguments, "--dry-run")
    assert (planned.code, planned.err) == (3, "")
    names = [f"devagent:{cloud.name}:{name}" for name in ("numa0", "0000:3b:00.0", "0000:3c:00.0")]
    signs = [line for line in planned.out.splitlines() if not line.startswith(" ")]
    assert signs == [f"+ {names[0]}", f"+ {names[1]}  PGPU 1", f"+ {names[2]}  SRIOV_NET_VF 4"]
    assert list(cloud.tree()) == [cloud.name]

    done = devagent(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{signs[0]}\n")
    assert sorted(done.out.splitlines()[:-1]) == sorted(signs)
    assert done.out.splitlines()[-1].startswith("3 providers, 3 changed, 0 failed (")
    assert set(cloud.tree()) == {cloud.name, *names}

    again = devagent(*arguments, "--dry-run")
    assert (again.code, again.err) == (0, "")
    assert again.out.startswith("Placement is as it should be: 3 providers (")


def test_dry_run_marks_what_changes_and_what_goes(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    config = configure(cloud)
    devagent("report", "--root", describe(small()), "--config-file", config)
    before = cloud.generations()
    planned = devagent("report", "--dry-run", "--root", describe(small(gpu=None, vfs=2)), "--config-file", config)
    assert planned.code == 3
    assert planned.out.splitlines() == [
        f"~ devagent:{cloud.name}:0000:3c:00.0  SRIOV_NET_VF 2",
        "    SRIOV_NET_VF 4 -> SRIOV_NET_VF 2",
        f"- devagent:{cloud.name}:0000:3b:00.0  emptied and kept",
        "    PGPU 1 -> none",
    ]
    assert cloud.generations() == before


def test_a_device_that_is_gone_but_in_use_is_said_to_be_closed(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    config = configure(cloud)
    devagent("report", "--root", describe(small()), "--config-file", config)
    gpu = f"devagent:{cloud.name}:0000:3b:00.0"
    cloud.allocate(cloud.tree()[gpu]["uuid"], PGPU=1)
    done = devagent("report", "--root", describe(small(gpu=None)), "--config-file", config)
    assert done.code == 0
    assert done.out.splitlines()[0] == f"- {gpu}  in use, closed to new consumers: PGPU 1 (1 reserved)"


def test_with_once_a_missing_compute_node_fails_and_says_what_to_do(
    empty_cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    ran = devagent("report", "--once", "--root", describe(small()), "--config-file", configure(empty_cloud))
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert empty_cloud.name in line
    assert "[DEFAULT] host" in line
    assert "openstack hypervisor list" in line


def test_without_once_a_missing_compute_node_is_waited_for(
    empty_cloud: Cloud,
    describe: Describe,
    configure: Configure,
    devagent: Devagent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    naps: list[float] = []
    sleep = time.sleep

    def nova_starts_at_the_third_look(seconds: float) -> None:
        if threading.current_thread() is not threading.main_thread():  # Placement's own server
            return sleep(seconds)
        naps.append(seconds)
        if len(naps) == 2:
            empty_cloud.create(empty_cloud.name, None, empty_cloud.root)
        return None

    monkeypatch.setattr(time, "sleep", nova_starts_at_the_third_look)
    ran = devagent("report", "--root", describe(small()), "--config-file", configure(empty_cloud))
    assert ran.code == 0
    assert len(naps) == 2
    assert ran.err.count("devagent: waiting: ") == len(ran.err.splitlines()) == 1
    assert len(empty_cloud.tree()) == 4


def test_the_compute_node_is_found_by_novas_own_uuid(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    """The name in the configuration is wrong here, and does not matter."""
    config = configure(Cloud(cloud.url, cloud.root, "another-name"))
    ran = devagent("report", "--once", "--root", describe(small(compute_id=cloud.root)), "--config-file", config)
    assert ran.code == 0
    assert f"devagent:{cloud.name}:numa0" in cloud.tree()


def test_the_hosts_own_name_is_taken_where_none_is_configured(
    cloud: Cloud, describe: Describe, write: Write, devagent: Devagent
) -> None:
    config = write("devagent.conf", f"[placement]\nauth_type = admin_token\nendpoint = {cloud.url}\ntoken = admin\n")
    ran = devagent("report", "--once", "--root", describe(small(name=cloud.name)), "--config-file", config)
    assert ran.code == 0
    assert f"devagent:{cloud.name}:numa0" in cloud.tree()


def test_a_host_that_is_read_in_part_is_reported_and_exits_4(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    host = describe(small())
    method = (host / "sys/bus/pci/devices/0000:3b:00.0/reset_method").resolve()
    method.unlink()
    method.mkdir()
    ran = devagent("report", "--once", "--root", host, "--config-file", configure(cloud))
    assert ran.code == 4
    assert "0000:3b:00.0: reset_method is a directory [pci]" in ran.err
    assert len(cloud.tree()) == 4


def test_nest_and_policy_are_taken_from_the_configuration(
    cloud: Cloud, describe: Describe, write: Write, configure: Configure, devagent: Devagent
) -> None:
    policy = write("devices.yaml", "schema_version: 1\nrules:\n- {name: g, match: {kind: gpu}, mode: whole}\n")
    more = write("more.conf", f"[inventory]\nnest = flat\npolicy_file = {policy}\n")
    config = configure(cloud)
    ran = devagent("report", "--root", describe(small()), "--config-file", config, "--config-file", more)
    assert ran.code == 0
    assert set(cloud.tree()) == {cloud.name, f"devagent:{cloud.name}:0000:3b:00.0"}


def test_config_dir_is_read(
    cloud: Cloud, describe: Describe, write: Write, configure: Configure, devagent: Devagent
) -> None:
    config = configure(cloud)
    folder = config.parent / "conf.d"
    folder.mkdir()
    shutil.move(config, folder / "a.conf")
    assert devagent("report", "--once", "--root", describe(small()), "--config-dir", folder).code == 0


def test_a_wrong_policy_exits_2_with_file_line_and_key(
    cloud: Cloud, describe: Describe, write: Write, configure: Configure, devagent: Devagent
) -> None:
    policy = write("devices.yaml", "schema_version: 1\nrules:\n  - name: a\n    match: {}\n    mode: all\n")
    arguments = ("--root", describe(small()), "--config-file", configure(cloud), "--policy", policy)
    ran = devagent("report", "--once", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"devagent: error: {policy}:5: rules[0].mode: is 'all'; expected is whole, vf or ignore\n"
    assert list(cloud.tree()) == [cloud.name]


def test_a_policy_that_the_configuration_names_must_exist(
    cloud: Cloud, describe: Describe, write: Write, configure: Configure, devagent: Devagent
) -> None:
    more = write("more.conf", "[inventory]\npolicy_file = /nonexistent/devices.yaml\n")
    config = configure(cloud)
    ran = devagent("report", "--root", describe(small()), "--config-file", config, "--config-file", more)
    assert (ran.code, ran.out) == (2, "")
    assert "/nonexistent/devices.yaml" in ran.err


@pytest.mark.parametrize(
    "text", ["[inventory]\nnest = tree\n", "[inventory\n", "[placement]\nauth_type = none\ntimeout = soon\n"]
)
def test_a_wrong_configuration_exits_2_and_names_the_file(
    describe: Describe, write: Write, devagent: Devagent, text: str
) -> None:
    config = write("devagent.conf", text)
    ran = devagent("report", "--once", "--root", describe(small()), "--config-file", config)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert str(config) in ran.err


@pytest.mark.parametrize("command", ["report", "discover"])
@pytest.mark.parametrize("option", ["--config-file", "--policy"])
def test_a_file_that_is_not_there_exits_2_and_is_named(
    describe: Describe, write: Write, devagent: Devagent, tmp_path: Path, command: str, option: str
) -> None:
    config = write("devagent.conf", "[placement]\nauth_type = none\nendpoint = http://127.0.0.1:1\n")
    absent = tmp_path / "absent"
    ran = devagent(command, "--root", describe(small()), "--config-file", config, option, absent)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert str(absent) in ran.err


def test_as_a_process_report_says_and_exits_the_same(
    cloud: Cloud, describe: Describe, configure: Configure, devagent_process: Devagent
) -> None:
    arguments = ("report", "--once", "--root", describe(small()), "--config-file", configure(cloud))
    assert devagent_process(*arguments, "--dry-run").code == 3
    done = devagent_process(*arguments)
    assert (done.code, done.err) == (0, "")
    assert len(cloud.tree()) == 4
