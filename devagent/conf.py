# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every option of devagent but those of [placement], which keystoneauth defines.

Values are read where parts are built and handed to them; nothing below the commands sees this module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from oslo_config import cfg

from devagent.errors import ConfigurationError

CONFIG_FILE: Final = Path("/etc/devagent/devagent.conf")
CONFIG_DIR: Final = Path("/etc/devagent/devagent.conf.d")
POLICY_FILE: Final = Path("/etc/devagent/devices.yaml")

DEFAULT_OPTS: Final = (
    cfg.StrOpt(
        "state_path",
        default="/var/lib/devagent",
        help="Where devagent keeps what it must remember across restarts.",
    ),
    cfg.StrOpt(
        "host",
        help="The hypervisor's hostname as Nova knows it (openstack hypervisor list). Default: the name of "
        "the provider whose UUID Nova keeps in /var/lib/nova/compute_id, else this host's full name.",
    ),
)
INVENTORY_OPTS: Final = (
    cfg.StrOpt(
        "policy_file",
        default=str(POLICY_FILE),
        help="The policy: which devices are given to virtual machines, and how. Without the file the "
        "built-in policy is used.",
    ),
    cfg.StrOpt(
        "nest",
        default="numa",
        choices=[
            ("numa", "devices below a provider per NUMA node"),
            ("pcie", "as numa, with a provider per PCIe switch in between"),
            ("flat", "devices directly below the compute node"),
        ],
        help="What stands between the compute node's provider and those of its devices.",
    ),
)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Gives the options by group, for oslo-config-generator."""
    return [("DEFAULT", list(DEFAULT_OPTS)), ("inventory", list(INVENTORY_OPTS))]


def load(files: Sequence[str] = (), dirs: Sequence[str] = ()) -> Any:
    """Reads the configuration: what is named, else what stands in /etc/devagent.

    Raises ConfigurationError, with the file and the option.
    """
    conf = cfg.ConfigOpts()
    for group, options in list_opts():
        conf.register_opts(options, None if group == "DEFAULT" else group)
    if not files and not dirs:
        files, dirs = _present(CONFIG_FILE), _present(CONFIG_DIR)
    for path in (*map(Path, files), *(inner for folder in dirs for inner in _inside(Path(folder)))):
        _check(path)
    try:
        conf(args=[], project="devagent", default_config_files=list(files), default_config_dirs=list(dirs))
        for option in INVENTORY_OPTS:  # oslo.config checks a value when it is read
            conf.inventory[option.name]
    except (cfg.Error, ValueError) as error:
        # "... from LocationInfo(location=<Locations.user: (4, True)>, detail='/etc/devagent/devagent.conf') ..."
        text = re.sub(r"LocationInfo\(.*?detail='(.*?)'\)", r"\1", str(error))
        raise ConfigurationError(f"configuration: {' '.join(text.split())}") from None
    return conf


def _check(path: Path) -> None:
    """Reads a file once, since oslo.config's own words do not name one that cannot be read."""
    try:
        path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"configuration: {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"configuration: {path}: is not UTF-8 text") from None


def _inside(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if path.suffix == ".conf"]
    except OSError as error:
        raise ConfigurationError(f"configuration: {folder}: {(error.strerror or str(error)).lower()}") from None


def _present(path: Path) -> list[str]:
    return [str(path)] if path.exists() else []
