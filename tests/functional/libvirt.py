# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A real libvirtd for itself, which starts real domains (QEMU, without KVM) and calls the hooks of one folder.

libvirt looks for hooks in /etc/libvirt/hooks alone: it runs where other folders are mounted over that and the others
that it writes to, in a PID namespace of its own, with which all that it has started ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 60.0
PLACES: Final = ("etc/libvirt", "var/lib/libvirt", "var/log/libvirt", "var/cache/libvirt")
DAEMON: Final = 'unix_sock_dir = "{folder}"\nauth_unix_rw = "none"\nlog_outputs = "3:file:{folder}/libvirtd.log"\n'
QEMU: Final = """
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
START: Final = """
set -e
cd "$1"
for place in {places}; do mkdir -p "/$place" && mount --bind "$place" "/$place"; done
for file in passwd group; do mount --bind "$file" "/etc/$file"; done
mount -t tmpfs none /run
libvirtd -f "$1/libvirtd.conf" & wait
"""
DOMAIN: Final = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uid}</uuid>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}</devices>
</domain>
"""


def missing() -> str | None:
    """Says why there can be no libvirtd here."""
    if os.geteuid():
        return "libvirtd is started by root alone"
    lacking = [each for each in ("libvirtd", "virsh", "qemu-system-x86_64", "unshare") if not shutil.which(each)]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    tried = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "there can be no namespaces here"


class Libvirt:
    """What `virsh` does with the libvirtd whose files are below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def virsh(self, *arguments: str, fails: bool = False) -> str:
        """Runs one command and gives what it says: on standard error if it `fails`."""
        uri = f"qemu:///system?socket={self.folder}/libvirt-sock"
        command = ["virsh", "--quiet", "--connect", uri, *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert (ran.returncode != 0) is fails, f"{arguments}: {ran.returncode} {ran.stdout} {ran.stderr}"
        return ran.stderr if fails else ran.stdout

    def define(self, name: str, uid: str, devices: str = "") -> None:
        """Makes a domain, or replaces it."""
        path = self.folder / f"{name}.xml"
        path.write_text(DOMAIN.format(name=name, uid=uid, devices=devices))
        self.virsh("define", str(path))

    def state(self, name: str) -> str:
        """Gives `running`, `shut off`, ..."""
        return self.virsh("domstate", name).strip()

    def kill(self, name: str) -> None:
        """Kills a domain's QEMU."""
        found = (each for each in Path("/proc").glob("[0-9]*/cmdline") if f"guest={name}," in _text(each))
        os.kill(int(next(found).parent.name), signal.SIGKILL)


@contextmanager
def running(folder: Path, hook: str) -> Iterator[Libvirt]:
    """Runs one below `folder`, with a script as its hook: which there are libvirt looks for when it starts."""
    for place in PLACES:
        (folder / place).mkdir(parents=True)
    libvirt = Libvirt(folder)
    hooks = folder / "etc/libvirt/hooks/qemu.d"
    hooks.mkdir(parents=True)
    (hooks / "devagent").write_text(hook)
    (hooks / "devagent").chmod(0o755)
    for file in ("passwd", "group"):  # Debian's package with the system's libvirtd makes this user, which is not here
        text = Path(f"/etc/{file}").read_text()
        (folder / file).write_text(f"{text}libvirt-qemu:x:64055:{'64055::/:/bin/false' if file == 'passwd' else ''}\n")
    (folder / "libvirtd.conf").write_text(DAEMON.format(folder=folder))
    (folder / "etc/libvirt/qemu.conf").write_text(QEMU)
    script = START.format(places=" ".join(PLACES))
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen([*own, "sh", "-c", script, "sh", str(folder)]) as process:
        try:
            _wait_for(libvirt, process)
            yield libvirt
        finally:
            process.kill()


def _wait_for(libvirt: Libvirt, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    uri = f"qemu:///system?socket={libvirt.folder}/libvirt-sock"
    while subprocess.run(["virsh", "-c", uri, "version"], capture_output=True, check=False).returncode:
        log = libvirt.folder / "libvirtd.log"
        assert process.poll() is None and time.monotonic() < end, f"libvirtd: {_text(log)}"
        time.sleep(0.1)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
