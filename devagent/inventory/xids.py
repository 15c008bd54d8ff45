# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA's XIDs mean for a GPU: a table by number, after NVIDIA's catalogue of XIDs.

Most are the fault of a program and say nothing of the GPU. On a driver from 565 on, NVML's recovery action
knows better than any table; then only those in MISSED count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from devagent.model.health import End, State


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one XID stands for, what it makes of the GPU (healthy: nothing), what ends that, and what to do."""

    text: str
    state: State = State.HEALTHY
    end: End = End.CHECKS
    cure: str = ""


MISSED: Final = frozenset({62, 79, 119, 120})
"""What makes NVML itself blind, so that its recovery action may go on to say `none`.

The GPU's microcontroller halted (62), it is off the bus (79), or its system processor answers the driver
no more (119, 120): NVML then answers from what it remembers, or not at all.
"""

_RESET_CURE: Final = "end what uses it, then nvidia-smi --gpu-reset or reboot this host"
_NVLINK: Final = frozenset(range(144, 151))


def _program(text: str) -> Meaning:
    return Meaning(f"{text}, a program's fault")


def _reset(text: str, state: State = State.UNHEALTHY) -> Meaning:
    return Meaning(text, state, End.RESET, _RESET_CURE)


def _link(text: str) -> Meaning:
    return Meaning(f"NVLink error ({text})", State.SUSPECT, End.CHECKS, "look at nvidia-smi nvlink --errorcounters")


TABLE: Final[Mapping[int, Meaning]] = {
    **dict.fromkeys(
        (8, 11, 25, 32, 39, 40, 41, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80, 82, 83, 84, 85, 86, 88, 89),
        _program("engine or channel error"),
    ),
    **dict.fromkeys((*range(96, 106), *range(126, 136), 139), _program("engine or channel error")),
    **dict.fromkeys(
        (37, 38, 44, 63, 66, 67, 92, 93, 106, 107, 121, 137, 141, 152, 153, 157, 160, 161), Meaning("for information")
    ),
    13: _program("graphics engine exception"),
    31: _program("memory page fault"),
    43: _program("channel stopped"),
    45: Meaning("cleaned up after an earlier error or a program that ended"),
    46: _reset("the GPU stopped processing"),
    # The row is remapped at the next reset; until then the faulty one may be met again.
    48: _reset("uncorrectable memory error"),
    54: Meaning("a power cable is missing or loose", State.UNHEALTHY, End.RESET, "check its power cables"),
    62: _reset("the GPU's microcontroller halted"),
    64: _reset("a faulty memory row could not be recorded"),
    74: _link("74"),
    78: Meaning("a vGPU could not be started", cure="check the versions of the vGPU manager and the guest's driver"),
    79: Meaning("the GPU has fallen off the bus", State.LOST, End.RESET, "reboot this host"),
    # Contained: only the program that met the error was ended.
    94: _program("contained memory error, which ended a program"),
    95: _reset("uncontained memory error"),
    # NVIDIA's catalogue asks for a reset, NVIDIA's device plugin passes it over: hence no fence.
    109: _reset("context switch timeout", State.SUSPECT),
    110: _reset("security fault"),
    119: _reset("the GPU's system processor (GSP) does not answer"),
    120: _reset("the GPU's system processor (GSP) failed"),
    123: Meaning("the power controller refused a write", State.SUSPECT),
    136: _reset("NVLink training failed"),
    140: _reset("uncorrected memory error"),
    142: Meaning("internal error", State.SUSPECT, End.CHECKS, "report it to NVIDIA"),
    143: _reset("the GPU could not be initialised"),
    **{number: _link(str(number)) for number in _NVLINK},
    151: Meaning("key rotation failed", cure="restart the virtual machine"),
    154: Meaning("the recovery action changed"),
    155: _reset("NVLink is down"),
    156: _reset("a part of the GPU is to be retired"),
    158: _reset("fatal timeout"),
    159: Meaning("unified memory error", cure="check the programs that use managed memory"),
}

_UNKNOWN: Final = Meaning(
    "not known here",
    State.SUSPECT,
    End.CHECKS,
    "look it up in NVIDIA's XID catalogue; [health] xids can say what it is",
)
_WORDS: Final = {"ignore": State.HEALTHY, "suspect": State.SUSPECT, "unhealthy": State.UNHEALTHY}


def meaning(number: int, detail: str = "", words: Mapping[int, str] | None = None) -> Meaning:
    """Gives what an XID means; `words` are the operator's, by number: ignore, suspect or unhealthy."""
    found = TABLE.get(number, _UNKNOWN)
    if number in _NVLINK and " nonfatal " in f" {detail.lower()} ":
        found = replace(found, state=State.HEALTHY)
    state = _WORDS.get((words or {}).get(number, ""))
    if state is None:
        return found
    end = End.RESET if state is State.UNHEALTHY else found.end
    return replace(found, state=state, end=end, cure=found.cure or (_RESET_CURE if state.is_fenced else ""))
