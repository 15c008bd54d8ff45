# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Prepares and releases one consumer: sees how its devices are, has the planner plan, and the executor do it.

The planner may not wait, so what it sees was looked at before. Whatever was changed since then makes its plan worth
nothing, and it is looked again; who is held by nobody is changed by nobody, so what is planned on is what is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from devagent.errors import LookFailed
from devagent.images.library import Told
from devagent.images.refused import NoImage
from devagent.inventory.build import device_uuid
from devagent.model.device import Device
from devagent.model.plan import Plan
from devagent.model.preparation import Holdings, Preparation, Refusal, RefusalKind
from devagent.prepare import planner
from devagent.prepare.beside import beside
from devagent.prepare.executor import Executor, Request
from devagent.prepare.runs import RELEASED
from devagent.prepare.steps import Phases
from devagent.prepare.treatment import Treatment, wiped
from devagent.prepare.treatments import treatments, vetoes
from devagent.prepare.view import Bitstream, View, functions, view
from devagent.prepare.whereabouts import Whereabouts, whereabouts
from devagent.service.facts import Facts
from devagent.service.preparing import objections
from devagent.service.preparing.allocations import Allocations
from devagent.service.preparing.images import Images
from devagent.service.preparing.noting import NotingMachine
from devagent.service.preparing.sight import Sight, Sighting
from devagent.service.settings import Settings

_NOWHERE: Final = "00000000-0000-0000-0000-000000000000"
"""Below no compute node: what was given is known by its handles, also while Placement was never reached."""
_BUSY_S: Final = 10.0
"""For how long a new consumer waits for devices that are taken: the one before may just be giving them back."""
_LOOK_AGAIN: Final = 1.0
_NOT_THERE: Final = Refusal(RefusalKind.RETRY, "this host is not in Placement yet: see `devagent status`")
_UNSEEN: Final = Refusal(RefusalKind.RETRY, "nothing was looked at yet")
_OUTDATED: Final = Refusal(RefusalKind.RETRY, "what was seen was changed since")


class Preparer:
    """Any number of calls may run at once; each takes what it is given, and more only of the consumer's own."""

    def __init__(
        self,
        executor: Executor,
        machine: NotingMachine,
        sight: Sight,
        allocations: Allocations,
        images: Images,
        facts: Facts,
        settings: Callable[[], Settings],
        unwipeable: Callable[[str, str], Refusal | None],
    ) -> None:
        """`unwipeable` says why a function, by address, could certainly not be wiped in a way (a Scrub)."""
        self._unwipeable = unwipeable
        self._executor, self._machine, self._sight = executor, machine, sight
        self._allocations, self._images = allocations, images
        self._facts, self._settings = facts, settings

    def prepare(
        self, request: Request, until: float, cancelled: threading.Event, told: Told = lambda _: None
    ) -> Preparation | Refusal:
        """Makes the devices of a request ready until `until` (time.monotonic), unless `cancelled` before it begins.

        `told` hears how far an image is that is fetched for it. Raises PreparedOtherwise.
        """
        left = until - time.monotonic()
        answer = self._executor.prepare(request, lambda _: _UNSEEN, left, strangers=self.strangers, veto=self._veto)
        if answer is not _UNSEEN:
            return answer
        phases = Phases()
        with phases("placement"):
            lacking = self._allocations.lacking(request.consumer, request.groups)
        if lacking is not None:
            return lacking
        with ExitStack() as kept:
            try:
                with phases("images"):
                    images = kept.enter_context(self._images.named_in(request, until, cancelled, told))
            except NoImage as error:
                return RELEASED if cancelled.is_set() else error.refusal
            return self._until_free(request, images, until, cancelled, phases)

    def _until_free(
        self,
        request: Request,
        images: Mapping[str, Bitstream],
        until: float,
        cancelled: threading.Event,
        phases: Phases,
    ) -> Preparation | Refusal:
        busy_until = min(until, time.monotonic() + _BUSY_S)
        while not cancelled.is_set():
            answer, again = self._try(request, images, until, phases)
            if again is None or time.monotonic() >= busy_until:
                return answer
            with phases("waiting"):
                self._machine.wait(min(again, busy_until - time.monotonic()))
        return RELEASED

    def release(self, consumer: str, until: float, told: Callable[[Refusal | None], None]) -> Refusal | None:
        """Brings back until `until` all that a consumer has; `told` hears why it does not go on, and when it does."""

        def plan(preparation: Preparation) -> Plan | Refusal:
            try:
                found, seen = self._scene(preparation)
            except LookFailed as error:
                answer: Plan | Refusal = Refusal(RefusalKind.RETRY, str(error))
            else:
                answer = planner.release(found, self._wipeable(seen, until))
                if isinstance(answer, Refusal) and seen.replaced:
                    self._executor.displaced(consumer, seen.replaced)
            told(answer if isinstance(answer, Refusal) else None)
            return answer

        tombstone = self._settings().tombstone
        return self._executor.release(
            consumer, plan, until - time.monotonic(), tombstone=tombstone, strangers=self.strangers
        )

    def is_used(self, preparation: Preparation) -> bool:
        """Tells whether a process has one of the devices open now. Raises LookFailed."""
        found, seen = self._scene(preparation)
        answer = planner.release(replace(found, done=()), seen)
        return isinstance(answer, Refusal) and bool(answer.holders)

    def _scene(self, preparation: Preparation) -> tuple[Preparation, View]:
        """Gives a preparation with its handles where its devices are now, and the host around these as it is now.

        The treatments are by the providers that they were given of. Raises LookFailed.
        """
        devices = self._look(preparation)
        known = self._whereabouts(preparation, devices)
        devices, found = known.near(devices), known.followed(preparation)
        wanted = treatments(devices, self._settings().policy, given=False)
        cards = {part.address: device for device in devices for part in functions(device)}
        given = {}
        for handle in found.handles or found.plan.handles:
            device, wipe = cards.get(handle.function), preparation.plan.wipes.get(handle.provider)
            if device is not None:
                treatment = wanted.get(device.address) or Treatment.usual(device.decision.mode)
                given[handle.provider] = treatment if wipe is None else wiped(treatment, wipe)
        replaced = frozenset(known.strangers.values())
        return found, replace(view(devices, _NOWHERE), treatments=given, replaced=replaced)

    def _wipeable(self, seen: View, until: float) -> View:
        """Gives a view with the images that wipe what is in it."""
        blanks = (treatment.blank for treatment in seen.treatments.values())
        return replace(seen, bitstreams=self._images.at_hand(filter(None, blanks), until))

    def _look(self, preparation: Preparation) -> tuple[Device, ...]:
        places = {handle.function for handle in preparation.handles or preparation.plan.handles}
        return self._sight.look(places | {step.target for step in preparation.plan.steps}).devices

    def _whereabouts(self, preparation: Preparation, devices: Iterable[Device]) -> Whereabouts:
        reported = self._facts.reported
        return whereabouts(preparation.plan, tuple(devices), reported.root or _NOWHERE, reported.listed)

    def strangers(self, preparation: Preparation) -> frozenset[str] | Refusal:
        """Gives the functions of a plan at whose addresses other devices stand now; whose those are must be known."""
        if self._facts.reported.root is None:
            return _NOT_THERE
        try:
            devices = self._look(preparation)
        except LookFailed as error:
            return Refusal(RefusalKind.RETRY, str(error))
        others = self._whereabouts(preparation, devices).strangers
        seen = view((device for device in devices if device.address not in others), _NOWHERE)
        places = {part.address for device in devices for part in functions(device)}
        touched = {step.target for step in preparation.plan.steps}
        return frozenset({*others.values(), *(touched & places - beside(preparation.plan.handles, seen))})

    def _veto(self, preparation: Preparation) -> Refusal | None:
        """Refuses to take from the host, for whom it was given before a boot, what the host has put to use since."""
        try:
            devices = self._look(preparation)
        except LookFailed as error:
            return Refusal(RefusalKind.RETRY, str(error))
        return objections.taken_by_host(preparation, devices)

    def _try(
        self, request: Request, images: Mapping[str, Bitstream], until: float, phases: Phases
    ) -> tuple[Preparation | Refusal, float | None]:
        """Gives what came of one try, and in how many seconds another one may do better, None for never."""
        root = self._facts.reported.root
        if root is None:
            return _NOT_THERE, None
        try:
            known = self._known(root, request)
            with phases("looking"):
                sighting = self._sight.look(known.values())
        except LookFailed as error:
            return Refusal(RefusalKind.RETRY, str(error)), None
        refused: list[tuple[Refusal, float]] = []
        with phases("images"):
            seen = self._view(root, sighting, request, images, until)
        wanted = _parts(request, seen)
        held = self._facts.prepared() or frozenset()
        refusal = objections.first(request, seen, known, held, self._unwipeable)

        def plan(holdings: Holdings) -> Plan | Refusal:
            stale = self._machine.changed(sighting.began) & wanted
            now = replace(seen, stale=stale)
            answer = refusal or planner.plan(request.consumer, request.groups, now, holdings)
            if isinstance(answer, Plan) and self._machine.outdated(answer, seen, sighting.began):
                answer = _OUTDATED
            if isinstance(answer, Refusal):
                # What was changed and nobody has is free: to see it is all that it takes.
                at_once = answer is _OUTDATED or stale - holdings.consumers.keys()
                refused.append((answer, 0.0 if at_once else _LOOK_AGAIN))
            return answer

        answer = self._executor.prepare(request, plan, until - time.monotonic(), phases=phases)
        return answer, next((s for each, s in refused if answer is each and each.kind is RefusalKind.RETRY), None)

    def _known(self, root: str, request: Request) -> dict[str, str]:
        """Gives where the devices of the request are, by provider: those that the agent gives, as far as it knows."""
        wanted = {group.provider for group in request.groups}
        devices = self._facts.seen.devices if self._facts.seen else ()
        given = (each for each in devices if each.decision.managed or each.decision.unknown or each.decision.owner)
        return {uid: each.address for each in given if (uid := device_uuid(root, each)) in wanted}

    def _view(
        self, root: str, sighting: Sighting, request: Request, images: Mapping[str, Bitstream], until: float
    ) -> View:
        devices = sighting.devices
        seen = view(devices, root, treatments(devices, self._settings().policy), vetoes=vetoes(devices))
        return replace(seen, bitstreams={**images, **self._images.at_hand(_blanks(request, seen), until)})


def _blanks(request: Request, seen: View) -> Iterator[str]:
    """Gives the digests of the images that wipe what a request asks for."""
    for group in request.groups:
        treatment = seen.treatments.get(group.provider)
        if treatment is not None and treatment.blank is not None:
            yield treatment.blank


def _parts(request: Request, seen: View) -> set[str]:
    """Gives the functions of the devices that a request is about."""
    devices = (seen.devices[group.provider] for group in request.groups if group.provider in seen.devices)
    return {part.address for device in devices for part in functions(device)}
