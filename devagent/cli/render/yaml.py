# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`-o yaml`: the document of `-o json`, as YAML."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from devagent.document import document
from devagent.view import Look


def render(seen: Look) -> str:
    """Gives the document as text; the same host always gives the same text."""
    return dumped(document(seen))


def dumped(document: Any) -> str:
    """Gives a document of `-o json` as YAML, in the order of its keys, escaped to ASCII."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=False).rstrip("\n")


# A name that is no UTF-8 holds them; unlike JSON, YAML has no way to write them.
_LONE: Final = re.compile("[\ud800-\udfff]")


class _Dumper(yaml.SafeDumper):
    """Writes what stands in several places each time, without anchors, and enumerations as text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """Tells PyYAML to repeat what it has written before."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_str(_LONE.sub("\N{REPLACEMENT CHARACTER}", text))


_Dumper.add_representer(str, _text)
_Dumper.add_multi_representer(str, _text)
_Dumper.add_multi_representer(tuple, lambda dumper, items: dumper.represent_list(list(items)))
