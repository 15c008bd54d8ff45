# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every mistake in devices.yaml is named with its line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from devagent.errors import ConfigurationError, PolicyError
from devagent.inventory.policy_file import parse, read
from devagent.model.claim import Kind, Mode
from devagent.model.policy import Match, Prepare, Rule

HEAD = "schema_version: 1\nrules:\n"
RULE = HEAD + "  - name: a\n    match: {}\n    mode: whole\n"
IDS = 'four lower-case hex digits, or a list of such, each in quotes: "10de"'
PATTERN = 'a shell pattern, or a list of such: "0000:3b:*"'
RULE_KEYS = "name, match, mode, resource_class, traits, vf_indexes, vf_count, physical_network, types, owner, prepare"
VGPU = RULE.replace("whole", "vgpu") + '    types: {CUSTOM_A: "NVIDIA L40S-8Q"}\n'
BLANK = "sha256:" + "0a" * 32
NETWORK = "a physical network's name as Neutron has it, 64 characters at most, without blanks"


def matching(selectors: str) -> str:
    """Gives a policy of one rule, whose selectors are on line 4."""
    return RULE.replace("{}", selectors)


def refused(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse(text, "devices.yaml")
    return caught.value


@pytest.mark.parametrize("mode", ["vf", "vgpu", "mdev"])
def test_as_many_vfs_as_there_can_be(mode: str) -> None:
    rule = RULE.replace("whole", mode) + "    vf_count: all\n"
    types = "" if mode == "vf" else "    types: {CUSTOM_A: null}\n"
    (found,) = parse(rule + types, "devices.yaml").rules
    assert (found.wanted_vfs(32), found.wanted_vfs(0)) == (32, 0)


def test_a_rule_says_all_that_it_can_say() -> None:
    text = """\
schema_version: 1
rules:
  - name: all
    match:
      kind: [gpu, nic]
      vendor: "10de"
      device: ["20f1", "20b5"]
      class: "0302"
      address: "0000:3b:*"
      slot: "0000:3b:00"
      serial: ["GPU-*", "b8:ce:f6:12:34:56"]
      driver: [nvidia, vfio-pci]
      interface: ens1f?
      numa_node: [0, 1]
      has_vfs: false
    mode: vf
    resource_class: CUSTOM_GPU
    traits: [CUSTOM_GOLD, CUSTOM_RACK_7]
    vf_indexes: "0-3,6"
    vf_count: 8
    physical_network: physnet-1
"""
    match = Match(
        kind=(Kind.GPU, Kind.NIC),
        vendor=("10de",),
        device=("20f1", "20b5"),
        class_code=("0302",),
        address=("0000:3b:*",),
        slot=("0000:3b:00",),
        serial=("GPU-*", "b8:ce:f6:12:34:56"),
        driver=("nvidia", "vfio-pci"),
        interface=("ens1f?",),
        numa_node=(0, 1),
        vfs=False,
    )
    traits, indexes = frozenset({"CUSTOM_GOLD", "CUSTOM_RACK_7"}), frozenset({0, 1, 2, 3, 6})
    policy = parse(text, "here")
    assert policy.rules == (Rule("all", match, Mode.VF, "CUSTOM_GPU", traits, indexes, 8, "physnet-1"),)
    assert policy.origin == "here"


def test_a_rule_says_what_is_made_of_a_device_and_how_it_is_cleaned() -> None:
    types = '    types: {CUSTOM_T4_8Q: "GRID T4-8Q", VGPU: null}\n'
    made = parse(RULE.replace("whole", "mdev") + types, "p").rules[0]
    assert (made.mode, made.types) == (Mode.MDEV, (("CUSTOM_T4_8Q", "GRID T4-8Q"), ("VGPU", None)))
    assert parse(VGPU, "p").rules[0].mode is Mode.VGPU
    prepare = "    prepare: {driver: mlx5_vfio_pci, keep: true, reset: required, scrub: fpga-blank, blank: %s}\n"
    assert parse(RULE + prepare % BLANK, "p").rules[0].prepare == Prepare(
        "mlx5_vfio_pci", True, "required", "fpga-blank", BLANK
    )


@pytest.mark.parametrize("mode", ["whole", "vf"])
def test_whole_devices_and_vfs_can_be_left_to_nova(mode: str) -> None:
    assert parse(RULE.replace("whole", mode) + "    owner: nova\n", "p").rules[0].owner == "nova"


@pytest.mark.parametrize(
    ("kind", "scrub", "mode"),
    [
        ("nvme", "nvme-sanitize", "whole"),
        ("nvme", "nvme-format", "vf"),
        ("accelerator", "gpu-reset", "whole"),
        ("other", "nvme-format", "whole"),
    ],
)
def test_what_a_wipe_is_for_can_be_wiped_so(kind: str, scrub: str, mode: str) -> None:
    text = matching(f"{{kind: {kind}}}").replace("whole", mode) + f"    prepare: {{scrub: {scrub}}}\n"
    assert parse(text, "p").rules[0].prepare.scrub == scrub


@pytest.mark.parametrize(("word", "mode"), [("whole", Mode.WHOLE), ("vf", Mode.VF), ("ignore", None)])
def test_the_modes_that_need_nothing_else_are_whole_vf_and_ignore(word: str, mode: Mode | None) -> None:
    assert parse(RULE.replace("whole", word), "p").rules[0].mode is mode


def test_a_policy_without_rules_gives_nothing_away() -> None:
    assert parse("schema_version: 1\nrules: []\n", "p").rules == ()


def test_an_unquoted_id_that_yaml_leaves_alone_is_right() -> None:
    assert parse(matching("{device: 20f1, vendor: 10de}"), "p").rules[0].match.device == ("20f1",)
    assert parse(matching("{device: 1e10}"), "p").rules[0].match.device == ("1e10",)


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        # The document as a whole.
        ("", 1, "", "is empty; expected is a mapping with schema_version and rules"),
        ("# only a comment\n", 1, "", "is empty; expected is a mapping with schema_version and rules"),
        ("- a\n", 1, "", "is ['a']; expected is a mapping with schema_version and rules"),
        ("schema_version: 1\n", 1, "", "rules is missing"),
        ("rules: []\n", 1, "", "schema_version is missing"),
        ("schema_version: 2\nrules: []\n", 1, "schema_version", "is 2; expected is 1: the only version of this format"),
        ("schema_version: 1\nrules: 7\n", 2, "rules", "is 7; expected is a list of rules"),
        (RULE + "extra: 1\n", 6, "extra", "is no key that is known here; known are schema_version, rules"),
        # A rule.
        (HEAD + "  - name: a\n    match: {}\n", 3, "rules[0]", "mode is missing"),
        (HEAD + "  - match: {}\n    mode: vf\n", 3, "rules[0]", "name is missing"),
        (HEAD + "  - name: a\n    mode: vf\n", 3, "rules[0]", "match is missing"),
        (HEAD + "  - a\n", 3, "rules[0]", "is 'a'; expected is a mapping with name, match and mode"),
        (RULE + "    Mode: vf\n", 6, "rules[0].Mode", f"is no key that is known here; known are {RULE_KEYS}"),
        (RULE.replace("whole", "mig"), 5, "rules[0].mode", "is 'mig'; expected is whole, vf, mdev, vgpu or ignore"),
        # What Nova itself gives.
        (RULE + "    owner: cyborg\n", 6, "rules[0].owner", "is 'cyborg'; expected is nova"),
        (VGPU + "    owner: nova\n", 7, "rules[0].owner", "goes with mode whole or vf"),
        (RULE.replace("whole", "ignore") + "    owner: nova\n", 6, "rules[0].owner", "goes with mode whole or vf"),
        (RULE + "    owner: nova\n    traits: [CUSTOM_A]\n", 7, "rules[0].traits", "has no use with owner: nova"),
        (
            RULE + "    owner: nova\n    resource_class: PGPU\n",
            7,
            "rules[0].resource_class",
            "has no use with owner: nova",
        ),
        (RULE + "    owner: nova\n    physical_network: n\n", 7, "rules[0].physical_network", "has no use with owner"),
        # What is made of a device.
        (RULE.replace("whole", "vgpu"), 3, "rules[0]", "types is missing, which says what mode vgpu makes"),
        (RULE.replace("whole", "mdev"), 3, "rules[0]", "types is missing, which says what mode mdev makes"),
        (RULE + "    types: {VGPU: x}\n", 6, "rules[0].types", "goes with mode mdev or vgpu"),
        (RULE + "    types: {}\n", 6, "rules[0].types", "is {}; expected is a mapping of resource classes to types"),
        (RULE + "    types: {PGPU: x}\n", 6, "rules[0].types", "is 'PGPU'; expected is VGPU or CUSTOM_ followed"),
        (RULE + "    types: {5: x}\n", 6, "rules[0].types", "is 5; expected is VGPU or CUSTOM_ followed"),
        (RULE + "    types: {VGPU: 558}\n", 6, "rules[0].types.VGPU", "is 558; expected is a type's name or id"),
        (RULE + "    types: {VGPU: ''}\n", 6, "rules[0].types.VGPU", "is ''; expected is a type's name or id"),
        (
            VGPU.replace('8Q"', '8Q", CUSTOM_B: NVIDIA L40S-8Q'),
            6,
            "rules[0].types.CUSTOM_B",
            "is the same as that of CUSTOM_A",
        ),
        (VGPU + "    resource_class: CUSTOM_A\n", 7, "rules[0].resource_class", "whose classes stand in types"),
        (VGPU + "    vf_count: 4\n", 7, "rules[0].vf_count", "can only be all with mode vgpu"),
        (RULE + "    vf_count: some\n", 6, "rules[0].vf_count", "is 'some'; expected is a number of VFs, 0 to 65535"),
        (VGPU + "    prepare: {reset: never}\n", 7, "rules[0].prepare", "has no use with mode vgpu"),
        # How it is cleaned.
        (RULE + "    prepare: {}\n", 6, "rules[0].prepare", "is {}; expected is a mapping with driver, keep, reset"),
        (RULE + "    prepare: {wipe: true}\n", 6, "rules[0].prepare.wipe", "is no key that is known here"),
        (RULE + "    prepare: {driver: nvidia}\n", 6, "rules[0].prepare.driver", "is 'nvidia'; expected is a VFIO"),
        (RULE + "    prepare: {driver: ../vfio}\n", 6, "rules[0].prepare.driver", "is '../vfio'; expected is a VFIO"),
        (RULE + "    prepare: {keep: always}\n", 6, "rules[0].prepare.keep", "is 'always'; expected is true or false"),
        (
            RULE + "    prepare: {reset: maybe}\n",
            6,
            "rules[0].prepare.reset",
            "is 'maybe'; expected is never, possible",
        ),
        (RULE + "    prepare: {scrub: shred}\n", 6, "rules[0].prepare.scrub", "is 'shred'; expected is nvme-format"),
        (RULE + "    prepare: {scrub: fpga-blank}\n", 6, "rules[0].prepare.scrub", "needs blank, the digest"),
        (RULE + f"    prepare: {{blank: '{BLANK}'}}\n", 6, "rules[0].prepare.blank", "goes with scrub: fpga-blank"),
        (
            matching("{kind: [nvme, gpu]}") + "    prepare: {scrub: nvme-format}\n",
            6,
            "rules[0].prepare.scrub",
            "nvme-format wipes no gpu: it is for kind nvme",
        ),
        (
            matching("{kind: gpu}") + "    prepare: {scrub: nvme-sanitize}\n",
            6,
            "rules[0].prepare.scrub",
            "nvme-sanitize wipes no gpu: it is for kind nvme",
        ),
        (
            matching("{kind: [fpga, nic, qat]}") + f"    prepare: {{scrub: fpga-blank, blank: '{BLANK}'}}\n",
            6,
            "rules[0].prepare.scrub",
            "fpga-blank wipes no nic and no qat: it is for kind fpga",
        ),
        (
            matching("{kind: nic}") + "    prepare: {scrub: gpu-reset}\n",
            6,
            "rules[0].prepare.scrub",
            "gpu-reset wipes no nic: it is for kind gpu or accelerator",
        ),
        (
            RULE.replace("whole", "vf") + "    prepare: {scrub: nvme-sanitize}\n",
            6,
            "rules[0].prepare.scrub",
            "nvme-sanitize would wipe the drive under all its VFs",
        ),
        (RULE + "    prepare: {blank: 'md5:0a'}\n", 6, "rules[0].prepare.blank", "is 'md5:0a'; expected is sha256:"),
        (
            RULE.replace("whole", "ignore") + "    prepare: {keep: true}\n",
            6,
            "rules[0].prepare",
            "goes with mode whole or vf",
        ),
        (RULE.replace("name: a", "name: 5"), 3, "rules[0].name", "is 5; expected is a name of letters, digits"),
        (RULE.replace("name: a", "name: a b"), 3, "rules[0].name", "is 'a b'; expected is a name of letters, digits"),
        (RULE + "    resource_class: VGPU\n", 6, "rules[0].resource_class", "is 'VGPU'; expected is PGPU, FPGA, SRIOV"),
        (
            RULE + "    resource_class: CUSTOM_a\n",
            6,
            "rules[0].resource_class",
            "is 'CUSTOM_a'; expected is PGPU",
        ),
        (RULE + "    traits: CUSTOM_A\n", 6, "rules[0].traits", "is 'CUSTOM_A'; expected is a list of traits"),
        (
            RULE + "    traits:\n      - CUSTOM_A\n      - GOLD\n",
            8,
            "rules[0].traits[1]",
            "is 'GOLD'; expected is",
        ),
        (RULE + "    traits: [CUSTOM_DEVAGENT_X]\n", 6, "rules[0].traits[0]", "names that begin with CUSTOM_DEVAGENT"),
        (RULE + "    traits: [COMPUTE_MANAGED_PCI_DEVICE]\n", 6, "rules[0].traits[0]", "expected is CUSTOM_ followed"),
        (RULE + "    vf_count: many\n", 6, "rules[0].vf_count", "is 'many'; expected is a number of VFs, 0 to 65535"),
        (RULE + "    vf_count: -1\n", 6, "rules[0].vf_count", "is -1; expected is a number of VFs, 0 to 65535"),
        (RULE + "    vf_count: true\n", 6, "rules[0].vf_count", "is True; expected is a number of VFs, 0 to 65535"),
        (RULE + "    vf_indexes: 3\n", 6, "rules[0].vf_indexes", "is 3; expected is VF indexes in quotes"),
        (RULE + '    vf_indexes: "7-3"\n', 6, "rules[0].vf_indexes", "the range 7-3 runs backwards"),
        (RULE + '    vf_indexes: "0,x"\n', 6, "rules[0].vf_indexes", "'x' is no VF index and no range such as 0-7"),
        (RULE + '    vf_indexes: ""\n', 6, "rules[0].vf_indexes", "'' is no VF index and no range such as 0-7"),
        (RULE + "    physical_network: 7\n", 6, "rules[0].physical_network", f"is 7; expected is {NETWORK}"),
        (RULE + "    physical_network: a b\n", 6, "rules[0].physical_network", f"is 'a b'; expected is {NETWORK}"),
        (RULE + "    physical_network: '--'\n", 6, "rules[0].physical_network", f"is '--'; expected is {NETWORK}"),
        (RULE + f"    physical_network: {'n' * 65}\n", 6, "rules[0].physical_network", f"n'; expected is {NETWORK}"),
        # Selectors.
        (matching("{slot: 7}"), 4, "rules[0].match.slot", f"is 7; expected is {PATTERN}"),
        (matching("{serial: 1321020012345}"), 4, "rules[0].match.serial", f"is 1321020012345; expected is {PATTERN}"),
        (
            matching("{vender: '10de'}"),
            4,
            "rules[0].match.vender",
            "is no key that is known here; known are kind",
        ),
        (matching("{kind: card}"), 4, "rules[0].match.kind", "is 'card'; expected is one or a list of gpu, fpga, nic"),
        (matching("{device: 2330}"), 4, "rules[0].match.device", f"is 2330; expected is {IDS}"),
        (matching("{device: 0123}"), 4, "rules[0].match.device", f"is 83; expected is {IDS}"),
        (matching("{device: 1.e+10}"), 4, "rules[0].match.device", f"is 10000000000.0; expected is {IDS}"),
        (matching("{vendor: 0x10de}"), 4, "rules[0].match.vendor", f"is 4318; expected is {IDS}"),
        (matching("{vendor: '10DE'}"), 4, "rules[0].match.vendor", f"is '10DE'; expected is {IDS}"),
        (matching("{device: []}"), 4, "rules[0].match.device", f"is []; expected is {IDS}"),
        (matching("{class: 0302}"), 4, "rules[0].match.class", "is 194; expected is two, four or six lower-case hex"),
        (
            matching("{class: '030'}"),
            4,
            "rules[0].match.class",
            "is '030'; expected is two, four or six",
        ),
        (matching("{address: 0000:17:00.0}"), 4, "rules[0].match.address", f"is 1020.0; expected is {PATTERN}"),
        (matching("{driver: ''}"), 4, "rules[0].match.driver", f"is ''; expected is {PATTERN}"),
        (matching("{numa_node: '0'}"), 4, "rules[0].match.numa_node", "is '0'; expected is a NUMA node's number"),
        (matching("{has_vfs: 1}"), 4, "rules[0].match.has_vfs", "is 1; expected is true or false"),
        (matching("[]"), 4, "rules[0].match", "is []; expected is a mapping of selectors; {} matches every device"),
        # What YAML itself would let pass, or not.
        (RULE + "    mode: vf\n", 6, "rules[0].mode", "is given twice"),
        (RULE + "rules: []\n", 6, "rules", "is given twice"),
        (RULE + RULE.removeprefix(HEAD), 6, "rules[1].name", "'a' is the name of a rule above"),
        (HEAD + "\t- name: a\n", 3, "", "is not YAML: found character '\\t' that cannot start any token"),
        (HEAD + "  - name: 'a\n", 4, "", "is not YAML: found unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", 2, "", "is not YAML: but found another document"),
        ("a: \0\n", 1, "", "is not YAML: unacceptable character"),
        ("a: *b\n", 1, "", "is not YAML: found undefined alias 'b'"),
        ("&a [*a]\n", 1, "", "is not YAML: maximum recursion depth exceeded"),
        ("[" * 1500, 1, "", "is not YAML: maximum recursion depth exceeded"),
        (
            RULE + "    vf_count: !!python/object/apply:os.abort []\n",
            6,
            "rules[0].vf_count",
            "has the tag tag:yaml.org",
        ),
        (HEAD + "  - ? [a]\n    : b\n", 3, "rules[0]", "has a key that is no text"),
        (matching("{<<: 5}"), 4, "", "is not YAML: expected a mapping or list of mappings for merging"),
        (matching("{device: 2024-13-45}"), 1, "", "month must be in 1..12); put it in quotes"),
        (RULE + "    vf_count: !mine 3\n", 6, "rules[0].vf_count", "has the tag !mine, which means nothing here"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_key(text: str, line: int, key: str, problem: str) -> None:
    error = refused(text)
    assert (error.line, error.key) == (line, key)
    assert problem in error.problem
    assert str(error) == f"devices.yaml:{line}: " + (f"{key}: " if key else "") + error.problem


def test_a_few_lines_that_stand_for_more_values_than_memory_has_are_refused() -> None:
    """Each list has ten of the one above; what all that adds up to nobody would wait for."""
    lists = "".join(f"  - &l{depth} [{', '.join([f'*l{depth - 1}'] * 10)}]\n" for depth in range(1, 9))
    error = refused("schema_version: 1\nrules:\n  - &l0 [a]\n" + lists)
    problem = "holds more than 100000 values (aliases counted each time)"
    assert (error.line, error.key, error.problem) == (1, "", problem)


def test_of_a_long_value_as_much_is_shown_as_tells_which_it_is() -> None:
    shown = repr("x" * 78)
    assert refused(matching(f"{{vendor: {'x' * 78}}}")).problem == f"is {shown}; expected is {IDS}"
    assert refused(matching(f"{{vendor: {'x' * 79}}}")).problem == f"is {shown[:-1]}x...; expected is {IDS}"


def test_the_first_of_several_mistakes_is_named() -> None:
    assert refused(HEAD + "  - name: a\n    mode: no\n    match: {vendor: 1}\n").line == 4


def test_a_mistake_in_a_later_rule_has_that_rules_line() -> None:
    error = refused(RULE + "  - name: b\n    match:\n      vendor: '10de'\n      device: 2330\n    mode: whole\n")
    assert (error.line, error.key) == (9, "rules[1].match.device")


def test_an_anchor_repeats_what_stands_above() -> None:
    text = HEAD + "  - {name: a, match: &m {vendor: '10de'}, mode: whole}\n  - {name: b, match: *m, mode: ignore}\n"
    one, other = parse(text, "p").rules
    assert one.match == other.match == Match(vendor=("10de",))


def test_a_file_is_read_and_is_where_its_policy_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text(RULE + "# f\u00fcr alle\n", encoding="utf-8")
    assert read(path) == parse(RULE, str(path))
    path.write_text(RULE + "extra: 1\n")
    with pytest.raises(PolicyError, match=f"{path}:6: extra: "):
        read(path)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "devices.yaml"
    with pytest.raises(ConfigurationError) as absent:
        read(path)
    assert str(absent.value) == f"the policy {path} cannot be read: no such file or directory"
    path.write_bytes(b"schema_version: 1 # f\xfcr alle\n")
    with pytest.raises(ConfigurationError) as other:
        read(path)
    assert str(other.value) == f"the policy {path} cannot be read: it is not UTF-8 text"
