# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent doctor` on hosts with known faults, with broken set-ups, and with the real Placement."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme
from unit.api.authority import Authority

from .cloud import Cloud
from .conftest import HOSTILE, Describe, Devagent, Ran, Write
from .descriptions import GPU, small
from .servers import closed_port, error, serving, versions

PCI = "sys/bus/pci/devices"
GPU_AT, NIC_AT = "0000:3b:00.0", "0000:3c:00.0"

Findings = dict[str, list[tuple[str, str | None, str, str]]]
Doctor = Callable[..., tuple[int, Findings]]
Configure = Callable[..., Path]


@pytest.fixture
def doctor(devagent: Devagent) -> Doctor:
    """Runs the command and gives its exit code, and by check its findings: grade, device, seen, cure."""

    def run(*arguments: str | Path) -> tuple[int, Findings]:
        ran = devagent("doctor", "-o", "json", *arguments)
        assert ran.err == ""
        findings: Findings = {}
        for each in json.loads(ran.out)["findings"]:
            findings.setdefault(each["check"], []).append((each["grade"], each["device"], each["seen"], each["cure"]))
        return ran.code, findings

    return run


@pytest.fixture
def configure(write: Write, tmp_path: Path) -> Configure:
    """Writes devagent.conf with the given [placement] options."""

    def configured(host: str, **options: str) -> Path:
        lines = "".join(f"{name} = {value}\n" for name, value in {"connect_retries": "0", **options}.items())
        state = tmp_path / "state"
        return write("devagent.conf", f"[DEFAULT]\nhost = {host}\nstate_path = {state}\n[placement]\n{lines}")

    return configured


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what fails be tried again at once."""
    monkeypatch.setattr("devagent.placement.patience._BACKOFF", 0.0)


def test_a_captured_host_without_faults_exits_with_0(hosts: dict[str, Path], devagent: Devagent) -> None:
    ran = devagent("doctor", "--root", hosts["gpu8"])
    assert (ran.code, ran.err) == (0, "")  # what needs the machine itself was not to be checked
    lines = ran.out.splitlines()
    grades = {line.split()[0] for line in lines[:-1]}
    assert grades == {"ok", "skipped"}
    assert "ok       vf-count: 14 PFs have 32 VFs, as sriov_numvfs and the policy say" in lines
    assert "skipped  placement: not checked: a captured host" in lines
    assert lines[-1].startswith("ok: ")
    assert "; warning: 0; failed: 0; unknown: 0; skipped: " in lines[-1]


def test_json_is_versioned_sorted_and_the_same_each_time(hosts: dict[str, Path], devagent: Devagent) -> None:
    first, second = (devagent("doctor", "--root", hosts["gpu8"], "-o", "json") for _ in range(2))
    assert first == second
    document = json.loads(first.out)
    assert document["schema_version"] == 1
    assert document["hostname"] == "gpu8.example.org"
    keys = [(each["check"], each["device"] or "", each["seen"]) for each in document["findings"]]
    assert keys == sorted(keys)
    assert {tuple(each) for each in document["findings"]} == {("check", "grade", "seen", "cure", "device")}


def faulty(describe: Describe) -> Path:
    """Writes a host on which much is wrong."""
    gpu = {**GPU, "driver": "nouveau", "driver_override": "vfio-pci"}
    root = describe(small(gpu=gpu))
    (root / PCI / NIC_AT / "sriov_numvfs").write_text("8\n")
    (root / "sys/module/nvidia").mkdir(parents=True)
    (root / "sys/module/nvidia/version").write_text("570.86.15\n")
    (root / "usr/lib64").mkdir(parents=True)
    (root / "usr/lib64/libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.575.57.08")
    (root / "etc/driverctl.d").mkdir(parents=True)
    (root / "etc/driverctl.d" / NIC_AT).write_text("vfio-pci\n")
    return root


def test_each_fault_is_found_and_has_a_cure(describe: Describe, doctor: Doctor) -> None:
    code, findings = doctor("--root", faulty(describe))
    assert code == 1
    amiss = {check: (grade, device) for check, ((grade, device, *_), *_) in findings.items() if grade != "ok"}
    for check in ("vfio", "state", "services", "placement"):
        assert amiss.pop(check) == ("skipped", None)
    assert amiss == {
        "driver-override": ("warning", GPU_AT),
        "driverctl": ("warning", NIC_AT),
        "drivers": ("warning", GPU_AT),
        "nvidia": ("failed", None),
        "vf-count": ("failed", NIC_AT),
    }
    assert all(cure for ((grade, *_, cure), *_) in findings.values() if grade in ("warning", "failed"))


def test_the_cure_stands_below_what_was_seen(describe: Describe, devagent: Devagent) -> None:
    lines = devagent("doctor", "--root", faulty(describe)).out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("failed   vf-count: "))
    assert lines[at] == f"failed   vf-count: {NIC_AT}: sriov_numvfs is 8, but there are 4 VFs"
    assert lines[at + 1].startswith("           cure: ")
    assert f"/{PCI}/{NIC_AT}/sriov_numvfs" in lines[at + 1]


def test_what_the_policy_wants_is_compared(describe: Describe, doctor: Doctor, write: Write) -> None:
    text = "schema_version: 1\nrules:\n- {name: net, match: {kind: nic}, mode: vf, vf_count: 8}\n"
    code, findings = doctor("--root", describe(small()), "--policy", write("p.yaml", text))
    assert code == 0
    ((grade, device, seen, _),) = findings["vf-count"]
    assert (grade, device, seen) == ("warning", NIC_AT, "rule net wants 8 VFs, but there are 4")


def test_a_broken_configuration_is_one_finding_and_all_else_is_checked(
    describe: Describe, doctor: Doctor, write: Write
) -> None:
    config = write("devagent.conf", "[inventory]\nnest = deep\n")
    code, findings = doctor("--root", describe(small()), "--config-file", config)
    assert code == 1
    ((grade, _, seen, _),) = findings["configuration"]
    assert grade == "failed"
    assert "nest" in seen
    assert findings["iommu"][0][0] == "ok"


def test_a_broken_policy_is_named_with_line_and_key(describe: Describe, doctor: Doctor, write: Write) -> None:
    path = write("p.yaml", "schema_version: 1\nrules:\n- name: a\n  match: {}\n  mode: halve\n")
    code, findings = doctor("--root", describe(small()), "--policy", path)
    assert code == 1
    ((grade, _, seen, _),) = findings["policy"]
    assert grade == "failed"
    assert seen.startswith(f"{path}:5: rules[0].mode: ")


def test_a_damaged_file_of_identities_is_found(describe: Describe, doctor: Doctor) -> None:
    root = describe(small())
    (root / "var/lib/devagent").mkdir(parents=True)
    (root / "var/lib/devagent/identities.json").write_text("{")
    code, findings = doctor("--root", root)
    assert code == 1
    ((grade, _, seen, _),) = findings["identities"]
    assert grade == "failed"
    assert "is damaged" in seen


def test_what_discovery_cannot_read_is_unknown(describe: Describe, doctor: Doctor) -> None:
    root = describe(small())
    (root / PCI / GPU_AT / "numa_node").write_bytes(b"\xff")
    code, findings = doctor("--root", root)
    assert code == 4
    ((grade, device, seen, _),) = findings["scan"]
    assert (grade, device, seen) == ("unknown", GPU_AT, "numa_node is not text [pci]")


def test_nothing_moves_the_cursor_of_the_terminal(describe: Describe, devagent: Devagent) -> None:
    root = describe(small(name=HOSTILE))
    (root / PCI / GPU_AT / "driver_override").write_text("\x1b[2J\u202e\n")
    for form in ("table", "json"):
        ran = devagent("doctor", "--root", root, "-o", form)
        assert not set(ran.out) & set("\x1b\x07\x9b\u202e")
        assert "driver-override" in ran.out


def test_this_machine_itself_can_be_checked(devagent_process: Devagent, tmp_path: Path, write: Write) -> None:
    config = write("devagent.conf", f"[DEFAULT]\nstate_path = {tmp_path}\n")
    ran: Ran = devagent_process("doctor", "-o", "json", "--config-file", config)
    assert ran.code in (1, 4)
    document: dict[str, Any] = json.loads(ran.out)
    found = {each["check"]: each for each in document["findings"]}
    assert {"configuration", "policy", "scan", "iommu", "vfio", "identities", "state", "services"} <= found.keys()
    assert (found["state"]["grade"], found["state"]["seen"]) == ("ok", f"{tmp_path} can be written")
    assert found["placement"]["grade"] == "failed"  # nothing says how to reach it
    assert "auth_type" in found["placement"]["seen"]
    assert not any("captured" in each["seen"] for each in document["findings"])


def test_placement_answers_and_knows_the_host(cloud: Cloud, configure: Configure, doctor: Doctor) -> None:
    config = configure(cloud.name, auth_type="admin_token", endpoint=cloud.url, token="admin")
    _, findings = doctor("--config-file", config)
    ((grade, _, seen, _),) = findings["placement"]
    assert grade == "ok"
    assert cloud.name in seen


def test_placement_knows_no_such_host(empty_cloud: Cloud, configure: Configure, doctor: Doctor) -> None:
    config = configure(empty_cloud.name, auth_type="admin_token", endpoint=empty_cloud.url, token="admin")
    code, findings = doctor("--config-file", config)
    ((grade, _, seen, cure),) = findings["placement"]
    assert (code, grade) == (1, "failed")
    assert empty_cloud.name in seen
    assert "nova-compute" in cure


def test_placement_does_not_answer(configure: Configure, doctor: Doctor) -> None:
    url = closed_port()
    code, findings = doctor("--config-file", configure("h", auth_type="admin_token", endpoint=url, token="t"))
    ((grade, _, seen, cure),) = findings["placement"]
    assert (code, grade) == (1, "failed")
    assert url in seen
    assert "curl" in cure


def test_placement_refuses_the_credentials(configure: Configure, doctor: Doctor) -> None:
    with serving(versions("1.39", error(403))) as url:
        code, findings = doctor("--config-file", configure("h", auth_type="admin_token", endpoint=url, token="t"))
    ((grade, _, _, cure),) = findings["placement"]
    assert (code, grade) == (1, "failed")
    assert "credentials" in cure


@pytest.fixture
def set_up(write: Write, tmp_path: Path) -> Callable[..., Path]:
    """Writes devagent.conf with sections of the given options, and no Placement that would answer."""

    def written(**sections: dict[str, object]) -> Path:
        state: dict[str, dict[str, object]] = {"DEFAULT": {"state_path": tmp_path / "state"}, **sections}
        lines = [
            f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in each.items()) for name, each in state.items()
        ]
        return write("devagent.conf", "".join(lines))

    return written


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, object]:
    """What [api] needs to be reached from other hosts."""
    authority = Authority(tmp_path / "tls")
    cert, key = authority.issue("compute7.example.org")
    who = {"auth": "certificate", "tls_client_ca": authority.cacert, "client_names": "relay.example.org"}
    return {"listen": "192.0.2.7:9443", "tls_cert": cert, "tls_key": key, **who}


def test_a_certificate_that_will_do_is_told_with_its_end(
    doctor: Doctor, set_up: Callable[..., Path], tls: dict[str, object]
) -> None:
    _, findings = doctor("--config-file", set_up(api=tls))
    ((grade, _, seen, _),) = findings["api"]
    assert (grade, "192.0.2.7:9443" in seen, "its certificate ends in " in seen) == ("ok", True, True)


@pytest.mark.parametrize(
    ("days", "grade", "said"), [(-1, "failed", "certificate has expired"), (5, "warning", "certificate ends in 4 days")]
)
def test_a_certificate_whose_end_is_near_or_past_is_found(
    doctor: Doctor, set_up: Callable[..., Path], tls: dict[str, object], days: int, grade: str, said: str
) -> None:
    now = datetime.now(UTC)
    made = trustme.CA().issue_cert(
        "compute7.example.org", not_before=now - timedelta(2), not_after=now + timedelta(days)
    )
    made.cert_chain_pems[0].write_to_path(str(tls["tls_cert"]))
    made.private_key_pem.write_to_path(str(tls["tls_key"]))
    _, findings = doctor("--config-file", set_up(api=tls))
    ((found, _, seen, cure),) = findings["api"]
    assert (found, said in seen, "systemctl reload devagent" in cure) == (grade, True, True)


def test_a_key_that_is_not_there_fails_as_the_agent_would(
    doctor: Doctor, set_up: Callable[..., Path], tls: dict[str, object]
) -> None:
    code, findings = doctor("--config-file", set_up(api={**tls, "tls_key": "/nowhere/key.pem"}))
    ((grade, _, seen, _),) = findings["api"]
    assert (code, grade, seen) == (1, "failed", "[api] tls_key: /nowhere/key.pem: no such file or directory")


def test_an_image_without_its_checksum_is_found(doctor: Doctor, set_up: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.gbs").write_bytes(b"a")
    (folder / "b.gbs").write_bytes(b"b")
    (folder / "b.gbs.sha256").write_text(f"{sha256(b'b').hexdigest()}  b.gbs\n")
    _, findings = doctor("--config-file", set_up(images={"directory": folder}))
    listed, without = findings["images"]
    assert (without[0], without[2].split()[0], "sha256sum a.gbs > a.gbs.sha256" in without[3]) == (
        "warning",
        "a.gbs",
        True,
    )
    assert listed[::2] == ("ok", f"1 in {folder}")


def test_a_glance_that_does_not_answer_is_found(doctor: Doctor, set_up: Callable[..., Path]) -> None:
    options = {"auth_type": "none", "endpoint_override": closed_port(), "connect_retries": 0}
    code, findings = doctor("--config-file", set_up(glance=options))
    ((grade, _, seen, _),) = findings["glance"]
    assert (code, grade, seen.startswith("Glance cannot be reached")) == (1, "failed", True)
