# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Placement's API, one method per call, on keystoneauth1; every failure becomes one of our PlacementErrors."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import requests
from keystoneauth1 import adapter, session, token_endpoint
from keystoneauth1 import exceptions as ksa
from oslo_config import cfg

from devagent import errors, openstack_adapter
from devagent.cause import cause
from devagent.model.provider import Inventory, Provider
from devagent.placement.answers import understanding, understood

GROUP: Final = "placement"
SERVICE_TYPE: Final = "placement"
# 1.26 allows reserved == total, without which nothing can be fenced; 1.39 is the newest that we know.
OLDEST: Final = (1, 26)
NEWEST: Final = (1, 39)
RESHAPE: Final = (1, 30)
REPARENT: Final = (1, 37)
UNTYPED: Final = (1, 37)

_TIMEOUT: Final = 60
_FIELDS: Final = ("total", "reserved", "min_unit", "max_unit", "step_size", "allocation_ratio")
_CUSTOM: Final = "CUSTOM_"
# A request line of more than 8 KiB is refused by common proxies; a trait's name has up to 255 characters.
_NAMES_PER_REQUEST: Final = 25

NOT_ACCEPTABLE: Final = 406

Generation = int


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Gives the options of [placement], for oslo-config-generator: keystoneauth's own."""
    return openstack_adapter.list_opts(GROUP)


class PlacementClient:
    """Calls Placement and counts the requests (`requests`)."""

    def __init__(self, adapter: adapter.Adapter) -> None:
        self._adapter = adapter
        self._version: tuple[int, int] | None = None
        self._counting = threading.Lock()
        self.requests = 0

    @property
    def version(self) -> tuple[int, int]:
        """The microversion in use: the newest that both sides know, asked for once.

        Set it to what was negotiated before a restart to save the question. Raises PlacementError.
        """
        if self._version is None:
            self._version = self._negotiate()
        return self._version

    @version.setter
    def version(self, version: tuple[int, int] | None) -> None:
        self._version = version

    @property
    def negotiated(self) -> tuple[int, int] | None:
        """The microversion in use, or None if it was not asked for yet."""
        return self._version

    def tree(self, root: str) -> dict[str, Provider]:
        """Gives the providers of the tree in which `root` is, by UUID, without inventories and traits."""
        body = self._json("GET", f"/resource_providers?in_tree={root}")
        with understanding(body):
            return {raw["uuid"]: _provider(raw) for raw in body["resource_providers"]}

    def find(self, name: str) -> Provider | None:
        """Gives the provider called `name`, without inventories and traits."""
        body = self._json("GET", f"/resource_providers?{urlencode({'name': name})}")
        with understanding(body):
            return next((_provider(raw) for raw in body["resource_providers"]), None)

    def provider(self, uuid: str) -> Provider | None:
        """Gives one provider without inventories and traits; None if it is not there."""
        try:
            body = self._json("GET", f"/resource_providers/{uuid}")
        except errors.PlacementNotFound:
            return None
        with understanding(body):
            return _provider(body)

    def create(self, provider: Provider) -> Generation:
        """Creates an empty provider. Raises PlacementConflict if its name or UUID is taken."""
        body = {"uuid": provider.uuid, "name": provider.name}
        if provider.parent is not None:
            body["parent_provider_uuid"] = provider.parent
        answer = self._json("POST", "/resource_providers", body)
        with understanding(answer):
            return int(answer["generation"])

    def update(self, provider: Provider) -> None:
        """Sets name and parent; the parent of an existing provider only from microversion 1.37 on."""
        body = {"name": provider.name, "parent_provider_uuid": provider.parent}
        self._json("PUT", f"/resource_providers/{provider.uuid}", body)

    def inventories(self, uuid: str) -> tuple[Generation, dict[str, Inventory]]:
        """Gives a provider's generation and inventories by resource class."""
        body = self._json("GET", f"/resource_providers/{uuid}/inventories")
        with understanding(body):
            raws = body["inventories"]
            inventories = {name: Inventory(**{key: raws[name][key] for key in _FIELDS}) for name in raws}
            return int(body["resource_provider_generation"]), inventories

    def set_inventories(self, uuid: str, generation: Generation, inventories: Mapping[str, Inventory]) -> Generation:
        """Replaces a provider's inventories.

        Raises PlacementConflict: code `placement.concurrent_update` if the generation is old,
        `placement.inventory.inuse` if a class that is left out has allocations.
        """
        body = {
            "resource_provider_generation": generation,
            "inventories": _raw_inventories(inventories),
        }
        answer = self._json("PUT", f"/resource_providers/{uuid}/inventories", body)
        with understanding(answer):
            return int(answer["resource_provider_generation"])

    def reshape(
        self,
        inventories: Mapping[str, tuple[Generation, Mapping[str, Inventory]]],
        allocations: Mapping[str, Any] | None = None,
    ) -> None:
        """Replaces the inventories of several providers, and whole consumers' `allocations`, all or nothing.

        Placement does not check here that reserved <= total. The role `service` is needed, from
        microversion 1.30 on. Raises PlacementConflict, PlacementDenied.

        `allocations` are in the form of microversion 1.37: from 1.38 on they would need a consumer type,
        which Nova's consumers have not ("unknown", which Placement gives but does not take).
        """
        # Sorted: two reshapes of the same providers in different order deadlock in the database.
        body = {
            "inventories": {
                uuid: {"resource_provider_generation": generation, "inventories": _raw_inventories(wanted)}
                for uuid, (generation, wanted) in sorted(inventories.items())
            },
            "allocations": dict(allocations or {}),
        }
        self._json("POST", "/reshaper", body, newest=UNTYPED)

    def delete(self, uuid: str) -> None:
        """Deletes a provider with its inventories and traits.

        Raises PlacementConflict if it has allocations or children, PlacementNotFound if it is gone.
        """
        self._json("DELETE", f"/resource_providers/{uuid}")

    def consumers(self, uuid: str) -> tuple[str, ...]:
        """Gives the UUIDs of the consumers that hold allocations of a provider."""
        body = self._json("GET", f"/resource_providers/{uuid}/allocations")
        with understanding(body):
            return tuple(sorted(body["allocations"]))

    def holding(self, uuid: str) -> tuple[Generation, dict[str, dict[str, int]]]:
        """Gives a provider's generation, and what each consumer holds of it: amounts by UUID and resource class."""
        body = self._json("GET", f"/resource_providers/{uuid}/allocations")
        with understanding(body):
            held = {consumer: dict(each["resources"]) for consumer, each in body["allocations"].items()}
            return int(body["resource_provider_generation"]), held

    def usages(self, uuid: str) -> dict[str, int]:
        """Gives how much of each resource class of a provider is held by consumers."""
        body = self._json("GET", f"/resource_providers/{uuid}/usages")
        with understanding(body):
            return dict(body["usages"])

    def allocations(self, consumer: str) -> Any:
        """Gives all that a consumer holds, as Placement says it: allocations, generation, project, user, type."""
        return self._json("GET", f"/allocations/{consumer}")

    def traits(self, uuid: str) -> tuple[Generation, frozenset[str]]:
        """Gives a provider's generation and traits."""
        body = self._json("GET", f"/resource_providers/{uuid}/traits")
        with understanding(body):
            return int(body["resource_provider_generation"]), frozenset(body["traits"])

    def set_traits(self, uuid: str, generation: Generation, traits: Iterable[str]) -> Generation:
        """Replaces a provider's traits. Raises PlacementConflict if the generation is old."""
        body = {"resource_provider_generation": generation, "traits": sorted(traits)}
        answer = self._json("PUT", f"/resource_providers/{uuid}/traits", body)
        with understanding(answer):
            return int(answer["resource_provider_generation"])

    def ensure_traits(self, names: Iterable[str]) -> None:
        """Makes sure that the custom ones of `names` exist: one question for all, one request per new one."""
        wanted = sorted(name for name in names if name.startswith(_CUSTOM))
        for start in range(0, len(wanted), _NAMES_PER_REQUEST):
            some = wanted[start : start + _NAMES_PER_REQUEST]
            body = self._json("GET", f"/traits?{urlencode({'name': 'in:' + ','.join(some)})}")
            with understanding(body):
                missing = sorted(set(some) - set(body["traits"]))
            for name in missing:
                self._json("PUT", f"/traits/{quote(name)}")

    def ensure_resource_class(self, name: str) -> None:
        """Makes sure that the resource class exists, if it is a custom one."""
        if name.startswith(_CUSTOM):
            self._json("PUT", f"/resource_classes/{quote(name)}")

    def allocation_candidates(self, query: str) -> Any:
        """Gives Placement's answer to a scheduler's question, as it is."""
        return self._json("GET", f"/allocation_candidates?{query}")

    def _negotiate(self) -> tuple[int, int]:
        body = understood("GET", "/", self._send("GET", "/", None, None))
        with understanding(body, self._where()):
            newest = _version(body["versions"][0]["max_version"])
        if newest < OLDEST:
            spoken = "{}.{}".format(*newest)
            raise errors.PlacementRejected(f"Placement speaks up to {spoken} only; 1.26 (Rocky) is needed")
        return min(newest, NEWEST)

    def _json(self, method: str, path: str, body: object = None, *, newest: tuple[int, int] = NEWEST) -> Any:
        """Sends one request, at `newest` at most, and gives the JSON answer, None for an empty one.

        Raises PlacementError.
        """
        response = self._send(method, path, body, min(self.version, newest))
        if response.status_code == NOT_ACCEPTABLE:
            # Remembered from another Placement, or it was set back to an older release.
            self._version = self._negotiate()
            response = self._send(method, path, body, min(self._version, newest))
        return understood(method, path, response)

    def _send(self, method: str, path: str, body: object, version: tuple[int, int] | None) -> requests.Response:
        with self._counting:
            self.requests += 1
        try:
            return self._adapter.request(
                path,
                method,
                json=body,
                microversion="{}.{}".format(*version) if version else None,
                raise_exc=False,
                headers={"Accept": "application/json"},
            )
        except (ksa.Unauthorized, ksa.Forbidden, ksa.AuthPluginException, ksa.AuthorizationFailure) as error:
            text = f"the credentials of [placement] are refused or incomplete: {cause(error)}"
            raise errors.PlacementDenied(text, status=401) from None
        except (ksa.EndpointNotFound, ksa.CatalogException) as error:
            raise errors.PlacementUnreachable(
                f"no placement endpoint is known: none in the service catalog for [placement] region_name and "
                f"valid_interfaces, and neither endpoint_override nor endpoint is set ({cause(error)})"
            ) from None
        except (ksa.ClientException, requests.RequestException, OSError) as error:
            text = f"Placement cannot be reached: {cause(error)} ([placement] endpoint_override, auth_url)"
            raise errors.PlacementUnreachable(text) from None

    def _where(self) -> str:
        return str(self._adapter.get_endpoint() or "the [placement] endpoint")


def from_conf(conf: Any) -> PlacementClient:
    """Makes a client from [placement]. Raises ConfigurationError."""
    return PlacementClient(_from_conf(conf))


def tokens(conf: Any) -> Any:
    """Gives what has the tokens of the user in [placement]: `get_token()` and `invalidate()`.

    Raises ConfigurationError.
    """
    return _from_conf(conf)


def _from_conf(conf: Any) -> adapter.Adapter:
    found = openstack_adapter.from_conf(conf, GROUP, SERVICE_TYPE, _TIMEOUT)
    if found is None:
        raise errors.ConfigurationError(
            "[placement] auth_type is not set: devagent.conf must say how to reach Placement, as nova.conf does"
        )
    return found


def from_token(url: str, token: str, roles: str | None = None) -> PlacementClient:
    """Makes a client with a fixed endpoint and token.

    `roles` goes out as X-Roles, which only a Placement without Keystone (noauth2) believes.
    """
    headers = {"X-Roles": roles} if roles else {}
    own_session = session.Session(auth=token_endpoint.Token(url, token), timeout=_TIMEOUT, additional_headers=headers)
    return PlacementClient(adapter.Adapter(own_session, service_type=SERVICE_TYPE))


def _provider(raw: Mapping[str, Any]) -> Provider:
    return Provider(raw["uuid"], raw["name"], raw["parent_provider_uuid"], generation=raw["generation"])


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _raw_inventories(inventories: Mapping[str, Inventory]) -> dict[str, dict[str, float]]:
    return {name: {key: getattr(inventory, key) for key in _FIELDS} for name, inventory in sorted(inventories.items())}
