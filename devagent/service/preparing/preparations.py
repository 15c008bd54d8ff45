# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The preparations of this host as the API has them: what is asked for is done by workers, whoever waits for it.

    put ──> a job of this consumer ──> Preparer ──> journal: preparing ── prepared
    delete ──> its job is cancelled, a release takes its place ──> releasing ── gone

The journal is the truth. What never came into it, since its turn has not come or it was refused, is kept here for who
asks. What a worker logs carries the id of the request that it works for, or the first of several.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, Final

from devagent.errors import LookFailed, NoSuchPreparation, PreparedOtherwise
from devagent.model.preparation import Preparation, Progress, Refusal, RefusalKind, State
from devagent.prepare.entry import Entry
from devagent.prepare.executor import Request
from devagent.prepare.runs import RELEASED
from devagent.service.metrics import Metrics
from devagent.service.preparing import preparation
from devagent.service.preparing.journal_keeper import JournalKeeper
from devagent.service.settings import Settings

LOG = logging.getLogger(__name__)

Document = dict[str, Any]
_AtWork = dict[str, Future[Refusal | None]]

_AT_MOST: Final = 1024
_KEPT: Final = 256
"""So many refusals are kept for who asks about them later."""
_RECOVERY_S: Final = 20.0
"""So long the start waits for what was left half done; what takes longer is finished while others are served."""
_ANEW_S: Final = 60.0
_STOPPING: Final = Refusal(RefusalKind.RETRY, "the agent is stopping: ask again when it is back")
_UNDER_WAY: Final = Refusal(RefusalKind.RETRY, "its release is under way")
_FORGET_S: Final = 5.0
_IN_USE: Final = Refusal(RefusalKind.RETRY, "a process has it open: end that, and it is released; see its error")
_FULL: Final = Refusal(RefusalKind.RETRY, f"{_AT_MOST} consumers are waiting already")


@dataclass(slots=True)
class _Job:
    """A request while it is worked at; `until` is in seconds of time.monotonic, all else in epoch seconds."""

    request: Request
    created: float
    deadline: float
    until: float
    progress: Progress | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    future: Future[Preparation | Refusal] = field(default_factory=Future)

    def document(self, error: Refusal | None = None) -> Document:
        """Gives it as the API's answer has it."""
        return preparation.waiting(self.request, self.created, self.deadline, error, self.progress)

    def told(self, progress: Progress | None) -> None:
        """Hears how far an image is that is fetched for it; None once there is nothing to fetch."""
        self.progress = progress


class Preparations:
    """Serves any number of callers at once. Each call may raise NotPrepared, as while there is no journal.

    `never` is why nothing can be prepared here, if that is so.
    """

    def __init__(
        self,
        keeper: JournalKeeper,
        settings: Callable[[], Settings],
        metrics: Metrics,
        never: Refusal | None = None,
    ) -> None:
        self.keeper, self._settings, self._metrics, self._never = keeper, settings, metrics, never
        workers = settings().prepare_workers
        self._preparing = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
        self._releasing = ThreadPoolExecutor(workers, thread_name_prefix="release")
        self._recovering = ThreadPoolExecutor(workers, thread_name_prefix="recover")
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._releases: _AtWork = {}
        self._recoveries: _AtWork = {}
        self._refused: dict[str, tuple[_Job, Refusal]] = {}
        self._obstacles: dict[str, Refusal] = {}
        self._said: dict[str, str] = {}
        """What was logged last of releases that do not end: each is tried again every half minute."""
        self._stopping = False

    def start(self) -> None:
        """Opens the journal and finishes or undoes what an earlier process left, before anybody is served."""
        if self.keeper.open():
            thread = threading.Thread(target=self.keeper.recover, name="recovery", daemon=True)
            thread.start()
            thread.join(_RECOVERY_S)

    def put(self, consumer: str, body: Mapping[str, Any], wait_s: float) -> tuple[Document, int]:
        """Prepares a consumer; gives what there is of it after `wait_s` seconds at most: 200 it is ready, 202 not yet.

        Raises PreparedOtherwise.
        """
        if self._never is not None:
            raise preparation.not_prepared(self._never)
        settings, now = self._settings(), time.time()
        job = self._job(preparation.request(consumer, body, settings.prepare_expires_in), now)
        try:
            answer = job.future.result(wait_s)
        except TimeoutError:
            return self._found(consumer) or job.document(), 202
        except CancelledError:
            answer = RELEASED
        if isinstance(answer, Refusal):
            raise preparation.not_prepared(answer)
        return self._document(Entry(answer)), 200

    def get(self, consumer: str) -> Document:
        """Gives what there is of a consumer. Raises NoSuchPreparation."""
        found = self._found(consumer)
        if found is None:
            raise NoSuchPreparation(consumer)
        return found

    def list(self) -> Document:
        """Gives all that there are, in the order of the consumers."""
        with self._lock:
            consumers = {*self._jobs, *self._refused}
        consumers.update(entry.preparation.consumer for entry in self.keeper.entries())
        found = filter(None, map(self._found, sorted(consumers)))
        return {"schema_version": 1, "preparations": list(found)}

    def delete(self, consumer: str, wait_s: float) -> tuple[Document | None, int]:
        """Makes sure that nothing is prepared for a consumer: 204 nothing is, 202 with what is left after `wait_s`.

        What cannot be released now is later, also after a restart: see Upkeep.
        """
        try:
            refusal = self._released(consumer, time.monotonic() + wait_s)
        except TimeoutError:
            self.keeper.leaving(consumer, self._obstacles.get(consumer, _UNDER_WAY))
            left = self._found(consumer)
            return left, 204 if left is None else 202
        except CancelledError:
            refusal = _STOPPING
        if refusal is not None:
            if refusal.kind is RefusalKind.RETRY and refusal is not _STOPPING:
                self.keeper.leaving(consumer, refusal)
            raise preparation.not_prepared(refusal)
        return None, 204

    def release(self, consumer: str, seconds: float) -> None:
        """Has a consumer released within `seconds`, unless that is under way already."""
        self._submit(self._releases, consumer, self._release, time.monotonic() + seconds)

    def forget(self, consumer: str, first: Callable[[Preparation], None]) -> None:
        """Ends what cannot be released, after `first`, which gets what it was. Raises NoSuchPreparation, NotPrepared.

        What a process has open is refused: it is in nobody's way, and is released when that process ends.
        """
        entry = self.keeper.get(consumer)
        if entry is None:
            raise NoSuchPreparation(consumer)
        with suppress(LookFailed):  # what cannot be seen is what there is to be forgotten
            if entry.preparation.state is State.RELEASING and self.keeper.preparer.is_used(entry.preparation):
                raise preparation.not_prepared(_IN_USE)
        tombstone = self._settings().tombstone
        refusal = self.keeper.executor.forget(consumer, first, _FORGET_S, tombstone=tombstone)
        if refusal is not None:
            raise preparation.not_prepared(refusal)
        self._said.pop(consumer, None)

    def recover(self, consumer: str) -> None:
        """Has what was left half done of a consumer finished or undone."""
        self._submit(self._recoveries, consumer, self._recover)

    def is_at_work(self, consumer: str) -> bool:
        """Tells whether somebody prepares, releases or recovers this consumer now."""
        with self._lock:
            if any(consumer in at_work for at_work in (self._jobs, self._releases, self._recoveries)):
                return True
        return self.keeper.executor.is_at_work(consumer)

    def close(self, seconds: float) -> bool:
        """Begins nothing any more, and gives what is under way `seconds` to end; tells whether it has.

        What has not goes on when the agent is back: the journal has it.
        """
        with self._lock:  # whoever has it begins something still
            self._stopping = True
        for pool in (self._preparing, self._releasing, self._recovering):
            pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            ending = (*self._releases.values(), *self._recoveries.values())
            futures: list[Future[Any]] = [*(job.future for job in self._jobs.values()), *ending]
        left = wait_for([each for each in futures if not each.cancelled()], seconds).not_done
        if left:
            LOG.warning("%d preparations or releases are under way still; they go on after the next start", len(left))
        else:
            self.keeper.close()
        return not left

    def _job(self, request: Request, now: float) -> _Job:
        """Gives the job of a consumer, begun now if there is none. Raises PreparedOtherwise."""
        limit = self._settings().prepare_deadline
        with self._lock:
            job = self._jobs.get(request.consumer)
            if job is not None:
                if (job.request.groups, job.request.project_id) != (request.groups, request.project_id):
                    raise PreparedOtherwise(request.consumer)
                return job
            self._serving()
            if len(self._jobs) >= _AT_MOST:
                raise preparation.not_prepared(_FULL)
            job = _Job(request, now, now + limit, time.monotonic() + limit)
            job.future = self._preparing.submit(copy_context().run, self._run, job)
            self._jobs[request.consumer] = job
            self._refused.pop(request.consumer, None)
            return job

    def _released(self, consumer: str, until: float) -> Refusal | None:
        """Waits for a release until `until` (time.monotonic). Raises TimeoutError."""
        while True:
            limit = time.monotonic() + self._settings().prepare_deadline
            future, own = self._submit(self._releases, consumer, self._release, limit)
            refusal = future.result(until - time.monotonic())
            # What somebody else began may have had less time than this call has, as what the upkeep tries has.
            if own or refusal is None or refusal.kind is not RefusalKind.RETRY:
                return refusal

    def _submit(
        self, at_work: _AtWork, consumer: str, work: Callable[..., Refusal | None], *arguments: float
    ) -> tuple[Future[Refusal | None], bool]:
        """Gives what works on a consumer, and whether it was begun by this call."""
        # A release does not wait for a recovery here, nor take its answer: each has the consumer's lock in turn.
        with self._lock:
            future = at_work.get(consumer)
            if future is not None:
                return future, False
            self._serving()
            run = copy_context().run
            pool = self._releasing if at_work is self._releases else self._recovering
            future = at_work[consumer] = pool.submit(run, self._ending, at_work, work, consumer, *arguments)
            return future, True

    def _serving(self) -> None:
        """Raises NotPrepared unless there is a journal, and time to write into it."""
        if self._stopping:
            raise preparation.not_prepared(_STOPPING)
        _ = self.keeper.preparer

    def _run(self, job: _Job) -> Preparation | Refusal:
        consumer = job.request.consumer
        refusal: Refusal | None = None
        try:
            answer = self.keeper.preparer.prepare(job.request, job.until, job.cancelled, job.told)
            refusal = answer if isinstance(answer, Refusal) else None
            self._note(job, answer)
            return answer
        except PreparedOtherwise:
            raise
        except Exception:
            self._metrics.prepared("failed", 0.0, {})
            LOG.exception("%s is not prepared", consumer)
            raise
        finally:
            with self._lock:
                if refusal is not None:
                    self._refused[consumer] = job, refusal
                    while len(self._refused) > _KEPT:
                        del self._refused[next(iter(self._refused))]
                self._jobs.pop(consumer, None)

    def _note(self, job: _Job, answer: Preparation | Refusal) -> None:
        """Logs and counts what came of a request."""
        consumer, took = job.request.consumer, time.time() - job.created
        if isinstance(answer, Refusal):
            self._metrics.prepared(answer.kind.value, took, {})
            LOG.warning("%s is not prepared: %s", consumer, answer.reason)
            return
        self._metrics.prepared("prepared" if answer.created >= job.created else "repeated", took, answer.timings)
        LOG.info("%s is prepared: %s; %.3f s", consumer, ", ".join(each.key for each in answer.handles), took)

    def _ending(
        self, at_work: _AtWork, work: Callable[..., Refusal | None], consumer: str, *arguments: float
    ) -> Refusal | None:
        outcome, what = "failed", "released" if at_work is self._releases else "finished or undone"
        try:
            refusal = work(consumer, *arguments)
            outcome = refusal.kind.value if refusal is not None else "released"
            if refusal is not None and self._said.get(consumer) != refusal.reason:
                LOG.warning("%s is not %s: %s", consumer, what, refusal.reason)
                self._said[consumer] = refusal.reason
            return refusal
        except Exception:
            LOG.exception("%s is not %s", consumer, what)
            raise
        finally:
            with self._lock:
                at_work.pop(consumer, None)
                self._obstacles.pop(consumer, None)
            if at_work is self._releases:
                self._metrics.released(outcome)

    def _release(self, consumer: str, until: float) -> Refusal | None:
        with self._lock:
            job = self._jobs.get(consumer)
            if job is not None:
                job.cancelled.set()
                if job.future.cancel():  # its turn had not come
                    job = self._jobs.pop(consumer) and None
        release = self.keeper.preparer.release
        refusal = release(consumer, until, lambda why: self._told(consumer, why))
        if job is not None and refusal is None:
            # It may have begun just after: what it has made by its end goes, too.
            wait_for([job.future], max(0.0, until - time.monotonic()))
            refusal = release(consumer, until, lambda why: self._told(consumer, why))
        if refusal is None:
            with self._lock:
                self._refused.pop(consumer, None)
                self._said.pop(consumer, None)
            LOG.info("%s is released", consumer)
        return refusal

    def _recover(self, consumer: str) -> Refusal | None:
        entry = self.keeper.get(consumer)
        # What was planned before a boot was for the addresses of then, and drives are replaced while a host runs. So it
        # is looked and planned anew, after a boot and where something is to be wiped.
        of_then = entry is not None and entry.preparation.boot_id != self.keeper.boot_id
        if entry is not None and entry.release is not None and (entry.wipes or of_then):
            return self._release(consumer, time.monotonic() + _ANEW_S)
        return self.keeper.executor.recover(consumer, self.keeper.preparer.strangers)

    def _told(self, consumer: str, why: Refusal | None) -> None:
        with self._lock:
            self._obstacles.pop(consumer, None)
            if why is not None:
                self._obstacles[consumer] = why

    def _found(self, consumer: str) -> Document | None:
        with self._lock:  # first, for what leaves here is in the journal, and not the other way round
            job, refused = self._jobs.get(consumer), self._refused.get(consumer)
        entry = self.keeper.get(consumer)
        if entry is not None and (job is None or entry.preparation.state is not State.FAILED):
            return self._document(entry)
        if job is not None:
            return job.document()
        return refused[0].document(refused[1]) if refused is not None else None

    def _document(self, entry: Entry) -> Document:
        found = entry.preparation
        failed = self.keeper.executor.given_up(found.consumer)
        if failed is not None:
            entry = replace(entry, preparation=replace(found, state=State.FAILED, error=failed))
        return preparation.document(entry, self.keeper.boot_id, self._obstacles.get(found.consumer))
