# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""devagent: reports this host's accelerators to OpenStack Placement and prepares them for virtual machines."""

__all__ = ["__version__"]

try:
    from devagent._version import version as __version__
except ImportError:  # run from a checkout of which nothing was ever built
    __version__ = "0+unknown"
