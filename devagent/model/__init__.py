# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The nouns of devagent: frozen dataclasses that do no input or output."""
