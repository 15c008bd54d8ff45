# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the documents say of policies, flavors and Placement's answers, read so that a test can ask for the same."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from .cloud import Cloud

Query = tuple[tuple[str, str], ...]

# nova/scheduler/utils.py, ResourceRequest.XS_KEYPAT.
_GROUP = re.compile(r"(resources|trait)([a-zA-Z0-9_-]{1,64})?:(.*)")


def sections(text: str) -> dict[str, str]:
    """Gives the text below each heading `## ...` by the heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(text: str, language: str) -> list[str]:
    """Gives what stands in the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def flavors(text: str) -> dict[str, dict[str, str]]:
    """Gives the extra specs of each `openstack flavor set NAME --property KEY=VALUE ...`, by the flavor's name."""
    found = {}
    for command in re.findall(r"^openstack flavor set (.+)$", text.replace("\\\n", " "), re.MULTILINE):
        name, *rest = shlex.split(command)
        assert set(rest[::2]) == {"--property"}, command
        found[name] = dict(one.split("=", 1) for one in rest[1::2])
    return found


def query(extra_specs: Mapping[str, str]) -> Query:
    """Gives what Nova asks Placement for a flavor, less what every server wants of CPU, memory and disk."""
    asked: dict[str, list[str]] = {}
    for key, value in extra_specs.items():
        if key == "group_policy":
            asked[key] = [value]
            continue
        match = _GROUP.fullmatch(key)
        assert match is not None, key
        kind, suffix, name = match.groups()
        if kind == "resources":
            asked.setdefault(f"resources{suffix or ''}", []).append(f"{name}:{value}")
        else:
            asked.setdefault(f"required{suffix or ''}", []).append({"required": "", "forbidden": "!"}[value] + name)
    return tuple((key, ",".join(values)) for key, values in asked.items())


def written(query: Query) -> str:
    """Gives a query as it stands in the documents."""
    return f"GET /allocation_candidates?{urlencode(query, safe=':,_!<>')}"


def read(text: str) -> Query:
    """Gives the query of a line of the documents."""
    return tuple((key, value) for key, value in (one.split("=", 1) for one in text.partition("?")[2].split("&")))


def candidates(cloud: Cloud, query: Query) -> list[dict[str, Any]]:
    """Asks for those of this compute node alone, as Nova does for a server that is to be on one host."""
    groups = {key.removeprefix("resources") for key, _ in query if key.startswith("resources")}
    here = tuple((f"in_tree{group}", cloud.root) for group in sorted(groups) if f"in_tree{group}" not in dict(query))
    path = f"/allocation_candidates?{urlencode(query + here, safe=':,_!')}"
    return list(cloud.call("GET", path)["allocation_requests"])


def answer(cloud: Cloud, query: Query, hostname: str) -> str:
    """Gives Placement's answer in words: how many candidates, and the first of them by name."""
    listed = cloud.call("GET", f"/resource_providers?in_tree={cloud.root}")["resource_providers"]
    names = {raw["uuid"]: raw["name"] for raw in listed}
    found = candidates(cloud, query)
    if not found:
        return "-> no candidate"
    example = min(list(_lines(one, names)) for one in found)
    head = f"-> {len(found)} candidate{'s' if len(found) > 1 else ''}{', one of them:' if len(found) > 1 else ':'}"
    return "\n".join((head, *example)).replace(cloud.name, hostname)


def _lines(candidate: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[str]:
    for group, uuids in sorted(candidate["mappings"].items()):
        for uid in uuids:
            resources = candidate["allocations"].get(uid, {}).get("resources", {})
            amount = " ".join(f"{name}:{count}" for name, count in sorted(resources.items()))
            yield f"   {group or '(host)'}: {names[uid]}{f'  {amount}' if amount else ''}"


def shown(name: str, provider: Mapping[str, Any]) -> str:
    """Gives a provider as Placement has it: name, totals, what of it is reserved, and traits."""
    has = [name]
    for each, raw in sorted(provider["inventories"].items()):
        reserved = f" ({raw['reserved']} reserved)" if raw["reserved"] else ""
        has.append(f"{each} {raw['total']}{reserved}")
    traits = textwrap.wrap(" ".join(provider["traits"]), 100, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(("  ".join(has), *traits))
