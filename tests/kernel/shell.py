# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A guest to look around in: `python -m tests.kernel.shell`, or with a command that runs there instead of a shell."""

from __future__ import annotations

import os
import selectors
import socket
import sys
import tempfile
import termios
import tty
from pathlib import Path

from .build import build, cache_folder
from .guest import Guest
from .machine import Kind
from .payload import payload

LEAVE = b"\x1d"
"""Ctrl-]"""


def main() -> None:
    """Boots a guest, serves the terminal, switches the guest off."""
    with tempfile.TemporaryDirectory(prefix="devagent-kernel-") as name:
        folder = Path(name)
        lab = build(_say)
        kind = Kind(iommu="--no-iommu" not in sys.argv, systemd="--systemd" in sys.argv)
        guest = Guest(lab, payload(lab, cache_folder(), folder, _say), folder, kind)
        try:
            command = [word for word in sys.argv[1:] if word not in ("--no-iommu", "--systemd")]
            if command:
                ran = guest.run(*command, check=False)
                sys.stdout.write(ran.out)
                sys.stderr.write(ran.err)
                sys.exit(ran.code)
            _say(f"up after {guest.booted:.0f} s; Ctrl-] ends it")
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(f"{folder}/shell")
                _serve(line)
        finally:
            guest.close()


def _say(text: str) -> None:
    sys.stderr.write(f"== kernel lab: {text}\n")


def _serve(line: socket.socket) -> None:
    """Joins the terminal to the guest's second serial port."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    line.sendall(b"\n")
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(terminal, selectors.EVENT_READ)
            selector.register(line, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    data = os.read(key.fd, 4096)
                    if not data or (key.fd == terminal and LEAVE in data):
                        return
                    if key.fd == terminal:
                        line.sendall(data)
                    else:
                        os.write(sys.stdout.fileno(), data)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


if __name__ == "__main__":
    main()
