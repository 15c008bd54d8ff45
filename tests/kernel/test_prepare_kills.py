# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed, reloaded and booted anew while devices are prepared, used and given back."""

from __future__ import annotations

import time
from collections.abc import Callable

from .cards import flex, gpu, gvt
from .daemon import UNIT, Daemon
from .guest import CONTROL
from .preparing import (
    GPU,
    GPU_VF,
    LONG_S,
    MDEVS,
    MEDIATED,
    SHARES,
    VGPU,
    WHOLE,
    Consumer,
    consumer,
    driver,
    kill,
    override,
    restarted,
    vfs,
)


def begun(daemon: Daemon, cards: tuple[str, str]) -> Consumer:
    """Starts the daemon for cards that give VFs and mediated devices; gives a consumer of two and one."""
    shared, mediated = cards
    daemon.configure(SHARES + MEDIATED)
    daemon.start()
    return consumer(daemon, {shared: {GPU_VF: 2}, mediated: {VGPU: 1}})


def keys(handles: list[dict[str, str]]) -> list[str]:
    return sorted(handle.get("uuid") or handle["address"] for handle in handles)


def is_given(daemon: Daemon, handles: list[dict[str, str]], pf: str) -> None:
    """Checks that the kernel shows what the handles say, and nothing more."""
    given = sorted(each["address"] for each in handles if each["type"] == "PCI")
    assert [vf for vf in vfs(daemon, pf) if driver(daemon, vf) == "vfio-pci"] == given
    assert daemon.guest.names(MDEVS) == sorted(each["uuid"] for each in handles if each["type"] == "MDEV")


def is_as_before(daemon: Daemon, pf: str) -> None:
    """Checks that nobody has anything."""
    assert daemon.guest.names(MDEVS) == []
    assert [(driver(daemon, vf), override(daemon, vf)) for vf in vfs(daemon, pf)] == [(None, "(null)")] * 4
    assert daemon.ask("/v1/preparations")["preparations"] == []


def test_who_is_killed_in_the_middle_of_it_prepares_the_same_when_asked_again(daemon: Daemon) -> None:
    cards = daemon.guest.plug(flex()), daemon.guest.plug(gvt())
    one = begun(daemon, cards)
    daemon.guest.write(f"{CONTROL}/delay_ms", "20000")
    asked = one.begin()
    daemon.until(lambda: _is_making(one), "a mediated device is being made")
    before = kill(daemon, "agent")
    assert daemon.answered(asked, LONG_S)[0] == 0
    daemon.guest.write(f"{CONTROL}/delay_ms", "0")
    restarted(daemon, before)
    handles = one.prepared()
    is_given(daemon, handles, cards[0])

    for who in ("unit", "privileged"):
        restarted_after_kill(daemon, who)
        assert keys(one.prepared()) == keys(handles)
        is_given(daemon, handles, cards[0])
    two = consumer(daemon, {cards[0]: {GPU_VF: 2}})
    assert not set(keys(two.prepared())) & set(keys(handles))
    two.released()
    daemon.begin(one.path, "DELETE")
    before = kill(daemon, "unit")
    restarted(daemon, before)
    one.released()
    is_as_before(daemon, cards[0])


def test_whenever_it_is_killed_nothing_is_given_twice_and_nothing_is_left(daemon: Daemon) -> None:
    cards = daemon.guest.plug(flex()), daemon.guest.plug(gvt())
    one = begun(daemon, cards)
    two = consumer(daemon, {cards[0]: {GPU_VF: 2}, cards[1]: {VGPU: 1}})
    one.prepared()
    one.released()  # the process that looks is there now: what comes next is quick
    for who, seconds in (("agent", 0.2), ("privileged", 0.5), ("unit", 1.0)):
        for each in (one, two):
            each.begin()
        time.sleep(seconds)
        restarted_after_kill(daemon, who)
        handles = [*one.prepared(), *two.prepared()]
        assert len(set(keys(handles))) == 6
        is_given(daemon, handles, cards[0])
        for each in (one, two):
            daemon.begin(each.path, "DELETE")
        time.sleep(seconds)
        restarted_after_kill(daemon, who)
        for each in (one, two):
            each.released()
        is_as_before(daemon, cards[0])


def test_a_reload_drops_no_call(daemon: Daemon) -> None:
    cards = daemon.guest.plug(flex()), daemon.guest.plug(gvt())
    one = begun(daemon, cards)
    pid = daemon.show("MainPID")
    daemon.guest.write(f"{CONTROL}/delay_ms", "20000")
    asked = one.begin()
    daemon.until(lambda: _is_making(one), "a mediated device is being made")
    daemon.systemctl("reload", UNIT)
    assert daemon.status()["configuration"]["error"] is None
    status, found = daemon.answered(asked, LONG_S)
    assert (status, daemon.show("MainPID")) == (200, pid)
    is_given(daemon, found["handles"], cards[0])
    daemon.guest.write(f"{CONTROL}/delay_ms", "0")
    one.released()
    is_as_before(daemon, cards[0])


def test_after_a_boot_nothing_is_prepared_until_somebody_asks(daemon: Daemon, boot: Callable[[], None]) -> None:
    whole, shared = daemon.guest.plug(gpu(numa=1)), daemon.guest.plug(flex())
    daemon.configure(WHOLE + SHARES)
    daemon.start()
    one = consumer(daemon, {whole: {GPU: 1}, shared: {GPU_VF: 2}})
    other = consumer(daemon, {shared: {GPU_VF: 1}})
    handles, others = one.prepared(), other.prepared()
    boot()
    assert (daemon.guest.plug(gpu(numa=1)), daemon.guest.plug(flex())) == (whole, shared)
    daemon.configure(WHOLE + SHARES)
    daemon.start()
    seen = one.seen()
    assert seen is not None
    assert (seen["state"], seen["handles"], seen["error"]["reason"]) == (
        "failed", [], "the host was rebooted meanwhile",
    )  # fmt: skip
    assert driver(daemon, whole) == "nouveau"
    assert [driver(daemon, vf) for vf in vfs(daemon, shared)] == [None] * 4
    other.released()
    assert keys(one.prepared()) == keys(handles)
    assert [vf for vf in vfs(daemon, shared) if driver(daemon, vf) == "vfio-pci"] == [
        key for key in keys(handles) if key != whole
    ]
    assert not set(keys(others)) & set(keys(handles))
    one.released()
    assert (driver(daemon, whole), override(daemon, whole)) == ("nouveau", "(null)")


def restarted_after_kill(daemon: Daemon, who: str) -> None:
    before = kill(daemon, who)
    restarted(daemon, before)


def _is_making(one: Consumer) -> bool:
    """Tells whether all but the mediated device is ready."""
    seen = one.seen()
    steps = {step["verb"]: step["done"] for step in seen["steps"]} if seen else {}
    return steps.get("create_mdev") is False and steps.get("bind") is True
