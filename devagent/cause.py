# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Why something failed, in one line: the system's own words, and the innermost reason of an error."""

from __future__ import annotations

import re


def system_words(error: OSError) -> str:
    """Gives what the system says of an error: `permission denied`."""
    return (error.strerror or str(error)).lower()


def cause(error: BaseException) -> str:
    """Gives the innermost reason, with the URL where there is one: `http://...: connection refused`."""
    url = re.search(r"https?://[^\s'\")]+", str(error))
    inner: BaseException = error
    while (below := inner.__cause__ or inner.__context__) is not None:
        inner = below
    reason = (inner.strerror or "") if isinstance(inner, OSError) else ""
    text = reason.lower() or " ".join(str(inner).split()) or type(inner).__name__
    return f"{url[0].rstrip(':')}: {text}" if url and url[0] not in text else text
