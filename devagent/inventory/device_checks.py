# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Judges the devices of a host one by one: drivers, VFs, IOMMU groups, and what was set by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from devagent.model.claim import Kind, Mode
from devagent.model.device import Device
from devagent.model.finding import Finding, Grade
from devagent.model.health import State
from devagent.model.pci import VirtualFunction
from devagent.model.policy import Policy, Rule
from devagent.model.ranges import format_ranges
from devagent.model.vitals import Vitals

_SYSFS: Final = "/sys/bus/pci/devices"


@dataclass(frozen=True, slots=True)
class Patient:
    """The host that is looked at: its devices, under its policy, and all else that was read."""

    vitals: Vitals
    devices: tuple[Device, ...]
    policy: Policy

    def rule(self, device: Device) -> Rule | None:
        """Gives the rule that decided about `device`."""
        return next((rule for rule in self.policy.rules if rule.name == device.decision.rule), None)

    def unread(self, check: str) -> Iterator[Finding]:
        """Gives a finding if something could not be read for `check`."""
        if check in self.vitals.unread:
            cure = "run devagent doctor as root; what is unreadable then is damaged"
            yield Finding(check, Grade.UNKNOWN, self.vitals.unread[check], cure)


def drivers(patient: Patient) -> Iterator[Finding]:
    """A GPU without its driver can be given whole, but says nothing of itself."""
    gpus = [device for device in patient.devices if device.claim.kind is Kind.GPU]
    for device in gpus:
        driver, able = device.function.driver, device.function.drivers
        if driver is None:
            load = f"modprobe {able[0]}" if able else "install its vendor's driver"
            text = "the GPU has no driver: its memory, partitions and health are unknown"
            yield _warning("drivers", device, text, f"{load}; to give it whole, nothing needs to be done")
        elif driver == "nouveau":
            text = "the GPU is bound to nouveau, which knows no MIG and no vGPU and can hang while it is unbound"
            cure = (
                "blacklist nouveau in /etc/modprobe.d, make the initramfs anew, boot; install NVIDIA's driver if wanted"
            )
            yield _warning("drivers", device, text, cure)
    if gpus and not any(device.function.driver in (None, "nouveau") for device in gpus):
        yield Finding("drivers", Grade.OK, f"each of {len(gpus)} GPUs has one" if len(gpus) > 1 else "the GPU has one")


def vf_count(patient: Patient) -> Iterator[Finding]:
    """Compares the VFs that are there with sriov_numvfs and with what the policy wants."""
    pfs = [device for device in patient.devices if device.function.sriov]
    findings = [finding for device in pfs for finding in _vf_counts(patient, device)]
    findings += patient.unread("vf-count")
    if pfs and not patient.vitals.num_vfs and not findings:
        findings.append(Finding("vf-count", Grade.SKIPPED, "not checked: a captured host without sriov_numvfs"))
    yield from findings
    if pfs and not findings:
        vfs = sum(len(device.vfs) for device in pfs)
        yield Finding("vf-count", Grade.OK, f"{len(pfs)} PFs have {vfs} VFs, as sriov_numvfs and the policy say")


def _vf_counts(patient: Patient, device: Device) -> Iterator[Finding]:
    there, file = len(device.vfs), f"{_SYSFS}/{device.address}/sriov_numvfs"
    if device.address in patient.vitals.no_answer:
        text = f"sriov_numvfs {patient.vitals.no_answer[device.address]}: its VFs are being made or removed"
        cure = "end the virtual machine that has one of its VFs: removing a VF waits for it; else the host must boot"
        yield Finding("vf-count", Grade.FAILED, text, cure, device.address)
    said = patient.vitals.num_vfs.get(device.address, there)
    if said != there:
        text = f"sriov_numvfs is {said}, but there are {there} VFs"
        cure = f"if it stays so: with no VF in use, write 0 and then the number to {file}"
        yield Finding("vf-count", Grade.FAILED, text, cure, device.address)
    rule = patient.rule(device)
    wanted = rule.wanted_vfs(device.function.sriov.total_vfs if device.function.sriov else 0) if rule else None
    if rule is not None and wanted is not None and wanted != there:
        yield _vfs_wanted(device, rule.name, wanted, file)


def _vfs_wanted(device: Device, rule: str, wanted: int, file: str) -> Finding:
    there, most = len(device.vfs), device.function.sriov.total_vfs if device.function.sriov else 0
    if wanted > most:
        text = f"rule {rule} wants {wanted} VFs, but the PF can have {most}"
        cure = "lower vf_count in the policy, or let the card's firmware offer more VFs (mlxconfig, the vendor's tool)"
        return Finding("vf-count", Grade.FAILED, text, cure, device.address)
    first = "with no VF in use, write 0 and then" if there else "write"
    text = f"rule {rule} wants {wanted} VFs, but there are {there}"
    by_hand = f"{first} {wanted} to {file}"
    if device.function.driver == "nvidia":
        by_hand = f"run /usr/lib/nvidia/sriov-manage -e {device.address} while nothing uses it, or let the agent do it"
    return _warning("vf-count", device, text, by_hand)


def vf_drivers(patient: Patient) -> Iterator[Finding]:
    """Where some VFs of a PF have a driver, it failed on those that have none."""
    pfs = [device for device in patient.devices if device.vfs]
    findings = []
    overridden = patient.vitals.overrides or {}
    for device in pfs:
        free = [vf for vf in device.vfs if vf.address not in overridden]
        others = sorted({vf.driver for vf in free if vf.driver and "vfio" not in vf.driver})
        without = [vf for vf in free if vf.driver is None]
        if others and without:
            text = f"VF {_indexes(without)} without a driver, where other VFs have {', '.join(others)}"
            one = without[0].address
            cure = f"`dmesg | grep {one}` says why it failed; `echo {one} > /sys/bus/pci/drivers_probe` tries again"
            findings.append(_warning("vf-drivers", device, text, cure))
    yield from findings
    if pfs and not findings:
        yield Finding("vf-drivers", Grade.OK, "no driver failed on a VF")


def groups(patient: Patient) -> Iterator[Finding]:
    """A group goes to one virtual machine: with two devices in it, neither can be given."""
    shared, given = patient.vitals.shared, list(_given(patient))
    devices = {address for device in patient.devices for address in _addresses(device)}
    findings = []
    told: set[int] = set()
    for address, group in given:
        members = shared.get(group, ()) if group not in told else ()
        slot = address.rpartition(".")[0]
        foreign = [each for each in members if each != address and (each in devices or not each.startswith(f"{slot}."))]
        if foreign:
            told.add(group)
            text = f"shares IOMMU group {group} with {', '.join(foreign[:4])}{' and more' if len(foreign) > 4 else ''}"
            cure = (
                "switch ACS on in the firmware's setup, or move the card to a slot of its own root port; "
                "pcie_acs_override would only hide that nothing separates them"
            )
            findings.append(Finding("iommu-groups", Grade.WARNING, text, cure, address))
    yield from findings
    yield from patient.unread("iommu-groups")
    if given and not findings and "iommu-groups" not in patient.vitals.unread:
        yield Finding("iommu-groups", Grade.OK, f"each of {len(given)} functions to give has one of its own")


def _given(patient: Patient) -> Iterator[tuple[str, int]]:
    """Gives what a rule would give away, with its IOMMU group."""
    for device in patient.devices:
        if device.decision.mode is Mode.WHOLE and device.function.iommu_group is not None:
            yield device.address, device.function.iommu_group
        elif device.decision.mode is Mode.VF:
            yield from ((vf.address, vf.iommu_group) for vf in device.vfs if vf.iommu_group is not None)


def driver_override(patient: Patient) -> Iterator[Finding]:
    """An override that names another driver than is bound keeps every other driver away."""
    overrides = patient.vitals.overrides
    if overrides is None:
        yield from patient.unread("driver-override")
        if patient.devices and "driver-override" not in patient.vitals.unread:
            yield Finding("driver-override", Grade.SKIPPED, "not checked: a captured host without driver_override")
        return
    findings = [finding for device in patient.devices for finding in _left_behind(device, overrides)]
    yield from findings
    if patient.devices and not findings:
        count = len(overrides)
        yield Finding("driver-override", Grade.OK, f"{count} set, each bound as it says" if count else "none is set")


def _left_behind(device: Device, overrides: Mapping[str, str]) -> Iterator[Finding]:
    function = device.function
    override = overrides.get(device.address)
    if override is not None and override != function.driver:
        yield _override(device, "", override, function.driver, device.address)
    runs: dict[tuple[str, str | None], list[VirtualFunction]] = {}
    for vf in device.vfs:
        if (override := overrides.get(vf.address)) is not None and override != vf.driver:
            runs.setdefault((override, vf.driver), []).append(vf)
    for (override, driver), vfs in runs.items():
        yield _override(device, f"VF {_indexes(vfs)}: ", override, driver, vfs[0].address)


def _override(device: Device, which: str, override: str, driver: str | None, address: str) -> Finding:
    text = f"{which}driver_override is {override}, but bound is {driver or 'no driver'}"
    cure = (
        f"if it was left behind: echo > {_SYSFS}/{address}/driver_override; if it is meant: modprobe {override}; "
        f"then echo {address} > /sys/bus/pci/drivers_probe"
    )
    return _warning("driver-override", device, text, cure)


def driverctl(patient: Patient) -> Iterator[Finding]:
    """Finds devices to give that driverctl binds at each boot to a driver with which they cannot be given."""
    kept = patient.vitals.driverctl
    for device in patient.devices if kept else ():
        if not device.decision.managed:
            continue
        for address in _addresses(device):
            driver = kept.get(address, "")
            if driver and ("vfio" in driver) == _makes(device, address):
                text = (
                    f"driverctl binds {address} to {driver} at each boot, but {device.decision.rule} gives its device"
                )
                cure = f"driverctl unset-override {address}, or a rule with mode: ignore for the device"
                yield _warning("driverctl", device, text, cure)
    yield from patient.unread("driverctl")


def _makes(device: Device, address: str) -> bool:
    """Tells whether a function makes what is given of its device, which only its own driver can: VFs, mdevs, vGPUs."""
    mode = device.decision.mode
    return mode is not None and (mode.is_made or (mode is Mode.VF and address == device.address))


def mdevctl(patient: Patient) -> Iterator[Finding]:
    """Finds devices to give of which mdevctl makes mediated devices at each boot."""
    kept = patient.vitals.mdevctl
    for device in patient.devices if kept else ():
        count = sum(kept.get(address, 0) for address in _addresses(device))
        if device.decision.managed and count:
            text = f"mdevctl makes {count} mediated devices of it at each boot, which whoever gets it does not expect"
            cure = "mdevctl modify --uuid UUID --manual for each (mdevctl list --defined), or a rule with mode: ignore"
            yield _warning("mdevctl", device, text, cure)
    yield from patient.unread("mdevctl")


def nova(patient: Patient) -> Iterator[Finding]:
    """Finds devices that a rule gives, but Nova's own configuration on this host takes."""
    for device in patient.devices:
        decision = device.decision
        if decision.rule is not None and decision.owner is None and "nova" in decision.reason.lower():
            text = f"rule {device.decision.rule} gives it, but: {device.decision.reason}"
            cure = (
                "take it out of nova.conf ([pci]device_spec, [devices]enabled_mdev_types), or ignore it in the policy"
            )
            yield _warning("nova", device, text, cure)


def health(patient: Patient) -> Iterator[Finding]:
    """Says of each device that is not well what its driver and its link say."""
    for device in patient.devices:
        state, reasons = device.health.state, "; ".join(device.health.reasons)
        if state not in (State.HEALTHY, State.UNMONITORED):
            grade = Grade.WARNING if state is State.SUSPECT else Grade.FAILED
            cure = "`dmesg | grep -e AER -e Xid` says more; reseat the card, boot, and replace it if it comes back"
            yield Finding("health", grade, f"{state}: {reasons}" if reasons else str(state), cure, device.address)


def _addresses(device: Device) -> tuple[str, ...]:
    return (device.address, *(vf.address for vf in device.vfs))


def _indexes(vfs: list[VirtualFunction]) -> str:
    return format_ranges(vf.index for vf in vfs)


def _warning(check: str, device: Device, seen: str, cure: str) -> Finding:
    return Finding(check, Grade.WARNING, seen, cure, device.address)
