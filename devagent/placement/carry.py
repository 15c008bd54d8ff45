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


def take_over(writer: Writer, old: Provider, new: Provider) -> Provider:
    """Makes `new` in the place of `old` and gives it as Placement then has it.

    Raises PlacementError: PlacementDenied where only a reshape could carry the allocations and our role
    must not; the old provider then keeps them, and nothing is offered twice.
    """
    old = writer.make(replace(old, name=old.former_name), old)
    bare = writer.make(new, None, fill=False)
    attempt = 1
    while True:
        try:
            if _product(old) != _product(new) or not old.inventories or not _consumers(writer, old):
                writer.make(replace(old, inventories={}), old, create=False)
                return writer.make(new, bare)
            _reshape(writer, old, bare, new)
        except (errors.PlacementDenied, errors.PlacementRejected):
            # Not now, and perhaps never: at least nobody new gets what somebody holds.
            writer.make(replace(old, inventories={}), old, create=False)
            raise
        except TRANSIENT as error:
            if not writer.patience.again(error, attempt):
                raise
            old, bare = _again(writer, old), _again(writer, bare)
            attempt += 1
        else:
            writer.memory.forget(old.uuid)
            return writer.reader.read(bare)


def _reshape(writer: Writer, old: Provider, bare: Provider, new: Provider) -> None:
    if writer.client.version < RESHAPE:
        raise errors.PlacementRejected(f"{new.name}: allocations can be moved only from microversion 1.30 (Stein) on")
    allocations = {}
    for consumer in _consumers(writer, old):
        held = writer.client.allocations(consumer)
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


def _consumers(writer: Writer, provider: Provider) -> tuple[str, ...]:
    return writer.client.consumers(provider.uuid)


def _again(writer: Writer, provider: Provider) -> Provider:
    found = writer.reader.find(provider.uuid)
    if found is None:
        raise errors.PlacementNotFound(f"{provider.name} was deleted by somebody else")
    return found


def _product(provider: Provider) -> frozenset[str]:
    return frozenset(name for name in provider.traits if name.startswith(_PRODUCT))
