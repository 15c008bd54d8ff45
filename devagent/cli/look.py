# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What `discover`, `report` and `demo` begin with: open the root, find the policy, look."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devagent import registry
from devagent.discovery import discover
from devagent.inventory.build import Nest
from devagent.inventory.default_policy import DEFAULT
from devagent.places import CONFIG_DIR, CONFIG_FILE, POLICY_FILE, STATE_PATH
from devagent.sources import roots
from devagent.view import Look

if TYPE_CHECKING:
    from devagent.model.policy import Policy
    from devagent.sources.captures.recorder import Recorder
    from devagent.sources.host import Tree

CONFIGURATION = (CONFIG_FILE, CONFIG_DIR)


def look(
    root: Path,
    policy: Policy = DEFAULT,
    *,
    conf: Any = None,
    every: bool = False,
    pack_into: Path | None = None,
    redact: bool = False,
) -> Look:
    """Looks at the host below `root`, and packs what was read into an archive if one is named.

    Raises RootError; DevagentError if the archive cannot be written.
    """
    state_path = conf.state_path if conf else STATE_PATH
    with roots.open_root(root) as tree:
        recorded = _recorder(tree, pack_into)
        found = discover(recorded or tree, registry.load(), policy, every=every, state_path=state_path)
        configured = conf.host if conf else None
        own = roots.kept_name(tree) or found.host.hostname or roots.name_of(root)
        hostname = configured or own or "localhost"
        if recorded is not None and pack_into is not None:
            from devagent.sources.captures.packing import pack

            pack(recorded, pack_into, hostname, redact=redact)
    return Look(found, hostname, Nest(conf.inventory.nest) if conf else Nest.NUMA)


def _recorder(tree: Tree, pack_into: Path | None) -> Recorder | None:
    if pack_into is None:
        return None
    from devagent.sources.captures.packing import check_name
    from devagent.sources.captures.recorder import Recorder

    check_name(pack_into)
    return Recorder(tree)


def configuration(args: argparse.Namespace, *, required: bool = False, strict: bool = False) -> Any:
    """Reads the configuration if there is any, or if it is `required`; else gives None.

    What stands in /etc/devagent holds a password: who may not read it looks without, and is told. Where it is
    `required`, or with `strict`, an option that nobody knows is an error. Raises ConfigurationError.
    """
    named = args.config_file or args.config_dir
    here = [path for path in CONFIGURATION if path.exists()] if args.root == "/" else []
    if not (required or named or here):
        return None
    secret = [str(path) for path in here if not os.access(path, os.R_OK)]
    if secret and not (required or named):
        print(f"devagent: {', '.join(secret)}: not for this user to read; left out", file=sys.stderr)
        return None
    from devagent import conf

    return conf.load(args.config_file, args.config_dir, strict=strict or required)


def policy(args: argparse.Namespace, conf: Any) -> Policy:
    """Gives the policy that is named, else the configured one if its file exists, else the built-in one.

    Raises PolicyError, or ConfigurationError if a file that was named cannot be read.
    """
    if args.policy:
        return _read_policy(Path(args.policy))
    configured = Path(conf.inventory.policy_file) if conf else POLICY_FILE
    named = conf is not None and configured != POLICY_FILE
    # The machine's own policy says nothing about a captured host.
    if named or (args.root == "/" and configured.exists()):
        return _read_policy(configured)
    return DEFAULT


def _read_policy(path: Path) -> Policy:
    from devagent.inventory import policy_file

    return policy_file.read(path)
