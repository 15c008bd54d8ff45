# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What FPGAs are programmed with, and what is refused before anything is touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devagent.model.claim import FpgaFacts, Mode
from devagent.model.plan import Arguments, Step
from devagent.model.preparation import RefusalKind
from devagent.prepare.treatment import Scrub, Treatment
from devagent.prepare.view import Bitstream

from .scenes import Machine, described_host

N3000, D5005, CVP = "0000:18:00.0", "0000:b3:00.0", "0000:b4:00.0"
INTERFACE, OTHER = "f3c9941350814aadbced07eb84a6d0bb", "38d782e3b6125343b9342433e348ac4c"
GOOD, BLANK = "sha256:60", "sha256:00"


def fpga(blank: str | None = None, facts: FpgaFacts | None = None, address: str = N3000) -> Machine:
    devices = described_host("fpga")
    if facts is not None:
        devices = tuple(
            replace(each, claim=replace(each.claim, fpga=facts)) if each.address == address else each
            for each in devices
        )
    mode = Mode.VF if address == D5005 else Mode.WHOLE
    treatment = Treatment(mode, scrub=Scrub.FPGA_BLANK if blank else None, blank=blank)
    images = {"loopback": Bitstream(GOOD, INTERFACE), "other": Bitstream("sha256:07", OTHER)}
    if blank and address == N3000:
        images["blank"] = Bitstream(blank, INTERFACE)
    return Machine(devices, {address: treatment}, images)


def test_the_card_is_programmed_before_it_leaves_its_driver() -> None:
    machine = fpga()
    made = machine.planned(machine.group(N3000, bitstream="loopback"))
    image: Arguments = {"region": "region1", "port": 0, "digest": GOOD, "interface": INTERFACE}
    assert made.steps == (
        Step("program_fpga", N3000, image),
        Step("bind", N3000, {"driver": "vfio-pci"}, {"driver": "dfl-pci"}),
    )


def test_an_image_is_taken_back_by_the_blank_one() -> None:
    machine = fpga(BLANK)
    step = machine.planned(machine.group(N3000, bitstream="loopback")).steps[0]
    assert step.undo == {**step.arguments, "digest": BLANK}


def test_without_a_bitstream_the_card_is_given_as_it_is() -> None:
    machine = fpga()
    assert [step.verb for step in machine.planned(machine.group(N3000)).steps] == ["bind"]


def test_the_port_behind_a_vf_is_programmed_by_the_pf() -> None:
    facts = FpgaFacts(INTERFACE, ("region5",), ports=1)
    machine = fpga(facts=facts, address=D5005)
    (step,) = machine.planned(machine.group(D5005, bitstream="loopback")).steps
    assert (step.target, step.arguments["region"], step.arguments["port"]) == (D5005, "region5", 0)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (FpgaFacts(INTERFACE, ("region1",), ports=2), f"{D5005} has 2 ports: which is behind 0000:b3:00.1 is unknown"),
        (FpgaFacts(INTERFACE, ("region1", "region2")), f"{D5005} has 2 regions: which to program is unknown"),
        (FpgaFacts(None), f"{D5005} does not say its interface id: whether 'loopback' fits is unknown"),
        (FpgaFacts(OTHER), f"bitstream: 'loopback' is for interface {INTERFACE}, {D5005} has {OTHER}"),
    ],
)
def test_an_image_that_may_not_fit_is_refused(facts: FpgaFacts, reason: str) -> None:
    machine = fpga(facts=facts, address=D5005)
    refusal = machine.refused(machine.group(D5005, bitstream="loopback"))
    assert (refusal.kind, refusal.reason) == (RefusalKind.PERMANENT, reason)


def test_an_image_without_an_interface_id_fits_nothing() -> None:
    machine = fpga()
    machine = replace(machine, bitstreams={"loopback": Bitstream(GOOD)})
    assert machine.refused(machine.group(N3000, bitstream="loopback")).kind is RefusalKind.PERMANENT


def test_where_nothing_is_said_of_interfaces_the_fpga_decides() -> None:
    machine = fpga(facts=FpgaFacts(None, ("region9",)), address=CVP)
    machine = replace(machine, bitstreams={"raw": Bitstream(GOOD), "other": Bitstream(BLANK, OTHER)})
    step = machine.planned(machine.group(CVP, bitstream="raw")).steps[0]
    assert (step.verb, step.arguments["interface"]) == ("program_fpga", None)
    assert "does not say its interface id" in machine.refused(machine.group(CVP, bitstream="other")).reason


def test_a_region_that_says_its_interface_takes_no_image_that_does_not() -> None:
    machine = fpga(facts=FpgaFacts(INTERFACE, ("region9",)), address=CVP)
    machine = replace(machine, bitstreams={"raw": Bitstream(GOOD)})
    refusal = machine.refused(machine.group(CVP, bitstream="raw"))
    assert refusal.reason == f"bitstream: 'raw' does not say its interface, {CVP} has {INTERFACE}"


def test_an_xclbin_that_names_its_shell_alone_is_compared_when_it_is_programmed() -> None:
    machine = Machine(described_host("zoo"), bitstreams={"kernel": Bitstream(GOOD)})
    step = machine.planned(machine.group("0000:84:00.1", bitstream="kernel")).steps[0]
    assert step.arguments["interface"] == "c5d8d1a5ba0ba6b8a8e6d4d9a4b6bd2e"


def test_a_blank_image_for_another_card_wipes_nothing() -> None:
    machine = fpga(BLANK)
    machine = replace(machine, bitstreams={"blank": Bitstream(BLANK, OTHER)})
    refusal = machine.refused(machine.group(N3000))
    assert refusal.reason.endswith(f"and the image with which the policy wipes it is for {OTHER}")


def test_a_blank_image_that_dfl_would_not_take_is_known_beforehand() -> None:
    machine = fpga(BLANK)
    machine = replace(machine, bitstreams={"blank": Bitstream(BLANK)})
    refusal = machine.refused(machine.group(N3000))
    assert refusal.kind is RefusalKind.PERMANENT
    assert "the image with which the policy wipes it is no GBS" in refusal.reason


def test_a_card_that_could_not_be_wiped_afterwards_is_not_given() -> None:
    machine = fpga(BLANK, FpgaFacts(INTERFACE, ("region1", "region2")), D5005)
    refusal = machine.refused(machine.group(D5005))
    assert refusal.reason == f"{D5005} has 2 regions: which to program is unknown"


def test_a_card_on_vfio_cannot_be_programmed() -> None:
    machine = fpga()
    machine.drivers[N3000] = "vfio-pci"
    refusal = machine.refused(machine.group(N3000, bitstream="loopback"))
    assert refusal.reason == f"{N3000} is on vfio-pci: only its own driver can program it"


def test_an_unknown_image_is_a_mistake() -> None:
    machine = fpga()
    refusal = machine.refused(machine.group(N3000, bitstream="nothing"))
    assert (refusal.kind, refusal.reason) == (RefusalKind.INVALID, "bitstream: no image is called 'nothing'")


def test_only_an_fpga_takes_an_image() -> None:
    machine = Machine(described_host("gpu8"))
    refusal = machine.refused(machine.group("0000:19:00.0", bitstream="loopback"))
    assert (refusal.kind, refusal.reason) == (RefusalKind.INVALID, "bitstream: 0000:19:00.0 is no FPGA")


def test_an_alveo_is_programmed_by_the_management_pf_that_stays_with_the_host() -> None:
    image = Bitstream(GOOD, "c5d8d1a5ba0ba6b8a8e6d4d9a4b6bd2e")
    machine = Machine(described_host("zoo"), bitstreams={"kernel": image})
    made = machine.planned(machine.group("0000:84:00.1", bitstream="kernel"))
    assert [(step.verb, step.target) for step in made.steps] == [
        ("program_fpga", "0000:84:00.0"),
        ("bind", "0000:84:00.1"),
    ]
    assert {"pf:0000:84:00.0", "pf:0000:84:00.1"} <= set(made.locks)


def test_a_blank_image_and_its_use_go_together() -> None:
    with pytest.raises(ValueError, match="blank"):
        Treatment(Mode.WHOLE, scrub=Scrub.FPGA_BLANK)
    with pytest.raises(ValueError, match="blank"):
        Treatment(Mode.WHOLE, blank=BLANK)
