# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is given to others to install: sdist and wheel, and the Debian package in a root of its own."""
