# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever the real privileged process is sent, it opens nothing but the files of the verbs, and for nonsense nothing.

Every process of it notes what the interpreter's audit hook (PEP 578) hears: each opened or listed file, each socket,
each program. What is not heard (stat, readlink) changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from devagent.privileged import Privileged, process, start
from devagent.privileged.scrubbing import HOWS
from devagent.privileged.verbs import VERBS

from ..worlds import Link, World, write
from .pfs import PF, pf

OTHER = "0000:5e:00.0"
DIGEST = "0123456789abcdef" * 4
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
NO_INTERFACE = (1 << 31) - 2
"""An index that no network interface of the host of the test has."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LOUD = ("open", "os.", "socket.", "subprocess.", "shutil.", "ctypes.", "mmap.", "signal.", "import", "exec", "compile")
SILENT = ("os.fork", "os.kill", "os.killpg", "socket.__new__")
"""How a child is started and ended, and an object made of the socket for the answer: what is done with it is heard."""


def world() -> World:
    """Gives a host with a PF of everything that a verb writes to, another device, and a secret beside it."""
    folder = f"sys/bus/pci/devices/{PF}"
    mdev = f"{folder}/mdev_supported_types/nvidia-558"
    return {
        **pf(vfs=2),
        **{f"{folder}/{name}": "" for name in ("driver_override", "reset")},
        f"{folder}/nvidia/current_vgpu_type": "0\n",
        f"{folder}/reset_method": "flr bus\n",
        f"{folder}/nvidia/creatable_vgpu_types": "ID : vGPU Name\n1155 : NVIDIA L40S-1B\n",
        f"{folder}/net/eth9/ifindex": f"{NO_INTERFACE}\n",
        f"{folder}/iommu_group": Link("../../../kernel/iommu_groups/12"),
        f"{mdev}/create": "",
        f"{folder}/{UUID}/mdev_type": Link("../mdev_supported_types/nvidia-558"),
        f"{folder}/{UUID}/remove": "",
        "sys/bus/pci/drivers/mlx5_core/unbind": "",
        "sys/bus/pci/drivers/vfio-pci/bind": "",
        f"sys/bus/pci/devices/{OTHER}/driver_override": "",
        f"sys/bus/pci/devices/{OTHER}/driver": Link("../../drivers/mlx5_core"),
        f"sys/bus/pci/devices/{OTHER}/sriov_numvfs": "",
        "proc/4711/comm": "qemu\n",
        "proc/4711/fd/3": Link("/dev/null"),
        "etc/shadow": "secret\n",
    }


@dataclass
class Watched:
    """A privileged process of which everything is noted in `notes`."""

    privileged: Privileged
    root: Path
    notes: Path
    read: int = 0

    def ask(self, datagram: bytes) -> tuple[dict[str, Any], list[tuple[str, str, int]]]:
        """Sends a request; gives the answer, and what was heard until it came: event, path, flags."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                socket.send_fds(self.privileged._control, [datagram], [theirs.fileno()])
            ours.settimeout(30)
            data = ours.recv(1 << 16)
        lines = self.notes.read_bytes()[self.read :].decode().splitlines()
        self.read = self.notes.stat().st_size
        return json.loads(data), [(event, path, flags) for event, path, flags in map(json.loads, lines)]


def noted(notes: Path, live: Callable[..., None]) -> Callable[..., None]:
    """Gives the life of a privileged process that notes on descriptor 2, the only one that it keeps open."""

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(LOUD) and event not in SILENT:
            path = os.fsdecode(arguments[0]) if arguments and isinstance(arguments[0], (str, bytes)) else ""
            flags = arguments[2] if event == "open" else 0
            os.write(2, json.dumps([event, path, flags]).encode() + b"\n")

    def watched(*arguments: Any) -> None:
        os.dup2(os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
        sys.addaudithook(hear)
        live(*arguments)

    return watched


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Starts a privileged process on a host of files."""
    root, notes = write(tmp_path / "host", world()), tmp_path / "notes"
    monkeypatch.setattr(process, "live", noted(notes, process.live))
    privileged = start({}, root=str(root))
    privileged.call("ping", 30)
    yield Watched(privileged, root, notes, notes.stat().st_size)
    privileged.stop()


def is_of_a_verb(event: str, path: str, flags: int, arguments: dict[str, Any], root: Path) -> bool:
    """Tells whether a verb with these arguments may touch a file so."""
    if event == "socket.sendto":
        return "index" in arguments  # rtnetlink: the VFs of a NIC
    device = root / "sys/bus/pci/devices" / str(arguments.get("address"))
    drivers = root / "sys/bus/pci/drivers"
    place, real = Path(path), Path(os.path.realpath(path))
    if ".." in place.parts or not real.is_relative_to(root):
        return False
    if event == "open" and flags & WRITING:
        bind = drivers / str(arguments.get("driver")) / "bind"
        return flags & WRITING == os.O_WRONLY and (place.is_relative_to(device) or place == bind)
    if event in ("open", "os.listdir", "os.scandir"):
        return place.is_relative_to(device) or place.is_relative_to(root / "proc")
    return False


NAMES = sorted({name for verb in VERBS.values() for name in verb.arguments} | {"root", "path"})
GOOD: dict[str, tuple[Any, ...]] = {
    "address": (PF, OTHER, "0000:3b:00.1", "10000:01:00.0"), "count": (0, 2, 8, 65535), "index": (0, 1, 65535),
    "driver": ("vfio-pci", "mlx5_core", "none", None), "method": ("flr", "bus", None), "uuid": (UUID,),
    "type": ("nvidia-558", "nvidia-1", 0, 1155), "mac": ("fa:16:3e:0b:7c:01", None), "vlan": (0, 120, None),
    "trust": (0, 1, None), "rate": (0, 2500, None), "override": ("vfio-pci", None), "how": (*HOWS,), "enabled": (0, 1),
    "profile": ("1g.10gb", "1g.10gb+me"),
    "promised": ([], ["1g.10gb@6"]), "placement": (0, 6, None), "region": ("region1", None), "port": (0, None),
    "serial": ("S4EVNX0M 1", None), "digest": (DIGEST,), "interface": ("f3c994130e6b4f2c9a3b8d6e7a1c0d11", None),
}  # fmt: skip
BAD: st.SearchStrategy[Any] = st.sampled_from(
    ["../../../../etc", "/etc/shadow", "..", ".", "", "a/b", f"{PF}/../{OTHER}", f"{PF}\n", f"{PF}\0", "vfio-pci/../x",
     "nvidia-558/../../..", "\u0660000:3b:00.0", "\ud800", -1, 1.5, True, [], {}, 10**30, None]
)  # fmt: skip
BAD |= st.text(max_size=12) | st.integers()


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Gives a verb with arguments of which most, but not all, fit."""
    verb = draw(st.sampled_from([*VERBS, "rm"]))
    names = list(VERBS[verb].arguments) if verb in VERBS else []
    spoilt = draw(st.lists(st.sampled_from([*NAMES, ""]), max_size=2))
    arguments = {name: draw(st.sampled_from(GOOD[name])) for name in names}
    arguments |= {name: draw(BAD) for name in spoilt if name in arguments or draw(st.booleans())}
    return {"verb": verb, "arguments": arguments, "deadline_s": draw(st.sampled_from([5, 5, 5, 0, "5"]))}


MANY = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(requests())
def test_a_request_touches_what_its_verb_is_about_and_nothing_if_it_is_refused(
    watched: Watched, request_: dict[str, Any]
) -> None:
    answer, heard = watched.ask(json.dumps(request_).encode())
    if str(answer.get("failed")).startswith("refused: "):
        assert heard == []
    for event, path, flags in heard:
        assert is_of_a_verb(event, path, flags, request_["arguments"], watched.root), (event, path, flags, request_)


@MANY
@given(st.binary(max_size=4096))
@example(b"{" * 4096)
def test_nonsense_is_refused_and_touches_nothing(watched: Watched, datagram: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        assert not isinstance(json.loads(datagram), dict)
    if datagram:  # none at all is how the agent says that it ends
        answer, heard = watched.ask(datagram)
        assert str(answer["failed"]).startswith("refused: the request")
        assert heard == []


def test_each_verb_that_fits_is_seen_to_touch_its_files(watched: Watched) -> None:
    """What is noted is complete enough to tell: every verb about a device is heard of, with its writes."""
    assert {each["verb"] for each in FITTING} == VERBS.keys() - {"ping", "stuck", "ended"}
    wrote = set()
    for request_ in FITTING:
        _, heard = watched.ask(json.dumps(request_).encode())
        assert heard, request_
        wrote |= {Path(path).name for event, path, flags in heard if event == "open" and flags & WRITING}
    assert wrote == {"sriov_numvfs", "driver_override", "unbind", "bind", "reset", "reset_method", "create", "remove",
                     "current_vgpu_type"}  # fmt: skip
    assert (watched.root / "etc/shadow").read_text() == "secret\n"


def _fitting(verb: str, **arguments: Any) -> dict[str, Any]:
    return {"verb": verb, "arguments": {"address": PF, **arguments}, "deadline_s": 5}


FITTING = (
    _fitting("set_vf_count", count=0),
    _fitting("bind") | {"arguments": {"address": OTHER, "driver": "vfio-pci", "override": "vfio-pci"}},
    _fitting("driver"),
    _fitting("reset", method="flr"),
    _fitting("create_mdev", type="nvidia-558", uuid=UUID.replace("4", "5")),
    _fitting("remove_mdev", type="nvidia-558", uuid=UUID),
    _fitting("vgpu_type"),
    _fitting("set_vgpu_type", type=1155),
    _fitting("mig_mode"),
    _fitting("set_mig_mode", enabled=1),
    _fitting("mig_instances"),
    _fitting("mig_placement", profile="1g.10gb", promised=["1g.10gb@6"]),
    _fitting("create_mig", profile="1g.10gb", placement=0),
    _fitting("destroy_mig", profile="1g.10gb", placement=0),
    _fitting("scrub", how="nvme-format", serial="S4EVNX0M 1"),
    _fitting("can_scrub", how="gpu-reset"),
    _fitting("fpga_image", region=None, port=None, digest=DIGEST),
    _fitting("program_fpga", region=None, port=None, digest=DIGEST, interface=None),
    _fitting("vf_attributes", index=0),
    _fitting("set_vf_attributes", index=0, mac=None, vlan=7, trust=None, rate=None),
)
