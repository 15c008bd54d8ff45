# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Lets `python -m devagent` be the `devagent` command."""

import sys

from devagent.cli.main import main

sys.exit(main())
