# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Is called by libvirt when a domain starts, stops or comes: has its devices made ready, and gives them back.

    devagent-libvirt-hook GUEST OPERATION SUB-OPERATION EXTRA < domain.xml          (https://libvirt.org/hooks.html)

    prepare begin    before QEMU is started: made ready; exit code 1 ends the start, and stderr says why
    migrate begin    at the destination, before prepare begin: the same
    release end      QEMU has ended, or was never started: given back; nothing can stop that

Who asked for devices in other ways, by allocations and not by their addresses, gives them back himself: these are only
made sure of. libvirt holds the domain's lock meanwhile, and takes what is on standard output for XML: nothing is
printed there, and libvirt is never asked anything.
"""

from __future__ import annotations

import sys
import syslog
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeVar

from devagent.errors import AgentError, AgentRefused, AgentUnreachable, DevagentError, DomainError, NotPrepared
from devagent.integration import hook_groups, hook_settings
from devagent.integration.domain import MAX_SIZE, Domain, read
from devagent.sources.host import Directory

Document = dict[str, Any]
_T = TypeVar("_T")

PROGRAM: Final = "devagent-libvirt-hook"
_PATIENCE_S: Final = 300.0
"""Beyond [prepare] deadline, by which the agent answers; libvirt and Nova would wait for ever."""
_WAIT_S: Final = 60
_RELEASE_S: Final = 5
_RESTART_S: Final = 5.0
"""So long the agent may be away without anybody noticing: it may be starting anew."""
_PAUSE_S: Final = 0.2
_NOT_READY: Final = "devagent.not_ready"
_ADVICE: Final = {
    "devagent.preparation.retry": "another host may have one, or this one later",
    "devagent.preparation.permanent": "this host cannot: take another one",
    "devagent.preparation.invalid": "mend the flavor, the allocation or the policy (devices.yaml)",
}


class Agent(Protocol):
    """The agent's API, as devagent.api.client has it."""

    def get(self, path: str) -> Document:
        """Reads."""

    def put(self, path: str, body: Document, *, wait: int | None = None) -> Document:
        """Sets."""

    def delete(self, path: str, *, wait: int | None = None) -> Document:
        """Ends."""


Connect = Callable[[str | None], Agent]
"""Gives the agent that listens on a socket, or in the usual place."""


def run(
    arguments: Sequence[str],
    xml: BinaryIO,
    connect: Connect,
    *,
    root: str = "/",
    configuration: Iterable[Path] | None = None,
) -> int:
    """Does what one call of libvirt's is for; gives the exit code.

    `configuration` are the files of devagent.conf where these are others than the daemon's.
    """
    name, operation, stage = (*arguments, "", "", "")[:3]
    works = {("prepare", "begin"): _prepare, ("migrate", "begin"): _prepare, ("release", "end"): _release}
    work = works.get((operation, stage))
    if work is None:
        return 0
    # Nobody's XML is expanded or parsed for nothing: most domains have no device of the host.
    text = xml.read(MAX_SIZE + 1)
    if b"hostdev" not in text:
        return 0
    syslog.openlog(PROGRAM, syslog.LOG_PID, syslog.LOG_DAEMON)
    try:
        domain = read(text)
    except DomainError as error:
        return _failed(_printable(name), error, operation)
    if not (domain.functions or domain.mdevs):
        return 0
    settings = hook_settings.read(configuration)
    return _worked(work, _Call(domain, connect(settings.socket), root), operation, settings)


class _Call:
    """One domain, and the agent that is asked about it."""

    def __init__(self, domain: Domain, agent: Agent, root: str) -> None:
        self.domain, self._agent, self._root = domain, agent, root
        self.name = _printable(domain.name) or domain.uuid
        self._path = f"/v1/preparations/{domain.uuid}"

    def found(self) -> Document | None:
        """Gives what is prepared for the domain."""
        return _unless_unknown(lambda: self._agent.get(self._path))

    def wanted(self) -> list[Document]:
        """Gives what the domain needs of the agent. Raises DomainError."""
        with Directory(self._root) as tree:
            return hook_groups.groups(self.domain, self._known, tree)

    def lacking(self, prepared: Document) -> list[str]:
        """Gives the domain's devices that are the agent's and not among what is prepared."""
        with Directory(self._root) as tree:
            return hook_groups.lacking(self.domain, prepared, self._known, tree)

    def put(self, body: Document) -> Document:
        """Has devices made ready, and waits for it. Raises NotPrepared, AgentError."""
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            found = _patiently(lambda: self._agent.put(self._path, body, wait=_WAIT_S))
            if found["state"] == "prepared":
                return found
            time.sleep(_PAUSE_S)
        with suppress(AgentError):
            self.delete(wait=0)
        raise NotPrepared("retry", f"its devices are not ready within {_PATIENCE_S:g} s (`devagent preparations`)")

    def delete(self, wait: int = _RELEASE_S) -> Document:
        """Gives everything back; what is left of it after `wait` seconds goes without anybody."""
        return self._agent.delete(self._path, wait=wait)

    def _known(self, address: str) -> Document | None:
        device = _unless_unknown(lambda: self._agent.get(f"/v1/devices/{address}"))
        return device if device and (device["decision"]["managed"] or device["decision"]["owner"]) else None


def _worked(work: Callable[[_Call], None], call: _Call, operation: str, settings: hook_settings.Settings) -> int:
    try:
        work(call)
    except AgentUnreachable as error:
        return _down(call.name, error, operation, settings)
    except DevagentError as error:
        return _failed(call.name, error, operation)
    return 0


def _prepare(call: _Call) -> None:
    began, found = time.monotonic(), call.found()
    if found is not None and not _by_address(found):
        prepared = call.put({"groups": _groups(found), **_project(found)})
        lacking = call.lacking(prepared)
        if lacking:
            why = "is not among what was prepared for this server: `devagent preparations show` tells what is"
            raise DomainError(f"{', '.join(lacking)} {why}")
    else:
        wanted = call.wanted()
        if found is not None and (_groups(found) != wanted or found["state"] == "releasing"):
            call.delete(_WAIT_S)  # nothing of it runs: it is about to start
        if not wanted:
            return
        prepared = call.put({"groups": wanted})
    ready = ", ".join(handle.get("uuid") or handle["address"] for handle in prepared["handles"])
    syslog.syslog(syslog.LOG_INFO, f"{call.name}: ready: {ready}; {time.monotonic() - began:.3f} s")


def _release(call: _Call) -> None:
    found = call.found()
    if found is None or not _by_address(found):
        return
    left = call.delete()
    syslog.syslog(syslog.LOG_INFO, f"{call.name}: {'is being given back' if left else 'given back'}")


def _by_address(found: Document) -> bool:
    """Tells whether somebody asked as this hook does: for each device by its address."""
    return all(group["address"] for group in found["groups"])


def _groups(found: Document) -> list[Document]:
    """Gives the groups as they were asked for."""
    return [{name: value for name, value in group.items() if value} for group in found["groups"]]


def _project(found: Document) -> Document:
    return {"project_id": found["project_id"]} if found["project_id"] else {}


def _unless_unknown(call: Callable[[], Document]) -> Document | None:
    try:
        return _patiently(call)
    except AgentRefused as error:
        if error.status == 404:
            return None
        raise


def _patiently(call: Callable[[], _T]) -> _T:
    """Calls again while the agent is away or not ready, for a moment. Raises AgentError."""
    end = 0.0
    while True:
        try:
            return call()
        except (AgentUnreachable, AgentRefused) as error:
            if isinstance(error, AgentRefused) and error.code != _NOT_READY:
                raise
            end = end or time.monotonic() + _RESTART_S
            if time.monotonic() >= end:
                raise
        time.sleep(_PAUSE_S)


def _down(name: str, error: AgentUnreachable, operation: str, settings: hook_settings.Settings) -> int:
    if operation != "release" and settings.agent_down == "allow":
        what = "it starts all the same ([libvirt] agent_down = allow), its devices as they are"
        syslog.syslog(syslog.LOG_WARNING, f"{name}: {error}; {what}")
        return 0
    return _failed(name, error, operation)


def _failed(name: str, error: DevagentError, operation: str) -> int:
    """Says why; only a start can be stopped."""
    said = _printable(f"{name}: {error}")
    if operation == "release":
        syslog.syslog(syslog.LOG_WARNING, f"{said}; the agent gives back by itself what no server has any more")
        return 0
    code = error.code if isinstance(error, AgentRefused) else None
    advice = _ADVICE.get(code or "", "")
    if isinstance(error, AgentUnreachable):
        advice = "with [libvirt] agent_down = allow in devagent.conf it would start all the same"
    said = f"{said}; {advice}" if advice else said
    syslog.syslog(syslog.LOG_ERR, said)
    sys.stderr.write(f"devagent: {said}\n")
    return 1


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
