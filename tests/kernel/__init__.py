# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Scenarios on a real kernel: virtual accelerators in a virtual machine; README.md says how they work."""
