# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What prepares and releases: from what the API asks (preparations.py) to the machine that is changed (machine.py)."""
