# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""An explanation says of each rule what does not fit, and never differs from what was decided."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from devagent.inventory.explain import ACTUAL, Tried, explain
from devagent.inventory.policy import devices, first_match, matches
from devagent.model.claim import Kind, Mode, NetFacts, NetInterface
from devagent.model.gpu import GpuFacts
from devagent.model.identity import Identity
from devagent.model.pci import Sriov, VirtualFunction
from devagent.model.policy import Match, Policy, Rule

from ..worlds import claim, decide, function, pf, rule, snapshot

# Few values, so that rules fit about as often as not.
SELECTORS: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from([(), (Kind.GPU,), (Kind.NIC, Kind.FPGA)]),
    "vendor": st.sampled_from([(), ("10de",), ("8086", "15b3")]),
    "device": st.sampled_from([(), ("20f1",), ("101d",)]),
    "class_code": st.sampled_from([(), ("0302",), ("02", "12")]),
    "address": st.sampled_from([(), ("0000:3b:*",), ("0000:4?:00.0",)]),
    "slot": st.sampled_from([(), ("0000:3b:00",), ("0000:4?:*",)]),
    "serial": st.sampled_from([(), ("GPU-*",), ("048*",)]),
    "driver": st.sampled_from([(), ("nvidia",), ("",), ("mlx5_*", "vfio-pci")]),
    "interface": st.sampled_from([(), ("ens*",), ("eno1", "eno2")]),
    "numa_node": st.sampled_from([(), (0,), (1, 2)]),
    "vfs": st.sampled_from([None, True, False]),
}
MATCHES = st.builds(Match, **SELECTORS)
FUNCTIONS = st.builds(
    lambda address, ids, driver, node, vfs: function(
        address, ids, driver=driver, numa_node=node, sriov=Sriov(8, None, (VirtualFunction(0, "0000:3b:01.0"),)[:vfs])
    ),
    st.sampled_from(["0000:3b:00.0", "0000:41:00.0"]),
    st.sampled_from(["10de:20f1", "15b3:101d"]),
    st.sampled_from([None, "nvidia", "mlx5_core"]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([0, 1]),
)
NETS = st.sampled_from([None, NetFacts(), NetFacts((NetInterface("ens1"),)), NetFacts((NetInterface("eno1"),))])


@given(st.lists(MATCHES, max_size=5), FUNCTIONS, st.sampled_from(list(Kind)), NETS)
def test_what_is_explained_is_what_was_decided(wanted: list[Match], one: Any, kind: Kind, net: NetFacts | None) -> None:
    rules = tuple(Rule(f"r{number}", each, Mode.WHOLE) for number, each in enumerate(wanted))
    told = (Identity("nvml", "GPU-1"),) if kind is Kind.GPU else ()
    said = claim(one, kind, net=net, identities=told)
    device = decide(snapshot(one), *rules, claims=[said])[one.address]
    explanation = explain(device, Policy(rules, "test"))
    first = first_match(Policy(rules, "test"), one, said)
    assert [not each.mismatches for each in explanation.tried] == [
        matches(each.match, one, said) for each in rules[: len(explanation.tried)]
    ]
    assert [each.rule for each in explanation.tried if not each.mismatches] == ([first.name] if first else [])
    assert explanation.untried == len(rules) - len(explanation.tried)
    assert first is not None or explanation.untried == 0


def test_every_selector_of_a_match_can_be_explained() -> None:
    assert set(ACTUAL) == set(SELECTORS) == {each.name for each in fields(Match)}


def test_each_selector_that_does_not_fit_is_named_as_the_policy_file_spells_it() -> None:
    nic = function(ids="8086:1572", class_code="020000", driver=None, numa_node=None)
    wanted = rule(
        kind=(Kind.GPU, Kind.FPGA),
        vendor=("10de",),
        device=("1572",),
        class_code=("03",),
        slot=("0000:41:00",),
        serial=("04*",),
        driver=("nvidia",),
        interface=("ens1",),
        numa_node=(1,),
        vfs=True,
    )
    device = decide(snapshot(nic), wanted, claims=[claim(nic, Kind.NIC)])[nic.address]
    (tried,) = explain(device, Policy((wanted,), "test")).tried
    assert list(map(str, tried.mismatches)) == [
        "kind: is nic, wanted gpu or fpga",
        "vendor: is 8086, wanted 10de",
        "class: is 020000, wanted 03",
        "slot: is 0000:3b:00, wanted 0000:41:00",
        "serial: is none, wanted 04*",
        "driver: is none, wanted nvidia",
        "interface: is none, wanted ens1",
        "numa_node: is none, wanted 1",
        "has_vfs: is no, wanted yes",
    ]


def test_a_rule_that_fits_by_what_an_earlier_look_knew_is_explained_as_it_was_decided() -> None:
    """On a VFIO driver a NIC has no interface and so no MAC address, but the rule keeps it."""
    nic, settled = function(driver="vfio-pci"), {"0000:3b:00.0": Identity("mac", "b8:ce:f6:12:34:56")}
    other, mine = (rule(name=name, serial=(f"b8:ce:f6:{name}:*",)) for name in ("00", "12"))
    rules = Policy((other, mine), "test")
    (device,) = devices(snapshot(nic), {nic.address: claim(nic)}, rules, settled)
    missed, fits = explain(device, rules).tried
    assert (fits.rule, fits.mismatches) == (device.decision.rule, ()) == ("12", ())
    assert list(map(str, missed.mismatches)) == ["serial: is b8:ce:f6:12:34:56, wanted b8:ce:f6:00:*"]


def test_every_number_that_a_serial_could_fit_is_told_once() -> None:
    gpu = function(attributes={"serials/dsn": "00-01", "serials/vpd": "MCX:MT1"})
    said = claim(gpu, gpu=GpuFacts("GPU-1", "1321"), identities=(Identity("nvml", "GPU-1"),))
    wanted = rule(serial=("X",))
    (tried,) = explain(decide(snapshot(gpu), wanted, claims=[said])[gpu.address], Policy((wanted,), "test")).tried
    assert list(map(str, tried.mismatches)) == ["serial: is GPU-1 or 1321 or 00-01 or MCX:MT1 or MT1, wanted X"]


def test_the_rules_after_the_one_that_fits_are_only_counted() -> None:
    gpu = function()
    rules = (rule(name="no", kind=(Kind.NIC,)), rule(None, "ignores"), rule(name="late"), rule(name="later"))
    explanation = explain(decide(snapshot(gpu), *rules)[gpu.address], Policy(rules, "test"))
    assert [(each.rule, each.mode) for each in explanation.tried] == [("no", "whole"), ("ignores", "ignore")]
    assert explanation.untried == 2
    assert (explanation.guard, explanation.result) == (None, "rule ignores ignores it")


def test_a_guard_is_told_apart_from_a_refusal_of_the_driver() -> None:
    gpu = function()
    used = snapshot(gpu, host_use={gpu.address: "mounted on /"})
    vetoed = explain(decide(used, rule())[gpu.address], Policy((rule(),), "test"))
    assert vetoed.guard == vetoed.result == "is used by the host: mounted on /"
    refusing = [claim(gpu, offers={Mode.WHOLE: "PGPU"}, refusals={Mode.VF: "not without a vGPU type"})]
    refused = explain(decide(snapshot(gpu), rule(Mode.VF), claims=refusing)[gpu.address], Policy((rule(),), "test"))
    assert (refused.guard, refused.result) == (None, "not without a vGPU type")
    assert (refused.offers, refused.refusals) == ({"whole": "PGPU"}, {"vf": "not without a vGPU type"})


def test_what_is_given_by_us_or_by_nova_was_vetoed_by_nobody() -> None:
    gpu = function()
    for owner in (None, "nova"):
        given = rule(owner=owner)
        found = decide(snapshot(gpu), rule())[gpu.address]
        decision = replace(found.decision, owner=owner, managed=owner is None)
        explanation = explain(replace(found, decision=decision), Policy((given,), "test"))
        assert (explanation.guard, explanation.managed) == (None, owner is None)


def test_offers_and_refusals_are_told_in_the_order_of_their_modes() -> None:
    gpu = function()
    modes = {mode: f"CUSTOM_{mode.upper()}" for mode in (Mode.WHOLE, Mode.VF, Mode.MDEV)}
    said = [claim(gpu, offers=modes, refusals={Mode.VGPU: "b", Mode.MDEV: "a"})]
    explanation = explain(decide(snapshot(gpu), rule(), claims=said)[gpu.address], Policy((rule(),), "test"))
    assert list(explanation.offers) == ["mdev", "vf", "whole"]
    assert list(explanation.refusals) == ["mdev", "vgpu"]


def test_the_interfaces_that_there_are_are_named() -> None:
    nic, wanted = function(), rule(interface=("ens1",))
    said = claim(nic, Kind.NIC, net=NetFacts((NetInterface("eno1"), NetInterface("eno2"))))
    (tried,) = explain(decide(snapshot(nic), wanted, claims=[said])[nic.address], Policy((wanted,), "test")).tried
    assert list(map(str, tried.mismatches)) == ["interface: is eno1 or eno2, wanted ens1"]


def test_an_explanation_is_plain_json() -> None:
    nic = pf(2)
    explanation = explain(decide(snapshot(*nic), rule(Mode.VF))[nic[0].address], Policy((rule(Mode.VF),), "test"))
    said = json.loads(json.dumps(asdict(explanation)))
    assert said["tried"] == [{"rule": "r", "mode": "vf", "mismatches": []}]
    assert (said["managed"], said["result"]) == (True, "CUSTOM_VF 2: 2 of 2 VFs given")
    assert explanation.tried == (Tried("r", "vf"),)
