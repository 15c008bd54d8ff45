# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What Nova takes is read by oslo.config's rules; broken entries are problems, and secrets stay where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devagent.errors import Unreadable
from devagent.model.nova import DeviceSpec, NovaDevices
from devagent.model.snapshot import Problem
from devagent.sources import nova
from devagent.sources.host import Directory, Excerpt

from ..worlds import Link, World, write

CONF = "etc/nova/nova.conf"


def read(top: Path) -> tuple[NovaDevices, list[str], list[str]]:
    problems: list[Problem] = []
    notes: dict[str, None] = {}
    with Directory(top) as tree:
        found = nova.devices(tree, problems, notes)
    assert all((each.source, each.device) == ("nova", None) for each in problems)
    return found, [each.problem for each in problems], list(notes)


def specs(top: Path, text: str) -> list[dict[str, object]]:
    found, problems, notes = read(write(top, {CONF: text}))
    assert (problems, notes) == ([], [])
    return [dict(spec.keys) for spec in found.specs]


def test_a_host_without_nova_has_none_of_its_devices(tmp_path: Path) -> None:
    assert read(tmp_path) == (NovaDevices(), [], [])
    assert read(write(tmp_path, {CONF: "[DEFAULT]\ndebug = true\n"})) == (NovaDevices(), [], [])


@pytest.mark.parametrize("tag", ["", ', "physical_network": "acme", "trusted": "true"'])
def test_a_spec_keeps_its_selectors_as_written(tmp_path: Path, tag: str) -> None:
    value = '{"vendor_id": "10DE", "product_id": "20f1"}'
    found, _, _ = read(write(tmp_path, {CONF: f"[pci]\ndevice_spec = {value[:-1]}{tag}}}\n"}))
    keys = {"vendor_id": "10de", "product_id": "20f1"}
    assert found.specs == (DeviceSpec(value, "/etc/nova/nova.conf", keys),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('device_spec = {"vendor_id": "15b3"}\ndevice_spec = {"vendor_id": "8086"}', ["15b3", "8086"]),
        ('device_spec = [{"vendor_id": "15b3"}, {"vendor_id": "8086"}]', ["15b3", "8086"]),
        (
            'device_spec = [{"vendor_id": "15b3"},\n  {"vendor_id": "8086"},\n\t{"vendor_id": "1"}]',
            ["15b3", "8086", "0001"],
        ),
        ('device_spec =\n  [{"vendor_id": "15b3"}]\nx = 1', ["15b3"]),
        ('device_spec = {"vendor_id": "15b3"}\n\n  {"vendor_id": "8086"}', ["15b3"]),
        ('device_spec = \'{"vendor_id": "15b3"}\'', ["15b3"]),
        ('device_spec: {"vendor_id": "15b3"}', ["15b3"]),
        ('# device_spec = {"vendor_id": "15b3"}\n;device_spec = {}', []),
        ('passthrough_whitelist = {"vendor_id": "15b3"}', ["15b3"]),
        ('passthrough_whitelist = {"vendor_id": "1"}\ndevice_spec = {"vendor_id": "2"}', ["0002", "0001"]),
        ('nonsense\n= x\n[broken\ndevice_spec = {"vendor_id": "15b3"}', ["15b3"]),
        ('[other]\ndevice_spec = {"vendor_id": "15b3"}\n[PCI]\ndevice_spec = {"vendor_id": "8086"}', ["8086"]),
        ('[DEFAULT]\npci_passthrough_whitelist = {"vendor_id": "15b3"}', ["15b3"]),
        ("device_spec = []", []),
    ],
)
def test_options_are_read_as_oslo_config_does(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert [each["vendor_id"] for each in specs(tmp_path, f"[pci]\n{text}\n")] == expected


@pytest.mark.parametrize(
    ("spec", "keys"),
    [
        ("{}", {}),
        ('{"vendor_id": "*", "product_id": " 1 "}', {"product_id": "0001"}),
        ('{"address": "0000:0a:00.1"}', {"address": "0000:0a:00.1"}),
        ('{"address": "*:0A:00.*"}', {"address": "*:0a:00.*"}),
        ('{"address": ":0a:00."}', {"address": "*:0a:00.*"}),
        ('{"address": "a:0"}', {"address": "*:0a:00.*"}),
        ('{"address": "0:3b:"}', {"address": "0000:3b:*.*"}),
        ('{"address": ".7"}', {"address": "*:*:*.7"}),
        ('{"address": ""}', {}),
        (
            '{"address": {"bus": "02", "function": "[0-2]"}}',
            {"address": {"domain": ".*", "bus": "02", "slot": ".*", "function": "[0-2]"}},
        ),
        ('{"devname": "ens1f0"}', {"devname": "ens1f0"}),
    ],
)
def test_selectors_are_written_out(tmp_path: Path, spec: str, keys: dict[str, Any]) -> None:
    assert specs(tmp_path, f"[pci]\ndevice_spec = {spec}\n") == [keys]


def test_an_interface_is_found_where_it_is_now(tmp_path: Path) -> None:
    world: World = {
        CONF: '[pci]\ndevice_spec = [{"devname": "ens1"}, {"devname": "eth0"}, {"devname": "../x"}]\n',
        "sys/class/net/ens1/device": Link("../../../0000:3b:00.0"),
        "sys/class/net/eth0/device": Link("../../../virtio1"),
        "sys/class/x/device": Link("../../../0000:3b:00.0"),
    }
    found, problems, _ = read(write(tmp_path, world))
    assert problems == []
    assert [spec.keys.get("address") for spec in found.specs] == ["0000:3b:00.0", None, None]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ('{"vendor_id": "10de"', "is not JSON"),
        ("[" * 100000, "is not JSON"),
        ("x", "is not JSON"),
        ("7", "is no mapping"),
        ('["x"]', "is no mapping"),
        ('{"vendor_id": "10deg"}', "has vendor_id '10deg', which is no number from 0 to ffff (hex)"),
        ('{"vendor_id": 4318}', "has vendor_id 4318, which is no number from 0 to ffff (hex)"),
        ('{"product_id": "12345"}', "has product_id '12345', which is no number from 0 to ffff (hex)"),
        ('{"address": "0000:3b:20.0"}', "has slot '20', which is no number from 0 to 1f (hex)"),
        ('{"address": "0000:3b:00.8"}', "has function '8', which is no number from 0 to 7 (hex)"),
        ('{"address": "0:0:3b:00.0"}', "has the address '0:0:3b:00.0', which has too many parts"),
        ('{"address": 7}', "has an address that is neither a pattern nor a mapping of regular expressions"),
        ('{"address": {"bus": 2}}', "has an address that is neither a pattern nor a mapping of regular expressions"),
        (
            '{"address": {"bus": "[0"}}',
            "has the regular expression '[0', which is wrong: unterminated character set at position 0",
        ),
        ('{"address": "0000:3b:00.0", "devname": "ens1"}', "has both address and devname"),
    ],
)
def test_a_broken_spec_is_a_problem_and_the_rest_counts(tmp_path: Path, spec: str, why: str) -> None:
    text = f'[pci]\ndevice_spec = {spec}\ndevice_spec = {{"vendor_id": "8086"}}\n'
    found, problems, _ = read(write(tmp_path, {CONF: text}))
    assert [spec.keys for spec in found.specs] == [{"vendor_id": "8086"}]
    (problem,) = problems
    assert problem.startswith("/etc/nova/nova.conf: device_spec ")
    assert problem.endswith(f" {why}; nova-compute will not start with it")
    assert len(problem) < 500


def test_one_of_a_list_may_be_broken_alone(tmp_path: Path) -> None:
    text = '[pci]\ndevice_spec = [{"vendor_id": "10de"}, {"vendor_id": "x"}]\n'
    found, problems, _ = read(write(tmp_path, {CONF: text}))
    assert [spec.text for spec in found.specs] == ['{"vendor_id": "10de"}']
    assert problems[0].startswith('/etc/nova/nova.conf: device_spec {"vendor_id": "x"} has vendor_id')


def test_all_files_count_and_what_two_say_is_said_once(tmp_path: Path) -> None:
    paths = [path.replace("*", "10-more") for path in nova.FILES]
    world = {path: f'[pci]\ndevice_spec = {{"vendor_id": "{number}"}}\n' for number, path in enumerate(paths)}
    common = '[pci]\ndevice_spec = {"vendor_id": "ffff"}\n'
    found, _, _ = read(write(tmp_path, {path: text + common for path, text in world.items()}))
    origins = [spec.origin for spec in found.specs]
    assert origins == ["/etc/nova/nova.conf", *(f"/{path}" for path in paths)]
    assert [spec.keys["vendor_id"] for spec in found.specs][:3] == ["0000", "ffff", "0001"]


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("[devices]\nenabled_mdev_types = nvidia-35\n", (("nvidia-35", ()),)),
        ("[devices]\nenabled_vgpu_types = nvidia-35\n", (("nvidia-35", ()),)),
        (
            "[devices]\nenabled_mdev_types = nvidia-35, i915-GVTg_V5_4,\n"
            "[mdev_nvidia-35]\ndevice_addresses = 0000:84:00.0,0000:85:00.0\n"
            "[vgpu_i915-GVTg_V5_4]\ndevice_addresses = 0000:0A:00.0\n",
            (("nvidia-35", ("0000:84:00.0", "0000:85:00.0")), ("i915-GVTg_V5_4", ("0000:0a:00.0",))),
        ),
        ("[devices]\nenabled_mdev_types = a\nenabled_mdev_types = b\n", (("b", ()),)),
        ("[devices]\nenabled_mdev_types =\n[mdev_x]\ndevice_addresses = 0000:84:00.0\n", ()),
    ],
)
def test_enabled_types_are_read_with_their_parents(tmp_path: Path, text: str, types: tuple[Any, ...]) -> None:
    assert read(write(tmp_path, {CONF: text}))[0].mdev_types == types


def test_a_later_file_replaces_the_list_of_types(tmp_path: Path) -> None:
    world = {
        CONF: "[devices]\nenabled_mdev_types = a\n",
        "etc/nova/nova.conf.d/50.conf": "[devices]\nenabled_mdev_types = b\n",
    }
    assert read(write(tmp_path, world))[0].mdev_types == (("b", ()),)


class Denied(Directory):
    """A directory whose /etc/nova may not be read."""

    def _read(self, path: str, limit: int, *, whole: bool = False, offset: int = 0) -> bytes | None:
        if path.startswith("etc/nova/"):
            raise Unreadable(path, "permission denied")
        return super()._read(path, limit, whole=whole, offset=offset)


def test_what_may_not_be_read_is_one_note(tmp_path: Path) -> None:
    problems: list[Problem] = []
    notes: dict[str, None] = {}
    with Denied(write(tmp_path, {CONF: "", "etc/nova/nova-cpu.conf": ""})) as tree:
        assert nova.devices(tree, problems, notes) == NovaDevices()
    assert problems == []
    assert list(notes) == ["what Nova's configuration takes (/etc/nova/nova.conf): only root or nova may read that"]


def test_what_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    text = '[pci]\ndevice_spec = {"vendor_id": "8086"}\n'
    found, problems, _ = read(write(tmp_path, {CONF: b"\xff", "etc/nova/nova-cpu.conf": text}))
    assert len(found.specs) == 1
    assert problems == ["/etc/nova/nova.conf: is not text: what Nova takes for itself may be given twice"]


def test_a_capture_holds_no_secrets(tmp_path: Path) -> None:
    kept: dict[str, str] = {}

    class Recorded(Directory):
        """A directory that notes what is left of a file."""

        def file(self, path: str, excerpt: Excerpt | None = None) -> str | None:
            """Notes and reads."""
            text = super().file(path, excerpt)
            if text is not None:
                kept[path] = text
            return text

    text = """\
[DEFAULT]
transport_url = rabbit://nova:hunter2@rabbit
[pci]
alias = {"name": "secret"}
device_spec = [{"vendor_id": "10de"},
    {"vendor_id": "8086"}]
device_spec = [{"vendor_id": "15b3", "physical_network": "hunter2"}, "hunter2"]
device_spec = {"vendor_id": "15b3" 'physical_network': hunter2}
[devices]
enabled_mdev_types = a,b
[mdev_a]
device_addresses = 0000:84:00.0
mdev_class = CUSTOM_X
[placement]
password = hunter2
"""
    with Recorded(write(tmp_path, {CONF: text})) as tree:
        found = nova.devices(tree, [], {})
    assert kept[CONF].split("\n") == [
        "[pci]",
        'device_spec = [{"vendor_id": "10de"},',
        ' {"vendor_id": "8086"}]',
        "[pci]",
        'device_spec = [{"vendor_id": "15b3"}, "?"]',
        "[pci]",
        """device_spec = {"vendor_id": "15b3" '?': ?}""",
        "[devices]",
        "enabled_mdev_types = a,b",
        "[mdev_a]",
        "device_addresses = 0000:84:00.0",
        "",
    ]
    with Recorded(write(tmp_path / "again", kept)) as tree:
        before = dict(kept)
        assert nova.devices(tree, [], {}) == found
    assert kept == before
