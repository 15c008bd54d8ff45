# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent discover` on the capture of a virtual machine with a real kernel; tests/kernel/test_capture.py takes it.

Its golden files are written anew as those of the generated hosts are: see test_discover.py.
"""

from __future__ import annotations

import os

import pytest

from .conftest import FORMATS, GOLDEN, HOSTS, Devagent

GUEST = HOSTS / "guest.tar.xz"
PARTIAL = 4
"""NVIDIA's driver is loaded there, and its library is missing."""


@pytest.mark.parametrize("form", FORMATS)
def test_output_is_the_golden_one(devagent: Devagent, form: str) -> None:
    ran = devagent("discover", "--all", "--root", GUEST, "-o", form)
    assert (ran.code, ran.err) == (PARTIAL, "")
    golden = GOLDEN / f"guest.{form}"
    if os.environ.get("DEVAGENT_GOLDEN"):
        golden.write_text(ran.out)
    assert ran.out == golden.read_text()
