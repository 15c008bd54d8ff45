# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The hook as a real libvirtd calls it for real domains, with a real agent and Placement, on a host of files.

libvirt would open a device that is in no domain's reach here, so the domains that run have none: the hook is shown a
domain's XML with devices in it. On a kernel with devices: tests/kernel/test_libvirt_hook.py.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hosts.generate import generate

from devagent.errors import AgentRefused

from . import libvirt as parts
from .cloud import Cloud
from .conftest import REPOSITORY
from .descriptions import small
from .libvirt import Libvirt
from .load import GIVEN, OWN, TESTS, driver
from .running_agent import RunningAgent, running, write_configuration
from .running_daemon import folder

NIC = "0000:3c:00.0"
SCRIPT = REPOSITORY / "etc/libvirt/hooks/qemu.d/devagent"
POLICY = "schema_version: 1\nrules:\n  - {name: nics, match: {kind: nic}, mode: vf, owner: nova}\n"
# Runs the shipped script; the domain's devices come into the XML on the way to it.
WRAPPER = """#!/bin/sh
sed -e "s#<devices>#<devices>$(cat {place}/devices.$1 2>/dev/null)#" |
    sh {place}/script "$@" 2>{place}/said.$1 && exit 0
cat {place}/said.$1 >&2
exit 1
"""
HOOK = """#!{python}
import sys
sys.path[:0] = [{repository!r}]
from pathlib import Path
from devagent.cli import libvirt_hook
sys.exit(libvirt_hook.run(sys.argv[1:], sys.stdin.buffer, root={root!r}, configuration=[Path({configuration!r})]))
"""
HOSTDEV = (
    "<hostdev mode='subsystem' type='pci' managed='no'><source>"
    "<address domain='0x{0}' bus='0x{1}' slot='0x{2}' function='0x{3}'/></source></hostdev>"
)


def hostdev(address: str) -> str:
    return HOSTDEV.format(*address.replace(".", ":").split(":"))


@dataclass
class Host:
    """A compute host: its libvirt, its agent, its devices."""

    place: Path
    root: Path
    cloud: Cloud
    libvirt: Libvirt
    agent: RunningAgent
    configuration: Path
    compute: str = field(default="")

    @property
    def vfs(self) -> list[str]:
        """The addresses of the NIC's VFs."""
        return [each["address"] for each in self.agent.api.get(f"/v1/devices/{NIC}")["sriov"]["vfs"]]

    def server(self, name: str, *addresses: str) -> str:
        """Makes a server that Nova has allocated, with devices; gives its UUID."""
        uid = self.cloud.allocate(self.compute, VCPU=1)
        self.libvirt.define(name, uid)
        self.gives(name, *addresses)
        return uid

    def gives(self, name: str, *addresses: str) -> None:
        """Says which devices are in a domain's XML from now on."""
        (self.place / f"devices.{name}").write_text("".join(map(hostdev, addresses)))

    def prepared(self, uid: str) -> list[str] | None:
        """Gives the addresses that a server has by the agent; None where it knows nothing of it."""
        try:
            found = self.agent.api.get(f"/v1/preparations/{uid}")
        except AgentRefused as error:
            assert error.status == 404
            return None
        return [each["address"] for each in found["handles"]]

    def driver(self, address: str) -> str | None:
        """Gives who drives a function."""
        return driver(self.root, address)


@pytest.fixture
def host(cloud: Cloud, tmp_path: Path) -> Iterator[Host]:
    """Gives a compute host with a NIC that Nova gives away, on which libvirt has the hook."""
    why = parts.missing()
    if why:
        pytest.skip(why)
    with a_host(cloud, tmp_path) as made:
        yield made


@contextmanager
def a_host(cloud: Cloud, top: Path, **sections: dict[str, str]) -> Iterator[Host]:
    root = _tree(cloud, top)
    with folder() as place, parts.running(place / "libvirt", WRAPPER.format(place=place)) as libvirt:
        (place / "devices.yaml").write_text(POLICY)
        inventory = {"policy_file": str(place / "devices.yaml")}
        configuration = write_configuration(place, cloud.name, cloud.url, inventory=inventory, **sections)
        _install(place, root, configuration)
        with _agent(root, configuration) as agent:
            compute = cloud.create(f"{cloud.name}-cpu", None)
            cloud.set(compute, {"VCPU": 64})
            yield Host(place, root, cloud, libvirt, agent.reported(), configuration, compute)


@contextmanager
def _agent(root: Path, configuration: Path) -> Iterator[RunningAgent]:
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    with running(root, configuration, program="functional.acting_kernel", PYTHONPATH=path) as agent:
        yield agent.ready()


def _tree(cloud: Cloud, top: Path) -> Path:
    description = {**small(compute_id=cloud.root), "drivers": [GIVEN]}
    nic = description["pci"][0]["devices"][1]["behind"][0]
    nic.update({"reset": ["flr"], "vfs": {**nic["vfs"], "driver": OWN}})
    root = generate(description, top / "host")
    nova = root / "etc/nova/nova.conf"
    nova.parent.mkdir(parents=True)
    nova.write_text('[pci]\ndevice_spec = {"vendor_id": "15b3"}\n')
    return root


def _install(place: Path, root: Path, configuration: Path) -> None:
    command = place / "devagent-libvirt-hook"
    said = {"repository": str(REPOSITORY), "root": str(root), "configuration": str(configuration)}
    command.write_text(HOOK.format(python=sys.executable, **said))
    (place / "script").write_text(SCRIPT.read_text().replace("/usr/bin/devagent-libvirt-hook", str(command)))
    command.chmod(0o755)


def test_a_servers_devices_are_made_ready_before_it_starts_and_given_back_when_it_has_ended(host: Host) -> None:
    vf = host.vfs[2]
    one = host.server("one", vf)
    for end in (lambda: host.libvirt.virsh("destroy", "one"), lambda: host.libvirt.kill("one")):
        host.libvirt.virsh("start", "one")
        assert (host.libvirt.state("one"), host.prepared(one), host.driver(vf)) == ("running", [vf], GIVEN)
        end()
        host.agent.until(lambda: host.prepared(one) is None)
        assert (host.libvirt.state("one"), host.driver(vf)) == ("shut off", OWN)


def test_a_server_that_cannot_have_its_device_does_not_start_and_nova_is_told_why(host: Host) -> None:
    vf, other = host.vfs[:2]
    one, two = host.server("one", vf), host.server("two", other, vf)
    host.libvirt.virsh("start", "one")
    said = host.libvirt.virsh("start", "two", fails=True)
    assert f"devagent: two: the agent: {vf} " in said
    assert f"consumer {one}" in said or one in said
    assert "another host may have one" in said
    assert (host.libvirt.state("two"), host.prepared(two), host.driver(other)) == ("shut off", None, OWN)
    host.libvirt.virsh("destroy", "one")
    host.libvirt.virsh("start", "two")
    assert host.prepared(two) == sorted([vf, other])


def test_a_start_that_fails_after_the_hook_gives_back(host: Host) -> None:
    vf = host.vfs[0]
    uid = host.cloud.allocate(host.compute, VCPU=1)
    host.libvirt.define("one", uid, hostdev(vf))
    said = host.libvirt.virsh("start", "one", fails=True)
    assert "devagent" not in said, said
    host.agent.until(lambda: host.prepared(uid) is None)
    log = host.agent.log
    assert f"{uid} is prepared: {vf}" in log
    assert f"{uid} is released" in log
    assert host.driver(vf) == OWN


def test_a_server_that_has_other_devices_now_gets_these(host: Host) -> None:
    before, after = host.vfs[:2]
    one = host.server("one", before)
    group = {"provider": host.agent.api.get(f"/v1/devices/{NIC}")["id"], "resources": {"PCI_DEVICE": 1}}
    asked = {"groups": [{**group, "owner": "nova", "address": before}]}
    host.agent.api.put(f"/v1/preparations/{one}", asked, wait=60)  # as a hook that was killed leaves it
    host.gives("one", after)
    host.libvirt.virsh("start", "one")
    assert (host.prepared(one), host.driver(before), host.driver(after)) == ([after], OWN, GIVEN)


def test_many_servers_start_at_once_and_each_has_its_own(host: Host) -> None:
    servers = {f"server-{number}": vf for number, vf in enumerate(host.vfs)}
    uids = {name: host.server(name, vf) for name, vf in servers.items()}
    threads = [threading.Thread(target=host.libvirt.virsh, args=("start", name)) for name in servers]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {name: host.prepared(uids[name]) for name in servers} == {name: [vf] for name, vf in servers.items()}


def test_while_the_agent_is_away_servers_with_devices_wait_for_it_and_others_start(host: Host) -> None:
    plain, vf = host.server("plain"), host.vfs[0]
    one = host.server("one", vf)
    host.agent.stop()
    host.libvirt.virsh("start", "plain")
    said = host.libvirt.virsh("start", "one", fails=True)
    assert "no agent answers on" in said
    assert "agent_down = allow" in said
    with _agent(host.root, host.configuration) as agent:
        agent.reported()
        host.agent = agent
        host.libvirt.virsh("start", "one")
        assert (host.prepared(one), host.prepared(plain)) == ([vf], None)
        agent.stop()
        host.libvirt.virsh("destroy", "one")  # nobody is there to give it back to: that holds up nothing
        assert host.libvirt.state("one") == "shut off"


def test_with_allow_servers_start_without_the_agent(host: Host) -> None:
    host.server("one", host.vfs[0])
    with host.configuration.open("a") as file:
        file.write("[libvirt]\nagent_down = allow\n")
    host.agent.stop()
    host.libvirt.virsh("start", "one")
    assert host.libvirt.state("one") == "running"


def test_an_instance_fails_on_one_host_and_is_built_on_the_next(
    host: Host, cloud: Cloud, tmp_path: Path, empty_cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Cloud(cloud.url, str(uuid.uuid4()), f"host-{uuid.uuid4().hex[:12]}.example.org")
    other.create(other.name, None, other.root)
    vf = host.vfs[0]
    host.server("taken", vf)
    host.libvirt.virsh("start", "taken")
    with a_host(other, tmp_path / "other") as alternate:
        one = host.server("one", vf)
        said = host.libvirt.virsh("start", "one", fails=True)
        host.libvirt.virsh("undefine", "one")
        cloud.call("DELETE", f"/allocations/{one}")  # Nova: RescheduledException, and the next host of its list
        cloud.call("PUT", f"/allocations/{one}", _allocation(alternate.compute))
        alternate.libvirt.define("one", one)
        alternate.gives("one", alternate.vfs[0])
        alternate.libvirt.virsh("start", "one")
        assert "devagent: one: the agent:" in said
        assert (host.prepared(one), alternate.prepared(one)) == (None, [alternate.vfs[0]])
        logs = [each for agent in (host.agent, alternate.agent) for each in agent.log.splitlines() if one in each]
        print(said, *logs, sep="\n")  # noqa: T201 - shown with -s: docs/nova.md has it


def _allocation(provider: str) -> dict[str, Any]:
    return {
        "allocations": {provider: {"resources": {"VCPU": 1}}},
        "project_id": "p",
        "user_id": "u",
        "consumer_generation": None,
        "consumer_type": "INSTANCE",
    }
