# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the hook asks of an agent for a domain, and what it tells libvirt, with the real API in between."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devagent.api.server import Server
from devagent.cli import libvirt_hook as command
from devagent.errors import NoSuchPreparation, NotPrepared, NotReady, PreparedOtherwise
from devagent.integration import hook_groups, libvirt_hook
from devagent.integration.hook_settings import Settings, read
from devagent.prepare import attributes, images, vgpus

from ..api.agents import AT, GPU, GPU_ID, NIC, NIC_ID, Agent, Document, place, serving

SERVER = "5e1f0f6a-27d4-4a3c-9a3e-0c1d2e3f4a5b"
MDEV = "4b20d080-1b54-4048-85b3-a6a62d165c01"
FPGA, FPGA_ID, FOREIGN = "0000:3d:00.0", "1f0b9a7c-1b1d-5c55-9f3e-6a4f2c7e3c11", "0000:3e:00.0"
VF, OTHER = "0000:3c:00.2", "0000:3c:00.3"
REPOSITORY = Path(__file__).parents[3]
SCRIPT = REPOSITORY / "etc/libvirt/hooks/qemu.d/devagent"


class Preparing(Agent):
    """Makes ready what is asked for by address, unless `refuses`; `calls` are those that change something."""

    def __init__(self) -> None:
        devices = [
            known(NIC, NIC_ID, "nic", owner="nova"),
            known(FPGA, FPGA_ID, "fpga", owner="nova"),
            known(GPU, GPU_ID, "gpu", managed=True, inventories={"PGPU": {}}),
            known(FOREIGN, NIC_ID, "nic"),
        ]
        super().__init__(found={"devices": devices})
        self.made: dict[str, Document] = {}
        self.calls: list[str] = []
        self.refuses: NotPrepared | None = None
        self.slow = 0

    def prepare(self, consumer: str, body: Document, wait_s: float) -> tuple[Document, int]:
        """Gives a handle for each group."""
        self.calls.append("PUT")
        if self.refuses:
            raise self.refuses
        made = self.made.setdefault(consumer, preparation(consumer, body["groups"]))
        if [bare(group) for group in made["groups"]] != body["groups"]:
            raise PreparedOtherwise(consumer)
        self.slow -= 1
        return (made, 200) if self.slow < 0 else ({**made, "state": "preparing", "handles": []}, 202)

    def unprepare(self, consumer: str, wait_s: float) -> tuple[Document | None, int]:
        """Forgets it."""
        self.calls.append("DELETE")
        if self.refuses:
            raise self.refuses
        self.made.pop(consumer, None)
        return None, 204

    def preparation(self, consumer: str) -> Document:
        """Gives what was made."""
        if consumer not in self.made:
            raise NoSuchPreparation(consumer)
        return self.made[consumer]

    @property
    def groups(self) -> list[Document]:
        """What the server has."""
        return [bare(group) for group in self.made[SERVER]["groups"]]


def known(address: str, uid: str, kind: str, *, owner: str | None = None, **more: Any) -> Document:
    inventories = more.pop("inventories", None)
    decision = {"managed": more.pop("managed", False), "rule": "r", "reason": "", "owner": owner}
    placement = {"inventories": inventories} if inventories else None
    return {"address": address, "id": uid, "kind": kind, "decision": decision, "placement": placement}


def preparation(consumer: str, groups: list[Document], state: str = "prepared") -> Document:
    whole: Document = {"address": None, "properties": {}, "owner": None}
    handles = [{"type": "PCI", "address": group["address"]} for group in groups if group.get("address")]
    times: Document = {"created": AT, "deadline": AT, "expires": None, "timings": {}, "steps": [], "error": None}
    filled = [{**whole, **group} for group in groups]
    return {
        "consumer": consumer, "project_id": None, "state": state, "groups": filled, "handles": handles, **times,
    }  # fmt: skip


def bare(group: Document) -> Document:
    return {name: value for name, value in group.items() if value}


class Host:
    """A host with an agent on it; `run` is one call of libvirt's."""

    def __init__(self, agent: Preparing, folder: Path, socket: Path) -> None:
        self.agent, self.folder, self.socket = agent, folder, socket
        self.configure("")
        devices = folder / "sys/bus/pci/devices"
        for vf in (VF, OTHER):
            (devices / vf).mkdir(parents=True)
            (devices / vf / "physfn").symlink_to(f"../{NIC}")
        mdevs = folder / "sys/bus/mdev/devices"
        mdevs.mkdir(parents=True)
        (mdevs / MDEV).symlink_to(f"../../../devices/pci0000:3a/{GPU}/{MDEV}")

    def configure(self, more: str) -> None:
        (self.folder / "devagent.conf").write_text(f"[api]\nunix_socket = {self.socket}\n{more}")

    def run(self, *operation: str, xml: bytes) -> int:
        arguments = ["server", *operation, "-"]
        files = [self.folder / "devagent.conf"]
        return command.run(arguments, io.BytesIO(xml), root=str(self.folder), configuration=files)

    def start(self, *addresses: str, mdev: str = "", **specs: str) -> int:
        return self.run("prepare", "begin", xml=domain(*addresses, mdev=mdev, **specs))


def domain(*addresses: str, mdev: str = "", **specs: str) -> bytes:
    sources = [address.replace(".", ":").split(":") for address in addresses]
    devices = "".join(
        f"<hostdev type='pci'><source><address domain='0x{a}' bus='0x{b}' slot='0x{c}' function='0x{d}'/></source>"
        "</hostdev>"
        for a, b, c, d in sources
    )
    if mdev:
        devices += f"<hostdev type='mdev'><source><address uuid='{mdev}'/></source></hostdev>"
    extra = "".join(f"<n:extraSpec name='devagent:{name}'>{text}</n:extraSpec>" for name, text in specs.items())
    nova = f"<n:flavor><n:extraSpecs>{extra}</n:extraSpecs></n:flavor>"
    metadata = (
        f"<metadata><n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'>{nova}</n:instance></metadata>"
    )
    return f"<domain><name>one</name><uuid>{SERVER}</uuid>{metadata}<devices>{devices}</devices></domain>".encode()


def nova(address: str, uid: str = NIC_ID, **more: Any) -> Document:
    return {"provider": uid, "resources": {"PCI_DEVICE": 1}, "address": address, **more, "owner": "nova"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    agent = Preparing()
    with place() as path, serving(agent, path):
        yield Host(agent, tmp_path, path)


@pytest.fixture
def lonely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Gives a host whose agent does not run."""
    monkeypatch.setattr(libvirt_hook, "_RESTART_S", 0.3)
    with place() as path:
        yield Host(Preparing(), tmp_path, path)


def test_each_device_of_devagents_is_asked_for_by_its_address_and_others_are_left_alone(host: Host) -> None:
    assert host.start(OTHER, FOREIGN, GPU, "0000:77:00.0", VF, VF) == 0
    whole: Document = {"provider": GPU_ID, "resources": {"PGPU": 1}, "address": GPU}
    assert host.agent.groups == [whole, nova(VF), nova(OTHER)]


def test_a_flavors_wishes_go_to_the_devices_that_they_are_for(host: Host) -> None:
    assert host.start(VF, FPGA, bitstream="gzip-v2", vlan="120") == 0
    assert host.agent.groups == [
        nova(VF, properties={"vlan": "120"}),
        nova(FPGA, FPGA_ID, properties={"bitstream": "gzip-v2"}),
    ]


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ({"bitsream": "x"}, "devagent:bitsream of the flavor is unknown to devagent; known are bitstream, "),
        ({"scrub": "flr"}, "devagent:scrub of the flavor is unknown"),
        ({"bitstream": "x"}, "devagent:bitstream of the flavor is for a fpga, and devagent has none for this server"),
    ],
)
def test_what_a_flavor_cannot_have_is_said_before_anything_is_asked_for(
    host: Host, capsys: pytest.CaptureFixture[str], specs: dict[str, str], said: str
) -> None:
    assert host.start(VF, **specs) == 1
    out, err = capsys.readouterr()
    assert (out, host.agent.calls) == ("", [])
    assert err.startswith("devagent: one: ")
    assert said in err


def test_every_wish_is_a_property_that_preparing_knows() -> None:
    assert hook_groups.KINDS.keys() == {images.NAME, *attributes.NAMES, *vgpus.NAMES}


def test_the_same_server_again_asks_for_the_same_and_other_devices_take_the_place_of_those_before(host: Host) -> None:
    assert [host.start(VF, OTHER), host.start(OTHER, VF)] == [0, 0]
    assert host.agent.calls == ["PUT", "PUT"]
    assert host.start(VF) == 0
    assert (host.agent.calls, host.agent.groups) == (["PUT", "PUT", "DELETE", "PUT"], [nova(VF)])
    assert host.start(FOREIGN) == 0
    assert (host.agent.calls[4:], host.agent.made) == (["DELETE"], {})


def test_a_release_that_is_under_way_is_waited_for(host: Host) -> None:
    host.agent.made[SERVER] = preparation(SERVER, [nova(VF)], "releasing")
    assert host.start(VF) == 0
    assert host.agent.calls == ["DELETE", "PUT"]


def test_what_somebody_else_asked_for_is_made_sure_of_and_never_given_back(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    made = preparation(SERVER, [{"provider": NIC_ID, "resources": {"SRIOV_NET_VF": 1}}])
    made["handles"] = [{"type": "PCI", "address": VF}, {"type": "MDEV", "uuid": MDEV, "parent": GPU}]
    host.agent.made[SERVER] = made
    assert host.start(VF, FOREIGN, mdev=MDEV) == 0
    assert host.run("release", "end", xml=domain(VF)) == 0
    assert host.agent.calls == ["PUT"]
    assert host.start(VF, OTHER) == 1
    assert f"{OTHER} is not among what was prepared for this server" in capsys.readouterr().err
    assert host.agent.made == {SERVER: made}


def test_a_mediated_device_that_nobody_prepared_for_the_server_is_refused(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.start(mdev=MDEV) == 1
    assert f"mediated device {MDEV} was not made for this server" in capsys.readouterr().err
    assert host.start(mdev=SERVER) == 0  # nobody has made it: libvirt says so itself


def test_the_end_gives_back_and_never_fails(host: Host) -> None:
    assert host.start(VF) == 0
    host.agent.refuses = NotPrepared("retry", "QEMU has it open")
    assert host.run("release", "end", xml=domain(VF)) == 0
    host.agent.refuses = None
    assert host.run("release", "end", xml=domain(VF)) == 0
    assert (host.agent.calls, host.agent.made) == (["PUT", "DELETE", "DELETE"], {})


@pytest.mark.parametrize(
    ("kind", "advice"),
    [("retry", "another host may have one"), ("permanent", "take another one"), ("invalid", "mend the flavor")],
)
def test_a_refusal_says_which_device_why_and_what_to_do(
    host: Host, capsys: pytest.CaptureFixture[str], kind: str, advice: str
) -> None:
    host.agent.refuses = NotPrepared(kind, f"{VF} cannot be had", VF)
    assert host.start(VF) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"devagent: one: the agent: {VF} cannot be had")
    assert advice in err
    assert err.count("\n") == 1


def test_what_takes_long_is_waited_for_and_given_up_in_the_end(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.agent.slow = 2
    assert host.start(VF) == 0
    assert host.agent.calls == ["PUT"] * 3
    monkeypatch.setattr(libvirt_hook, "_PATIENCE_S", 0.5)
    host.agent.slow = 1000
    assert host.start(VF) == 1
    assert "not ready within 0.5 s" in capsys.readouterr().err
    assert (host.agent.calls[-1], host.agent.made) == ("DELETE", {})


def test_at_the_destination_of_a_migration_it_is_the_same(host: Host) -> None:
    assert host.run("migrate", "begin", xml=domain(VF)) == 0
    assert host.agent.groups == [nova(VF)]


@pytest.mark.parametrize(
    "operation",
    [("start", "begin"), ("started", "begin"), ("stopped", "end"), ("reconnect", "begin"), ("restore", "begin"), ()],
)
def test_all_else_that_libvirt_tells_is_no_matter(lonely: Host, operation: tuple[str, ...]) -> None:
    assert lonely.run(*operation, xml=domain(VF)) == 0


def test_a_domain_without_devices_of_the_host_needs_no_agent(lonely: Host) -> None:
    usb = "<hostdev type='usb'><source/></hostdev>"
    for xml in (b"<domain/>", domain().replace(b"</devices>", f"{usb}</devices>".encode())):
        assert lonely.run("prepare", "begin", xml=xml) == 0


@pytest.mark.parametrize(
    "xml", [b"hostdev", b"<hostdev>" * 100, b"<!DOCTYPE d [<!ENTITY a 'b'>]><hostdev/>", b"\0hostdev"]
)
def test_what_is_no_domain_stops_a_start_and_no_end(
    lonely: Host, capsys: pytest.CaptureFixture[str], xml: bytes
) -> None:
    assert lonely.run("prepare", "begin", xml=xml) == 1
    assert "the domain's XML" in capsys.readouterr().err
    assert lonely.run("release", "end", xml=xml) == 0
    assert lonely.run("prepare", "begin", xml=xml + b" " * (10 << 20)) == 1


def test_without_the_agent_the_policy_decides(lonely: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert lonely.start(VF) == 1
    assert "no agent answers on" in capsys.readouterr().err
    assert lonely.run("release", "end", xml=domain(VF)) == 0
    lonely.configure("[libvirt]\nagent_down = allow\n")
    assert lonely.start(VF) == 0
    assert capsys.readouterr() == ("", "")


def test_an_agent_that_is_starting_anew_is_waited_for(lonely: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt_hook, "_RESTART_S", 20)
    found, lonely.agent.found = lonely.agent.found, None  # it has not looked yet
    over = threading.Event()

    def come() -> None:
        time.sleep(0.3)
        with serving(lonely.agent, lonely.socket) as server:
            assert isinstance(server, Server)
            time.sleep(0.5)
            lonely.agent.found = found
            over.wait(30)

    thread = threading.Thread(target=come)
    thread.start()
    try:
        assert lonely.start(VF) == 0
    finally:
        over.set()
        thread.join()
    assert lonely.agent.groups == [nova(VF)]


def test_an_agent_that_never_gets_ready_is_no_answer_for_ever(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libvirt_hook, "_RESTART_S", 0.3)
    host.agent.broken = NotReady("the agent has not looked at this host yet")
    assert host.start(VF) == 1
    assert "has not looked" in capsys.readouterr().err


def test_the_last_file_counts_as_for_the_daemon(tmp_path: Path) -> None:
    first, last = tmp_path / "a.conf", tmp_path / "b.conf"
    first.write_text("[DEFAULT]\nunix_socket = /no\n[api]\n# unix_socket = /no\nunix_socket=/a  \nthreads = 3\n")
    last.write_text('[libvirt]\nagent-down = "allow"\n[other]\nagent_down = fail\n')
    assert read([first, last, tmp_path / "absent"]) == Settings("/a", "allow")
    assert read([]) == Settings(None, "fail")


def script(*arguments: str, xml: bytes, command: Path) -> subprocess.CompletedProcess[bytes]:
    text = SCRIPT.read_text().replace("/usr/bin/devagent-libvirt-hook", str(command))
    return subprocess.run(["sh", "-c", text, "devagent", *arguments], input=xml, capture_output=True, check=False)


def test_the_script_hands_on_what_may_have_devices_and_nothing_else(tmp_path: Path) -> None:
    command = tmp_path / "hook"
    command.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/called\ncat >{tmp_path}/xml\nexit 7\n')
    command.chmod(0o755)
    with_device = domain(VF).replace(b"<name>one", b"<name>$(touch x) `y` \\n 'one'")
    for arguments in ("a started begin -", "a stopped end -", "a prepare end -", ""):
        assert script(*arguments.split(), xml=with_device, command=command).returncode == 0
    assert script("a", "prepare", "begin", "-", xml=b"<domain/>", command=command).returncode == 0
    assert not (tmp_path / "called").exists()
    assert script("a b", "release", "end", "-", xml=with_device, command=command).returncode == 7
    assert (tmp_path / "called").read_text() == "a b release end -\n"
    assert (tmp_path / "xml").read_bytes() == with_device + b"\n"


def test_without_the_program_no_device_is_given_and_none_kept(tmp_path: Path) -> None:
    ran = script("a", "prepare", "begin", "-", xml=domain(VF), command=tmp_path / "absent")
    assert (ran.returncode, b"is missing" in ran.stderr) == (1, True)
    assert script("a", "release", "end", "-", xml=domain(VF), command=tmp_path / "absent").returncode == 0


def test_it_imports_nothing_that_takes_longer_than_all_that_it_does() -> None:
    code = (
        f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}]; from devagent.cli import libvirt_hook; print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    slow = {"dataclasses", "email", "http.client", "inspect", "logging", "oslo_config", "ssl", "xml.etree"}
    assert not slow & set(ran.stdout.split())
