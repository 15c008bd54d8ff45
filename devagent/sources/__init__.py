# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Looks at the host: the only code that reads /sys and /proc."""
