# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent goes by: what is wrong with it is known before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.errors import ConfigurationError
from devagent.service import settings


def read(folder: Path, text: str) -> settings.Settings:
    path = folder / "devagent.conf"
    path.write_text(text)
    return settings.read([str(path)])


def test_a_socket_whose_path_the_kernel_would_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\[api\] unix_socket: .* has more than 107 bytes"):
        read(tmp_path, f"[api]\nunix_socket = /{'x' * 107}\n")
    assert read(tmp_path, f"[api]\nunix_socket = /{'x' * 106}\n").socket == Path("/" + "x" * 106)


@pytest.mark.parametrize(("section", "option"), [("DEFAULT", "state_path"), ("images", "directory")])
def test_a_path_that_depends_on_where_it_was_started_is_refused(tmp_path: Path, section: str, option: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"\[{section}\] {option}: 'here' is no absolute path"):
        read(tmp_path, f"[{section}]\n{option} = here\n")
