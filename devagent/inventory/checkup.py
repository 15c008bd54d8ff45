# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Judges a host: the IOMMU, VFIO, NVIDIA's driver, and each device; every fault with its cure in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from devagent.inventory import device_checks, hand_checks, vf_checks
from devagent.inventory.patient import NOT_CAPTURED, Patient, could_not
from devagent.model.finding import Finding, Grade
from devagent.model.vitals import Module, Vitals

Check = Callable[[Patient], Iterator[Finding]]

_BY_CPU: Final = {
    "GenuineIntel": "add intel_iommu=on iommu=pt to the kernel's command line and boot (/etc/default/grub, then "
    "update-grub or grub2-mkconfig)",
    "AuthenticAMD": "remove amd_iommu=off and iommu=off from the kernel's command line, if they are there, and boot; "
    "`dmesg | grep AMD-Vi` says more",
}
_MODULE_CURE: Final = (
    "install what carries it for this kernel (linux-modules-extra on Ubuntu, kernel-modules on Fedora and RHEL), or a "
    "kernel with CONFIG_VFIO_PCI and CONFIG_VFIO_IOMMU_TYPE1"
)


def examine(patient: Patient) -> tuple[Finding, ...]:
    """Gives the findings of all checks, in their order; a check that finds nothing amiss says so in one line."""
    return tuple(finding for check in _CHECKS for finding in check(patient))


def _iommu(patient: Patient) -> Iterator[Finding]:
    seen = patient.vitals
    if seen.groups or any(device.function.iommu_group is not None for device in patient.devices):
        yield Finding("iommu", Grade.OK, f"in use: {seen.groups} groups" if seen.groups else "in use")
    elif seen.groups is None and not seen.machine:
        yield could_not("iommu", NOT_CAPTURED)
    elif "iommu-groups" in seen.unread:
        yield could_not("iommu", seen.unread["iommu-groups"])
    else:
        yield Finding("iommu", _needed(patient), "no IOMMU is in use: no device can be given away", _iommu_cure(seen))


def _iommu_cure(seen: Vitals) -> str:
    line = seen.command_line or ()
    off = sorted({"iommu=off", "intel_iommu=off", "amd_iommu=off"} & set(line))
    if off:
        return f"remove {' and '.join(off)} from the kernel's command line, and boot"
    if seen.virtual and not seen.firmware_iommu:
        return "this is a virtual machine: whoever runs it must give it an IOMMU (Nova: image property hw_viommu_model)"
    if seen.firmware_iommu is False:
        return "switch VT-d (Intel) or AMD-Vi, SVM and IOMMU (AMD) on in the firmware's setup: it describes no IOMMU"
    if seen.cpu in _BY_CPU and "intel_iommu=on" not in line:
        return _BY_CPU[seen.cpu]
    return "`dmesg | grep -e DMAR -e AMD-Vi -e arm-smmu` says why the kernel uses none"


def _vfio(patient: Patient) -> Iterator[Finding]:
    """Without vfio-pci and one of the two ways to the IOMMU below it, no device reaches a virtual machine."""
    modules, kernel = patient.vitals.modules, patient.vitals.kernel or "this kernel"
    ways = {name: modules.get(name) for name in ("vfio_iommu_type1", "iommufd")}
    there = {name: where for name, where in ways.items() if where not in (None, Module.ABSENT)}
    driver = modules.get("vfio_pci")
    if "vfio" in patient.vitals.unread:
        yield could_not("vfio", patient.vitals.unread["vfio"])
    elif driver is Module.ABSENT:
        yield Finding("vfio", _needed(patient), f"{kernel} has no module vfio-pci", _MODULE_CURE)
    elif None not in ways.values() and not there:
        yield Finding("vfio", _needed(patient), f"{kernel} has neither vfio_iommu_type1 nor iommufd", _MODULE_CURE)
    elif driver is None or not there:
        yield _vfio_unknown(patient.vitals)
    else:
        seen = ", ".join(f"{name} is {where}" for name, where in {"vfio-pci": driver, **there}.items())
        yield Finding("vfio", Grade.OK, seen)


def _vfio_unknown(seen: Vitals) -> Finding:
    if not seen.machine:
        return could_not("vfio", NOT_CAPTURED)
    text = f"not loaded, and without /lib/modules/{seen.kernel} nothing tells whether it could be"
    return Finding(
        "vfio", Grade.UNKNOWN, text, "`modprobe vfio-pci` tells; in a container, mount the host's /lib/modules"
    )


def _nvidia(patient: Patient) -> Iterator[Finding]:
    """NVML answers only to a library of exactly the version of the kernel module that is loaded."""
    seen = patient.vitals
    bound = any(device.function.driver == "nvidia" for device in patient.devices)
    if "nvidia" in seen.unread:
        yield could_not("nvidia", seen.unread["nvidia"])
    elif seen.nvidia_module is None:
        if bound:
            yield could_not("nvidia", "the version of the kernel module is unknown" if seen.machine else NOT_CAPTURED)
    elif seen.nvidia_library is None and not seen.machine:
        yield could_not("nvidia", NOT_CAPTURED)
    elif seen.nvidia_library is None:
        text = f"the kernel module is {seen.nvidia_module}, but there is no libnvidia-ml.so.1"
        cure = "install NVIDIA's libraries of that version: without them memory, MIG and vGPU are unknown"
        yield Finding("nvidia", Grade.WARNING, text, cure)
    elif seen.nvidia_library != seen.nvidia_module:
        text = f"the kernel module is {seen.nvidia_module}, the library (NVML) {seen.nvidia_library}: it gets no answer"
        cure = (
            "boot; or, with no GPU in use, modprobe -r nvidia_drm nvidia_modeset nvidia_uvm nvidia, and modprobe nvidia"
        )
        yield Finding("nvidia", Grade.FAILED, text, cure)
    else:
        yield Finding("nvidia", Grade.OK, f"kernel module and library (NVML) are both {seen.nvidia_module}")


def _needed(patient: Patient) -> Grade:
    """What is lacking on a host with nothing to give away harms nobody yet."""
    return Grade.FAILED if patient.devices else Grade.WARNING


_CHECKS: Final[tuple[Check, ...]] = (
    _iommu,
    _vfio,
    _nvidia,
    device_checks.drivers,
    vf_checks.vf_count,
    vf_checks.vf_drivers,
    device_checks.groups,
    hand_checks.driver_override,
    hand_checks.driverctl,
    hand_checks.mdevctl,
    device_checks.nova,
    device_checks.health,
)
