# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps what was settled about each device, in a file that everybody may read: identities.json."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from devagent.errors import Unreadable
from devagent.model.gpu import GpuFacts
from devagent.model.identity import Identity
from devagent.model.known import Known
from devagent.model.snapshot import Problem
from devagent.sources import state_file
from devagent.sources.host import Tree
from devagent.sources.typed import decode

LOG = logging.getLogger(__name__)

FILE: Final = "identities.json"
SOURCE: Final = "identity"
_VERSION: Final = 1
# Whatever a file that was not written so makes of the decoder.
_DAMAGED: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def load(host: Tree, state_path: str, problems: list[Problem]) -> tuple[Known, ...]:
    """Gives what an earlier look settled; nothing if there was none, or its file is damaged, which is a problem."""
    path = f"{state_path.strip('/')}/{FILE}"
    try:
        text = host.file(path)
        return () if text is None else _decode(text)
    except Unreadable as error:
        problems.append(Problem(SOURCE, None, f"{error}: devices may get another identity than before"))
    except _DAMAGED as error:
        text = f"/{path} is damaged ({error}): devices may get another identity than before; restore or remove it"
        problems.append(Problem(SOURCE, None, text))
    return ()


def save(state_path: str, known: tuple[Known, ...]) -> None:
    """Replaces the file in one step, durably, if it would differ. What cannot be saved is a warning."""
    path = Path(state_path) / FILE
    try:
        state_file.update(path, _encode(known), _decode, _DAMAGED)
    except OSError as error:
        LOG.warning("%s cannot be written (%s): devices may get another identity later", path, error.strerror)


def _encode(known: tuple[Known, ...]) -> bytes:
    devices = [
        {
            "ids": each.ids,
            "topology": each.topology,
            "identity": asdict(each.identity),
            "others": dict(sorted(each.others.items())),
            "gpu": _gpu(each.gpu),
        }
        for each in known
    ]
    return (json.dumps({"version": _VERSION, "devices": devices}, indent=1) + "\n").encode()


def _gpu(gpu: GpuFacts | None) -> dict[str, Any] | None:
    return {"uuid": gpu.uuid, "serial": gpu.serial, "memory_mib": gpu.memory_mib} if gpu else None


def _decode(content: str | bytes) -> tuple[Known, ...]:
    """Raises one of _DAMAGED for anything that was not written so."""
    body = json.loads(content)
    if body["version"] != _VERSION:
        raise ValueError(f"version {body['version']!r} is unknown")
    return tuple(_device(raw) for raw in body["devices"])


def _device(raw: dict[str, Any]) -> Known:
    gpu = raw["gpu"]
    return Known(
        ids=_text(raw["ids"]),
        topology=_text(raw["topology"]),
        identity=Identity(_text(raw["identity"]["source"]), _text(raw["identity"]["value"])),
        others={_text(source): _text(value) for source, value in raw["others"].items()},
        gpu=decode(GpuFacts, gpu) if gpu else None,
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text")
    value.encode()  # half of a surrogate pair, which JSON can hold, cannot be printed
    return value
