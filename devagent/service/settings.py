# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent goes by: the configuration and the policy as plain values, read as one and replaced as one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devagent import conf as configuration
from devagent.api import remote
from devagent.api.client import LONGEST_PATH
from devagent.api.remote import Remote
from devagent.errors import ConfigurationError
from devagent.inventory import policy_file
from devagent.inventory.build import Nest
from devagent.inventory.default_policy import DEFAULT
from devagent.model.policy import Policy
from devagent.places import POLICY_FILE


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds, sizes in MiB; `conf` is oslo.config's object, for the libraries that want it."""

    conf: Any
    files: tuple[str, ...]
    policy: Policy
    host: str | None
    state_path: Path
    nest: Nest
    scan_interval: float
    report_interval: float
    reconcile_interval: float
    look_timeout: float
    debounce: float
    health_interval: float
    clean_checks: int
    flap_limit: int
    flap_window: float
    xids: Mapping[int, str]
    kernel_log: bool
    prepare_deadline: float
    prepare_workers: int
    prepare_expires_in: float
    check_allocations: bool
    tombstone: float
    images_directory: Path
    images_cache_size: int
    images_key: Path | None
    socket: Path
    socket_group: str | None
    remote: Remote | None
    threads: int
    drain_timeout: float


def read(files: Sequence[str] = (), dirs: Sequence[str] = (), policy: str | None = None) -> Settings:
    """Reads the configuration and the policy that it names, or `policy`.

    Raises ConfigurationError or PolicyError; nothing of what was in force is touched then.
    """
    conf = configuration.load(files, dirs, strict=True)
    _check_paths(conf)
    return Settings(
        conf=conf,
        files=tuple(map(str, configuration.files(files, dirs))),
        policy=_policy(conf, policy),
        host=conf.host,
        state_path=Path(conf.state_path),
        nest=Nest(conf.inventory.nest),
        scan_interval=conf.inventory.scan_interval,
        report_interval=conf.inventory.report_interval,
        reconcile_interval=conf.inventory.reconcile_interval,
        look_timeout=conf.inventory.look_timeout,
        debounce=conf.inventory.debounce,
        health_interval=conf.health.interval,
        clean_checks=conf.health.clean_checks,
        flap_limit=conf.health.flap_limit,
        flap_window=conf.health.flap_window,
        xids=conf.health.xids,
        kernel_log=conf.health.kernel_log,
        prepare_deadline=conf.prepare.deadline,
        prepare_workers=conf.prepare.workers,
        prepare_expires_in=conf.prepare.expires_in,
        check_allocations=conf.prepare.check_allocations,
        tombstone=conf.prepare.tombstone,
        images_directory=Path(conf.images.directory),
        images_cache_size=conf.images.cache_size,
        images_key=Path(conf.images.signing_key) if conf.images.signing_key else None,
        socket=Path(conf.api.unix_socket),
        socket_group=conf.api.unix_socket_group,
        remote=remote.read(conf.api),
        threads=conf.api.threads,
        drain_timeout=conf.api.drain_timeout,
    )


def _check_paths(conf: Any) -> None:
    """Raises ConfigurationError for a path that is relative, or that no socket can have."""
    for option, path in (
        ("[DEFAULT] state_path", conf.state_path),
        ("[images] directory", conf.images.directory),
        ("[api] unix_socket", conf.api.unix_socket),
    ):
        if not Path(path).is_absolute():
            raise ConfigurationError(f"configuration: {option}: {path!r} is no absolute path")
    if len(os.fsencode(conf.api.unix_socket)) > LONGEST_PATH:
        path = conf.api.unix_socket
        raise ConfigurationError(f"configuration: [api] unix_socket: {path!r} has more than {LONGEST_PATH} bytes")


def _policy(conf: Any, named: str | None) -> Policy:
    path = Path(named or conf.inventory.policy_file)
    # Only the default place may be empty: a policy that was named and is not there is a mistake.
    if named is None and path == POLICY_FILE and not path.exists():
        return DEFAULT
    return policy_file.read(path)
