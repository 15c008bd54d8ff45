# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Placement's answers say: JSON, or one of our PlacementErrors: for no success, and for no Placement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from devagent import errors
from devagent.openstack_adapter import LATER


def understood(method: str, path: str, response: requests.Response) -> Any:
    """Gives the JSON of an answer, None for an empty one. Raises PlacementError for whatever is no success."""
    if not response.ok:
        raise _refused(method, path, response)
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        raise errors.PlacementUnreachable(_not_placement(response.url), status=response.status_code) from None


@contextmanager
def understanding(answer: object, where: str = "") -> Iterator[None]:
    """Turns an answer of another form than Placement's into PlacementUnreachable."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        shown = repr(answer)[:80]
        raise errors.PlacementUnreachable(f"{_not_placement(where or 'the endpoint')}: it says {shown}") from None


def _not_placement(url: str) -> str:
    return f"{url} does not answer like Placement: check [placement] endpoint_override and the service catalog"


def _refused(method: str, path: str, response: requests.Response) -> errors.PlacementError:
    """Makes the error of an answer that is no success, with Placement's own words."""
    status, code, detail = response.status_code, None, ""
    try:
        error = response.json()["errors"][0]
        code, detail = error.get("code"), " ".join(str(error.get("detail", "")).split())
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        detail = response.reason or ""
        if status == 404:  # Placement's own 404 is JSON with a list of errors; this is some other server's
            return errors.PlacementUnreachable(_not_placement(response.url), status=status)
    what = f"{method} {path.partition('?')[0]}: Placement answers {status}"
    text = f"{what}: {detail}" if detail else what
    if status in (401, 403):
        hint = "the token or its roles do not allow it (the role service, or admin, is needed)"
        return errors.PlacementDenied(f"{what}: {hint}", status=status, code=code)
    kinds: dict[int, type[errors.PlacementError]] = {
        404: errors.PlacementNotFound,
        409: errors.PlacementConflict,
    }
    later = status >= 500 or status in LATER
    default = errors.PlacementUnreachable if later else errors.PlacementRejected
    return kinds.get(status, default)(text, status=status, code=code, retry_after=_retry_after(response))


def _retry_after(response: requests.Response) -> float:
    """Gives the seconds of Retry-After; its other form, a date, is what no proxy in front of an API sends."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
