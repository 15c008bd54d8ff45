# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Glance's image API, of which two calls are made (docs.openstack.org/api-ref/image/v2), on keystoneauth1.

GET /v2/images/6bd7bdcd-8a5e-4ab2-9a5c-2d9b0a7be9d0, or each of the images of GET /v2/images?name=loopback
{"id": "6bd7bdcd-8a5e-4ab2-9a5c-2d9b0a7be9d0", "name": "loopback", "status": "active", "visibility": "shared",
 "size": 98304, "os_hash_algo": "sha512", "os_hash_value": "0d5e...", "owner": "5ef7...",
 "devagent_signature": "MEUCIQ...", ...}
GET /v2/images/6bd7bdcd-8a5e-4ab2-9a5c-2d9b0a7be9d0/file     200 and the bytes, 204 if it has none
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

import requests
import urllib3
from keystoneauth1 import adapter
from keystoneauth1 import exceptions as ksa
from oslo_config import cfg

from devagent import openstack_adapter
from devagent.cause import cause
from devagent.images.offer import LARGEST, Offer
from devagent.images.refused import Away, Interrupted, invalid, permanent, retry

GROUP: Final = "glance"
SERVICE_TYPE: Final = "image"
SIGNATURE: Final = "devagent_signature"

_UUID: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_ALGORITHMS: Final = ("sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512", "blake2b")
"""What nobody can make a second image for: Glance can be set to md5 and sha1."""
_ON_ITS_WAY: Final = ("queued", "saving", "uploading", "importing")
_TIMEOUT: Final = 30
_READ: Final = 1 << 16
_DOCUMENT: Final = 1 << 20
_SHORTEST: Final = 0.1
_GONE: Final = (404, 410)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Gives the options of [glance], for oslo-config-generator: keystoneauth's own."""
    return openstack_adapter.list_opts(GROUP)


def from_conf(conf: Any) -> Glance | None:
    """Makes a client from [glance], None where that says of nobody to authenticate as. Raises ConfigurationError."""
    found = openstack_adapter.from_conf(conf, GROUP, SERVICE_TYPE, _TIMEOUT)
    return None if found is None else Glance(found)


def is_id(name: str) -> bool:
    """Tells whether an image is named by its id."""
    return _UUID.fullmatch(name) is not None


class Glance:
    """Images as the user of [glance] sees them. Every call may raise NoImage."""

    def __init__(self, adapter: adapter.Adapter) -> None:
        self._adapter = adapter

    def find(self, name: str, seconds: float) -> Offer | None:
        """Gives the image with that id, or the one active image with that name; None if there is none."""
        if is_id(name):
            raw = self._json(f"/images/{name}", seconds)
            return self.offer(raw) if raw is not None and raw.get("id") == name else None
        answer = self._json(f"/images?{urlencode({'name': name, 'limit': 100})}", seconds) or {}
        # Glance takes some values of a filter for operators.
        found = [each for each in _images(answer) if each.get("name") == name]
        active = [each for each in found if each.get("status") == "active"]
        if len(active) > 1:
            ids = ", ".join(sorted(str(each.get("id")) for each in active)[:3])
            raise invalid(f"Glance has {len(active)} images called {name!r} ({ids}): ask for one by its id")
        return self.offer((active or found)[0]) if found else None

    def offer(self, raw: Mapping[str, Any]) -> Offer:
        """Makes of Glance's words what can be fetched. Raises NoImage if it cannot."""
        glance_id, status, size = raw.get("id"), raw.get("status"), raw.get("size")
        algorithm, checksum = raw.get("os_hash_algo"), raw.get("os_hash_value")
        if not (isinstance(glance_id, str) and is_id(glance_id)):
            raise Away(
                f"{self._where()} does not answer like Glance: it has an image with the id {str(glance_id)[:40]!r}"
            )
        origin = f"Glance's image {glance_id}"
        if status in _ON_ITS_WAY:
            raise retry(f"{origin} is not there yet: it is {status}")
        if status != "active":
            raise invalid(f"{origin} is {str(status)[:20]}, not active")
        if not (isinstance(algorithm, str) and isinstance(checksum, str) and algorithm and checksum):
            raise permanent(f"{origin} has no os_hash_value by which it could be checked: upload it anew")
        if algorithm not in _ALGORITHMS or not _is_sum(algorithm, checksum):
            raise permanent(
                f"{origin} cannot be checked by its os_hash_value, which is {algorithm[:20]}: sha256 or sha512 is"
            )
        if not isinstance(size, int) or not 0 < size <= LARGEST:
            raise invalid(f"{origin} has {size} bytes; an image has 1 to {LARGEST}")
        return Offer(
            origin, algorithm, checksum, size, _signature(origin, raw), lambda: self._file(glance_id), glance_id
        )

    def _json(self, path: str, seconds: float) -> dict[str, Any] | None:
        """Gives a JSON answer, None for 404."""
        end, text = time.monotonic() + seconds, bytearray()
        with self._answer(path, seconds) as response:
            if response.status_code in _GONE:
                return None
            self._refuse(path, response)
            for chunk in _chunks(self._where(), response):
                text += chunk
                if len(text) > _DOCUMENT or time.monotonic() > end:
                    raise Away(f"{self._where()} does not answer like Glance: its answer has no end")
        try:
            answer = json.loads(bytes(text))
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise Away(f"{self._where()} does not answer like Glance: check [glance] endpoint_override and the catalog")
        return answer

    @contextmanager
    def _file(self, glance_id: str) -> Iterator[Iterator[bytes]]:
        with self._answer(f"/images/{glance_id}/file") as response:
            if response.status_code in _GONE:
                raise invalid(f"Glance's image {glance_id} is not there any more")
            self._refuse(f"/images/{glance_id}/file", response)
            yield _chunks(f"Glance's image {glance_id}", response)

    def _refuse(self, path: str, response: requests.Response) -> None:
        """Raises NoImage for an answer that is none."""
        status = response.status_code
        what = f"Glance answers {status} ({response.reason}) to GET {path.partition('?')[0]}"
        if status == 401:
            raise retry(f"{what}: the credentials of [glance] are refused")
        if status == 403:
            raise permanent(f"{what}: the user of [glance] may not read that image, or it was deactivated")
        if status >= 500 or status in openstack_adapter.LATER:
            raise Away(what)
        if status not in (200, 204):
            raise permanent(f"{what}: check [glance] endpoint_override and the catalog")

    @contextmanager
    def _answer(self, path: str, seconds: float = _TIMEOUT) -> Iterator[requests.Response]:
        headers = {"Accept-Encoding": "identity"}
        timeout = max(_SHORTEST, min(seconds, self._adapter.session.timeout or _TIMEOUT))
        try:
            response = self._adapter.get(
                f"{self._prefix()}{path}",
                raise_exc=False,
                stream=True,
                redirect=False,
                headers=headers,
                timeout=timeout,
            )
        except (ksa.Unauthorized, ksa.Forbidden, ksa.AuthPluginException, ksa.AuthorizationFailure) as error:
            raise retry(f"the credentials of [glance] are refused or incomplete: {cause(error)}") from None
        except (ksa.EndpointNotFound, ksa.CatalogException) as error:
            raise Away(
                f"no endpoint of Glance is known: see [glance] region_name, valid_interfaces ({cause(error)})"
            ) from None
        except (ksa.ClientException, requests.RequestException, OSError) as error:
            raise Away(f"Glance cannot be reached: {cause(error)} ([glance] endpoint_override, auth_url)") from None
        with response:
            yield response

    def _prefix(self) -> str:
        """Some catalogs have the version in Glance's URL."""
        return "" if self._where().rstrip("/").endswith("/v2") else "/v2"

    def _where(self) -> str:
        return str(self._adapter.get_endpoint() or "the [glance] endpoint")


def _chunks(origin: str, response: requests.Response) -> Iterator[bytes]:
    """Gives the bytes as they come: to wait for more at a time would be to wait for ever for a slow body."""
    try:
        while chunk := response.raw.read1(_READ, decode_content=False):
            yield chunk
    except (urllib3.exceptions.HTTPError, requests.RequestException, OSError) as error:
        raise Interrupted(f"{origin} does not come any further: {cause(error)}") from None


def _images(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = answer.get("images")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _is_sum(algorithm: str, checksum: str) -> bool:
    digits = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    return re.fullmatch(f"[0-9a-f]{{{digits}}}", checksum) is not None


def _signature(origin: str, raw: Mapping[str, Any]) -> bytes | None:
    text = raw.get(SIGNATURE)
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        raise permanent(f"{origin}: its property {SIGNATURE} is no base64") from None
