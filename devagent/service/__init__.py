# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon: the loops that look, report and answer, what they know together, and how they start, reload and stop."""
