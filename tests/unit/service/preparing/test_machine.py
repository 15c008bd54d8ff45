# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Steps are done by a real privileged process on a tree of files; the executor understands what it says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devagent.errors import VerbFailed
from devagent.model.plan import Arguments, Step
from devagent.model.preparation import Holder, Refusal, RefusalKind
from devagent.prepare.machine import Gone, Machine, StepFailed, StepStuck
from devagent.prepare.verbs import VERBS
from devagent.privileged import process, start, verbs
from devagent.privileged.refused import VerbRefused
from devagent.service.preparing.machine import PrivilegedMachine

from ...privileged.pfs import PF, Kernel, pf
from ...worlds import Link, write

VF = "0000:3b:00.1"
FOLDER = f"sys/bus/pci/devices/{VF}"
UUID = "4b20d080-1b54-4048-85b3-a6a62d165c01"
MDEV = {"type": "nvidia-558", "uuid": UUID}
LONG = 30.0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Machine]]:
    """Starts the machine whose tree is at tmp_path, with what was patched before."""
    monkeypatch.setattr(process, "GRACE_S", 0.3)
    started = []

    def begin() -> Machine:
        started.append(start({}, root=str(tmp_path)))
        return PrivilegedMachine(started[-1], tmp_path)

    yield begin
    for each in started:
        each.stop()


def function(top: Path, **more: Any) -> None:
    driver = {f"{FOLDER}/driver": Link("../../drivers/vfio-pci"), f"{FOLDER}/iommu_group": Link("../groups/12")}
    write(top, {"proc/": "", "sys/bus/pci/drivers/iavf/bind": "", **driver, **more})


def step(verb: str, target: str = VF, **arguments: Any) -> Step:
    return Step(verb, target, arguments)


def test_vfs_are_made_and_found(
    tmp_path: Path, machine: Callable[[], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    Kernel(tmp_path).install(monkeypatch)
    write(tmp_path, pf())
    it, make = machine(), step("set_vf_count", PF, count=4)
    assert it.before(make, LONG) == {"count": 0}
    assert not it.check(make, LONG)
    it.do(make, LONG)
    assert it.check(make, LONG)
    with pytest.raises(StepFailed, match="must be removed before there can be 8") as caught:
        it.do(step("set_vf_count", PF, count=8), LONG)
    assert caught.value.refusal.kind is RefusalKind.PERMANENT


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("vfio-pci", {"driver": "vfio-pci"}),
        ("(null)", {"driver": "vfio-pci", "override": None}),
        ("iavf", {"driver": "vfio-pci", "override": "iavf"}),
    ],
)
def test_an_override_is_found_where_it_is_none_that_goes_with_the_driver(
    tmp_path: Path, machine: Callable[[], Machine], override: str, found: dict[str, Any]
) -> None:
    function(tmp_path, **{f"{FOLDER}/driver_override": f"{override}\n"})
    it = machine()
    assert it.before(step("bind", driver="iavf"), LONG) == found
    assert it.check(step("bind", **found), LONG)
    assert not it.check(step("bind", driver="vfio-pci", override="mlx5_vfio_pci"), LONG)


def test_the_driver_is_checked_by_the_link_alone(tmp_path: Path, machine: Callable[[], Machine]) -> None:
    function(tmp_path)
    it = machine()
    assert it.check(step("bind", driver="vfio-pci"), LONG)
    assert not it.check(step("bind", driver=None), LONG)


def test_who_is_in_the_way_is_told(tmp_path: Path, machine: Callable[[], Machine]) -> None:
    function(tmp_path, **{"proc/4711/fd/3": Link("/dev/vfio/12"), "proc/4711/comm": "qemu-kvm\n"})
    with pytest.raises(StepFailed) as caught:
        machine().do(step("bind", driver="iavf"), LONG)
    refusal = caught.value.refusal
    assert (refusal.kind, refusal.address) == (RefusalKind.RETRY, VF)
    assert refusal.holders == (Holder(pid=4711, command="qemu-kvm"),)


def test_a_device_that_is_gone_is_told_as_gone(tmp_path: Path, machine: Callable[[], Machine]) -> None:
    write(tmp_path, {"sys/bus/pci/devices/": ""})
    it = machine()
    for each in (step("bind", driver=None), step("set_vgpu_type", type=0), step("remove_mdev", **MDEV)):
        for ask in (it.check, it.do):
            with pytest.raises(Gone):
                ask(each, LONG)


def test_a_mediated_device_is_known_by_uuid_and_type(tmp_path: Path, machine: Callable[[], Machine]) -> None:
    function(tmp_path)
    it, make, remove = machine(), step("create_mdev", **MDEV), step("remove_mdev", **MDEV)
    assert it.before(make, LONG) == MDEV
    assert (it.check(make, LONG), it.check(remove, LONG)) == (False, True)
    write(tmp_path, {f"{FOLDER}/{UUID}/mdev_type": Link("../mdev_supported_types/nvidia-558")})
    assert (it.check(make, LONG), it.check(remove, LONG)) == (True, False)
    assert not it.check(step("create_mdev", type="nvidia-559", uuid=UUID), LONG)
    it.do(make, LONG)
    with pytest.raises(StepFailed, match="already, of no consumer"):
        it.before(make, LONG)


def test_a_vgpu_is_read_by_the_privileged_process(tmp_path: Path, machine: Callable[[], Machine]) -> None:
    """Reading it may wait for NVIDIA's driver."""
    function(tmp_path, **{f"{FOLDER}/nvidia/current_vgpu_type": "1155\n"})
    it = machine()
    assert it.before(step("set_vgpu_type", type=0), LONG) == {"type": 1155}
    assert it.check(step("set_vgpu_type", type=1155), LONG)
    (tmp_path / FOLDER / "nvidia/current_vgpu_type").unlink()
    os.mkfifo(tmp_path / FOLDER / "nvidia/current_vgpu_type")
    with pytest.raises(StepFailed, match="did not end within") as caught:
        it.check(step("set_vgpu_type", type=0), 0.1)
    assert caught.value.refusal.kind is RefusalKind.RETRY


def test_attributes_that_are_not_asked_for_are_left_out(
    tmp_path: Path, machine: Callable[[], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"mac": "52:54:00:00:00:01", "vlan": 7, "trust": None, "rate": 0}
    answering = verbs.Verb("vf_attributes", "test", lambda world, **_: now, verbs.VERBS["vf_attributes"].arguments)
    monkeypatch.setitem(verbs.VERBS, "vf_attributes", answering)
    wanted = step("set_vf_attributes", PF, index=3, mac=None, vlan=120, trust=1, rate=None)
    it = machine()
    # What the driver does not tell goes back to what a VF has by itself: the next tenant is not trusted.
    assert it.before(wanted, LONG) == {"index": 3, "mac": None, "vlan": 7, "trust": 0, "rate": None}
    assert not it.check(wanted, LONG)
    assert it.check(step("set_vf_attributes", PF, index=3, mac=None, vlan=7, trust=1, rate=None), LONG)


def test_what_hangs_is_stuck_and_says_where(
    tmp_path: Path, machine: Callable[[], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devagent.privileged.child.Child.kill", lambda child: setattr(child, "killed", True))
    write(tmp_path, pf())
    numvfs = tmp_path / f"sys/bus/pci/devices/{PF}/sriov_numvfs"
    numvfs.unlink()
    os.mkfifo(numvfs)
    it = machine()
    with pytest.raises(StepStuck, match="hangs in the kernel") as caught:
        it.do(step("set_vf_count", PF, count=4), 0.1)
    assert caught.value.refusal.address == PF
    with numvfs.open("rb"):  # lets it go
        pass


def test_an_fpga_gets_back_what_the_plan_says_and_tells_what_it_has(
    tmp_path: Path, machine: Callable[[], Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    where: dict[str, Any] = {"region": None, "port": 0, "digest": "a" * 64}

    def fake(name: str) -> verbs.Verb:
        known = verbs.VERBS[name].arguments
        return verbs.Verb(name, "test", lambda world, **values: {"holds": values["digest"] == "a" * 64}, known)

    for name in ("fpga_image", "program_fpga"):
        monkeypatch.setitem(verbs.VERBS, name, fake(name))
    function(tmp_path)
    it, blank = machine(), {**where, "digest": "b" * 64, "interface": None}
    programmed = Step("program_fpga", VF, {**where, "interface": None}, blank)
    assert it.before(programmed, LONG) == blank
    it.do(programmed, LONG)
    assert it.check(programmed, LONG)
    assert not it.check(step("program_fpga", **blank), LONG)


class Asked:
    """Stands for the privileged process: notes how long each verb may take, and says what it is told to."""

    def __init__(self, error: VerbFailed | None = None) -> None:
        self.asked: list[tuple[str, float, dict[str, Any]]] = []
        self.error = error

    def call(self, verb: str, deadline_s: float, **arguments: Any) -> dict[str, Any]:
        self.asked.append((verb, deadline_s, arguments))
        if self.error is not None:
            raise self.error
        return {}


@pytest.mark.parametrize(("how", "seconds"), [("nvme-format", 3600.0), ("nvme-sanitize", 3600.0), ("gpu-reset", 120.0)])
def test_a_wipe_has_its_time_however_little_the_release_has(tmp_path: Path, how: str, seconds: float) -> None:
    asked: Any = Asked()
    PrivilegedMachine(asked, tmp_path).do(step("scrub", how=how), 10.0)
    assert asked.asked == [("scrub", seconds, {"address": VF, "how": how, "serial": None})]


def test_the_place_that_a_killed_process_had_chosen_is_nobody_elses(tmp_path: Path) -> None:
    class Placing(Asked):
        def call(self, verb: str, deadline_s: float, **arguments: Any) -> dict[str, Any]:
            return {**super().call(verb, deadline_s, **arguments), "placement": 3}

    asked: Any = Placing()
    begun: dict[tuple[str, str], list[Arguments]] = {("create_mig", VF): [{"profile": "1g.10gb", "placement": 6}]}
    machine = PrivilegedMachine(asked, tmp_path, lambda verb, target: begun.get((verb, target), []))
    wanted: Arguments = {"profile": "2g.20gb", "placement": None}
    assert machine.before(Step("create_mig", VF, wanted), 10.0) == {"profile": "2g.20gb", "placement": 3}
    assert asked.asked == [("mig_placement", 10.0, {"address": VF, "profile": "2g.20gb", "promised": ["1g.10gb@6"]})]


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (None, None),
        (VerbRefused("can_scrub", "it is resetting", RefusalKind.RETRY), None),
        (VerbRefused("can_scrub", "it is gone", RefusalKind.PERMANENT, gone=True), None),
        (VerbFailed("can_scrub", "killed"), None),
        (
            VerbRefused("can_scrub", f"{VF} cannot be formatted", RefusalKind.PERMANENT),
            Refusal(
                RefusalKind.PERMANENT,
                f"the policy wants it wiped after use (nvme-format): {VF} cannot be formatted",
                VF,
            ),
        ),
    ],
)
def test_only_what_is_certain_speaks_against_a_wipe_in_advance(
    tmp_path: Path, error: VerbFailed | None, refusal: Refusal | None
) -> None:
    asked: Any = Asked(error)
    assert PrivilegedMachine(asked, tmp_path).unwipeable(VF, "nvme-format") == refusal


def test_every_verb_of_a_plan_takes_the_same_arguments_in_the_privileged_process() -> None:
    for name in verbs.VERBS.keys() & VERBS.keys():
        assert set(verbs.VERBS[name].arguments) == {"address", *VERBS[name].arguments}
