# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes devices ready for a consumer and brings them back: plans, the journal, and what carries them out."""
