# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the privileged process learns of the configuration: from the files themselves, never from the agent."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from devagent.errors import VerbFailed
from devagent.privileged import start
from devagent.service.command import _images

from ..worlds import Link, write

CARD = "0000:3b:00.0"


def test_images_are_looked_for_where_the_operator_keeps_the_state(tmp_path: Path) -> None:
    config = tmp_path / "devagent.conf"
    config.write_text(f"[DEFAULT]\nstate_path = {tmp_path}/kept\n")
    write(tmp_path, {f"sys/bus/pci/devices/{CARD}/driver": Link("../../drivers/dfl-pci"), "proc/": ""})
    privileged = start({}, root=str(tmp_path), images=partial(_images, (str(config),), ()))
    wanted = {"address": CARD, "region": None, "port": None, "digest": "a" * 64, "interface": None}
    try:
        with pytest.raises(VerbFailed, match=f"is not in {tmp_path}/kept/images"):
            privileged.call("program_fpga", 30.0, **wanted)
    finally:
        privileged.stop()
