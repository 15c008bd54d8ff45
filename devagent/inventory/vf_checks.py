# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Judges the VFs of a host: whether there are as many as there should be, and whether drivers failed on some."""

from __future__ import annotations

from collections.abc import Iterator

from devagent.inventory.patient import Patient, warning
from devagent.model.device import Device
from devagent.model.finding import Finding, Grade
from devagent.model.pci import is_vfio
from devagent.model.ranges import format_ranges


def vf_count(patient: Patient) -> Iterator[Finding]:
    """Compares the VFs that are there with sriov_numvfs and with what the policy wants."""
    pfs = [(device, sriov) for device in patient.devices if (sriov := device.function.sriov) is not None]
    findings = [finding for device, sriov in pfs for finding in _vf_counts(patient, device, sriov.total_vfs)]
    findings += patient.unread("vf-count")
    if pfs and not patient.vitals.num_vfs and not findings:
        findings.append(Finding("vf-count", Grade.SKIPPED, "not checked: a captured host without sriov_numvfs"))
    yield from findings
    if pfs and not findings:
        vfs = sum(len(device.vfs) for device, _ in pfs)
        yield Finding("vf-count", Grade.OK, f"{len(pfs)} PFs have {vfs} VFs, as sriov_numvfs and the policy say")


def _vf_counts(patient: Patient, device: Device, most: int) -> Iterator[Finding]:
    there, file = len(device.vfs), f"/sys/bus/pci/devices/{device.address}/sriov_numvfs"
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
    wanted = rule.wanted_vfs(most) if rule is not None else None
    if rule is not None and wanted is not None and wanted != there:
        yield _vfs_wanted(device, rule.name, wanted, most, file)


def _vfs_wanted(device: Device, rule: str, wanted: int, most: int, file: str) -> Finding:
    there = len(device.vfs)
    if wanted > most:
        text = f"rule {rule} wants {wanted} VFs, but the PF can have {most}"
        cure = "lower vf_count in the policy, or let the card's firmware offer more VFs (mlxconfig, the vendor's tool)"
        return Finding("vf-count", Grade.FAILED, text, cure, device.address)
    first = "with no VF in use, write 0 and then" if there else "write"
    text = f"rule {rule} wants {wanted} VFs, but there are {there}"
    by_hand = f"{first} {wanted} to {file}"
    if device.function.driver == "nvidia":
        by_hand = f"run /usr/lib/nvidia/sriov-manage -e {device.address} while nothing uses it, or let the agent do it"
    return warning("vf-count", device, text, by_hand)


def vf_drivers(patient: Patient) -> Iterator[Finding]:
    """Where some VFs of a PF have a driver, it failed on those that have none."""
    pfs = [device for device in patient.devices if device.vfs]
    findings = []
    overridden = patient.vitals.overrides or {}
    for device in pfs:
        free = [vf for vf in device.vfs if vf.address not in overridden]
        others = sorted({vf.driver for vf in free if vf.driver and not is_vfio(vf.driver)})
        without = [vf for vf in free if vf.driver is None]
        if others and without:
            indexes, one = format_ranges(vf.index for vf in without), without[0].address
            text = f"VF {indexes} without a driver, where other VFs have {', '.join(others)}"
            cure = f"`dmesg | grep {one}` says why it failed; `echo {one} > /sys/bus/pci/drivers_probe` tries again"
            findings.append(warning("vf-drivers", device, text, cure))
    yield from findings
    if pfs and not findings:
        yield Finding("vf-drivers", Grade.OK, "no driver failed on a VF")
