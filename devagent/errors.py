# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The exceptions of devagent.

    DevagentError
    ├── Unreadable               a file of the host is there but cannot be read
    ├── ConfigurationError       an option or a command-line argument is wrong
    │   ├── PolicyError          devices.yaml is wrong, with its line and key
    │   └── RootError            --root is not a tree or archive with sysfs in it
    ├── StateError               the state directory is in use by another devagent
    ├── NoSuchDevice             nothing on this host has the id or address that was asked for
    ├── NotReady                 the agent does not know yet; ask again
    ├── NoSuchPreparation        the agent knows nothing of that consumer
    ├── NotPrepared              devices are not made ready, or not given back, and why
    ├── PreparedOtherwise        the consumer has been, or is being, prepared with another request
    ├── JournalError             the journal of preparations cannot be opened, read or written
    ├── (prepare/)               what its parts say to each other; callers are told a Refusal (model/preparation.py)
    │   ├── machine.StepFailed       a step was refused or did not work
    │   │   └── machine.Gone             its device is not there (any more)
    │   ├── machine.StepStuck        it hangs in the kernel
    │   ├── journal.Held             another consumer has the device
    │   ├── database.Taken           a row with that key is there already
    │   ├── locking.Busy             somebody else had the lock for all of the time
    │   └── runs.Cancelled           the consumer is being released meanwhile
    ├── BadBitstream             an image for an FPGA is damaged
    ├── (images/)                why one cannot be had; callers are told a Refusal
    │   └── refused.NoImage          it is not there, not whole, or not signed
    │       └── refused.Interrupted      it ended on its way; another try at once may do better
    │           └── refused.Away             nothing answers where it comes from
    ├── ListenError              the API's socket cannot be opened
    ├── AgentError               the agent did not do what a command asked
    │   ├── AgentUnreachable         nothing answers on its socket
    │   ├── AgentDenied              this user may not talk to it
    │   └── AgentRefused             it answered, and said no
    ├── GateBusy                 NVML must be closed, or could not be closed, while a GPU changes hands
    ├── NotificationError        a message of Nova's cannot be understood
    ├── BrokerError              the message broker refuses what is to be listened to
    ├── DomainError              what libvirt hands over is no domain
    ├── LookFailed               the look process died, hung, or could not look at the host
    ├── PrivilegedError          the privileged process did not do what was asked
    │   ├── VerbFailed           it was refused or did not work, and says why
    │   │   └── refused.VerbRefused  (privileged/) the kernel or the device is against it, and who has it open
    │   └── VerbStuck            it hangs in the kernel: leave the device alone until it ends
    └── PlacementError           Placement did not do what was asked
        ├── PlacementUnreachable     no usable answer: connection, time-out, 5xx
        ├── PlacementDenied          401 or 403: the credentials
        ├── PlacementNotFound        404 for a thing that Placement should have
        ├── PlacementConflict        409: somebody else was there first; read again
        ├── PlacementRejected        400: the request is wrong; asking again will not help
        └── RootProviderMissing      nova-compute has not created this host's provider yet

Each message says what happened, to what, and what to do; the facts stand in attributes too.
"""

from __future__ import annotations

from typing import ClassVar


class DevagentError(Exception):
    """The parent of every error that devagent raises on purpose."""

    exit_code: ClassVar[int] = 1


class Unreadable(DevagentError):
    """A file below the host's root is there but cannot be read, or is nothing that sysfs would hold."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    @property
    def denied(self) -> bool:
        """Whether only rights are lacking, so that nothing is wrong with the file."""
        return self.reason in ("permission denied", "operation not permitted")


class ConfigurationError(DevagentError):
    """An option, an argument or a file that the operator wrote is wrong."""

    exit_code = 2


class PolicyError(ConfigurationError):
    """The policy file is wrong at a line and key."""

    def __init__(self, path: str, line: int, key: str, problem: str) -> None:
        where = f"{path}:{line}" + (f": {key}" if key else "")
        super().__init__(f"{where}: {problem}")
        self.path, self.line, self.key, self.problem = path, line, key, problem


class RootError(ConfigurationError):
    """What `--root` names holds no sysfs tree, or cannot be read."""


class StateError(DevagentError):
    """The state directory is in use by another devagent."""


class GateBusy(DevagentError):
    """NVML may not be opened now, or is open in the processes `pids` of our own."""

    def __init__(self, message: str, pids: tuple[int, ...] = ()) -> None:
        who = f" (process {', '.join(map(str, pids))})" if pids else ""
        super().__init__(f"{message}{who}: it is worth another try")
        self.pids = pids


class LookFailed(DevagentError):
    """The look process died, hung, or could not look at the host; the next look starts a new one if need be."""


class PrivilegedError(DevagentError):
    """The privileged process did not do what was asked; `verb` is what it was."""

    def __init__(self, verb: str, message: str) -> None:
        super().__init__(message)
        self.verb = verb


class VerbFailed(PrivilegedError):
    """A verb was refused, did not work or was ended at its deadline; nothing of it goes on."""


class VerbStuck(PrivilegedError):
    """A verb hangs in the kernel, in the process `pid` that cannot be ended: leave its device alone until it does."""

    def __init__(self, verb: str, message: str, pid: int) -> None:
        super().__init__(verb, message)
        self.pid = pid


class NoSuchDevice(DevagentError):
    """Nothing on this host has that id or address."""

    def __init__(self, target: str) -> None:
        super().__init__(f"{target}: no device of this host has that id or address (`devagent discover` lists them)")
        self.target = target


class NotReady(DevagentError):
    """The agent does not know yet, for example before its first look; the same call can be made again."""


class NoSuchPreparation(DevagentError):
    """Nothing has been asked for in that consumer's name, or all of it was given back."""

    def __init__(self, consumer: str) -> None:
        super().__init__(f"{consumer}: nothing is prepared for that consumer (`devagent preparations` lists them)")
        self.consumer = consumer


class NotPrepared(DevagentError):
    """Devices are not made ready, or not given back.

    `kind` is `retry` (ask again later), `permanent` (this host cannot) or `invalid` (the request is wrong); `address`
    is the device that it is about, if it is one, `holders` who has it: of each the consumer, or process and command.
    """

    def __init__(
        self, kind: str, reason: str, address: str | None = None, holders: tuple[dict[str, str | int | None], ...] = ()
    ) -> None:
        super().__init__(reason)
        self.kind, self.address, self.holders = kind, address, holders


class PreparedOtherwise(DevagentError):
    """The consumer has been prepared, or is being prepared, with another request."""

    def __init__(self, consumer: str) -> None:
        super().__init__(f"{consumer} has been prepared with another request: release it first")
        self.consumer = consumer


class JournalError(DevagentError):
    """The journal cannot be opened, read or written; what was asked for is in it whole or not at all."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = str(path), problem


class BadBitstream(DevagentError):
    """An image for an FPGA is damaged, or of a kind that nothing loads; the text says why, and is about `it`."""


class ListenError(DevagentError):
    """The API's socket cannot be opened, or another devagent listens on it."""


class AgentError(DevagentError):
    """The agent of this host did not do what a command asked."""


class AgentUnreachable(AgentError):
    """Nothing answers on the agent's socket, not in time, or not as an agent does."""


class AgentDenied(AgentError):
    """The user may not connect to the agent's socket."""


class AgentRefused(AgentError):
    """The agent answered with an error: the HTTP `status`, its stable `code`, and the `request_id` in its log."""

    def __init__(self, message: str, *, status: int, code: str | None, request_id: str | None) -> None:
        super().__init__(message)
        self.status, self.code, self.request_id = status, code, request_id


class NotificationError(DevagentError):
    """A notification is not in the form that Nova's versioned notifications have."""


class BrokerError(DevagentError):
    """The message broker refuses the listener, or has the queue or the exchange otherwise than that is to have it."""


class DomainError(DevagentError):
    """A domain's XML cannot be read, or says what no domain of libvirt's does."""


class PlacementError(DevagentError):
    """Placement did not do what was asked.

    `status` is the HTTP status, None where there was no answer; `code` is Placement's own
    error code (microversion 1.23), for example `placement.inventory.inuse`; `retry_after` is how
    many seconds the answer asks to wait.
    """

    def __init__(
        self, message: str, *, status: int | None = None, code: str | None = None, retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


class PlacementUnreachable(PlacementError):
    """No usable answer came: connection refused, time-out, TLS, 5xx, or not Placement at all."""


class PlacementDenied(PlacementError):
    """The credentials are wrong, or their roles do not allow the call."""


class PlacementNotFound(PlacementError):
    """A provider, class or trait that should exist does not."""


class PlacementConflict(PlacementError):
    """Somebody else changed or uses the thing: read again and decide again."""


class PlacementRejected(PlacementError):
    """The request itself is wrong; the same request will fail again."""


class RootProviderMissing(PlacementError):
    """The compute node's own provider does not exist: nova-compute creates it, devagent never does."""
