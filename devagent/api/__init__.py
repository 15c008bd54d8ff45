# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP API: the table of operations, what serves it on a unix socket, and the client of the commands."""
