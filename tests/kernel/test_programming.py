# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""FPGAs are programmed by the kernel's own drivers: images that fit, that do not, and that the hardware refuses."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from unit.model.images import gbs, metadata

from .cards import altera, dfl
from .daemon import Daemon
from .guest import PCI, Guest, eventually
from .plan_steps import UNDO, bind, step, steps

Said = dict[str, Any]

INTERFACE = "f3c994130e6b4f2c9a3b8d6e7a1c0d11"
OTHER = "ce48969398f05f33946d560708be108a"
IMAGES = "/tmp/images"
FIRMWARE = "/lib/firmware/devagent"
DIRECTORY = "/etc/devagent/bitstreams"
CONSUMER = "5e1f0f6a-27d4-4a3c-9a3e-0c1d2e3f4a5b"
POLICY = """
- name: fpgas
  match: {{kind: fpga}}
  mode: whole
  prepare: {{scrub: fpga-blank, blank: "sha256:{}"}}
"""
GOOD, SECOND, BLANK, CRC_ERROR, HANGS = 0x11, 0x22, 0x1, 0xBAD00002, 0xDEAD0000


def afu(value: int) -> str:
    """Gives what the card says that it is after an image that ends in `value`."""
    return f"1ab0af0000000000{value:016x}"


def card_image(guest: Guest, value: int, interface: str = INTERFACE) -> str:
    """Gives the digest of an image whose programming ends as lab_pci.c says of `value`."""
    return put(guest, gbs_of(value, interface))


def put(guest: Guest, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    guest.call(_put, IMAGES, digest, data.hex())
    return digest


def program(card: str, digest: str, **more: Any) -> Said:
    wanted = {"region": None, "port": None, "interface": None, **more}
    return step("program_fpga", card, digest=digest, **wanted)


def loaded(guest: Guest, card: str) -> str:
    (port,) = guest.run("sh", "-c", f"echo {PCI}/{card}/fpga_region/*/dfl-port.*/afu_id").out.split()
    return guest.read(port)


def says(guest: Guest, card: str, value: int) -> bool:
    """Tells whether the port is enabled, and has the image that ends in `value`."""
    try:
        return loaded(guest, card) == afu(value)
    except (OSError, ValueError):  # the card is just bound anew
        return False


def heals(guest: Guest, card: str, digest: str) -> bool:
    """Tells whether an image can be programmed after one that failed; hardware that is a thread may be late itself."""
    wanted = program(card, digest, region="region1", port=0)
    return any(steps(guest, wanted)[0].get("holds") for _ in range(3))


def test_an_image_is_in_the_card_and_the_blank_one_takes_it_back(guest: Guest) -> None:
    card = guest.plug(dfl())
    good, blank = card_image(guest, GOOD), card_image(guest, BLANK)
    first = program(card, good, interface=INTERFACE, port=0)
    done, undone = steps(guest, first | {"back": {**first["arguments"], "digest": blank}}, UNDO)
    assert (done["holds"], done["before"]["digest"], undone["holds"]) == (True, blank, True)
    assert loaded(guest, card) == afu(BLANK)
    (again,) = steps(guest, program(card, good))
    assert (again["holds"], loaded(guest, card)) == (True, afu(GOOD))


def test_a_card_goes_to_a_machine_with_its_image_and_comes_back_blank(guest: Guest) -> None:
    card = guest.plug(dfl())
    good, blank = card_image(guest, GOOD), card_image(guest, BLANK)
    given = steps(guest, program(card, good, region="region1", port=0, interface=INTERFACE), bind(card, "vfio-pci"))
    assert all(each["holds"] for each in given)
    machine = guest.hold(card)
    (refused,) = steps(guest, program(card, blank))
    assert refused["reason"] == f"{card} is on vfio-pci: only its own driver can program it"
    machine.end()
    taken = steps(guest, bind(card, "dfl-pci"), program(card, blank), bind(card, "vfio-pci"), bind(card, "dfl-pci"))
    assert all(each["holds"] for each in taken)
    assert loaded(guest, card) == afu(BLANK)


def test_an_image_that_the_hardware_refuses_says_so_and_the_next_one_works(guest: Guest) -> None:
    card = guest.plug(dfl())
    good, bad = card_image(guest, GOOD), card_image(guest, CRC_ERROR)
    (failed,) = steps(guest, program(card, bad, port=0))
    assert (failed["error"], failed["kind"]) == ("StepFailed", "permanent")
    assert f"{card}: port 0: the card refused the image (input/output error; reconfig CRC error)" in failed["reason"]
    assert "its port stays disabled" in failed["reason"]
    # The kernel never enables the port again, though it says that this one has worked: dfl-pci was bound anew.
    assert heals(guest, card, good)
    assert loaded(guest, card) == afu(GOOD)


def test_an_image_that_hangs_the_hardware_ends_with_the_kernels_patience(guest: Guest) -> None:
    card, other = guest.plug(dfl()), guest.plug(dfl(numa=1))
    hangs, good = card_image(guest, HANGS), card_image(guest, GOOD)
    failed, elsewhere = steps(guest, program(card, hangs, port=0), program(other, good, port=0))
    assert failed["error"] == "StepFailed"
    assert "the card did not finish in its time" in failed["reason"]
    assert failed["took"] > 4
    assert elsewhere.get("holds"), elsewhere
    assert heals(guest, card, good)
    assert loaded(guest, card) == afu(GOOD)


def test_what_does_not_fit_never_reaches_the_card(guest: Guest) -> None:
    card = guest.plug(dfl())
    before = loaded(guest, card)
    wrong, good, raw = card_image(guest, GOOD, OTHER), card_image(guest, GOOD), put(guest, b"\xff" * 64)
    damaged = put(guest, gbs(b"", metadata(INTERFACE)))
    forged = card_image(guest, SECOND)
    guest.call(_put, IMAGES, forged, b"something else".hex())
    said = steps(
        guest,
        program(card, wrong),
        program(card, good, interface=OTHER),
        program(card, good, port=1),
        program(card, raw),
        program(card, damaged),
        program(card, forged),
        program(card, "0" * 64),
    )
    reasons = [each["reason"] for each in said]
    assert [each["kind"] for each in said] == ["permanent", "retry", "permanent", "permanent", "permanent"] + [
        "retry"
    ] * 2
    assert f"has the interface {INTERFACE}, its image is for {OTHER}" in reasons[0]
    assert f"has the interface {INTERFACE} now, and not {OTHER}" in reasons[1]
    assert "has 1 ports, and none with the number 1" in reasons[2]
    assert "is no GBS" in reasons[3]
    assert "ends before its data begins" in reasons[4]
    assert "is not what its name says" in reasons[5]
    assert "must be fetched" in reasons[6]
    assert loaded(guest, card) == before


def test_a_card_that_somebody_works_with_is_left_alone(guest: Guest) -> None:
    card = guest.plug(dfl())
    before, good = loaded(guest, card), card_image(guest, GOOD)
    (port,) = guest.run("sh", "-c", f"cd {PCI}/{card}/fpga_region/*/ && echo dfl-port.*").out.split()
    user = guest.start("sh", "-c", f"exec sleep 1000 < /dev/{port}")
    eventually(lambda: guest.link(f"/proc/{user.pid}/fd/0") == port)
    (refused,) = steps(guest, program(card, good))
    assert (refused["kind"], refused["holders"]) == ("retry", [[user.pid, "sleep"]])
    assert f"port 0 is in use: process {user.pid} has /dev/{port} open" in refused["reason"]
    assert loaded(guest, card) == before
    user.end()
    (done,) = steps(guest, program(card, good))
    assert done["holds"]


def test_a_plain_fpga_manager_is_programmed_by_its_file_firmware(guest: Guest) -> None:
    card = guest.plug(altera())
    (manager,) = guest.names(f"{PCI}/{card}/fpga_manager")
    place = f"{PCI}/{card}/fpga_manager/{manager}"
    interface = f"1ab0c0de00000000000000000000{card_id(guest, card)}"
    guest.run("mkdir", "-p", FIRMWARE)
    good, bad, other = put(guest, b"\x55" * 5000), put(guest, b"BAD" + bytes(100)), put(guest, gbs())
    wrapped = put(guest, gbs(b"\x66" * 3000, metadata(interface)))
    done, refused, again, unfit = steps(
        guest,
        program(card, good, interface=interface),
        program(card, bad),
        program(card, wrapped, interface=interface),
        program(card, other),
    )
    assert (done["holds"], again["holds"]) == (True, True)
    assert (refused["kind"], unfit["kind"]) == ("permanent", "permanent")
    assert f"{card}: it does not take the image (invalid argument); it says: " in refused["reason"]
    assert "write init error, reconfig incompatible image" in refused["reason"]
    assert f"its image is for {OTHER}" in unfit["reason"]
    assert guest.read(f"{place}/lab_loaded").split()[::2] == ["3000", "2"]
    assert guest.names(FIRMWARE) == []


def test_the_daemon_gives_a_card_with_its_consumers_image_and_takes_it_back_blank(daemon: Daemon) -> None:
    guest = daemon.guest
    card = guest.plug(dfl())
    blank = hashlib.sha256(gbs_of(BLANK)).hexdigest()
    daemon.configure(POLICY.format(blank), "[prepare]\ncheck_allocations = false\n")
    for name, value in (("tenant.gbs", GOOD), ("bad.gbs", CRC_ERROR), ("blank.gbs", BLANK)):
        data = gbs_of(value)
        guest.call(_put, DIRECTORY, name, data.hex())
        guest.call(_put, DIRECTORY, f"{name}.sha256", f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode().hex())
    daemon.start()
    provider = daemon.provider(card)["uuid"]

    def wanted(image: str) -> Said:
        return {"groups": [{"provider": provider, "resources": {"FPGA": 1}, "properties": {"bitstream": image}}]}

    path = f"/v1/preparations/{CONSUMER}"
    refused = guest.call(_put_call, path, json.dumps(wanted("bad.gbs")))
    assert "the card refused the image" in refused[1], refused
    # What went wrong is undone, if need be by the agent's later tries, and the port works again.
    eventually(lambda: says(guest, card, BLANK), 120)
    given = daemon.ask(path, "PUT", wanted("tenant.gbs"))
    assert [handle["address"] for handle in given["handles"]] == [card]
    assert guest.link(f"{PCI}/{card}/driver") == "vfio-pci"
    daemon.ask(path, "DELETE")
    assert guest.link(f"{PCI}/{card}/driver") == "dfl-pci"
    assert loaded(guest, card) == afu(BLANK)


def gbs_of(value: int, interface: str = INTERFACE) -> bytes:
    return gbs(bytes(60) + struct.pack("<I", value), metadata(interface, afu(value)))


def _put_call(path: str, body: str) -> tuple[int, str]:
    """Runs in the guest."""
    import http.client  # noqa: PLC0415 - there nothing of this module is imported
    import socket  # noqa: PLC0415

    connection = http.client.HTTPConnection("localhost", timeout=50)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/devagent/devagent.sock")
    connection.request("PUT", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def card_id(guest: Guest, card: str) -> str:
    return guest.read(f"{PCI}/{card}/device").removeprefix("0x")


def _put(folder: str, name: str, data: str) -> None:
    """Runs in the guest: puts an image where the agent's cache would have it."""
    Path(folder).mkdir(mode=0o755, exist_ok=True)
    Path(folder, name).write_bytes(bytes.fromhex(data))
    Path(folder, name).chmod(0o644)
