# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""One look at a host, from sysfs to devices."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import yaml
from hosts.generate import generate

from devagent.discovery import discover
from devagent.inventory.build import Nest, build
from devagent.inventory.default_policy import DEFAULT
from devagent.model.claim import Kind
from devagent.model.pci import Link
from devagent.model.policy import Policy
from devagent.registry import load
from devagent.sources import known, roots
from devagent.sources.captures.packing import pack
from devagent.sources.captures.recorder import Recorder

from .worlds import described, look, port, rule

DESCRIPTIONS = Path(__file__).parents[1] / "hosts"
UNKNOWN = {"id": "abcd:0001", "class": "ff0000", "driver": "odd"}
GPU = {"id": "10de:20f1", "class": "030200", "driver": "nvidia"}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return generate(described(port(GPU), port(UNKNOWN)), tmp_path / "h")


def test_what_nobody_knows_or_wants_is_left_out(host: Path) -> None:
    assert [device.address for device in look(host).devices] == ["0000:3b:00.0"]


def test_every_function_is_shown_with_its_details_on_request(host: Path) -> None:
    _, unknown = look(host, every=True).devices
    assert (unknown.address, unknown.claim.kind) == ("0000:3c:00.0", Kind.OTHER)
    assert (unknown.function.numa_node, unknown.function.root_bus) == (0, "pci0000:3a")
    assert unknown.function.reset_methods == ("flr", "bus")
    assert unknown.function.link == Link(16.0, 16, 16.0, 16)
    assert unknown.decision.reason == "no rule matches"


def test_what_a_rule_wants_has_its_details(host: Path) -> None:
    (_, unknown) = look(host, Policy((rule(vendor=("abcd",)),), "test")).devices
    assert unknown.decision.managed
    assert unknown.function.pcie_path == ("0000:3a:01.0",)
    assert unknown.identity.source == "topology"


def test_two_looks_at_the_same_host_see_the_same(host: Path) -> None:
    assert look(host) == look(host)


@pytest.mark.parametrize("node", [0, 1])
def test_a_rule_finds_what_nobody_knows_by_its_node(host: Path, node: int) -> None:
    """The node is read only of what a rule may want, so the rule itself must ask for it."""
    found = look(host, Policy((rule(vendor=("abcd",), numa_node=(node,)),), "test")).devices
    given = [device.address for device in found if device.decision.managed]
    assert given == (["0000:3c:00.0"] if node == 0 else [])


CRUCIAL = ("iommu_group", "boot_vga", "sriov_totalvfs")


@pytest.mark.parametrize("name", CRUCIAL)
def test_without_what_decides_a_device_is_unknown(host: Path, name: str) -> None:
    gpu = (host / "sys/bus/pci/devices/0000:3b:00.0").resolve()
    (gpu / name).unlink(missing_ok=True)
    if name == "iommu_group":
        (gpu / name).symlink_to("../iommu_groups/none")
    else:
        (gpu / name).mkdir()
    (device,) = look(host).devices
    assert (device.decision.managed, device.decision.unknown) == (False, True)
    assert device.decision.reason == f"unknown: {name} could not be read; what was reported of it stays"


def test_what_a_trait_hangs_on_may_be_unread(host: Path) -> None:
    gpu = (host / "sys/bus/pci/devices/0000:3b:00.0").resolve()
    for name in ("numa_node", "reset_method"):
        (gpu / name).unlink()
        (gpu / name).mkdir()
    (device,) = look(host).devices
    assert device.decision.managed
    assert device.function.unread == {"numa_node", "reset_method"}


AER = "Undefined 0\nDLP 0\nSDES 0\nTLP 2\nTOTAL_ERR_{} 2\n"


def test_the_errors_that_the_kernel_counted_come_along_also_in_a_capture(host: Path, tmp_path: Path) -> None:
    gpu = (host / "sys/bus/pci/devices/0000:3b:00.0").resolve()
    for kind in ("fatal", "nonfatal"):
        (gpu / f"aer_dev_{kind}").write_text(AER.format(kind.upper()))
    with roots.open_root(host) as tree:
        recorder = Recorder(tree)
        (device,) = discover(recorder, load(), DEFAULT).devices
        pack(recorder, tmp_path / "capture.tar", "h", redact=True)
    assert device.function.attributes["aer_dev_fatal"].endswith("TLP 2\nTOTAL_ERR_FATAL 2")
    assert device.function.attributes["aer_dev_nonfatal"].endswith("TLP 2\nTOTAL_ERR_NONFATAL 2")
    assert not device.function.unread
    (again,) = look(tmp_path / "capture.tar").devices
    assert again.function.attributes == device.function.attributes


def test_a_look_that_missed_something_says_so(host: Path) -> None:
    assert look(host).complete
    (host / "sys/bus/pci/devices").rename(host / "away")
    (host / "sys/bus/pci/devices").write_text("")
    found = look(host)
    assert (found.complete, found.devices) == (False, ())


def test_a_function_that_does_not_say_what_it_is_is_unknown(host: Path) -> None:
    gpu = (host / "sys/bus/pci/devices/0000:3b:00.0").resolve()
    for name in ("modalias", "vendor", "device"):
        (gpu / name).unlink()
        (gpu / name).mkdir()
    found = look(host)
    assert (found.complete, found.unknown) == (True, frozenset({"0000:3b:00.0"}))


@pytest.mark.parametrize("text", ["", "2", "yes"])
def test_a_display_that_does_not_say_whether_it_is_the_console_is_not_given(tmp_path: Path, text: str) -> None:
    host = generate(described(port({"id": "10de:20f1", "class": "030000", "driver": "nvidia"})), tmp_path / "h")
    (host / "sys/bus/pci/devices/0000:3b:00.0/boot_vga").write_text(text)
    found = look(host)
    assert found.devices[0].decision.unknown
    assert [each.problem for each in found.problems] == [f"boot_vga is {text!r}, neither 0 nor 1"]


def test_a_pf_that_does_not_say_how_many_vfs_it_can_have_is_not_given_whole(tmp_path: Path) -> None:
    nic = {
        "id": "15b3:101d",
        "class": "020000",
        "driver": "mlx5_core",
        "vfs": {"total": 4, "count": 1, "device": "101e"},
    }
    host = generate(described(port(nic)), tmp_path / "h")
    (host / "sys/bus/pci/devices/0000:3b:00.0/sriov_totalvfs").unlink()
    found = look(host, Policy((rule(class_code=("02",)),), "test"))
    assert [each.decision.unknown for each in found.devices] == [True]
    assert "sriov_totalvfs is missing or unread, though there are VFs" in {each.problem for each in found.problems}


def test_a_gpu_that_goes_to_vfio_pci_keeps_its_provider(tmp_path: Path) -> None:
    """NVML does not see it there; who it is and how much memory it has was settled before."""
    bound = yaml.load((DESCRIPTIONS / "hgx.yaml").read_text(), yaml.BaseLoader)
    freed = bound | {"types": bound["types"] | {"h200": bound["types"]["h200"] | {"driver": "vfio-pci"}}, "nvml": "{}"}
    before = look(generate(bound, tmp_path / "before"))
    host = generate(freed, tmp_path / "after")
    known.save(str(host / "var/lib/devagent"), before.known)
    after = look(host)
    assert [device.function.driver for device in after.devices if device.claim.kind is Kind.GPU] == ["vfio-pci"] * 8
    root = str(uuid.uuid4())
    one, other = (build(each.devices, root, "h", Nest.NUMA).by_uuid() for each in (before, after))
    # The one that MIG had divided is whole for NVML's silence; all that were given still are, as who they were.
    assert one.keys() <= other.keys()
    assert [device.claim.gpu.memory_mib for device in after.devices if device.claim.gpu] == [143771] * 8
