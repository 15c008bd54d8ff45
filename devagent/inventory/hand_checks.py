# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds what was set by hand, or is set by a tool at each boot, and stands against giving devices away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from devagent.inventory.patient import Patient, warning
from devagent.model.claim import Mode
from devagent.model.device import Device
from devagent.model.finding import Finding, Grade
from devagent.model.pci import VirtualFunction, is_vfio
from devagent.model.ranges import format_ranges


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
        yield _override(device, f"VF {format_ranges(vf.index for vf in vfs)}: ", override, driver, vfs[0].address)


def _override(device: Device, which: str, override: str, driver: str | None, address: str) -> Finding:
    text = f"{which}driver_override is {override}, but bound is {driver or 'no driver'}"
    cure = (
        f"if it was left behind: echo > /sys/bus/pci/devices/{address}/driver_override; if it is meant: "
        f"modprobe {override}; then echo {address} > /sys/bus/pci/drivers_probe"
    )
    return warning("driver-override", device, text, cure)


def driverctl(patient: Patient) -> Iterator[Finding]:
    """Finds devices to give that driverctl binds at each boot to a driver with which they cannot be given."""
    kept = patient.vitals.driverctl
    for device in patient.devices if kept else ():
        if not device.decision.managed:
            continue
        for address in device.addresses:
            driver = kept.get(address, "")
            if driver and is_vfio(driver) == _makes(device, address):
                text = (
                    f"driverctl binds {address} to {driver} at each boot, but {device.decision.rule} gives its device"
                )
                cure = f"driverctl unset-override {address}, or a rule with mode: ignore for the device"
                yield warning("driverctl", device, text, cure)
    yield from patient.unread("driverctl")


def _makes(device: Device, address: str) -> bool:
    """Tells whether a function makes what is given of its device, which only its own driver can: VFs, mdevs, vGPUs."""
    mode = device.decision.mode
    return mode is not None and (mode.is_made or (mode is Mode.VF and address == device.address))


def mdevctl(patient: Patient) -> Iterator[Finding]:
    """Finds devices to give of which mdevctl makes mediated devices at each boot."""
    kept = patient.vitals.mdevctl
    for device in patient.devices if kept else ():
        count = sum(kept.get(address, 0) for address in device.addresses)
        if device.decision.managed and count:
            text = f"mdevctl makes {count} mediated devices of it at each boot, which whoever gets it does not expect"
            cure = "mdevctl modify --uuid UUID --manual for each (mdevctl list --defined), or a rule with mode: ignore"
            yield warning("mdevctl", device, text, cure)
    yield from patient.unread("mdevctl")
