# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Checks what the configuration points to: the API's certificates, the directory of images, Glance."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from devagent.errors import ConfigurationError
from devagent.model.finding import Finding, Grade
from devagent.sources.host import Tree

_DAY: Final = 86400
_SOON_DAYS: Final = 14
_GLANCE_S: Final = 10.0
_NO_IMAGE: Final = "00000000-0000-0000-0000-000000000000"
"""Asked for to see whether Glance answers: an id that no image has."""


def checked(tree: Tree, conf: Any) -> Iterator[Finding]:
    """Checks what there is, on the machine itself and with a configuration that can be read."""
    if tree.machine and conf is not None:
        yield from _api(conf)
        yield from _images(conf)
        yield from _glance(conf)


def _api(conf: Any) -> Iterator[Finding]:
    from devagent.api import remote

    try:
        if remote.read(conf.api) is None:
            yield Finding("api", Grade.OK, f"on {conf.api.unix_socket} alone: [api] listen is not set")
        else:
            yield _certificate(conf.api)
    except ConfigurationError as error:
        yield _wrong("api", error, "the agent does not start with it: docs/api.md shows what [api] needs")


def _certificate(api: Any) -> Finding:
    from devagent.api import validity

    cure = f"put a new one there, with its key, and `systemctl reload devagent`: {api.tls_cert}"
    try:
        days = int((validity.ends(api.tls_cert, api.tls_key) - time.time()) / _DAY)
    except ssl.SSLError as error:
        said = getattr(error, "verify_message", "") or error.reason
        return Finding("api", Grade.FAILED, f"no client takes the certificate of [api] tls_cert: {said}", cure)
    seen = f"to be on {api.listen} with TLS; its certificate ends in {days} days"
    return Finding("api", Grade.WARNING, seen, cure) if days < _SOON_DAYS else Finding("api", Grade.OK, seen)


def _images(conf: Any) -> Iterator[Finding]:
    from devagent.images.directory import Directory
    from devagent.images.refused import NoImage
    from devagent.images.signature import SigningKey

    try:
        if conf.images.signing_key:
            SigningKey(Path(conf.images.signing_key))
        names, without = Directory(Path(conf.images.directory)).listed()
    except ConfigurationError as error:
        yield _wrong("images", error, "the agent does not start with it: correct or remove [images] signing_key")
    except NoImage as error:
        cure = "let the user devagent read it (mode 755), or set [images] directory"
        yield Finding("images", Grade.WARNING, str(error), cure)
    else:
        for name in without:
            cure = f"cd {conf.images.directory} && sha256sum {name} > {name}.sha256"
            yield Finding("images", Grade.WARNING, f"{name} is no image: its checksum is not beside it", cure)
        yield Finding("images", Grade.OK, f"{len(names)} in {conf.images.directory}")


def _glance(conf: Any) -> Iterator[Finding]:
    from devagent.images import glance
    from devagent.images.refused import NoImage

    try:
        client = glance.from_conf(conf)
        if client is None:
            yield Finding("glance", Grade.OK, "not configured: images come from the directory alone")
            return
        client.find(_NO_IMAGE, _GLANCE_S)
    except (ConfigurationError, NoImage) as error:
        yield Finding("glance", Grade.FAILED, str(error), "correct [glance] in devagent.conf; docs/prepare.md shows it")
    else:
        yield Finding("glance", Grade.OK, "answers, and takes the credentials of [glance]")


def _wrong(check: str, error: ConfigurationError, cure: str) -> Finding:
    seen = str(error).removeprefix("configuration: ")
    if os.geteuid() != 0 and seen.endswith("permission denied"):
        return Finding(check, Grade.UNKNOWN, seen, "run devagent doctor as root")
    return Finding(check, Grade.FAILED, seen, cure)
