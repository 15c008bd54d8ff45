# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where images for FPGAs come from, whether they are what they should be, and where they are kept."""
