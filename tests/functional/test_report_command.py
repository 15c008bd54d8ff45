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

from devagent.drivers.nvidia import Nvidia
from devagent.placement.state import StateFile

from .cloud import Cloud
from .conftest import Describe, Devagent, Write
from .descriptions import small

Configure = Callable[[Cloud], Path]


@pytest.fixture
def configure(write: Write, tmp_path: Path) -> Configure:
    """Writes devagent.conf for a compute node, whose state is kept beside it."""
    return lambda cloud: write(
        "devagent.conf",
        f"[DEFAULT]\nhost = {cloud.name}\nstate_path = {tmp_path / 'state'}\n"
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


def test_where_novas_uuid_is_known_the_advice_is_about_that(
    empty_cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    host = describe(small(compute_id=empty_cloud.root))
    ran = devagent("report", "--once", "--root", host, "--config-file", configure(empty_cloud))
    assert ran.code == 1
    assert empty_cloud.root in ran.err
    assert "compute_id" in ran.err
    assert "[DEFAULT] host" not in ran.err


def test_a_dry_run_waits_for_no_compute_node(
    empty_cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    ran = devagent("report", "--dry-run", "--root", describe(small()), "--config-file", configure(empty_cloud))
    assert (ran.code, ran.out) == (1, "")
    assert empty_cloud.name in ran.err


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
        # Placement's own server, and the short sleep of whoever waits for a child to end.
        if threading.current_thread() is not threading.main_thread() or seconds < 1:
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
    cloud: Cloud, describe: Describe, write: Write, devagent: Devagent, tmp_path: Path
) -> None:
    config = write(
        "devagent.conf",
        f"[DEFAULT]\nstate_path = {tmp_path}\n"
        f"[placement]\nauth_type = admin_token\nendpoint = {cloud.url}\ntoken = admin\n",
    )
    ran = devagent("report", "--once", "--root", describe(small(name=cloud.name)), "--config-file", config)
    assert ran.code == 0
    assert f"devagent:{cloud.name}:numa0" in cloud.tree()


Break = Callable[[Path, pytest.MonkeyPatch], None]
GPU, NIC = "sys/bus/pci/devices/0000:3b:00.0", "sys/bus/pci/devices/0000:3c:00.0"


def unreadable(*paths: str) -> Break:
    """Puts directories where files were, which even root cannot read."""

    def breaks(host: Path, _: pytest.MonkeyPatch) -> None:
        for path in paths:
            file = (host / path).parent.resolve() / Path(path).name
            file.unlink(missing_ok=True)
            file.mkdir()

    return breaks


def no_bus(host: Path, _: pytest.MonkeyPatch) -> None:
    """Puts a file where the list of functions was."""
    (host / "sys/bus/pci/devices").rename(host / "sys/bus/pci/devices-away")
    (host / "sys/bus/pci/devices").write_text("")


def raising(name: str) -> Break:
    """Lets a method of the NVIDIA driver raise; without `__init__` it cannot be loaded."""

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    return lambda _, monkeypatch: monkeypatch.setattr(Nvidia, name, fail)


UNKNOWN = {
    "a driver that raises": (raising("claim"), "0000:3b:00.0: driver nvidia failed: RuntimeError: broken [nvidia]"),
    "a driver that cannot be loaded": (raising("__init__"), "host: driver cannot be loaded: RuntimeError: broken"),
    "ids": (
        unreadable(f"{GPU}/modalias", f"{GPU}/vendor", f"{GPU}/device"),
        "0000:3b:00.0: has no readable vendor, device and class",
    ),
    "ids of a PF": (
        unreadable(f"{NIC}/modalias", f"{NIC}/vendor", f"{NIC}/device"),
        "0000:3c:00.0: has no readable vendor, device and class",
    ),
    "SR-IOV": (unreadable(f"{NIC}/sriov_totalvfs"), "0000:3c:00.0: sriov_totalvfs is a directory [pci]"),
    "a VF": (unreadable(f"{NIC}/virtfn2"), "0000:3c:00.0: virtfn 2 leads to no function"),
    "NUMA node": (unreadable(f"{GPU}/numa_node"), "0000:3b:00.0: numa_node is a directory [pci]"),
    "reset": (unreadable(f"{GPU}/reset_method"), "0000:3b:00.0: reset_method is a directory [pci]"),
    "boot display": (unreadable(f"{GPU}/boot_vga"), "0000:3b:00.0: boot_vga is a directory [pci]"),
    "the bus": (no_bus, "host: sys/bus/pci/devices: not a directory [pci]"),
    "routes": (unreadable("proc/net/route"), "host: proc/net/route: is a directory [users]"),
    "mounts": (unreadable("proc/self/mountinfo"), "host: proc/self/mountinfo: is a directory [users]"),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_cannot_be_read_is_unknown_and_not_gone(
    cloud: Cloud,
    describe: Describe,
    configure: Configure,
    devagent: Devagent,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    breaks, said = UNKNOWN[what]
    host, config = describe(small()), configure(cloud)
    assert devagent("report", "--root", host, "--config-file", config).code == 0
    before, generations = cloud.tree(), cloud.generations()

    with monkeypatch.context() as broken:
        breaks(host, broken)
        for more in ((), ("--dry-run",)):
            ran = devagent("report", "--root", host, "--config-file", config, *more)
            assert (ran.code, cloud.generations()) == (4, generations)
            assert said in ran.err
    assert cloud.tree() == before

    # Once all can be read again, the next report finds what is really gone, and nothing else to do.
    ran = devagent("report", "--root", describe(small(gpu=None)), "--config-file", config)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[:-1] == [f"- devagent:{cloud.name}:0000:3b:00.0  emptied and kept"]


def test_a_host_that_is_read_in_part_is_reported_as_far_as_it_is_known(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, config = describe(small()), configure(cloud)
    unreadable(f"{GPU}/reset_method")(host, monkeypatch)
    ran = devagent("report", "--once", "--root", host, "--config-file", config)
    assert ran.code == 4
    gpu, others = cloud.tree()[f"devagent:{cloud.name}:0000:3b:00.0"], len(cloud.tree())
    assert (others, gpu["inventories"]["PGPU"]["total"]) == (4, 1)
    assert not [trait for trait in gpu["traits"] if "RESET" in trait]

    ran = devagent("report", "--once", "--root", describe(small()), "--config-file", config)
    assert ran.code == 0
    assert "CUSTOM_RESET_FLR" in cloud.tree()[f"devagent:{cloud.name}:0000:3b:00.0"]["traits"]


def test_a_dry_run_says_what_is_held_and_exits_0(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    config, gpu = configure(cloud), f"devagent:{cloud.name}:0000:3b:00.0"
    devagent("report", "--root", describe(small()), "--config-file", config)
    consumer = cloud.allocate(cloud.tree()[gpu]["uuid"], PGPU=1)
    arguments = ("report", "--root", describe(small(gpu=None)), "--config-file", config)
    devagent(*arguments)
    generations = cloud.generations()
    for more in (("--dry-run",), ()):
        ran = devagent(*arguments, *more)
        assert ran.code == 0
        assert ran.err == f"devagent: {gpu}: in use; closed to new consumers until it is free\n"
    assert cloud.generations() == generations

    cloud.call("DELETE", f"/allocations/{consumer}")
    assert devagent(*arguments, "--dry-run").code == 3
    assert devagent(*arguments).out.splitlines()[0] == f"- {gpu}  emptied and kept"


def test_a_device_that_nova_reports_is_left_to_nova_with_a_warning(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    nova = cloud.create(f"{cloud.name}_0000:3b:00.0", cloud.root)
    cloud.set(nova, {"PCI_DEVICE": 1}, ("COMPUTE_MANAGED_PCI_DEVICE",))
    arguments = ("report", "--root", describe(small()), "--config-file", configure(cloud))
    for more in ((), ("--dry-run",)):
        ran = devagent(*arguments, *more)
        assert ran.code == 0
        (line,) = ran.err.splitlines()
        assert line.startswith("devagent: warning: 0000:3b:00.0: Nova reports it already")
    assert f"devagent:{cloud.name}:0000:3b:00.0" not in cloud.tree()
    assert f"devagent:{cloud.name}:0000:3c:00.0" in cloud.tree()


def test_a_purge_deletes_what_is_gone_and_warns(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    config, gpu = configure(cloud), f"devagent:{cloud.name}:0000:3b:00.0"
    devagent("report", "--root", describe(small()), "--config-file", config)
    consumer = cloud.allocate(cloud.tree()[gpu]["uuid"], PGPU=1)
    arguments = ("report", "--purge", "--root", describe(small(gpu=None)), "--config-file", config)

    used = devagent(*arguments)
    assert used.code == 1
    assert f"devagent: error: {gpu}: " in used.err
    assert "up to 300 s" in used.err
    assert gpu in cloud.tree()

    cloud.call("DELETE", f"/allocations/{consumer}")
    planned = devagent(*arguments, "--dry-run")
    assert planned.code == 3
    assert f"- {gpu}  deleted" in planned.out.splitlines()
    assert gpu in cloud.tree()

    done = devagent(*arguments)
    assert done.code == 0
    assert f"- {gpu}  deleted" in done.out.splitlines()
    assert "up to 300 s" in done.err
    assert gpu not in cloud.tree()
    assert devagent(*arguments, "--dry-run").code == 0


def test_a_second_reporter_of_this_host_is_kept_out(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent, devagent_process: Devagent
) -> None:
    config = configure(cloud)
    arguments = ("report", "--once", "--root", describe(small()), "--config-file", config)
    with StateFile(config.parent / "state").locked():
        ran = devagent_process(*arguments)
        assert (ran.code, ran.out) == (1, "")
        assert "another devagent is reporting from here" in ran.err
        assert len(ran.err.splitlines()) == 1
        assert devagent(*arguments, "--dry-run").code == 3
    assert devagent(*arguments).code == 0


def test_the_state_is_saved_after_a_failure_too(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent
) -> None:
    config = configure(cloud)
    cloud.create(f"devagent:{cloud.name}:0000:3b:00.0", None)
    ran = devagent("report", "--once", "--root", describe(small()), "--config-file", config)
    assert ran.code == 1
    memory = StateFile(config.parent / "state").load()
    assert memory is not None
    assert memory.root == cloud.root
    assert {provider.name for provider in memory.providers.values()} == set(cloud.tree()) - {cloud.name}


@pytest.mark.parametrize("damage", ["", "{}", "\0" * 4096, "directory", "read-only"])
def test_without_a_usable_state_everything_is_read_and_reported(
    cloud: Cloud, describe: Describe, configure: Configure, devagent: Devagent, damage: str
) -> None:
    config = configure(cloud)
    folder = config.parent / "state"
    if damage == "directory":
        (folder / "placement.state").mkdir(parents=True)
    elif damage == "read-only":  # root may write everywhere; below a file nobody can
        folder.write_text("")
    else:
        folder.mkdir()
        (folder / "placement.state").write_text(damage)
    ran = devagent("report", "--once", "--root", describe(small()), "--config-file", config)
    assert ran.code == 0
    assert len(cloud.tree()) == 4
    assert "Traceback" not in ran.err


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
    assert (
        ran.err
        == f"devagent: error: {policy}:5: rules[0].mode: is 'all'; expected is whole, vf, mdev, vgpu or ignore\n"
    )
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


def test_what_is_no_configuration_exits_2_in_one_line(
    describe: Describe, write: Write, devagent: Devagent, tmp_path: Path
) -> None:
    latin = write("latin.conf", "")
    latin.write_bytes(b"[DEFAULT]\nhost = h\xe4nsel\n")
    folder = tmp_path / "conf.d"
    folder.mkdir()
    shutil.copy(latin, folder / "a.conf")
    for arguments, named in (
        (("--config-file", tmp_path), tmp_path),
        (("--config-file", latin), latin),
        (("--config-dir", tmp_path / "absent"), tmp_path / "absent"),
        (("--config-dir", latin), latin),
        (("--config-dir", folder), folder / "a.conf"),
    ):
        for command in ("report", "discover"):
            ran = devagent(command, "--root", describe(small()), *arguments)
            assert (ran.code, ran.out) == (2, "")
            assert ran.err.startswith(f"devagent: error: configuration: {named}: ")
            assert len(ran.err.splitlines()) == 1


def test_a_hostile_hostname_never_reaches_the_terminal(
    empty_cloud: Cloud, describe: Describe, write: Write, devagent: Devagent, tmp_path: Path
) -> None:
    """Neither where the compute node is missing, nor in what is planned and done."""
    hostile = f"evil\x1b[2J\x9b31m\u202e{tmp_path.name}"
    host = describe(small())
    (host / "proc/sys/kernel/hostname").write_text(hostile)
    config = write(
        "devagent.conf",
        f"[DEFAULT]\nstate_path = {tmp_path / 'state'}\n"
        f"[placement]\nauth_type = admin_token\nendpoint = {empty_cloud.url}\ntoken = admin\n",
    )
    arguments = ("report", "--once", "--root", host, "--config-file", config)
    ran = [devagent(*arguments)]
    assert ran[0].code == 1
    empty_cloud.create(hostile, None, empty_cloud.root)
    ran += [devagent(*arguments, "--dry-run"), devagent(*arguments), devagent(*arguments)]
    assert [each.code for each in ran[1:]] == [3, 0, 0]
    text = "".join(each.out + each.err for each in ran)
    assert "evil" in text
    assert {char for char in text if char != "\n" and not char.isprintable()} == set()
