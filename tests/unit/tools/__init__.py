# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
