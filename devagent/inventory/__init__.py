# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Thinks, without input or output: policy, guards, the desired provider tree, and what differs from Placement."""
