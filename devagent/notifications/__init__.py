# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Hears what Nova tells of its virtual machines, and has the agents look where that may free a device."""
