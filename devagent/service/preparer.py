# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Prepares and releases one consumer: sees how its devices are, has the planner plan, and the executor do it.

The planner may not wait, so what it sees was looked at before. Whatever was changed since then makes its plan worth
nothing, and it is looked again; who is held by nobody is changed by nobody, so what is planned on is what is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from devagent.errors import LookFailed
from devagent.images.library import Told
from devagent.images.refused import NoImage
from devagent.inventory.build import device_uuid
from devagent.model.plan import Plan
from devagent.model.preparation import Holdings, Preparation, Refusal, RefusalKind
from devagent.prepare import planner
from devagent.prepare.executor import Executor, Request
from devagent.prepare.runs import RELEASED
from devagent.prepare.steps import Phases
from devagent.prepare.treatments import SHA256, treatments, vetoes
from devagent.prepare.view import Bitstream, View, functions, view
from devagent.service.allocations import Allocations
from devagent.service.facts import Facts
from devagent.service.images import Images
from devagent.service.noting import NotingMachine
from devagent.service.settings import Settings
from devagent.service.sight import Sight, Sighting

_NOWHERE: Final = "00000000-0000-0000-0000-000000000000"
"""Below no compute node: what was given is known by its handles, also while Placement was never reached."""
_BUSY_S: Final = 10.0
"""For how long a new consumer waits for devices that are taken: the one before may just be giving them back."""
_LOOK_AGAIN: Final = 1.0
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
    ) -> None:
        self._executor, self._machine, self._sight = executor, machine, sight
        self._allocations, self._images = allocations, images
        self._facts, self._settings = facts, settings

    def prepare(
        self, request: Request, until: float, cancelled: threading.Event, told: Told = lambda _: None
    ) -> Preparation | Refusal:
        """Makes the devices of a request ready until `until` (time.monotonic), unless `cancelled` before it begins.

        `told` hears how far an image is that is fetched for it. Raises OtherRequest.
        """
        answer = self._executor.prepare(request, lambda _: _UNSEEN, until - time.monotonic())
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
            if not again or time.monotonic() >= busy_until:
                return answer
            if answer is not _OUTDATED:
                with phases("waiting"):
                    self._machine.wait(min(_LOOK_AGAIN, busy_until - time.monotonic()))
        return RELEASED

    def release(self, consumer: str, until: float, told: Callable[[Refusal | None], None]) -> Refusal | None:
        """Brings back until `until` all that a consumer has; `told` hears why it does not go on, and when it does."""

        def plan(preparation: Preparation) -> Plan | Refusal:
            try:
                seen = self._wipeable(self.view_of(preparation), until)
            except LookFailed as error:
                answer: Plan | Refusal = Refusal(RefusalKind.RETRY, str(error))
            else:
                answer = planner.release(preparation, seen)
            told(answer if isinstance(answer, Refusal) else None)
            return answer

        tombstone = self._settings().tombstone
        return self._executor.release(consumer, plan, until - time.monotonic(), tombstone=tombstone)

    def is_used(self, preparation: Preparation) -> bool:
        """Tells whether a process has one of the devices open now. Raises LookFailed."""
        seen = self.view_of(preparation)
        answer = planner.release(replace(preparation, done=()), seen)
        return isinstance(answer, Refusal) and answer.kind is RefusalKind.RETRY

    def view_of(self, preparation: Preparation) -> View:
        """Gives the host as it is now around the devices of a consumer, by the providers that it was given them of.

        Raises LookFailed.
        """
        places = {handle.function for handle in preparation.handles or preparation.plan.handles}
        devices = self._sight.look(places | {step.target for step in preparation.plan.steps}).devices
        wanted = treatments(devices, self._settings().policy, given=False)
        cards = {part.address: device.address for device in devices for part in functions(device)}
        given = {
            handle.provider: wanted[cards[handle.function]]
            for handle in preparation.plan.handles
            if cards.get(handle.function) in wanted
        }
        return replace(view(devices, _NOWHERE), treatments=given)

    def _wipeable(self, seen: View, until: float) -> View:
        """Gives a view with the images that wipe what is in it."""
        blanks = (treatment.blank for treatment in seen.treatments.values())
        return replace(seen, bitstreams=self._images.at_hand(filter(None, blanks), until))

    def _try(
        self, request: Request, images: Mapping[str, Bitstream], until: float, phases: Phases
    ) -> tuple[Preparation | Refusal, bool]:
        """Gives what came of one try, and whether another one may do better."""
        root = self._facts.reported.root
        if root is None:
            return Refusal(RefusalKind.RETRY, "this host is not in Placement yet: see `devagent status`"), False
        try:
            with phases("looking"):
                sighting = self._sight.look(self._addresses(root, request))
        except LookFailed as error:
            return Refusal(RefusalKind.RETRY, str(error)), False
        refused: list[Refusal] = []
        with phases("images"):
            seen = self._view(root, sighting, request, images, until)

        def plan(holdings: Holdings) -> Plan | Refusal:
            answer = _unwipeable(request, seen) or planner.plan(request.consumer, request.groups, seen, holdings)
            if isinstance(answer, Plan) and self._machine.outdated(answer, seen, sighting.began):
                answer = _OUTDATED
            if isinstance(answer, Refusal):
                refused.append(answer)
            return answer

        answer = self._executor.prepare(request, plan, until - time.monotonic(), phases=phases)
        return answer, any(answer is each and each.kind is RefusalKind.RETRY for each in refused)

    def _addresses(self, root: str, request: Request) -> set[str]:
        """Gives where the devices of the request are; what the agent does not know has no address to look at."""
        wanted = {group.provider for group in request.groups}
        devices = self._facts.seen.devices if self._facts.seen else ()
        return {device.address for device in devices if device_uuid(root, device) in wanted}

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


def _unwipeable(request: Request, seen: View) -> Refusal | None:
    """Refuses what could not be taken back as the policy wants it: its consumer would hold it for ever."""
    for group in request.groups:
        treatment, device = seen.treatments.get(group.provider), seen.devices.get(group.provider)
        if treatment is None or treatment.scrub is None or device is None:
            continue
        if treatment.blank is None:
            reason = f"the policy wants it wiped ({treatment.scrub}) after use, which this version cannot do yet"
        elif SHA256 + treatment.blank not in seen.bitstreams:
            image = f"the image {SHA256}{treatment.blank}, with which the policy wipes it, is not here"
            reason = f"{image} (see `devagent status`): it could not be wiped afterwards"
        else:
            continue
        return Refusal(RefusalKind.PERMANENT, f"{device.address}: {reason}", device.address)
    return None
