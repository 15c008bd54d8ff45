# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon as its unit starts it, under a real systemd, on a real kernel, with a real Placement."""

from __future__ import annotations

import json
import signal

from .cards import gpu, qat
from .daemon import START_S, UNIT, Daemon
from .guest import PCI

QATS = """
- name: qats
  match: {vendor: "8086", device: "4940"}
  mode: vf
  vf_count: 16
"""
GPUS = """
- name: gpus
  match: {kind: gpu}
  mode: whole
"""


def test_vfs_are_made_before_anything_is_published_and_a_restart_changes_nothing(daemon: Daemon) -> None:
    card = daemon.guest.plug(qat(vfs=16))
    daemon.guest.plug(gpu(numa=1))
    daemon.configure(QATS + GPUS)
    daemon.start()
    assert _vfs(daemon, card) == 16
    provider = daemon.provider(card)
    assert provider["inventories"]["CUSTOM_QAT_VF"]["total"] == 16
    # Made, traits, inventory: what stood there first was not changed afterwards.
    assert provider["generation"] == 2
    lines = daemon.journal(f"DEVAGENT_DEVICE={card}").splitlines()
    assert lines
    assert all(line.startswith(f"[{card}] ") for line in lines)

    daemon.reported()
    before = daemon.cloud.tree()
    assert len(before) == 5
    daemon.systemctl("restart", UNIT)
    report = daemon.reported()
    assert (report["requests"], report["changes"]) == (1, 0)
    assert daemon.cloud.tree() == before


def test_the_daemon_is_well_and_says_so(daemon: Daemon) -> None:
    daemon.configure(GPUS)
    daemon.start()
    daemon.reported()
    shown = daemon.guest.run("devagent", "status", "-o", "json", check=False)
    assert (shown.code, shown.err) == (0, "")
    status = json.loads(shown.out)
    assert (status["state"], status["reasons"]) == ("running", [])
    assert {loop["state"] for loop in status["loops"]} == {"ok"}
    assert status["pid"] == int(daemon.show("MainPID"))
    assert daemon.show("StatusText") != ""
    held = {each["name"]: int(_field(daemon, each["pid"], "CapPrm"), 16) for each in status["processes"]}
    # CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE and CAP_SYSLOG; the privileged process has CAP_DAC_OVERRIDE and CAP_NET_ADMIN
    # besides.
    look = 1 << 2 | 1 << 19 | 1 << 34
    assert held == {"agent": 0, "privileged": look | 1 << 1 | 1 << 12, "look": look}
    assert {_field(daemon, each["pid"], "Uid") for each in status["processes"]} == {
        daemon.guest.run("id", "-u", "devagent").out.strip()
    }


def test_what_is_plugged_in_is_offered_and_what_is_pulled_out_in_use_is_withdrawn(daemon: Daemon) -> None:
    daemon.configure(GPUS)
    daemon.start()
    card = daemon.guest.plug(gpu(serial=1))
    provider = daemon.provider(card)
    assert provider["inventories"]["PGPU"]["total"] == 1
    assert daemon.status()["scan"]["kind"] == "partial"
    consumer = daemon.cloud.allocate(provider["uuid"], PGPU=1)
    daemon.guest.unplug(card)
    daemon.until(lambda: daemon.provider(card)["inventories"]["PGPU"]["reserved"] == 1, "the lost GPU is withdrawn")
    assert daemon.cloud.allocations(consumer) == {provider["uuid"]: {"PGPU": 1}}
    assert daemon.status()["scan"]["kind"] == "partial"


def test_a_gpu_is_fenced_by_what_its_driver_writes_in_the_kernel_log_until_an_operator_clears_it(
    daemon: Daemon,
) -> None:
    card = daemon.guest.plug(gpu())
    daemon.configure(GPUS)
    daemon.start()
    assert daemon.provider(card)["inventories"]["PGPU"]["reserved"] == 0
    slot = card.rpartition(".")[0]
    daemon.guest.write("/dev/kmsg", f"NVRM: Xid (PCI:{slot}): 13, pid=1, Graphics Exception\n")
    daemon.guest.write("/dev/kmsg", f"NVRM: Xid (PCI:{slot}): 95, pid=1, Uncontained ECC error\n")
    daemon.until(lambda: daemon.provider(card)["inventories"]["PGPU"]["reserved"] == 1, "the GPU is fenced")
    assert "CUSTOM_DEVAGENT_UNHEALTHY" in daemon.provider(card)["traits"]
    (fenced,) = daemon.status()["fenced"]
    assert (fenced["address"], fenced["state"]) == (card, "unhealthy")
    daemon.ask(f"/v1/health/{card}", "DELETE")
    daemon.until(lambda: daemon.provider(card)["inventories"]["PGPU"]["reserved"] == 0, "the GPU is offered again")


def test_a_reload_puts_a_changed_policy_in_force_and_keeps_the_old_one_if_it_is_wrong(daemon: Daemon) -> None:
    card = daemon.guest.plug(gpu())
    daemon.configure(GPUS)
    daemon.start()
    pid = daemon.show("MainPID")
    assert "CUSTOM_GOLD" not in daemon.provider(card)["traits"]
    daemon.configure(GPUS + "  traits: [CUSTOM_GOLD]\n")
    daemon.systemctl("reload", UNIT)
    daemon.until(lambda: "CUSTOM_GOLD" in daemon.provider(card)["traits"], "the new trait is there")
    daemon.configure(GPUS + "  trades: [CUSTOM_GOLD]\n")
    daemon.systemctl("reload", UNIT)
    daemon.until(lambda: "trades" in str(daemon.status()["configuration"]["error"]), "the mistake is told")
    assert "CUSTOM_GOLD" in daemon.provider(card)["traits"]
    assert (daemon.show("MainPID"), daemon.show("ActiveState")) == (pid, "active")


def test_a_daemon_that_stands_still_is_started_anew(daemon: Daemon) -> None:
    card = daemon.guest.plug(qat(vfs=16))
    daemon.configure(QATS)
    daemon.drop_in("[Service]\nWatchdogSec=10\nRestartSec=1\n")
    daemon.start()
    daemon.reported()
    before, pid = daemon.cloud.tree(), daemon.show("MainPID")
    daemon.guest.run("kill", f"-{signal.SIGSTOP.name}", pid)
    daemon.until(lambda: daemon.show("NRestarts") == "1", "the end of the one that stands still")
    daemon.until(lambda: daemon.show("ActiveState") == "active", "the next one is ready", START_S)
    assert daemon.show("MainPID") != pid
    daemon.reported()
    assert daemon.cloud.tree() == before
    assert daemon.provider(card)["inventories"]["CUSTOM_QAT_VF"]["total"] == 16


def test_a_wrong_configuration_is_told_and_not_tried_again(daemon: Daemon) -> None:
    daemon.configure(GPUS, "[inventory]\nscan_intervall = 3\n")
    assert daemon.guest.run("systemctl", "start", UNIT, check=False, timeout=120).code == 1
    assert (daemon.show("Result"), daemon.show("ExecMainStatus"), daemon.show("NRestarts")) == ("exit-code", "2", "0")
    said = "[inventory] scan_intervall: there is no such option (did you mean scan_interval?)"
    assert f"devagent: error: configuration: /etc/devagent/devagent.conf: {said}" in daemon.journal()


def _vfs(daemon: Daemon, address: str) -> int:
    return sum(name.startswith("virtfn") for name in daemon.guest.names(f"{PCI}/{address}"))


def _field(daemon: Daemon, pid: int, name: str) -> str:
    lines = daemon.guest.read(f"/proc/{pid}/status").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


PROBE = """
import errno, os, sys
from devagent import privileged

sys.stderr = sys.stdout
helper = privileged.start({})
print("vfs", helper.call("set_vf_count", 60.0, address=sys.argv[1], count=16))
print("vfs", helper.call("set_vf_count", 60.0, address=sys.argv[1], count=0))
helper.stop()


def attempt(path, flags):
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "opened"


for path in ("/etc/passwd", "/usr/bin/devagent", "/boot", "/root/x", "/var/lib/nova", "/dev/vda", "/dev/mem"):
    print(path, attempt(path, os.O_WRONLY))
for path in ("/dev/kmsg", "/dev/vda"):
    print("read", path, attempt(path, os.O_RDONLY))
print("done")
"""


def test_the_sandbox_lets_every_verb_work_and_nothing_else_be_written(daemon: Daemon) -> None:
    """Runs a program of the test in the unit as it is shipped, instead of the daemon."""
    card = daemon.guest.plug(qat(vfs=16))
    probe = daemon.guest.put("/usr/local/bin/probe.py", PROBE)
    daemon.drop_in(
        "[Service]\nType=oneshot\nRestart=no\nExecStart=\nEnvironment=PYTHONPATH=/opt/devagent/lib\n"
        f"ExecStart=/usr/bin/python3 {probe} {card}\n"
    )
    daemon.start()
    lines = daemon.journal().splitlines()
    assert "done" in lines
    assert [line for line in lines if line.startswith("vfs")] != []
    written = {line.split()[0]: line.split()[1] for line in lines if line.startswith("/")}
    assert set(written.values()) <= {"EROFS", "EPERM", "EACCES", "EISDIR", "ENOENT"}
    assert (written["/etc/passwd"], written["/usr/bin/devagent"]) == ("EROFS", "EROFS")
    assert (written["/dev/vda"], written["/dev/mem"]) == ("EPERM", "EPERM")
    assert "read /dev/kmsg opened" in lines
    assert "read /dev/vda EPERM" in lines
