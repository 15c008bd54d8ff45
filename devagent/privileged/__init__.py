# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What changes the machine: a short list of verbs, in a process of their own that alone keeps capabilities.

    agent ──datagram, and a socket for the answer──> privileged process ──fork──> one child per verb ──answer──> agent

The process is forked first of all, before any thread, and does nothing but check requests and fork. So any number
of verbs run at once, and one that hangs in the kernel takes nothing but its own child with it.
"""

from devagent.privileged.client import Privileged, hanging, start

__all__ = ["Privileged", "hanging", "start"]
