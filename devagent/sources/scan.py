# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Takes one snapshot of a host from all the sources: first the quick ones, then, apart, those that may hang."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from devagent.errors import Unreadable
from devagent.model.gpu import KfdNode, NvmlGpu
from devagent.model.pci import Function, is_address
from devagent.model.snapshot import Problem, Snapshot
from devagent.model.user import User
from devagent.sources import (
    function_files,
    kfd,
    known,
    modules,
    names,
    nova,
    nvml,
    pci,
    processes,
    serials,
    slow,
    system,
    users,
)
from devagent.sources.apart import Look, Outcome, look_apart
from devagent.sources.host import Tree

Asks = Callable[[Function], frozenset[str]]
"""Tells which attributes are to be asked of a device, with a time limit."""


def scan(host: Tree, reads: pci.Reads, asks: Asks, *, state_path: str = known.STATE_PATH) -> Snapshot:
    """Looks at everything that discovery needs; never raises for what a host may hold."""
    problems: list[Problem] = []
    facts = system.facts(host, problems)
    functions: dict[str, Function] = {}
    unknown: frozenset[str] = frozenset()
    complete = True
    try:
        functions, unknown = pci.scan(host, reads, problems)
    except Unreadable as error:
        problems.append(Problem(function_files.SOURCE, None, str(error)))
        complete = False
    devices = {each.address: each for each in functions.values() if each.detailed}
    earlier = known.load(host, state_path, problems)
    outcomes = look_apart(host, _looks(host, devices, asks, problems))
    notes: dict[str, None] = {}
    problems += _failures(outcomes)
    functions |= _told(devices, outcomes, problems, notes)
    functions |= modules.matched(host, facts.kernel, [functions[address] for address in devices], problems)
    host_use, host_use_known = users.host_use(host, problems)
    iommu = facts.iommu or any(function.iommu_group is not None for function in functions.values())
    nodes = {function.numa_node for function in functions.values() if function.numa_node is not None}
    return Snapshot(
        host=replace(facts, iommu=iommu, numa_nodes=tuple(sorted(nodes.union(facts.numa_nodes)))),
        functions=functions,
        host_use=host_use,
        host_use_known=host_use_known,
        unknown=unknown,
        complete=complete,
        users=_users(outcomes, notes),
        names=names.names(host, devices.values(), problems),
        known=earlier,
        nova=nova.devices(host, problems, notes),
        notes=tuple(notes),
        problems=tuple(problems),
    )


def _looks(host: Tree, devices: Mapping[str, Function], asks: Asks, problems: list[Problem]) -> Iterable[Look]:
    """Gives what is asked of the devices themselves, their drivers and the processes that use them."""
    if not devices:
        return ()
    return (
        slow.look({function.address: asks(function) for function in devices.values()}),
        serials.look(devices),
        nvml.look([each.address for each in devices.values() if nvml.sees(each)]),
        kfd.look(any(map(kfd.sees, devices.values()))),
        processes.look(host, problems),
    )


def _told(
    devices: Mapping[str, Function],
    outcomes: Mapping[str, Outcome],
    problems: list[Problem],
    notes: dict[str, None],
) -> dict[str, Function]:
    """Gives the devices with all that was answered about them."""
    nodes: dict[str, list[KfdNode]] = {}
    for node in _answers(outcomes, kfd.SOURCE).get(kfd.SOURCE, ()):
        nodes.setdefault(node.address, []).append(node)
    answers, numbers = _answers(outcomes, slow.SOURCE), _answers(outcomes, serials.SOURCE)
    told = {}
    for address, function in devices.items():
        answer = answers.get(address, slow.Answer(failures={"answers": ""}))
        told[address] = replace(
            function,
            attributes={**function.attributes, **numbers.get(address, {}), **answer.attributes},
            unread=function.unread | answer.failures.keys() | _unread_by_nvml(address, outcomes),
            nvml=_answers(outcomes, nvml.SOURCE).get(address),
            kfd=tuple(nodes.get(address, ())),
        )
    problems += _device_problems(outcomes)
    denied = sorted({name for answer in answers.values() for name in answer.denied})
    if denied:
        notes[f"{', '.join(denied)} of the devices: only root may read that"] = None
    if any(nvml.is_denied(gpu) for gpu in _answers(outcomes, nvml.SOURCE).values()):
        notes["the instances of GPUs divided by MIG, and what else NVML tells only to root"] = None
    return told


def _unread_by_nvml(address: str, outcomes: Mapping[str, Outcome]) -> frozenset[str]:
    """Tells whether NVML should have said how the GPU is divided, and did not."""
    outcome = outcomes.get(nvml.SOURCE, Outcome())
    gpu: NvmlGpu | None = outcome.answers.get(address)
    unknown = address in outcome.failures or (gpu is not None and nvml.is_unknown(gpu))
    return frozenset({"nvml"} if unknown else ())


def _device_problems(outcomes: Mapping[str, Outcome]) -> Iterable[Problem]:
    """Gives what of a device that did answer could not be read."""
    for address, answer in _answers(outcomes, slow.SOURCE).items():
        yield from (Problem(slow.SOURCE, address, f"{name} {why}") for name, why in answer.failures.items())
    for address, gpu in _answers(outcomes, nvml.SOURCE).items():
        yield from (Problem(nvml.SOURCE, address, problem) for problem in (nvml.problems(gpu) if gpu else ()))


def _users(outcomes: Mapping[str, Outcome], notes: dict[str, None]) -> dict[str, tuple[User, ...]]:
    """Gives the processes that have a function open, by its address."""
    found: dict[str, list[User]] = {}
    hidden = 0
    for answer in _answers(outcomes, processes.SOURCE).values():
        hidden += answer is None
        for address, user in answer or ():
            found.setdefault(address, []).append(user)
    if hidden:
        notes["who uses a device: only root may see other users' processes"] = None
    return {address: tuple(sorted(set(each))) for address, each in found.items()}


def _answers(outcomes: Mapping[str, Outcome], source: str) -> Mapping[str, Any]:
    return outcomes[source].answers if source in outcomes else {}


def _failures(outcomes: Mapping[str, Outcome]) -> Iterable[Problem]:
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
