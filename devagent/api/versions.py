# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The versions of the API, and which of them a request asks for.

The header is OpenStack's: `OpenStack-API-Version: devagent 1.0`, several services in one separated by commas.
"""

from __future__ import annotations

import re
from typing import Final

from devagent.api.faults import Code, Fault

Version = tuple[int, int]

SERVICE: Final = "devagent"
HEADER: Final = "OpenStack-API-Version"
# Each with what it brought: what changes in an answer or a request changes here.
VERSIONS: Final[tuple[Version, ...]] = (
    (1, 0),  # devices, providers, status, health, rescan, preparations, hints
)
MINIMUM: Final = VERSIONS[0]
MAXIMUM: Final = VERSIONS[-1]

_NUMBER: Final = re.compile(r"([1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})", re.ASCII)


def text(version: Version) -> str:
    """Gives `1.0`."""
    return "{}.{}".format(*version)


def asked(header: str | None) -> Version:
    """Gives the version that a request asks for: the oldest if it does not say.

    Raises Fault: 400 for what is no version, 406 for one that there is not.
    """
    wanted = _ours(header or "")
    if wanted is None:
        return MINIMUM
    if wanted == "latest":
        return MAXIMUM
    number = _NUMBER.fullmatch(wanted)
    if number is None:
        detail = f"{HEADER}: {wanted!r} is no version; expected is for example {SERVICE} {text(MAXIMUM)}"
        raise Fault(400, Code.VERSION_MALFORMED, detail)
    version = (int(number[1]), int(number[2]))
    if version not in VERSIONS:
        detail = f"version {text(version)} is not known; this agent knows {text(MINIMUM)} to {text(MAXIMUM)}"
        raise Fault(
            406, Code.VERSION_UNKNOWN, detail, more={"min_version": text(MINIMUM), "max_version": text(MAXIMUM)}
        )
    return version


def _ours(header: str) -> str | None:
    """Gives what stands after our name; the last one counts, as with microversion_parse."""
    found = None
    for part in header.split(","):
        service, _, version = part.strip().partition(" ")
        if service.lower() == SERVICE:
            found = version.strip()
    return found
