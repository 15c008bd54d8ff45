# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One module per family of devices, imported as `devagent.drivers` through the link in the package."""
