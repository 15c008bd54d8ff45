# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""devagent: reports this host's accelerators to OpenStack Placement and prepares them for virtual machines."""

__version__ = "0.1.0"
