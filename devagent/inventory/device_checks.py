# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Judges the devices of a host one by one: their drivers, IOMMU groups and health, and what Nova takes."""

from __future__ import annotations

from collections.abc import Iterator

from devagent.inventory.patient import Patient, warning
from devagent.model.claim import Kind, Mode
from devagent.model.finding import Finding, Grade
from devagent.model.health import State


def drivers(patient: Patient) -> Iterator[Finding]:
    """A GPU without its driver can be given whole, but says nothing of itself."""
    gpus = [device for device in patient.devices if device.claim.kind is Kind.GPU]
    for device in gpus:
        driver, able = device.function.driver, device.function.drivers
        if driver is None:
            load = f"modprobe {able[0]}" if able else "install its vendor's driver"
            text = "the GPU has no driver: its memory, partitions and health are unknown"
            yield warning("drivers", device, text, f"{load}; to give it whole, nothing needs to be done")
        elif driver == "nouveau":
            text = "the GPU is bound to nouveau, which knows no MIG and no vGPU and can hang while it is unbound"
            cure = (
                "blacklist nouveau in /etc/modprobe.d, make the initramfs anew, boot; install NVIDIA's driver if wanted"
            )
            yield warning("drivers", device, text, cure)
    if gpus and not any(device.function.driver in (None, "nouveau") for device in gpus):
        yield Finding("drivers", Grade.OK, f"each of {len(gpus)} GPUs has one" if len(gpus) > 1 else "the GPU has one")


def groups(patient: Patient) -> Iterator[Finding]:
    """A group goes to one virtual machine: with two devices in it, neither can be given."""
    shared, given = patient.vitals.shared, list(_given(patient))
    devices = {address for device in patient.devices for address in device.addresses}
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


def nova(patient: Patient) -> Iterator[Finding]:
    """Finds devices that a rule gives, but Nova's own configuration on this host takes."""
    for device in patient.devices:
        decision = device.decision
        if decision.rule is not None and decision.owner is None and "nova" in decision.reason.lower():
            text = f"rule {device.decision.rule} gives it, but: {device.decision.reason}"
            cure = (
                "take it out of nova.conf ([pci]device_spec, [devices]enabled_mdev_types), or ignore it in the policy"
            )
            yield warning("nova", device, text, cure)


def health(patient: Patient) -> Iterator[Finding]:
    """Says of each device that is not well what its driver and its link say."""
    for device in patient.devices:
        state, reasons = device.health.state, "; ".join(device.health.reasons)
        if state not in (State.HEALTHY, State.UNMONITORED):
            grade = Grade.WARNING if state is State.SUSPECT else Grade.FAILED
            cure = "`dmesg | grep -e AER -e Xid` says more; reseat the card, boot, and replace it if it comes back"
            yield Finding("health", grade, f"{state}: {reasons}" if reasons else str(state), cure, device.address)
