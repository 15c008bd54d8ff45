# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""NVML through the genuine pynvml: whatever fails, fails for one GPU and one question alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts.generate import generate

from devagent.errors import GateBusy
from devagent.model.gpu import (
    Fabric,
    GpuFacts,
    GpuLink,
    MemoryErrors,
    MigFacts,
    MigInstance,
    MigProfile,
    NvmlGpu,
    VgpuFacts,
    VgpuType,
)
from devagent.model.health import State
from devagent.model.identity import Identity
from devagent.nvml_gate import NvmlGate
from devagent.sources.apart import Outcome, look_apart
from devagent.sources.host import Directory
from devagent.sources.nvml import gpus as source

from .nvml.library import Nvml

A, B, C, D = (f"0000:{bus}:00.0" for bus in ("3b", "5e", "af", "d8"))
UUID = "GPU-{0}{0}{0}{0}-2222-3333-4444-555555555555"


def gpu(address: str = A, name: str = "NVIDIA A100-PCIE-40GB") -> str:
    return f"gpu {address} {uuid(address)} 40960 20f110de {name}"


def uuid(address: str) -> str:
    return UUID.format(address[5:7])


FOUR = tuple(map(gpu, (A, B, C, D)))


@pytest.fixture
def nvml(tmp_path: Path) -> Nvml:
    return Nvml(tmp_path)


@pytest.fixture
def facts(nvml: Nvml) -> Callable[..., GpuFacts]:
    """Gives what NVML says of one GPU with further lines of state; nothing may fail."""

    def asked(*lines: str) -> GpuFacts:
        nvml.says(gpu(), *lines)
        answer = nvml.look(A).answers[A]
        assert (answer.failures, answer.lost) == ((), False)
        assert isinstance(answer, NvmlGpu)
        return answer.facts

    return asked


def replayed(top: Path, *addresses: str) -> Outcome:
    with Directory(top) as tree:
        return look_apart(tree, [source.look(addresses)])["nvml"]


def captured(nvml: Nvml, top: Path) -> Path:
    for path, text in nvml.kept.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    return top


def test_a_gpu_says_what_it_is(nvml: Nvml) -> None:
    nvml.says(gpu(), f"set {A} serial 1324920012345", f"set {A} ecc 1", f"set {A} uncorrected 0")
    outcome = nvml.look(A)
    expected = GpuFacts(uuid(A), "1324920012345", 40960, errors=MemoryErrors(ecc=True, uncorrected=0))
    assert outcome.answers == {A: NvmlGpu(A, expected, "NVIDIA A100-PCIE-40GB", "575.57.08")}
    assert outcome.failures == {}
    assert nvml.closed == 1


def test_a_board_without_a_serial_number_has_none(facts: Callable[..., GpuFacts]) -> None:
    assert facts(f"set {A} serial 0").serial is None
    assert facts().serial is None


def test_domains_have_eight_digits_in_nvml_and_four_in_the_kernel(nvml: Nvml) -> None:
    far = "10000:01:00.0"
    nvml.says(gpu(A), gpu(far), f"link {far} 0 gpu {A}", f"link {A} 0 gpu {far}")
    answers = nvml.look(A, far).answers
    assert answers[far].facts.uuid == uuid(far)
    assert answers[far].facts.links == (GpuLink("nvlink", A, 1),)
    assert answers[A].facts.links == (GpuLink("nvlink", far, 1),)


# --- what fails for all ---


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "libnvidia-ml.so.1: the driver is not loaded"),
        (18, "libnvidia-ml.so.1: the driver was upgraded without reloading its module: reboot"),
        (4, "libnvidia-ml.so.1: only some users may open /dev/nvidiactl"),
        (28, "libnvidia-ml.so.1: cannot be used: GPU Not Found"),
    ],
)
def test_a_session_that_cannot_begin_says_why_and_what_to_do(nvml: Nvml, tmp_path: Path, code: int, words: str) -> None:
    nvml.says(*FOUR, f"fail nvmlInitWithFlags {code}")
    outcome = nvml.look(A, B)
    assert outcome.answers == {}
    assert list(outcome.failures) == [A, B]
    assert len(set(outcome.failures.values())) == 1
    assert outcome.failures[A].startswith(words)
    assert replayed(captured(nvml, tmp_path / "capture"), A, B) == outcome


def test_without_the_library_one_is_told_to_install_it(nvml: Nvml) -> None:
    outcome = nvml.look(A, B, version=None)
    assert set(outcome.failures.values()) == {
        "libnvidia-ml.so.1: is not installed: install the package of the driver's version that has it"
    }


# --- what fails for one ---


def test_one_of_four_gpus_is_lost(nvml: Nvml) -> None:
    nvml.says(*FOUR, f"fail *@{B} 15")
    answers = nvml.look(A, B, C, D).answers
    assert [answers[each].lost for each in (A, B, C, D)] == [False, True, False, False]
    assert answers[B] == NvmlGpu(B, driver_version="575.57.08", lost=True)
    assert answers[D].facts.uuid == uuid(D)


def test_a_gpu_that_is_lost_while_it_is_asked_keeps_what_it_said(nvml: Nvml) -> None:
    nvml.says(gpu(), "fail nvmlDeviceGetSerial 15")
    answer = nvml.look(A).answers[A]
    assert (answer.lost, answer.facts, answer.failures) == (True, GpuFacts(uuid(A), memory_mib=40960), ())


def test_a_gpu_that_cannot_be_opened_says_why(nvml: Nvml) -> None:
    nvml.says(*FOUR, f"fail nvmlDeviceGetHandleByPciBusId_v2@{B} 8")
    answers = nvml.look(A, B, C).answers
    failures = (("nvmlDeviceGetHandleByPciBusId", "Insufficient External Power"),)
    assert answers[B] == NvmlGpu(B, driver_version="575.57.08", failures=failures)
    assert answers[C].facts.uuid == uuid(C)


def test_a_gpu_that_nvml_may_not_be_asked_about_is_unknown(nvml: Nvml, tmp_path: Path) -> None:
    nvml.says(*FOUR, f"fail nvmlDeviceGetHandleByPciBusId_v2@{B} 4")
    outcome = nvml.look(A, B)
    assert list(outcome.answers) == [A]
    assert outcome.failures == {B: "libnvidia-ml.so.1: only some users may open /dev/nvidiactl and the GPUs"}
    assert replayed(captured(nvml, tmp_path / "capture"), A, B) == outcome


def test_a_question_that_fails_leaves_the_others(nvml: Nvml) -> None:
    nvml.says(
        gpu(), f"set {A} serial 123", f"set {A} ecc 1", "fail nvmlDeviceGetUUID 999", "fail nvmlDeviceGetEccMode 4"
    )
    answer = nvml.look(A).answers[A]
    assert answer.facts == GpuFacts(serial="123", memory_mib=40960)
    assert answer.failures == (
        ("nvmlDeviceGetUUID", "Unknown Error"),
        ("nvmlDeviceGetEccMode", "only root is told"),
    )


def test_a_gpu_that_hangs_is_left_behind_and_the_others_answer(nvml: Nvml) -> None:
    nvml.says(*FOUR, f"hang nvmlDeviceGetUUID@{B} 60000")
    before = time.monotonic()
    outcome = nvml.look(A, B, C, D, limit=2)
    assert time.monotonic() - before < 10
    assert outcome.failures == {B: "did not answer within 2 s"}
    assert {each.facts.uuid for each in outcome.answers.values()} == {uuid(A), uuid(C), uuid(D)}


def test_a_library_that_crashes_takes_one_gpu_with_it(nvml: Nvml) -> None:
    nvml.says(*FOUR, f"crash nvmlDeviceGetMigMode@{C}")
    outcome = nvml.look(A, B, C, D)
    assert outcome.failures == {C: "ended its process with SIGSEGV"}
    assert list(outcome.answers) == [A, B, D]


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (
            470,
            {
                "nvmlDeviceGetGpuInstanceProfileInfo",
                "nvmlDeviceGetVgpuHeterogeneousMode",
                "nvmlDeviceGetNvLinkRemoteDeviceType",
                "nvmlDeviceGetGpuFabricInfoV",
                "nvmlDeviceGetGpuFabricInfo",
            },
        ),
        (535, {"nvmlDeviceGetVgpuHeterogeneousMode", "nvmlDeviceGetGpuFabricInfoV"}),
        (550, set()),
        (575, set()),
    ],
)
def test_what_an_old_library_lacks_is_counted_and_what_it_has_is_read(
    nvml: Nvml, version: int, missing: set[str]
) -> None:
    nvml.says(
        gpu(),
        gpu(B),
        f"set {A} mig 1",
        f"set {A} host_mode 1",
        f"set {A} heterogeneous 1",
        f"set {A} fabric 3",
        f"set {A} clique 4",
        f"set {A} recovery 0",
        f"instance {A} 19 3",
        f"link {A} 0 gpu {B}",
        f"link {A} 1 switch 0000:05:00.0",
    )
    answer = nvml.look(A, version=version).answers[A]
    assert dict(answer.failures) == dict.fromkeys(missing, "not in this library")
    facts = answer.facts
    assert [each.name for each in facts.mig.profiles] == ["1g.5gb", "2g.10gb", "3g.20gb", "7g.40gb", "1g.5gb+me"]
    assert [each.profile for each in facts.mig.instances] == ["1g.5gb"]
    assert facts.vgpu == VgpuFacts(None, "sriov", True if version >= 550 else None, (), 0)
    assert facts.links == (GpuLink("nvlink", B, 1), GpuLink("nvlink", None, 1))
    assert facts.fabric == (Fabric("completed", 4) if version >= 535 else None)
    assert facts.recovery_action == ("none" if version >= 570 else None)


# --- while a GPU changes hands ---


@pytest.fixture
def gate(tmp_path: Path) -> NvmlGate:
    made = NvmlGate(tmp_path)
    made.make()
    return made


def gated(nvml: Nvml, gate: NvmlGate, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    nvml.says(gpu(), f"hang nvmlDeviceGetUUID@{A} 500")
    nvml.serve(monkeypatch)
    with Directory(nvml.top, machine=True) as tree:
        return look_apart(tree, [source.look([A], gate)])["nvml"]


def test_nobody_is_asked_while_nvml_must_be_closed(nvml: Nvml, gate: NvmlGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_SHUT", 0.1)
    with gate.shut(0):
        outcome = gated(nvml, gate, monkeypatch)
    assert (outcome.answers, nvml.closed) == ({}, 0)
    assert outcome.failures[A].startswith("NVML: was not asked: a GPU is being given to another driver")


def test_a_look_waits_for_a_moment_and_holds_nvml_open_no_longer_than_it_lasts(
    nvml: Nvml, gate: NvmlGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = os.fork()
    if waiting == 0:  # shuts it at once, and once more as soon as the look has it open
        code = 1
        with gate.shut(0):
            time.sleep(0.3)
        for _ in range(6000):
            try:
                with gate.shut(0):
                    pass
                time.sleep(0.05)
            except GateBusy as error:
                code = 0 if error.pids else 2
                break
        os._exit(code)
    assert gated(nvml, gate, monkeypatch).answers[A].facts.uuid == uuid(A)
    assert os.waitstatus_to_exitcode(os.waitpid(waiting, 0)[1]) == 0
    with gate.shut(0):
        pass


# --- what a GPU can tell ---


def test_mig_off_can_be_switched_on(facts: Callable[..., GpuFacts]) -> None:
    assert facts(f"set {A} mig 0").mig == MigFacts(False, False)
    assert facts(f"set {A} mig 0", f"set {A} mig_pending 1").mig == MigFacts(False, True)
    assert facts().mig is None


def test_mig_instances_stand_in_their_places(facts: Callable[..., GpuFacts]) -> None:
    instances = (f"instance {A} 19 6", f"instance {A} 9 0", f"instance {A} 20 4")
    mig = facts(f"set {A} mig 1", *instances).mig
    assert mig == MigFacts(
        enabled=True,
        pending=True,
        profiles=(
            MigProfile("1g.5gb", 4864, 7, 2),
            MigProfile("2g.10gb", 9856, 3, 1),
            MigProfile("3g.20gb", 19968, 2, 0),
            MigProfile("7g.40gb", 40192, 1, 0),
            MigProfile("1g.5gb+me", 4864, 1, 1),
        ),
        instances=(
            MigInstance(2, "3g.20gb", 0, 4, (f"MIG-2-{uuid(A)[4:]}",)),
            MigInstance(3, "1g.5gb+me", 4, 1, (f"MIG-3-{uuid(A)[4:]}",)),
            MigInstance(1, "1g.5gb", 6, 1, (f"MIG-1-{uuid(A)[4:]}",)),
        ),
    )


def test_only_root_sees_mig_instances(nvml: Nvml) -> None:
    denied = ("nvmlDeviceGetGpuInstances", "nvmlDeviceGetGpuInstanceRemainingCapacity")
    nvml.says(gpu(), f"set {A} mig 1", f"instance {A} 19 6", *(f"fail {name} 4" for name in denied))
    answer = nvml.look(A).answers[A]
    assert set(answer.failures) == {(name, "only root is told") for name in denied}
    assert answer.facts.mig.enabled
    assert (answer.facts.mig.instances, answer.facts.mig.profiles[0]) == ((), MigProfile("1g.5gb", 4864, 7))


def test_vgpu_types_are_those_that_the_gpu_carries(facts: Callable[..., GpuFacts]) -> None:
    vgpu = facts(
        f"set {A} host_mode 1",
        f"set {A} heterogeneous 0",
        f"set {A} active 3",
        f"vgpu {A} 1157 8192 6 1 NVIDIA L40S-8Q",
        f"vgpu {A} 1155 1024 32 0 NVIDIA L40S-1Q",
    ).vgpu
    types = (VgpuType("NVIDIA L40S-1Q", "1155", 1024, 32, 0), VgpuType("NVIDIA L40S-8Q", "1157", 8192, 6))
    assert vgpu == VgpuFacts(None, "sriov", False, types, 3)


def test_a_host_without_vgpu_manager_has_no_vgpu(facts: Callable[..., GpuFacts]) -> None:
    assert facts().vgpu is None
    assert facts(f"set {A} host_mode 0").vgpu == VgpuFacts(host_mode="non-sriov")


def test_a_type_without_a_name_is_left_out(nvml: Nvml) -> None:
    nvml.says(gpu(), f"set {A} host_mode 1", f"vgpu {A} 7 1024 4 1 T4-1Q", "fail nvmlVgpuTypeGetName 999")
    answer = nvml.look(A).answers[A]
    assert answer.facts.vgpu.types == ()
    assert answer.failures == (("nvmlVgpuTypeGetName", "Unknown Error"),)


def test_nvlinks_are_counted_by_peer(nvml: Nvml) -> None:
    pairs = {A: (B, B, C, D), B: (A, A), C: (A,), D: (A,)}
    lines = [f"link {here} {index} gpu {there}" for here, peers in pairs.items() for index, there in enumerate(peers)]
    nvml.says(*FOUR, *lines)
    answers = nvml.look(A, B, C, D).answers
    assert {here: {each.peer: each.count for each in answers[here].facts.links} for here in pairs} == {
        A: {B: 2, C: 1, D: 1},
        B: {A: 2},
        C: {A: 1},
        D: {A: 1},
    }


def test_all_links_to_switches_are_one_peer(facts: Callable[..., GpuFacts]) -> None:
    links = [f"link {A} {index} switch 0000:0{index % 4 + 1}:00.0" for index in range(12)]
    assert facts(*links).links == (GpuLink("nvlink", None, 12),)


CLUSTER = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("lines", "fabric"),
    [
        (["fabric 0"], None),
        (["fabric 1", "clique 7"], Fabric("not started")),
        (["fabric 2", "clique 7"], Fabric("in progress")),
        (["fabric 3", "clique 7"], Fabric("completed", 7)),
        (["fabric 3", "clique 7", "health 1"], Fabric("completed", 7)),
        (["fabric 3", "clique 7", "health 2"], Fabric("unhealthy", 7)),
        (["fabric 3", "clique 7", "health 3"], Fabric("limited capacity", 7)),
    ],
)
def test_a_fabric_means_something_once_it_is_completed(
    facts: Callable[..., GpuFacts], lines: list[str], fabric: Fabric | None
) -> None:
    assert facts(*(f"set {A} {line}" for line in lines)).fabric == fabric


def test_a_cluster_has_a_uuid(facts: Callable[..., GpuFacts]) -> None:
    fabric = facts(f"set {A} fabric 3", f"set {A} clique 1", f"cluster {A} {CLUSTER}").fabric
    assert fabric == Fabric("completed", 1, "01234567-89ab-cdef-0123-456789abcdef")


def test_a_fabric_can_fail(nvml: Nvml) -> None:
    nvml.says(gpu(), f"set {A} fabric 3", f"set {A} fabric_status 999")
    answer = nvml.look(A).answers[A]
    assert (answer.facts.fabric, answer.failures) == (Fabric("failed"), (("the fabric's status", "Unknown Error"),))


@pytest.mark.parametrize(
    ("code", "action"), [(0, "none"), (1, "gpu reset"), (4, "drain and reset"), (7, "system reboot"), (8, "action 8")]
)
def test_the_driver_says_what_must_be_done(facts: Callable[..., GpuFacts], code: int, action: str) -> None:
    assert facts(f"set {A} recovery {code}").recovery_action == action


def test_a_recovery_action_that_fails_by_itself_is_unknown(nvml: Nvml) -> None:
    nvml.says(gpu(), f"set {A} recovery 99")
    answer = nvml.look(A).answers[A]
    assert answer.facts.recovery_action is None
    assert answer.failures == (("NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", "Unknown Error"),)


def test_a_gpu_that_wants_a_restart_needs_a_reset(nvml: Nvml) -> None:
    nvml.says(gpu(), "fail nvmlDeviceGetEccMode 16")
    answer = nvml.look(A).answers[A]
    assert answer.facts.recovery_action == "gpu reset"
    assert answer.failures == (("nvmlDeviceGetEccMode", "GPU requires restart"),)


ROWS = [f"set {A} {key}_rows {value}" for key, value in (("corrected", 3), ("uncorrected", 1), ("pending", 1))]


@pytest.mark.parametrize(
    ("lines", "errors"),
    [
        ([], None),
        ([f"set {A} retired 1"], MemoryErrors(pending=True)),
        (ROWS, MemoryErrors(None, None, 3, 1, True, False)),
        ([*ROWS, f"set {A} failed_rows 1", f"set {A} uncorrected 2"], MemoryErrors(None, 2, 3, 1, True, True)),
        # With MIG instances only the field values tell.
        ([*ROWS, f"set {A} mig 1", f"instance {A} 19 0"], MemoryErrors(None, None, 3, 1, True, False)),
    ],
)
def test_memory_errors_are_told_where_the_gpu_counts_them(
    facts: Callable[..., GpuFacts], lines: list[str], errors: MemoryErrors | None
) -> None:
    assert facts(*lines).errors == errors


# --- captures ---


def test_a_capture_gives_the_same_answers(nvml: Nvml, tmp_path: Path) -> None:
    everything = (
        *FOUR,
        f"set {A} mig 1",
        f"instance {A} 19 6",
        f"set {B} host_mode 1",
        f"set {B} heterogeneous 1",
        f"vgpu {B} 1155 1024 32 0 NVIDIA L40S-1Q",
        f"link {C} 0 gpu {D}",
        f"link {C} 1 switch 0000:01:00.0",
        f"set {C} fabric 3",
        f"cluster {C} {CLUSTER}",
        f"set {D} recovery 2",
        *(line.replace(A, D) for line in ROWS),
        f"fail *@{B} 15",
        f"fail nvmlDeviceGetSerial@{A} 999",
    )
    nvml.says(*everything)
    outcome = nvml.look(A, B, C, D)
    assert len(outcome.answers) == 4
    assert list(nvml.kept) == [f"devagent/nvml/{each}.json" for each in (A, B, C, D)]
    assert replayed(captured(nvml, tmp_path / "capture"), A, B, C, D) == outcome


def test_a_tree_without_nvmls_answers_has_none(tmp_path: Path) -> None:
    assert replayed(tmp_path, A) == Outcome({A: None}, {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '"answer"',
        "{}",
        '{"answer": null}',
        '{"answer": {"address": 7}}',
        '{"answer": {"address": "0000:5e:00.0"}}',
        '{"answer": {"address": "0000:3b:00.0", "lost": 1}}',
        '{"answer": {"address": "0000:3b:00.0", "facts": []}}',
        '{"answer": {"address": "0000:3b:00.0", "facts": {"memory_mib": true}}}',
        '{"answer": {"address": "0000:3b:00.0", "facts": {"memory_mib": 1.5}}}',
        '{"answer": {"address": "0000:3b:00.0", "name": "\\ud800"}}',
        '{"answer": {"address": "0000:3b:00.0", "failures": [["one"]]}}',
        '{"answer": {"address": "0000:3b:00.0", "facts": {"links": [{"kind": "nvlink"}]}}}',
        '{"failure": 7}',
        "[" * 20000,
    ],
)
def test_a_damaged_capture_is_a_problem_of_that_gpu(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"devagent/nvml/{A}.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    outcome = replayed(tmp_path, A, B)
    assert outcome.answers == {B: None}
    assert outcome.failures[A].startswith(f"devagent/nvml/{A}.json: is no answer of NVML (")


def test_what_another_version_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / f"devagent/nvml/{A}.json"
    path.parent.mkdir(parents=True)
    path.write_text(f'{{"answer": {{"address": "{A}", "new": 1, "facts": {{"uuid": "GPU-1", "newer": {{}}}}}}}}')
    assert replayed(tmp_path, A).answers == {A: NvmlGpu(A, GpuFacts("GPU-1"))}


# --- a whole host ---


def test_a_host_is_discovered_with_what_nvml_says(nvml: Nvml, hosts: dict[str, Path]) -> None:
    seen = [device.address for device in nvml.discover(hosts["gpu8"]).devices if device.claim.kind == "gpu"]
    lines = (f"set {seen[1]} mig 1", f"instance {seen[1]} 19 0", f"fail *@{seen[2]} 15", f"set {seen[3]} recovery 1")
    nvml.says(*map(gpu, seen[:4]), *lines)
    devices = {device.address: device for device in nvml.discover(hosts["gpu8"]).devices}
    first, mig, lost, broken, unknown = (devices[each] for each in seen[:5])
    assert first.identity == Identity("nvml", uuid(seen[0]))
    assert (first.health.state, first.decision.managed) == (State.HEALTHY, True)
    assert mig.decision.reason.startswith("MIG is on")
    assert lost.health.state is State.LOST
    assert broken.health.state is State.UNHEALTHY
    assert unknown.health.state is State.SUSPECT


def test_a_gpu_that_is_bound_to_vfio_pci_is_not_asked(nvml: Nvml, tmp_path: Path) -> None:
    gpus = [{"id": "10de:20f1", "class": "030200", "driver": driver} for driver in ("vfio-pci", "nvidia")]
    described = {"host": "h", "hostname": "h", "machine_id": "1", "boot_id": "2", "nodes": ["0-3"]}
    tree = generate(described | {"pci": [{"bus": "0000:3a", "node": 0, "devices": gpus}]}, tmp_path / "host")
    nvml.says("fail nvmlInitWithFlags 9")
    found = nvml.discover(tree)
    assert [device.function.driver for device in found.devices] == ["vfio-pci", "nvidia"]
    assert [problem.device for problem in found.problems if problem.source == "nvml"] == [found.devices[1].address]
