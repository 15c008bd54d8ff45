# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Drivers are asked in order, and the failure of one touches no other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hosts.generate import generate
from stevedore import _cache

from devagent import registry
from devagent.driver import Driver, Specificity
from devagent.inventory.default_policy import DEFAULT
from devagent.model.claim import Claim, Kind, Mode
from devagent.model.pci import Function
from devagent.model.policy import Policy
from devagent.registry import Registry

from .worlds import described, function, look, pf, port, rule, snapshot


class Fake(Driver):
    """Claims everything of its vendors, or raises where it is told to."""

    name = "fake"
    specificity = Specificity.FAMILY
    vendors: ClassVar[tuple[str, ...]] = ("10de", "8086")
    raising: ClassVar[tuple[str, ...]] = ()

    def recognises(self, function: Function) -> bool:
        self._raise("recognises", function)
        return function.vendor_id in self.vendors

    def claim(self, function: Function) -> Claim | None:
        self._raise("claim", function)
        return Claim(self.name, function.address, Kind.GPU, "V", "M", {Mode.WHOLE: "PGPU"})

    def _raise(self, where: str, function: Function) -> None:
        if where in self.raising and function.vendor_id == "10de":
            raise ValueError(f"bad {where}")


def driver(name: str, specificity: int = Specificity.FAMILY, **more: Any) -> Driver:
    """Gives a driver of that name; `more` are its class attributes and methods."""
    made: type[Driver] = type(name, (Fake,), {"name": name, "specificity": specificity, **more})
    return made()


def claimed(found: Registry, *functions: Function) -> dict[str, str]:
    """Gives the name of the driver that claims, by address."""
    claims, _ = found.claims(snapshot(*functions).functions)
    return {address: each.driver for address, each in claims.items()}


@pytest.mark.parametrize("backwards", [False, True])
def test_the_most_specific_driver_claims(backwards: bool) -> None:
    drivers = [
        driver("a", Specificity.CAPABILITY),
        driver("b", Specificity.CLASS),
        driver("c", Specificity.FAMILY),
    ]
    found = Registry(reversed(drivers) if backwards else drivers)
    assert claimed(found, function()) == {"0000:3b:00.0": "c"}


def test_drivers_that_know_as_much_are_asked_by_name() -> None:
    assert claimed(Registry([driver("b"), driver("a")]), function()) == {"0000:3b:00.0": "a"}


def test_a_driver_that_makes_no_claim_leaves_it_to_the_next() -> None:
    modest = driver("a", claim=lambda self, function: None)
    assert claimed(Registry([modest, driver("b")]), function()) == {"0000:3b:00.0": "b"}


def test_what_no_driver_recognises_is_not_claimed() -> None:
    found = Registry([driver("a", vendors=("1002",))])
    assert claimed(found, function()) == {}
    assert found.reads(function()) is None


def test_what_all_recognising_drivers_want_is_read() -> None:
    found = Registry(
        [driver("a", reads=("x", "y")), driver("b", reads=("y", "z")), driver("c", vendors=(), reads=("n",))]
    )
    assert found.reads(function()) == frozenset({"x", "y", "z"})


def test_vfs_and_bridges_are_never_claimed() -> None:
    head, *vfs = pf(2)
    everything = driver("a", vendors=("15b3", "8086"))
    bridge = function("0000:3a:01.0", "8086:352a", "060400")
    assert claimed(Registry([everything]), bridge, head, *vfs) == {head.address: "a"}


@pytest.mark.parametrize("where", ["recognises", "claim"])
def test_a_driver_that_raises_leaves_its_device_unknown_and_all_others_claimed(where: str) -> None:
    found = Registry([driver("broken", raising=(where,)), driver("sound", Specificity.CLASS)])
    other = function("0000:3c:00.0", "8086:56c0")
    claims, problems = found.claims(snapshot(function(), other).functions)

    failure = f"driver broken failed: ValueError: bad {where}"
    unknown = claims["0000:3b:00.0"]
    assert (unknown.kind, unknown.driver, unknown.failure) == (Kind.OTHER, "broken", failure)
    assert (unknown.vendor, unknown.offers) == ("NVIDIA", {})
    assert (claims[other.address].kind, claims[other.address].failure) == (Kind.GPU, None)
    assert [(each.source, each.device, each.problem) for each in problems] == [("broken", "0000:3b:00.0", failure)]


def test_a_driver_that_raises_in_recognises_still_has_its_reads_read() -> None:
    assert Registry([driver("broken", raising=("recognises",), reads=("x",))]).reads(function()) == frozenset({"x"})


def test_a_less_specific_driver_never_gets_what_a_better_one_failed_on() -> None:
    found = Registry([driver("broken", raising=("claim",)), driver("sound", Specificity.CLASS)])
    assert claimed(found, function()) == {"0000:3b:00.0": "broken"}


def test_an_error_without_words_is_named_by_its_type() -> None:
    def claim_nothing(self: Driver, function: Function) -> Claim:
        raise KeyError

    claims, _ = Registry([driver("a", claim=claim_nothing)]).claims(snapshot(function()).functions)
    assert claims["0000:3b:00.0"].failure == "driver a failed: KeyError"


def test_a_failed_driver_costs_its_device_and_nothing_else_of_the_host(tmp_path: Path) -> None:
    gpu = {"class": "030200", "driver": "x"}
    host = described(port(gpu | {"id": "10de:20f1"}), port(gpu | {"id": "8086:56c0"}))
    generate(host, tmp_path / "h")
    found = look(tmp_path / "h", DEFAULT, registry=Registry([driver("broken", raising=("claim",))]))
    assert {device.address: device.decision.reason for device in found.devices} == {
        "0000:3b:00.0": "unknown: driver broken failed: ValueError: bad claim",
        "0000:3c:00.0": "given whole",
    }
    assert [problem.device for problem in found.problems] == ["0000:3b:00.0"]


def test_a_failed_drivers_device_is_not_given_by_a_rule_for_its_ids(tmp_path: Path) -> None:
    generate(described(port({"id": "10de:20f1", "class": "030200"})), tmp_path / "h")
    broken = Registry([driver("broken", raising=("claim",))])
    (device,) = look(tmp_path / "h", Policy((rule(vendor=("10de",)),), "test"), registry=broken).devices
    assert not device.decision.managed


def test_every_driver_of_the_package_is_loaded() -> None:
    found = registry.load()
    assert {each.name for each in found.drivers} == {
        "accel",
        "amd",
        "dfl",
        "fpga_manager",
        "intel_gpu",
        "mdev",
        "nvidia",
        "nvme",
        "qat",
        "sriov",
        "xilinx",
    }
    assert found.problems == ()
    points = entry_points(group=registry.NAMESPACE)
    assert {each.name for each in found.drivers} == {point.name for point in points}


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Gives a directory that is searched for installed packages, and forgets what stevedore remembers."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    sys.modules.pop("extra_driver", None)


def install(top: Path, code: str, name: str = "extra") -> None:
    """Installs a package with one driver, `extra_driver:Extra`."""
    (top / "extra_driver.py").write_text(code)
    info = top / "extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[devagent.drivers]\n{name} = extra_driver:Extra\n")


def loaded(monkeypatch: pytest.MonkeyPatch) -> Registry:
    # stevedore keeps what it found for the life of the process.
    monkeypatch.setattr(_cache, "_c", _cache.Cache())
    monkeypatch.setattr("stevedore.extension.ExtensionManager.ENTRY_POINT_CACHE", {})
    return registry.load()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise RuntimeError('no library')", "driver cannot be loaded: RuntimeError: no library"),
        ("import no_such_module", "driver cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "driver cannot be loaded: SyntaxError: invalid syntax (extra_driver.py, line 1)"),
        ("Other = 1", "driver cannot be loaded: AttributeError: module 'extra_driver' has no attribute 'Extra'"),
        ("class Extra:\n def __init__(self): raise OSError('no')", "driver cannot be loaded: OSError: no"),
    ],
)
def test_a_driver_that_cannot_be_loaded_leaves_all_others(
    plugged: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    install(plugged, code)
    found = loaded(monkeypatch)
    assert len(found.drivers) == 11
    assert [(each.source, each.device, each.problem) for each in found.problems] == [("extra", None, problem)]
    assert found.claims({})[1] == list(found.problems)


STUB = (
    "from devagent.driver import Driver\n"
    "class Extra(Driver):\n"
    "    name = 'extra'\n"
    "    specificity = 40\n"
    "    def recognises(self, function): return True\n"
    "    def claim(self, function): return None\n"
)


@pytest.mark.parametrize(
    ("line", "instead", "problem"),
    [
        ("    name = 'extra'\n", "", "it has no name"),
        ("    name = 'extra'\n", "    name = 7\n", "it has no name"),
        ("    specificity = 40\n", "", "it has no specificity"),
        ("    specificity = 40\n", "    specificity = 'high'\n", "it has no specificity"),
        ("    specificity = 40\n", "    specificity = 40\n    reads = None\n", "its reads are no tuple of texts"),
        ("    specificity = 40\n", "    specificity = 40\n    reads = 'boot_vga'\n", "its reads are no tuple of texts"),
        ("    specificity = 40\n", "    specificity = 40\n    reads = (1,)\n", "its reads are no tuple of texts"),
        ("class Extra(Driver)", "class Extra", "it is no devagent.driver.Driver"),
    ],
)
def test_a_driver_that_breaks_the_contract_is_left_out(
    plugged: Path, monkeypatch: pytest.MonkeyPatch, line: str, instead: str, problem: str
) -> None:
    install(plugged, STUB.replace(line, instead))
    found = loaded(monkeypatch)
    assert len(found.drivers) == 11
    assert [each.problem for each in found.problems] == [f"driver cannot be used: {problem}"]


@pytest.mark.parametrize(("claimed_as", "kind"), [("{}", "dict"), ("'gpu'", "str"), ("[]", "list"), ("0", "int")])
def test_a_claim_that_is_none_costs_its_device(
    plugged: Path, monkeypatch: pytest.MonkeyPatch, claimed_as: str, kind: str
) -> None:
    install(plugged, STUB.replace("return None", f"return {claimed_as}"))
    found = loaded(monkeypatch)
    claims, problems = found.claims(snapshot(function()).functions)
    assert claims["0000:3b:00.0"].failure == f"driver extra failed: TypeError: claim() gave {kind}, no Claim"
    assert len(problems) == 1


def test_a_driver_from_elsewhere_is_loaded(plugged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        plugged,
        "from devagent.drivers.nvidia import Nvidia\nclass Extra(Nvidia):\n    name = 'extra'\n    specificity = 40\n",
    )
    found = loaded(monkeypatch)
    assert claimed(found, function()) == {"0000:3b:00.0": "extra"}
    assert found.problems == ()


def test_a_host_without_any_driver_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "NAMESPACE", "devagent.no_such_drivers")
    (problem,) = registry.load().problems
    assert problem.problem == "no driver is installed: install devagent with pip, do not copy it"


def test_what_was_read_anew_is_claimed_anew_and_what_is_gone_is_forgotten() -> None:
    made: dict[str, registry.Made] = {}
    found = Registry([driver("a", raising=("claim",))])
    one, other = function(), function("0000:3c:00.0", "8086:1234")
    first = found.claims(snapshot(one, other).functions, made)
    again = found.claims(snapshot(one, function("0000:3c:00.0", "8086:1234")).functions, made)
    assert again == first
    assert [each.problem for each in again[1]] == ["driver a failed: ValueError: bad claim"]
    assert again[0][one.address] is first[0][one.address]
    assert again[0][other.address] is not first[0][other.address]
    found.claims(snapshot(other).functions, made)
    assert made.keys() == {other.address}
