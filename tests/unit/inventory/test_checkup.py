# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Each fault of a host is found, said once, and comes with a cure; a host without faults has none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from devagent.inventory.checkup import examine
from devagent.inventory.patient import Patient
from devagent.model.claim import Kind, Mode
from devagent.model.device import Device
from devagent.model.finding import Finding, Grade
from devagent.model.health import Health, State
from devagent.model.policy import Policy, Rule
from devagent.model.vitals import Module, Vitals

from ..worlds import NIC, claim, decide, function, pf, rule, snapshot

MODULES = {"vfio_pci": Module.LOADABLE, "vfio_iommu_type1": Module.BUILT_IN, "iommufd": Module.ABSENT}
NVML = "570.86.15"
WELL = Vitals(
    machine=True,
    kernel="6.8.0",
    groups=3,
    modules=MODULES,
    nvidia_module=NVML,
    nvidia_library=NVML,
    overrides={},
)
GPU = function(driver="nvidia")
BARE = replace(WELL, groups=0, cpu="GenuineIntel")
PF = "0000:3b:00.0"


def checkup(vitals: Vitals, devices: Iterable[Device] = (), *rules: Rule) -> list[Finding]:
    """Gives what is amiss, and checks that each finding says what to do."""
    findings = examine(Patient(vitals, tuple(devices), Policy(rules, "test")))
    amiss = [finding for finding in findings if finding.grade is not Grade.OK]
    assert all(finding.seen and (finding.cure or finding.grade in (Grade.UNKNOWN, Grade.SKIPPED)) for finding in amiss)
    well = [finding for finding in findings if finding.grade is Grade.OK]
    assert not any(finding.cure for finding in well)
    assert not {finding.check for finding in well} & {finding.check for finding in amiss}
    return amiss


def well(vitals: Vitals, devices: Iterable[Device] = (), *rules: Rule) -> dict[str, str]:
    """Gives what is said to be well, by check."""
    findings = examine(Patient(vitals, tuple(devices), Policy(rules, "test")))
    return {finding.check: finding.seen for finding in findings if finding.grade is Grade.OK}


def gpu(driver: str | None = "nvidia", **more: Any) -> list[Device]:
    """Gives a host's one GPU."""
    return list(decide(snapshot(function(driver=driver, **more)), rule()).values())


def nic(count: int, by: Rule, **more: Any) -> list[Device]:
    """Gives a host's one NIC with that many VFs."""
    functions = pf(count, driver="mlx5_core", **more)
    return list(decide(snapshot(*functions), by, claims=[claim(functions[0], Kind.NIC)]).values())


def told(vitals: Vitals, devices: Iterable[Device] = (), *rules: Rule) -> tuple[str, Grade, str | None, str, str]:
    """Gives the one thing that is amiss."""
    (finding,) = checkup(vitals, devices, *rules)
    return finding.check, finding.grade, finding.device, finding.seen, finding.cure


def test_a_host_that_is_well_has_nothing_amiss() -> None:
    vfs = rule(Mode.VF, "vfs", vf_count=4)
    seen = replace(WELL, num_vfs={PF: 4})
    assert checkup(seen, nic(4, vfs), vfs) == checkup(seen, gpu()) == checkup(WELL) == []


def test_each_check_says_that_it_was_made() -> None:
    seen = replace(WELL, num_vfs={PF: 4})
    findings = examine(Patient(seen, (*gpu(), *nic(4, rule(Mode.VF))), Policy((), "test")))
    assert [finding.check for finding in findings] == [
        *("iommu", "vfio", "nvidia", "drivers", "vf-count", "vf-drivers", "iommu-groups", "driver-override")
    ]


def test_what_is_well_is_told_of_what_there_is_and_of_nothing_else() -> None:
    assert set(well(WELL)) == {"iommu", "vfio", "nvidia"}
    assert "vf-drivers" not in well(WELL, gpu())
    seen, vfs = replace(WELL, num_vfs={PF: 4}), nic(4, rule(Mode.VF))
    assert well(seen, [*gpu(), *vfs]) == {
        **well(WELL),
        "drivers": "the GPU has one",
        "vf-count": "1 PFs have 4 VFs, as sriov_numvfs and the policy say",
        "vf-drivers": "no driver failed on a VF",
        "iommu-groups": "each of 5 functions to give has one of its own",
        "driver-override": "none is set",
    }
    two = decide(snapshot(GPU, function("0000:5e:00.0", driver="nvidia")), rule()).values()
    assert well(WELL, two)["drivers"] == "each of 2 GPUs has one"
    assert well(replace(WELL, overrides={PF: "nvidia"}), gpu())["driver-override"] == "1 set, each bound as it says"


@pytest.mark.parametrize(
    ("facts", "cure"),
    [
        ({}, "intel_iommu=on"),
        ({"command_line": ("ro", "intel_iommu=on")}, "dmesg"),
        ({"command_line": ("iommu=off",)}, "remove iommu=off"),
        (
            {"command_line": ("intel_iommu=off", "iommu=off", "amd_iommu=off")},
            "amd_iommu=off and intel_iommu=off and iommu",
        ),
        ({"cpu": "AuthenticAMD"}, "remove amd_iommu=off and iommu=off"),
        ({"cpu": None}, "dmesg"),
        ({"firmware_iommu": False}, "firmware's setup"),
        ({"firmware_iommu": True}, "intel_iommu=on"),
        ({"virtual": True, "firmware_iommu": False}, "hw_viommu_model"),
        ({"virtual": True, "firmware_iommu": True}, "intel_iommu=on"),
        ({"groups": None}, "intel_iommu=on"),
    ],
)
def test_without_an_iommu_the_cure_depends_on_the_host(facts: dict[str, Any], cure: str) -> None:
    check, grade, _, seen, said = told(replace(BARE, **facts), gpu(iommu_group=None))
    assert (check, grade) == ("iommu", Grade.FAILED)
    assert seen == "no IOMMU is in use: no device can be given away"
    assert cure in said


def test_a_host_with_nothing_to_give_needs_no_iommu() -> None:
    assert told(BARE)[:2] == ("iommu", Grade.WARNING)


def test_a_captured_host_that_had_no_groups_had_no_iommu() -> None:
    assert told(replace(BARE, machine=False), gpu(iommu_group=None))[:2] == ("iommu", Grade.FAILED)


def test_how_the_iommu_and_vfio_are_there_is_told() -> None:
    assert well(WELL)["iommu"] == "in use: 3 groups"
    assert well(replace(WELL, groups=None), gpu(iommu_group=7))["iommu"] == "in use"
    there = [f"vfio-pci is {Module.LOADABLE}", f"vfio_iommu_type1 is {Module.BUILT_IN}"]
    assert well(WELL)["vfio"] == ", ".join(there)


def test_a_captured_host_without_groups_tells_nothing_of_them() -> None:
    assert told(replace(WELL, machine=False, groups=None))[:2] == ("iommu", Grade.SKIPPED)
    assert checkup(replace(WELL, machine=False, groups=None), gpu(iommu_group=7)) == []


@pytest.mark.parametrize(
    ("modules", "grade", "seen"),
    [
        ({"vfio_pci": Module.ABSENT}, Grade.FAILED, "6.8.0 has no module vfio-pci"),
        ({"vfio_iommu_type1": Module.ABSENT}, Grade.FAILED, "6.8.0 has neither vfio_iommu_type1 nor"),
        ({"vfio_iommu_type1": Module.ABSENT, "iommufd": None}, Grade.UNKNOWN, "not loaded, and without /lib"),
        ({"vfio_pci": None}, Grade.UNKNOWN, "not loaded, and without /lib"),
    ],
)
def test_each_missing_module_of_vfio_is_named(modules: dict[str, Module | None], grade: Grade, seen: str) -> None:
    found = told(replace(WELL, modules=MODULES | modules), gpu(driver="nvidia"))
    assert found[:2] == ("vfio", grade)
    assert found[3].startswith(seen)
    assert ("modprobe vfio-pci" if grade is Grade.UNKNOWN else "CONFIG_VFIO_PCI") in found[4]


def test_a_kernel_that_does_not_say_its_release_lacks_modules_too() -> None:
    lacking = replace(WELL, kernel=None, modules=MODULES | {"vfio_pci": Module.ABSENT})
    assert told(lacking, gpu())[3] == "this kernel has no module vfio-pci"


def test_a_captured_host_tells_nothing_of_modules_that_were_not_loaded() -> None:
    seen = replace(WELL, machine=False, modules={"vfio_pci": None, "vfio_iommu_type1": None, "iommufd": None})
    assert told(seen)[:4] == ("vfio", Grade.SKIPPED, None, "not checked: a captured host that does not tell")


def test_one_way_to_the_iommu_is_enough() -> None:
    other = {"vfio_iommu_type1": Module.ABSENT, "iommufd": Module.LOADED}
    assert checkup(replace(WELL, modules=MODULES | other)) == []
    assert checkup(replace(WELL, modules=MODULES | {"iommufd": None})) == []


@pytest.mark.parametrize(
    ("facts", "grade", "seen"),
    [
        ({"nvidia_library": "575.57.08"}, Grade.FAILED, "is 570.86.15, the library (NVML) 575.57.08"),
        ({"nvidia_library": None}, Grade.WARNING, "there is no libnvidia-ml.so.1"),
        ({"nvidia_library": None, "machine": False}, Grade.SKIPPED, "not checked: a captured host"),
        ({"nvidia_module": None}, Grade.UNKNOWN, "version of the kernel module is unknown"),
        ({"unread": {"nvidia": "sys/module/nvidia/version: permission denied"}}, Grade.UNKNOWN, "permission denied"),
    ],
)
def test_nvml_must_have_the_version_of_the_module(facts: dict[str, Any], grade: Grade, seen: str) -> None:
    found = told(replace(WELL, **facts), gpu())
    assert found[:2] == ("nvidia", grade)
    assert seen in found[3]


def test_without_nvidias_driver_nobody_misses_its_version() -> None:
    none = replace(WELL, nvidia_module=None, nvidia_library=None)
    assert checkup(none) == checkup(none, gpu("amdgpu")) == []
    assert told(replace(none, machine=False), gpu())[:2] == ("nvidia", Grade.SKIPPED)


@pytest.mark.parametrize(
    ("driver", "able", "cure"),
    [
        (None, (), "install its vendor's driver"),
        (None, ("nouveau", "nvidia"), "modprobe nouveau"),
        ("nouveau", (), "blacklist nouveau"),
    ],
)
def test_a_gpu_without_its_driver_is_a_warning_with_the_cure(
    driver: str | None, able: tuple[str, ...], cure: str
) -> None:
    check, grade, device, _, said = told(WELL, gpu(driver, drivers=able))
    assert (check, grade, device) == ("drivers", Grade.WARNING, PF)
    assert cure in said


def test_one_gpu_without_its_driver_is_found_beside_one_that_has_it() -> None:
    two = decide(snapshot(GPU, function("0000:5e:00.0", driver=None)), rule()).values()
    assert told(WELL, two)[:3] == ("drivers", Grade.WARNING, "0000:5e:00.0")


def test_a_rule_that_does_not_say_how_many_vfs_wants_those_that_there_are() -> None:
    any_number = rule(Mode.VF, "vfs")
    assert checkup(replace(WELL, num_vfs={PF: 4}), nic(4, any_number), any_number) == []


def test_vfs_that_numvfs_does_not_count_are_a_failure() -> None:
    check, grade, device, seen, _ = told(replace(WELL, num_vfs={PF: 8}), nic(4, rule(Mode.VF)))
    assert (check, grade, device) == ("vf-count", Grade.FAILED, PF)
    assert seen == "sriov_numvfs is 8, but there are 4 VFs"


def test_a_pf_that_does_not_answer_has_its_lock_held() -> None:
    check, grade, device, seen, cure = told(
        replace(WELL, no_answer={PF: "did not answer within 2 s"}), nic(4, rule(Mode.VF))
    )
    assert (check, grade, device) == ("vf-count", Grade.FAILED, PF)
    assert seen.startswith("sriov_numvfs did not answer within 2 s")
    assert "end the virtual machine" in cure


@pytest.mark.parametrize(
    ("there", "wanted", "grade", "seen", "cure"),
    [
        (0, 8, Grade.WARNING, "rule vfs wants 8 VFs, but there are 0", f"write 8 to /sys/bus/pci/devices/{PF}/sriov_"),
        (4, 8, Grade.WARNING, "rule vfs wants 8 VFs, but there are 4", "with no VF in use, write 0 and then 8 to"),
        (4, 9, Grade.FAILED, "rule vfs wants 9 VFs, but the PF can have 8", "lower vf_count"),
    ],
)
def test_the_policy_wants_other_vfs(there: int, wanted: int, grade: Grade, seen: str, cure: str) -> None:
    vfs = rule(Mode.VF, "vfs", vf_count=wanted)
    found = told(replace(WELL, num_vfs={PF: there}), nic(there, vfs), vfs)
    assert found[:4] == ("vf-count", grade, PF, seen)
    assert found[4].startswith(cure)


def test_of_nvidias_gpus_only_their_own_tool_makes_vfs() -> None:
    vfs = rule(Mode.VF, "vfs", vf_count=8)
    (device,) = decide(snapshot(*pf(0, ids="10de:26b9", driver="nvidia")), vfs).values()
    found = told(replace(WELL, num_vfs={PF: 0}), [device], vfs)
    assert found[:4] == ("vf-count", Grade.WARNING, PF, "rule vfs wants 8 VFs, but there are 0")
    assert found[4].startswith(f"run /usr/lib/nvidia/sriov-manage -e {PF} while nothing uses it")


def test_a_capture_without_numvfs_tells_nothing_of_it() -> None:
    assert told(WELL, nic(4, rule(Mode.VF)))[:2] == ("vf-count", Grade.SKIPPED)


def vfs_with(*drivers: str | None) -> list[Device]:
    """Gives a NIC whose VFs have these drivers."""
    main, *rest = pf(len(drivers), driver="mlx5_core")
    assert main.sriov is not None
    vfs = tuple(replace(vf, driver=driver) for vf, driver in zip(main.sriov.vfs, drivers, strict=True))
    functions = [replace(main, sriov=replace(main.sriov, vfs=vfs)), *rest]
    return list(decide(snapshot(*functions), rule(Mode.VF), claims=[claim(functions[0], Kind.NIC)]).values())


def test_a_driver_that_failed_on_some_vfs_is_a_warning() -> None:
    found = told(replace(WELL, num_vfs={PF: 4}), vfs_with("iavf", None, None, "vfio-pci"))
    assert found[:4] == ("vf-drivers", Grade.WARNING, PF, "VF 1-2 without a driver, where other VFs have iavf")
    assert "0000:3b:01.1" in found[4]


def test_the_drivers_of_other_vfs_are_named_in_order() -> None:
    drivers = ("mlx5_core", None, "ixgbevf", "iavf", "bnxt_en", "mlx5_core")
    found = told(replace(WELL, num_vfs={PF: 6}), vfs_with(*drivers))
    assert found[3] == "VF 1 without a driver, where other VFs have bnxt_en, iavf, ixgbevf, mlx5_core"


@pytest.mark.parametrize("drivers", [(None, None), ("vfio-pci", None), ("iavf", "iavf"), ("vfio-pci", "iavf")])
def test_vfs_may_be_without_drivers(drivers: tuple[str | None, ...]) -> None:
    assert checkup(replace(WELL, num_vfs={PF: 2}), vfs_with(*drivers)) == []


def test_an_override_left_behind_is_said_once_for_all_vfs() -> None:
    overrides = {f"0000:3b:01.{index}": "vfio-pci" for index in range(3)}
    found = told(replace(WELL, num_vfs={PF: 4}, overrides=overrides), vfs_with(None, None, "vfio-pci", "iavf"))
    seen = "VF 0-1: driver_override is vfio-pci, but bound is no driver"
    assert found[:4] == ("driver-override", Grade.WARNING, PF, seen)
    assert "echo > /sys/bus/pci/devices/0000:3b:01.0/driver_override" in found[4]


def test_an_override_of_a_device_is_left_behind() -> None:
    found = told(replace(WELL, overrides={PF: "vfio-pci"}), gpu("nouveau-free"))
    assert found[:4] == ("driver-override", Grade.WARNING, PF, "driver_override is vfio-pci, but bound is nouveau-free")


def test_a_capture_without_overrides_tells_nothing_of_them() -> None:
    assert told(replace(WELL, overrides=None, machine=False), gpu())[:2] == (
        "driver-override",
        Grade.SKIPPED,
    )
    nothing = checkup(replace(WELL, overrides=None, machine=False))
    assert "driver-override" not in {finding.check for finding in nothing}


def test_two_devices_in_one_group_are_a_warning() -> None:
    functions = [function(f"0000:3b:00.{number}", driver="nvidia", iommu_group=7) for number in (0, 1)]
    devices = decide(snapshot(*functions), rule()).values()
    found = told(replace(WELL, shared={7: (PF, "0000:3b:00.1")}), devices)
    assert found[:4] == ("iommu-groups", Grade.WARNING, PF, "shares IOMMU group 7 with 0000:3b:00.1")


@pytest.mark.parametrize(("others", "seen"), [(4, "3c:00.3"), (5, "3c:00.3 and more")])
def test_of_many_strangers_in_a_group_the_first_four_are_named(others: int, seen: str) -> None:
    strangers = tuple(f"0000:3c:00.{number}" for number in range(others))
    found = told(replace(WELL, shared={7: (PF, *strangers)}), gpu(iommu_group=7))
    assert found[3].startswith("shares IOMMU group 7 with 0000:3c:00.0, 0000:3c:00.1, ")
    assert found[3].endswith(f"0000:{seen}")


def test_only_what_is_in_a_group_counts_among_those_that_have_one_of_their_own() -> None:
    without = function("0000:5e:00.0", driver="nvidia", iommu_group=None)
    devices = [replace(gpu()[0], function=each) for each in (GPU, without)]
    assert well(WELL, devices)["iommu-groups"] == "each of 1 functions to give has one of its own"
    (one,) = nic(4, rule(Mode.VF))
    assert one.function.sriov is not None
    first, *rest = one.vfs
    sriov = replace(one.function.sriov, vfs=(replace(first, iommu_group=None), *rest))
    fewer = replace(one, function=replace(one.function, sriov=sriov))
    assert well(WELL, [fewer])["iommu-groups"] == "each of 3 functions to give has one of its own"


def test_a_companion_of_the_same_slot_goes_along() -> None:
    assert checkup(replace(WELL, shared={7: (PF, "0000:3b:00.1")}), gpu()) == []


def test_a_group_of_nothing_to_give_is_nobodys_trouble() -> None:
    devices = decide(snapshot(GPU), rule(None)).values()
    assert checkup(replace(WELL, shared={7: (PF, "0000:3c:00.0")}), devices) == []


def test_vfs_that_share_their_group_are_found() -> None:
    group = {100: ("0000:3b:01.0", "0000:3b:01.1")}
    found = told(replace(WELL, num_vfs={PF: 2}, shared=group), nic(2, rule(Mode.VF)))
    assert found[:4] == ("iommu-groups", Grade.WARNING, "0000:3b:01.0", "shares IOMMU group 100 with 0000:3b:01.1")


@pytest.mark.parametrize(
    ("kept", "mode", "amiss"),
    [
        ({PF: "vfio-pci"}, Mode.WHOLE, False),
        ({PF: "nouveau"}, Mode.WHOLE, True),
        ({PF: "vfio-pci"}, Mode.VF, True),
        ({PF: "mlx5_core"}, Mode.VF, False),
        ({"0000:3b:01.1": "iavf"}, Mode.VF, True),
        ({"0000:3b:01.1": "vfio-pci"}, Mode.VF, False),
        ({"0000:99:00.0": "iavf"}, Mode.VF, False),
        ({PF: "vfio-pci"}, None, False),
        ({PF: "nouveau"}, None, False),
    ],
)
def test_driverctl_binds_what_the_policy_gives_otherwise(kept: dict[str, str], mode: Mode | None, amiss: bool) -> None:
    devices = nic(0 if mode is Mode.WHOLE else 2, rule(mode, "r"))
    found = checkup(replace(WELL, num_vfs={PF: len(devices[0].vfs)}, driverctl=kept), devices)
    assert [(each.check, each.device) for each in found] == ([("driverctl", PF)] if amiss else [])


def test_what_nobody_is_given_hides_nothing_of_what_is_given() -> None:
    other = "0000:5e:00.0"
    given = function(other, driver="nvidia", iommu_group=8)
    devices = decide(snapshot(GPU, given), rule(None, address=(PF,)), rule()).values()
    found = checkup(replace(WELL, driverctl={PF: "nouveau", other: "nouveau"}), devices)
    assert [(each.check, each.device) for each in found] == [("driverctl", other)]


@pytest.mark.parametrize("mode", [Mode.MDEV, Mode.VGPU])
@pytest.mark.parametrize("address", [PF, "0000:3b:01.1"])
@pytest.mark.parametrize(("driver", "amiss"), [("nvidia", False), ("vfio-pci", True)])
def test_what_parts_are_made_of_stays_with_its_own_driver(mode: Mode, address: str, driver: str, amiss: bool) -> None:
    devices = [
        replace(each, decision=replace(each.decision, mode=mode)) if each.decision.managed else each
        for each in nic(2, rule(Mode.VF, "r"))
    ]
    found = checkup(replace(WELL, num_vfs={PF: 2}, driverctl={address: driver}), devices)
    assert [each.device for each in found if each.check == "driverctl"] == ([PF] if amiss else [])


def test_mdevctl_makes_devices_of_what_is_given() -> None:
    found = told(replace(WELL, mdevctl={PF: 2}), gpu("other"))
    assert found[:3] == ("mdevctl", Grade.WARNING, PF)
    assert "2 mediated devices" in found[3]


def test_mdevctl_may_make_what_it_wants_of_what_nobody_is_given() -> None:
    ignored = list(decide(snapshot(GPU), rule(None)).values())
    assert checkup(replace(WELL, mdevctl={PF: 2}), ignored) == []
    assert checkup(replace(WELL, mdevctl={"0000:99:00.0": 2}), gpu()) == []


def test_nova_takes_what_a_rule_gives() -> None:
    device = gpu("other")[0]
    reason = "Nova's [pci]device_spec has it"
    vetoed = replace(device, decision=replace(device.decision, managed=False, reason=reason))
    found = told(WELL, [vetoed])
    assert found[:3] == ("nova", Grade.WARNING, PF)
    assert reason in found[3]
    for changed in ({"rule": None}, {"owner": "nova"}):
        assert checkup(WELL, [replace(vetoed, decision=replace(vetoed.decision, **changed))]) == []


@pytest.mark.parametrize(("state", "grade"), [(State.SUSPECT, Grade.WARNING), (State.LOST, Grade.FAILED)])
def test_a_device_that_is_not_well_is_graded_by_its_state(state: State, grade: Grade) -> None:
    device = replace(gpu("other")[0], health=Health(state, ("fell off the bus",)))
    assert told(WELL, [device])[:4] == ("health", grade, PF, f"{state}: fell off the bus")
    assert told(WELL, [replace(device, health=Health(state))])[3] == str(state)


@pytest.mark.parametrize("check", ["vfio", "vf-count", "iommu-groups", "driver-override", "driverctl", "mdevctl"])
def test_what_could_not_be_read_is_unknown_and_never_well(check: str) -> None:
    seen = replace(WELL, num_vfs={PF: 2}, unread={check: "some/file: input/output error"})
    devices = nic(2, rule(Mode.VF))
    if check == "driver-override":
        seen = replace(seen, overrides=None)
    found = examine(Patient(seen, tuple(devices), Policy((), "test")))
    assert [(each.grade, each.seen, "as root" in each.cure) for each in found if each.check == check] == [
        (Grade.UNKNOWN, "some/file: input/output error", True)
    ]


def test_groups_that_cannot_be_listed_are_unknown() -> None:
    seen = replace(WELL, groups=None, unread={"iommu-groups": "sys/kernel/iommu_groups: permission denied"})
    assert {(each.check, each.grade) for each in checkup(seen)} == {
        ("iommu", Grade.UNKNOWN),
        ("iommu-groups", Grade.UNKNOWN),
    }


def test_classes_of_other_devices_have_no_driver_to_lack() -> None:
    devices = decide(snapshot(function(class_code=NIC)), rule(), claims=[claim(function(class_code=NIC), Kind.NIC)])
    assert checkup(WELL, devices.values()) == []
