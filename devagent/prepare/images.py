# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Plans what an FPGA is programmed with: which image, into which region, and whether it fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from devagent.model.claim import FpgaFacts, Kind
from devagent.model.device import Device
from devagent.model.pci import is_vfio
from devagent.model.plan import Step
from devagent.prepare.functions import Ask
from devagent.prepare.refused import Refused, invalid, permanent
from devagent.prepare.view import Bitstream, Part, View

NAME: Final = "bitstream"


def image_steps(view: View, ask: Ask, part: Part) -> list[Step]:
    """Gives the step that programs what `part` is to be; none where no image is asked for."""
    name, blank, card = ask.group.properties.get(NAME), ask.treatment.blank, programmer(view, ask.device)
    if blank is not None:  # what could not be wiped afterwards is not given at all
        blank_step(view, card, ask.device, part, blank)
        _wipes(card, _known(view, blank))
    if name is None:
        return []
    if ask.device.claim.kind is not Kind.FPGA:
        raise Refused(invalid(f"bitstream: {ask.device.address} is no FPGA", ask.device.address))
    image = view.bitstreams.get(name)
    if image is None:
        raise Refused(invalid(f"bitstream: no image is called {name!r}"))
    facts = card.claim.fpga or FpgaFacts()
    _fits(card, facts, image, name)
    port = _port(facts, ask.device, part)
    step = _program(card, facts, port, image.digest, facts.interface_id)
    wiped = _program(card, facts, port, blank, facts.interface_id).arguments if blank is not None else None
    return [replace(step, undo=wiped)]


def blank_step(view: View, card: Device, device: Device, part: Part, blank: str) -> Step:
    """Gives the step by which `card` wipes what a consumer had of the device with the blank image.

    While the card is with the consumer its region and slots cannot be seen: the verb then takes the only
    region, and of a whole card all slots.
    """
    facts = card.claim.fpga or FpgaFacts()
    port = None if part.index is None else _port(facts, device, part)
    return _program(card, facts, port, blank, _known(view, blank).interface_id)


def _known(view: View, digest: str) -> Bitstream:
    return next((each for each in view.bitstreams.values() if each.digest == digest), Bitstream(digest))


def programmer(view: View, device: Device) -> Device:
    """Gives the function that programs the device: an Alveo's user PF is programmed by the management PF beside it."""
    if device.claim.driver != "xilinx":
        return device
    beside = (each for each in view.cards.values() if each.function.slot == device.function.slot)
    return next((each for each in beside if each.function.driver == "xclmgmt"), device)


def _fits(card: Device, facts: FpgaFacts, image: Bitstream, name: str) -> None:
    driver = card.function.driver
    if driver is None or is_vfio(driver):
        reason = f"{card.address} is on {driver or 'no driver'}: only its own driver can program it"
    elif image.interface_id is None and _may_be_silent(card, facts):
        return
    elif facts.interface_id is None:
        reason = f"{card.address} does not say its interface id: whether {name!r} fits is unknown"
    elif image.interface_id != facts.interface_id:
        theirs = f"is for interface {image.interface_id}" if image.interface_id else "does not say its interface"
        reason = f"bitstream: {name!r} {theirs}, {card.address} has {facts.interface_id}"
    else:
        return
    raise Refused(permanent(reason, card.address))


def _wipes(card: Device, blank: Bitstream) -> None:
    """Raises Refused for a blank image that is for something else, or that the card's driver would not take.

    One that does not say what it is for is the operator's word, but for the DFL, which takes a GBS alone.
    """
    if blank.interface_id is None and card.claim.driver == "dfl":
        reason = f"{card.address}: the image with which the policy wipes it is no GBS, which alone says what it fits"
        raise Refused(permanent(reason, card.address))
    has = card.claim.fpga.interface_id if card.claim.fpga else None
    if blank.interface_id is not None and has is not None and blank.interface_id != has:
        reason = f"{card.address} has interface {has}, and the image with which the policy wipes it is for"
        raise Refused(permanent(f"{reason} {blank.interface_id}", card.address))


def _may_be_silent(card: Device, facts: FpgaFacts) -> bool:
    """Tells whether an image need not say what it fits."""
    # An Alveo's may name its shell, which is compared when it is programmed. Where an fpga_manager does not say what
    # it has either, the chip's own configuration logic decides.
    return card.claim.driver == "xilinx" or (card.claim.driver == "fpga_manager" and facts.interface_id is None)


def _port(facts: FpgaFacts, device: Device, part: Part) -> int:
    """Gives the accelerator slot: a VF is the port of its index only where each port was released to a VF."""
    ports = facts.ports or 1
    if ports == 1 or (part.index is not None and len(device.vfs) == ports):
        return part.index or 0
    reason = f"{device.address} has {ports} ports: which is behind {part.address} is unknown"
    raise Refused(permanent(reason, part.address))


def _program(card: Device, facts: FpgaFacts, port: int | None, digest: str, interface: str | None) -> Step:
    if len(facts.regions) > 1:
        reason = f"{card.address} has {len(facts.regions)} regions: which to program is unknown"
        raise Refused(permanent(reason, card.address))
    region = next(iter(facts.regions), None)
    arguments = {"region": region, "port": port, "digest": digest, "interface": interface}
    return Step("program_fpga", card.address, arguments)
