# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What speaks against preparing before anything is planned: what was not seen, and what could not be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set

from devagent.model.device import Device
from devagent.model.handle import PciHandle
from devagent.model.preparation import Preparation, Refusal, RefusalKind
from devagent.prepare.executor import Request
from devagent.prepare.functions import parts
from devagent.prepare.treatments import SHA256
from devagent.prepare.view import View

Unwipeable = Callable[[str, str], Refusal | None]
"""Says why a function, by address, could certainly not be wiped in a way (a Scrub)."""


def first(
    request: Request, seen: View, known: Mapping[str, str], held: Set[str], unwipeable: Unwipeable
) -> Refusal | None:
    """Gives the first objection to a request, None if there is none.

    `known` says where the devices are, by provider, that the agent gives; `held` are the functions that somebody has.
    """
    return _unread(known, seen) or _without_blank(request, seen) or _resisting(request, seen, held, unwipeable)


def taken_by_host(preparation: Preparation, devices: Iterable[Device]) -> Refusal | None:
    """Refuses to take from the host what it has put to use: mounted what is on it, given it addresses."""
    for place, use in _uses(preparation, devices):
        reason = f"{place} is used by the host since: {use}: end that, or release the consumer"
        return Refusal(RefusalKind.PERMANENT, reason, place)
    return None


def _uses(preparation: Preparation, devices: Iterable[Device]) -> Iterator[tuple[str, str]]:
    """Gives the functions of a consumer that the host uses, and for what."""
    uses = {device.address: device.in_use_by for device in devices}
    for device in devices:
        uses |= {vf.address: dict(device.vf_use).get(vf.index) for vf in device.vfs}
    for handle in preparation.plan.handles:
        use = uses.get(handle.function) if isinstance(handle, PciHandle) else None
        if use:
            yield handle.function, use


def _unread(known: Mapping[str, str], seen: View) -> Refusal | None:
    """Refuses for now what the agent gives and this look does not show so: a device that was slow is not gone."""
    for provider, address in known.items():
        if provider not in seen.devices:
            card = seen.cards.get(address)
            why = card.decision.reason if card is not None and card.decision.unknown else "could not be read just now"
            reason = f"{address}: {why}: see `devagent status`"
            return Refusal(RefusalKind.RETRY, reason, address)
    return None


def _without_blank(request: Request, seen: View) -> Refusal | None:
    """Refuses what could not be taken back as the policy wants it: its consumer would hold it for ever."""
    for group in request.groups:
        treatment, device = seen.treatments.get(group.provider), seen.devices.get(group.provider)
        if treatment is None or treatment.blank is None or device is None:
            continue
        if SHA256 + treatment.blank not in seen.bitstreams:
            image = f"the image {SHA256}{treatment.blank}, with which the policy wipes it, is not here"
            reason = f"{image} (see `devagent status`): it could not be wiped afterwards"
            return Refusal(RefusalKind.PERMANENT, f"{device.address}: {reason}", device.address)
    return None


def _resisting(request: Request, seen: View, held: Set[str], unwipeable: Unwipeable) -> Refusal | None:
    """Refuses what is known to resist the wipe that the policy wants; what somebody has is left in peace."""
    for group in request.groups:
        treatment, device = seen.treatments.get(group.provider), seen.devices.get(group.provider)
        if treatment is None or treatment.scrub is None or treatment.blank is not None or device is None:
            continue
        found = [part.address for part in parts(device, treatment.mode) if part.address not in held]
        # One VF speaks for all.
        for address in [group.address] if group.address in found else found[:1]:
            refusal = unwipeable(address, treatment.scrub.value)
            if refusal is not None:
                return refusal
    return None
