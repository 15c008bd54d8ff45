# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What devagent costs beside what there is already; each module prints one table (see README.md)."""
