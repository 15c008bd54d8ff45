# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The commands, one module each, and what they are made of; a command imports what it needs only when it runs."""
