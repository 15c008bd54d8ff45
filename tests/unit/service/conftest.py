# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""oslo.service is told to use threads before anything imports it, as the command does."""

from __future__ import annotations

from devagent.service import threads

threads.use()
