# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What happened to a device between two looks, and what it makes of the device: XIDs, PCIe errors, recoveries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from devagent.inventory import aer, troubles, xids
from devagent.model.device import Device
from devagent.model.health import End, Evidence, Health, State, Trouble
from devagent.model.occurrence import AerError, DriverLoaded, Occurrence, PcieError, Xid

Outcome = tuple[tuple[Trouble, ...], tuple[Evidence, ...]]

_RECOVERY: Final = "pcie recovery"
_DETAIL: Final = 200


def by_address(occurrences: Iterable[Occurrence]) -> dict[str, list[tuple[int, Occurrence]]]:
    """Gives the occurrences with their order by address; those of all devices under no address."""
    found: dict[str, list[tuple[int, Occurrence]]] = {}
    for number, each in enumerate(occurrences):
        found.setdefault("" if isinstance(each, DriverLoaded) else each.address, []).append((number, each))
    return found


def of_device(device: Device, happened: Mapping[str, list[tuple[int, Occurrence]]]) -> list[Occurrence]:
    """Gives in their order those that are about a device or its VFs, out of what `by_address` gave."""
    addresses = ("", *device.addresses) if happened else ()
    own = [each for address in addresses for each in happened.get(address, ())]
    return [each for _, each in sorted(own, key=lambda one: one[0])]


def happened(
    device: Device,
    known: tuple[Trouble, ...],
    occurrence: Occurrence,
    now: float,
    words: Mapping[int, str],
    *,
    acts: bool,
) -> Outcome:
    """Gives the troubles of a device after `occurrence`, and the evidence that it leaves.

    `words` are the operator's on XIDs; with `acts`, the GPU's driver names a recovery action itself.
    """
    match occurrence:
        case DriverLoaded():
            return (troubles.released(known, End.RESET) if device.function.vendor_id == "10de" else known), ()
        case Xid() if occurrence.address == device.address:
            return _xid(known, occurrence, words, acts=acts)
        case AerError() if occurrence.address == device.address:
            return _aer(device, known, occurrence)
        case PcieError():
            return _recovery(device, known, occurrence, now)
        case _:
            return known, ()


def _xid(known: tuple[Trouble, ...], xid: Xid, words: Mapping[int, str], *, acts: bool) -> Outcome:
    """Judges by the table where NVML does not know better; one MIG instance's error is not the whole GPU's."""
    meaning = xids.meaning(xid.number, xid.detail, words)
    what = f"XID {xid.number}: {meaning.text}"
    where = f" ({xid.instance})" if xid.instance else ""
    detail = f": {xid.detail[:_DETAIL]}" if xid.detail else ""
    evidence = (Evidence(xid.at, f"{what}{where}{detail}", f"xid {xid.number}"),)
    told = xid.number in xids.MISSED or xid.number in words or not (acts or xid.instance)
    if not told or not meaning.state.is_trouble:
        return known, evidence
    reason = f"{what}: {meaning.cure}" if meaning.cure else what
    trouble = Trouble(f"xid {xid.number}", Health(meaning.state, (reason,)), meaning.end, present=False)
    return troubles.struck(known, trouble), evidence


def _aer(device: Device, known: tuple[Trouble, ...], error: AerError) -> Outcome:
    """Believes the log only of a device whose counters the kernel does not show: they tell the same."""
    if aer.counts(device.function):
        return known, ()
    state = State.UNHEALTHY if error.fatal else State.SUSPECT
    text = f"{'fatal' if error.fatal else 'non-fatal'} PCIe error (AER, kernel log)"
    trouble = Trouble("aer log", Health(state, (text,)), present=False)
    return troubles.struck(known, trouble), (Evidence(error.at, text, "aer log"),)


def _recovery(device: Device, known: tuple[Trouble, ...], error: PcieError, now: float) -> Outcome:
    """Follows the kernel's error recovery; one VF that is not recovered is no reason to close all the others."""
    vf = next((each.index for each in device.vfs if each.address == error.address), None)
    source = _RECOVERY if vf is None else f"{_RECOVERY} of VF {vf}"
    whose = "it" if vf is None else f"its VF {vf} ({error.address})"
    if error.state == "successful_recovery":
        text = f"the kernel recovered {whose} from a PCIe error"
        over = tuple(each for each in known if each.source == source)
        others = tuple(each for each in known if each.source != source)
        return (*others, *troubles.released(over, End.RECOVERY)), (Evidence(now, text, source),)
    if error.state == "begin_recovery":
        state, text = State.SUSPECT, f"the kernel recovers {whose} from a PCIe error"
    elif error.state == "failed_recovery":
        state = State.UNHEALTHY if vf is None else State.SUSPECT
        text = f"the kernel could not recover {whose} from a PCIe error: reboot this host, or remove and rescan it"
    else:
        return known, ()
    trouble = Trouble(source, Health(state, (text,)), End.RECOVERY, present=False)
    return troubles.struck(known, trouble), (Evidence(now, text, source),)
