# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Tells Placement: the client, and the reporter that makes Placement equal to the desired tree."""
