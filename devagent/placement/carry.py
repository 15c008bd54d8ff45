# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lets one provider take the place of another of the same name, with what is allocated.

That happens when a device's identity is known better than before, or another card sits in the slot.
The same model keeps its consumers: inventory and allocations move in one reshape, all or nothing.
Another model takes over nothing: the old provider is closed and kept until its consumers are gone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from devagent import errors
from devagent.model.provider import Provider
from devagent.placement.client import RESHAPE
from devagent.placement.patience import TRANSIENT
from devagent.placement.writer import Writer

_PRODUCT: Final = "CUSTOM_PRODUCT_"
CLAIMED: Final = "devagent.claimed_meanwhile"


def take_over(writer: Writer, old: Provider, new: Provider) -> Provider:
    """Makes `new` in the place of `old` and gives it as Placement then has it.

    Raises PlacementError where the allocations cannot be carried over: the role must not reshape, or what
    is held does not fit any more. The old provider then keeps them, closed to new consumers, and
    nothing of the new one is offered until they are gone.
    """
    old = writer.make(replace(old, name=old.former_name), old, create=False)
    bare = writer.make(new, None, fill=False)
    attempt = 1
    while True:
        try:
            if _product(old) != _product(new):
                writer.make(replace(old, inventories={}), old, create=False)
                return writer.make(new, bare)
            return _carry(writer, old, bare, new)
        except (errors.PlacementDenied, errors.PlacementRejected):
            _close(writer, old)
            raise
        except TRANSIENT as error:
            if not _worth_trying(error) or not writer.patience.again(error, attempt):
                _close(writer, old)
                raise
            old, bare = _again(writer, old), _again(writer, bare)
            attempt += 1


def _carry(writer: Writer, old: Provider, bare: Provider, new: Provider) -> Provider:
    """Lets the new provider have what the old one has: in one reshape if anybody holds some of it."""
    if old.inventories and writer.client.consumers(old.uuid):
        _reshape(writer, old, bare, new)
        writer.memory.forget(old.uuid)
        return writer.reader.read(bare)
    emptied = writer.make(replace(old, inventories={}), old, create=False)
    if emptied.inventories:
        # Somebody was given some of it since we asked: offered on the new one too, it would be given twice.
        raise errors.PlacementConflict(f"{old.name} was claimed meanwhile", code=CLAIMED)
    return writer.make(new, bare)


def _close(writer: Writer, old: Provider) -> None:
    """Sees to it that nobody new gets anything of the old provider."""
    found = writer.reader.find(old.uuid)
    if found is not None:
        writer.make(replace(found, inventories={}), found, create=False)


def _worth_trying(error: errors.PlacementError) -> bool:
    """Tells a lost race, which trying again can win, from a reshape that does not fit, which it cannot."""
    return not isinstance(error, errors.PlacementConflict) or error.code in (CLAIMED, "placement.concurrent_update")


def _reshape(writer: Writer, old: Provider, bare: Provider, new: Provider) -> None:
    if writer.client.version < RESHAPE:
        raise errors.PlacementRejected(f"{new.name}: allocations can be moved only from microversion 1.30 (Stein) on")
    allocations = {}
    for consumer in writer.client.consumers(old.uuid):
        held = writer.client.allocations(consumer)
        if old.uuid in held["allocations"]:  # else it was freed since it was listed
            allocations[consumer] = _moved(held, old.uuid, new.uuid)
    inventories = {old.uuid: (old.generation or 0, {}), new.uuid: (bare.generation or 0, new.inventories)}
    try:
        writer.client.reshape(inventories, allocations)
    except errors.PlacementDenied as error:
        raise errors.PlacementDenied(
            f"{new.name} has another identity than before and is in use; only the role `service` may carry the "
            "allocations over. Until it is free or the role is given, nobody new gets it",
            status=error.status,
            code=error.code,
        ) from None


def _moved(held: Any, old: str, new: str) -> Any:
    """Gives a consumer's whole allocation with one provider in place of another, as /reshaper wants it."""
    kept = ("project_id", "user_id", "consumer_generation")
    allocations = {
        new if uuid == old else uuid: {"resources": one["resources"]} for uuid, one in held["allocations"].items()
    }
    return {"allocations": allocations, **{key: held[key] for key in kept if key in held}}


def _again(writer: Writer, provider: Provider) -> Provider:
    found = writer.reader.find(provider.uuid)
    if found is None:
        raise errors.PlacementNotFound(f"{provider.name} was deleted by somebody else")
    return found


def _product(provider: Provider) -> frozenset[str]:
    return frozenset(name for name in provider.traits if name.startswith(_PRODUCT))
