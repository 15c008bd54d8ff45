# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A host in an archive: what a look reads is noted, redacted and packed, and read again as if it were the machine."""
