# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the commands that talk to an agent begin with: this host's, found by its socket, or another by its URL."""

from __future__ import annotations

import argparse
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from devagent.api.client import Client
from devagent.errors import ConfigurationError
from devagent.places import CONFIG_DIR, CONFIG_FILE, SOCKET

# As devagent.api.handlers has it, whose import takes longer than this.
_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def agent(args: argparse.Namespace) -> Client:
    """Gives the client of the agent at --url, else on --socket, else on the configured socket, else on the usual one.

    Raises ConfigurationError.
    """
    if not args.url and (args.cacert or args.cert or args.key):
        raise ConfigurationError("--cacert, --cert and --key go with --url: this host's own agent asks for none")
    if args.url:
        from devagent.api.remote_client import RemoteClient

        token = os.environ.get("OS_TOKEN")
        tokens = _Token(token) if token else None
        return RemoteClient(args.url, cacert=args.cacert, cert=args.cert, key=args.key, tokens=tokens)
    return Client(args.socket or _configured(args) or SOCKET)


class _Token:
    """A token that the user has; there is no other."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self) -> str:
        return self._token

    def invalidate(self) -> bool:
        return False


def consumer_path(consumer: str) -> str:
    """Gives where the API has the preparation of a consumer. Raises ConfigurationError if it is no UUID."""
    return f"/v1/preparations/{uuid(consumer.strip(), 'a consumer')}"


def uuid(text: str, what: str) -> str:
    """Gives it back. Raises ConfigurationError if it is none, with `what` it should be."""
    if not _UUID.fullmatch(text):
        raise ConfigurationError(f"{text!r} is not {what}: a UUID of Placement's is wanted")
    return text


def _configured(args: argparse.Namespace) -> str | None:
    """Reads the configuration, but only where it says something about the socket: it costs more than all else."""
    named = [*map(Path, args.config_file), *(path for each in args.config_dir for path in _inside(Path(each)))]
    if not any(map(_names_a_socket, named or [CONFIG_FILE, *_inside(CONFIG_DIR)])):
        return None
    from devagent import conf

    return str(conf.load(args.config_file, args.config_dir).api.unix_socket)


def _inside(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.glob("*.conf"))
    return []


def _names_a_socket(path: Path) -> bool:
    # One that holds passwords can be read by root alone, but everybody in the socket's group may ask the agent.
    with suppress(OSError):
        return b"unix_socket" in path.read_bytes()
    return False
