# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The output formats of `discover`, one module each with a function `render`."""
