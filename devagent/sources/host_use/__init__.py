# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the host itself uses: users.py asks all the searches, each of which knows one kind of use."""
