# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes of what was answered apart what a snapshot holds: attributes of devices, users, problems and notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from devagent.model.gpu import KfdNode, NvmlGpu
from devagent.model.pci import Function, is_address
from devagent.model.snapshot import Problem
from devagent.model.user import User
from devagent.sources import kfd, nvml, processes, serials, slow
from devagent.sources.apart import Outcome

Outcomes = Mapping[str, Outcome]

_BY_DEVICE: Final = frozenset({slow.SOURCE, serials.SOURCE, nvml.SOURCE})


def told(function: Function, outcomes: Outcomes) -> Function:
    """Gives a device with all that was answered about it, but for KFD's nodes."""
    address = function.address
    answer = _answers(outcomes, slow.SOURCE).get(address, slow.Answer(failures={"answers": ""}))
    numbers = _answers(outcomes, serials.SOURCE).get(address, {})
    return replace(
        function,
        attributes={**function.attributes, **numbers, **answer.attributes},
        unread=function.unread | answer.failures.keys() | _unread_by_nvml(address, outcomes),
        nvml=_answers(outcomes, nvml.SOURCE).get(address),
    )


def with_nodes(devices: Mapping[str, Function], outcomes: Outcomes) -> dict[str, Function]:
    """Gives those of the devices of which KFD tells other nodes than they have, with these."""
    nodes: dict[str, list[KfdNode]] = {}
    for node in _answers(outcomes, kfd.SOURCE).get(kfd.SOURCE, ()):
        nodes.setdefault(node.address, []).append(node)
    own = {address: tuple(nodes.get(address, ())) for address in devices}
    return {address: replace(each, kfd=own[address]) for address, each in devices.items() if each.kfd != own[address]}


def without(outcomes: Outcomes, away: frozenset[str]) -> dict[str, Outcome]:
    """Gives the outcomes without what was answered about the devices that are `away`."""
    left = {source: _renewed(outcomes[source], Outcome(), away) for source in _BY_DEVICE & outcomes.keys()}
    return {**outcomes, **left, **_unused(outcomes, away)}


def merged(
    earlier: Outcomes, now: Outcomes, touched: frozenset[str], gone: frozenset[str], anew: frozenset[str]
) -> dict[str, Outcome]:
    """Gives the outcomes of an earlier look, with what was asked `now` of the devices that were `touched`.

    The looks `anew` were taken as a whole. Nobody uses what is `gone`; who uses the others was not asked.
    """
    outcomes = {source: each for source, each in {**now, **earlier}.items() if source not in anew}
    for source in _BY_DEVICE & outcomes.keys():
        outcomes[source] = _renewed(earlier.get(source, Outcome()), now.get(source, Outcome()), touched)
    outcomes |= {source: now[source] for source in anew & now.keys()}
    return outcomes | _unused(outcomes, gone)


def _unused(outcomes: Outcomes, gone: frozenset[str]) -> dict[str, Outcome]:
    """Gives the answers of the processes without the devices that are `gone`."""
    used = outcomes.get(processes.SOURCE)
    if used is None or not gone:
        return {}
    answers = {pid: found and [each for each in found if each[0] not in gone] for pid, found in used.answers.items()}
    return {processes.SOURCE: Outcome(answers, used.failures)}


def _renewed(before: Outcome, now: Outcome, touched: frozenset[str]) -> Outcome:
    answers = {address: answer for address, answer in before.answers.items() if address not in touched}
    failures = {address: why for address, why in before.failures.items() if address not in touched}
    return Outcome(answers | now.answers, failures | now.failures)


def problems(outcomes: Outcomes) -> Iterator[Problem]:
    """Gives what was not answered, and what of a device that did answer could not be read."""
    yield from _failures(outcomes)
    for address, answer in _answers(outcomes, slow.SOURCE).items():
        yield from (Problem(slow.SOURCE, address, f"{name} {why}") for name, why in answer.failures.items())
    for address, gpu in _answers(outcomes, nvml.SOURCE).items():
        yield from (Problem(nvml.SOURCE, address, problem) for problem in (nvml.problems(gpu) if gpu else ()))


def notes(outcomes: Outcomes) -> Iterator[str]:
    """Gives what could not be seen for lack of rights."""
    denied = sorted({name for answer in _answers(outcomes, slow.SOURCE).values() for name in answer.denied})
    if denied:
        yield f"{', '.join(denied)} of the devices: only root may read that"
    if any(nvml.is_denied(gpu) for gpu in _answers(outcomes, nvml.SOURCE).values()):
        yield "the instances of GPUs divided by MIG, and what else NVML tells only to root"
    if any(answer is None for answer in _answers(outcomes, processes.SOURCE).values()):
        yield "who uses a device: some processes may not be looked at (root with CAP_SYS_PTRACE may)"


def users(outcomes: Outcomes) -> dict[str, tuple[User, ...]]:
    """Gives the processes that have a function open, by its address."""
    found: dict[str, list[User]] = {}
    for answer in _answers(outcomes, processes.SOURCE).values():
        for address, user in answer or ():
            found.setdefault(address, []).append(user)
    return {address: tuple(sorted(set(each))) for address, each in found.items()}


def _unread_by_nvml(address: str, outcomes: Outcomes) -> frozenset[str]:
    """Tells whether NVML should have said how the GPU is divided, and did not."""
    outcome = outcomes.get(nvml.SOURCE, Outcome())
    gpu: NvmlGpu | None = outcome.answers.get(address)
    unknown = address in outcome.failures or (gpu is not None and nvml.is_unknown(gpu))
    return frozenset({"nvml"} if unknown else ())


def _answers(outcomes: Outcomes, source: str) -> Mapping[str, Any]:
    return outcomes[source].answers if source in outcomes else {}


def _failures(outcomes: Outcomes) -> Iterable[Problem]:
    """Says each failure once: where all devices of a look fail for one reason, it is the look's own."""
    for source, outcome in outcomes.items():
        reasons: dict[str, list[str]] = {}
        for subject, reason in outcome.failures.items():
            reasons.setdefault(reason, []).append(subject)
        for reason, subjects in reasons.items():
            if len(subjects) > 1:
                yield Problem(source, None, f"{reason} ({len(subjects)} asked)")
            else:
                yield Problem(source, subjects[0] if is_address(subjects[0]) else None, reason)
