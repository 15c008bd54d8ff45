# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What was prepared hangs in the kernel, is pulled out, or belongs to nobody any more."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from .cards import flex, gpu, gvt
from .daemon import Daemon
from .guest import CONTROL
from .preparing import (
    GPU,
    GPU_VF,
    MDEVS,
    MEDIATED,
    SHARES,
    VGPU,
    WHOLE,
    consumer,
    driver,
    override,
    vfs,
)

HIDE = """
import os, socket, sys, time
sys.path.insert(0, "/tmp")
from executing import hide
kept = hide(sys.argv[1])
open(f"/tmp/hidden-{os.getpid()}", "w").close()
time.sleep(3600)
"""
SICK = "CUSTOM_DEVAGENT_UNHEALTHY"


def test_a_step_that_hangs_ends_in_time_and_its_device_is_stuck_until_it_ends(daemon: Daemon) -> None:
    whole, mediated = daemon.guest.plug(gpu(numa=1)), daemon.guest.plug(gvt())
    daemon.configure(WHOLE + MEDIATED, "[prepare]\ndeadline = 45\n")
    daemon.start()
    one, two = consumer(daemon, {mediated: {VGPU: 1}}), consumer(daemon, {whole: {GPU: 1}})
    two.prepared()
    two.released()
    daemon.guest.write(f"{CONTROL}/delay_ms", "150000")
    status, why = one.put()
    daemon.guest.write(f"{CONTROL}/delay_ms", "0")
    assert (status, "hangs in the kernel" in str(why)) == (503, True)
    assert two.address() == whole
    daemon.until(lambda: _reserved(daemon, mediated) == 16, "nobody new gets the GPU")
    assert SICK in daemon.provider(mediated)["traits"]
    assert [each["address"] for each in daemon.status()["stuck"]] == [mediated]
    assert [each["address"] for each in daemon.status()["fenced"]] == [mediated]
    assert _reserved(daemon, whole) == 0
    two.released()

    daemon.until(lambda: _reserved(daemon, mediated) == 0, "the GPU is offered again")
    assert daemon.status()["stuck"] == []
    assert SICK not in daemon.provider(mediated)["traits"]
    daemon.until(lambda: daemon.guest.names(MDEVS) == [], "what was half done is undone")
    (handle,) = one.prepared()
    assert daemon.guest.names(MDEVS) == [handle["uuid"]]
    one.released()
    assert daemon.guest.names(MDEVS) == []


def test_a_vf_that_hangs_while_it_is_taken_back_belongs_to_nobody_until_it_is_back(daemon: Daemon) -> None:
    """Who has it open is not seen, as if a machine had opened it just after it was looked for."""
    shared, whole = daemon.guest.plug(flex()), daemon.guest.plug(gpu(numa=1))
    daemon.configure(WHOLE + SHARES, "[prepare]\ndeadline = 90\n")
    daemon.start()
    one, two = consumer(daemon, {shared: {GPU_VF: 1}}), consumer(daemon, {whole: {GPU: 1}})
    vf = one.address()
    daemon.guest.put("/tmp/executing.py", Path(__file__).with_name("executing.py").read_text())
    hider = daemon.guest.start("python3", "-c", HIDE, vf)
    ready = f"/tmp/hidden-{hider.pid}"
    daemon.until(lambda: daemon.guest.run("test", "-e", ready, check=False).code == 0, "it is open")
    status, why = one.delete()
    assert (status, "hangs in the kernel" in str(why)) == (503, True)
    daemon.until(lambda: _reserved(daemon, shared) == 4, "nobody new gets a VF of it")
    assert [each["address"] for each in daemon.status()["stuck"]] == [vf]
    assert two.address() == whole
    hider.end()
    daemon.until(lambda: one.seen() is None, "it is given back")
    daemon.until(lambda: _reserved(daemon, shared) == 0, "its VFs are offered again")
    assert {(driver(daemon, each), override(daemon, each)) for each in vfs(daemon, shared)} == {(None, "(null)")}
    two.released()


def test_what_is_pulled_out_is_released_and_when_it_is_back_given_again(daemon: Daemon) -> None:
    whole, shared = daemon.guest.plug(gpu(numa=1, serial=1)), daemon.guest.plug(flex(serial=2))
    daemon.configure(WHOLE + SHARES)
    daemon.start()
    one, two = consumer(daemon, {whole: {GPU: 1}}), consumer(daemon, {shared: {GPU_VF: 2}})
    one.prepared()
    two.prepared()
    daemon.guest.unplug(whole)
    daemon.guest.unplug(shared)
    daemon.until(lambda: _reserved(daemon, whole) == 1, "the lost GPU is withdrawn")
    status, why = one.put()
    assert (status, "there is no such device" in str(why)) == (422, True)
    one.released()
    assert daemon.guest.plug(flex(serial=2)) == shared
    daemon.until(lambda: len(vfs(daemon, shared)) == 4, "its VFs are made again")
    daemon.until(lambda: _reserved(daemon, shared) == 0, "it is offered again")
    handles = two.prepared()
    assert {driver(daemon, each["address"]) for each in handles} == {"vfio-pci"}
    two.released()
    assert daemon.guest.plug(gpu(numa=1, serial=1)) == whole
    daemon.until(lambda: _reserved(daemon, whole) == 0, "it is offered again")
    assert one.address() == whole
    one.released()
    assert (driver(daemon, whole), override(daemon, whole)) == ("nouveau", "(null)")


def test_what_placement_knows_nobody_for_is_released_unless_it_is_open(daemon: Daemon) -> None:
    shared = daemon.guest.plug(flex())
    daemon.configure(SHARES, "[inventory]\nreconcile_interval = 5\n[health]\ninterval = 10\n")
    daemon.start()
    gone, used, moved, kept = (consumer(daemon, {shared: {GPU_VF: 1}}) for _ in range(4))
    addresses = {each.uuid: each.address() for each in (gone, used, moved, kept)}
    user = daemon.guest.hold(addresses[used.uuid])
    for each in (gone, used):
        daemon.cloud.call("DELETE", f"/allocations/{each.uuid}")
    daemon.until(lambda: gone.seen() is None, "who is gone has nothing", 600)
    assert driver(daemon, addresses[gone.uuid]) is None
    migration = _migrated(daemon, moved.uuid, str(uuid.uuid4()))
    hint = {"consumer": moved.uuid, "event": "instance.live_migration_post.end"}
    daemon.ask("/v1/hints", "POST", {"hints": [hint]})
    said = f"{moved.uuid} is kept: another consumer holds its devices in Placement, as while it is moved"
    daemon.until(lambda: said in daemon.journal(), "what its migration holds is kept")
    assert [driver(daemon, addresses[each.uuid]) for each in (used, moved, kept)] == ["vfio-pci"] * 3
    _migrated(daemon, migration, moved.uuid)
    user.end()
    daemon.until(lambda: used.seen() is None, "nobody has it open any more")
    assert driver(daemon, addresses[used.uuid]) is None
    assert [each.address() for each in (moved, kept)] == [addresses[each.uuid] for each in (moved, kept)]


def _reserved(daemon: Daemon, card: str) -> int:
    (inventory,) = daemon.provider(card)["inventories"].values()
    return int(inventory["reserved"])


def _migrated(daemon: Daemon, consumer_uuid: str, to: str) -> str:
    """Moves the allocations of a consumer to another one, as Nova does for a migration and for going back."""
    held: dict[str, Any] = daemon.cloud.call("GET", f"/allocations/{consumer_uuid}")
    allocations = {uid: {"resources": each["resources"]} for uid, each in held["allocations"].items()}
    common = {"project_id": held["project_id"], "user_id": held["user_id"], "consumer_type": "MIGRATION"}
    body = {
        to: {"allocations": allocations, "consumer_generation": None, **common},
        consumer_uuid: {"allocations": {}, "consumer_generation": held["consumer_generation"], **common},
    }
    daemon.cloud.call("POST", "/allocations", body)
    return to
