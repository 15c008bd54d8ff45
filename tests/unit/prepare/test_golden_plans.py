# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""A few whole plans, as an operator would read them, and how they are brought back."""

from __future__ import annotations

from textwrap import dedent

from devagent.model.claim import Mode
from devagent.model.plan import Plan
from devagent.prepare.planner import release
from devagent.prepare.treatment import Scrub, Treatment
from devagent.prepare.view import Bitstream

from .scenes import H100, H100_NVML, Machine, described_host, lines, on_bus


def there_and_back(machine: Machine, made: Plan) -> tuple[str, str]:
    """Gives a plan and, once it was done, the plan of its release."""
    preparation = machine.prepare(made)
    return lines(made), lines(release(preparation, machine.view()))


def golden(text: str) -> str:
    return dedent(text).strip()


def test_a_gpu_and_a_vf_are_bound_and_brought_back() -> None:
    machine = Machine(described_host("gpu8"))
    vf = machine.group("0000:1b:00.0", at="0000:1b:01.0", vlan="120", trust="true")
    plan, back = there_and_back(machine, machine.planned(machine.group("0000:19:00.0"), vf))
    assert plan == golden("""
        bind 0000:19:00.0 driver=vfio-pci   undo driver=nvidia
        bind 0000:1b:01.0 driver=vfio-pci   undo driver=mlx5_core
        set_vf_attributes 0000:1b:00.0 index=6 vlan=120 trust=1   undo index=6 vlan=0 trust=0
        => PGPU 0000:19:00.0
        => SRIOV_NET_VF 0000:1b:01.0
        locks group:13 group:15 group:44 pf:0000:19:00.0 pf:0000:1b:00.0
    """)
    assert back == golden("""
        reset 0000:19:00.0
        reset 0000:1b:01.0
        set_vf_attributes 0000:1b:00.0 index=6 vlan=0 trust=0
        bind 0000:1b:01.0 driver=mlx5_core
        bind 0000:19:00.0 driver=nvidia
        locks group:13 group:15 group:44 pf:0000:19:00.0 pf:0000:1b:00.0
    """)


def test_two_vgpus_get_a_gpu_instance_each() -> None:
    address = "0000:3b:00.0"
    treatment = Treatment(Mode.VGPU, types={"CUSTOM_VGPU_H100_1_10C": "NVIDIA H100-1-10C"})
    machine = Machine(on_bus(H100, nvml={address: H100_NVML}), {address: treatment})
    plan, back = there_and_back(machine, machine.planned(machine.group(address, 2, mig_profile="1g.10gb")))
    assert plan == golden("""
        create_mig 0000:3b:00.0 profile=1g.10gb   undo profile=1g.10gb
        create_mig 0000:3b:00.0 profile=1g.10gb   undo profile=1g.10gb
        set_vgpu_type 0000:3b:00.4 type=1130   undo type=0
        set_vgpu_type 0000:3b:00.5 type=1130   undo type=0
        => CUSTOM_VGPU_H100_1_10C 0000:3b:00.4
        => CUSTOM_VGPU_H100_1_10C 0000:3b:00.5
        locks group:1 group:2 group:3 pf:0000:3b:00.0
    """)
    assert back == golden("""
        set_vgpu_type 0000:3b:00.5 type=0
        set_vgpu_type 0000:3b:00.4 type=0
        destroy_mig 0000:3b:00.0 profile=1g.10gb placement=1
        destroy_mig 0000:3b:00.0 profile=1g.10gb placement=0
        locks group:1 group:2 group:3 pf:0000:3b:00.0
    """)


def test_an_fpga_card_with_an_image_wiped_afterwards() -> None:
    address, interface = "0000:19:00.0", "38d782e3b6125343b9342433e348ac4c"
    treatment = Treatment(Mode.WHOLE, scrub=Scrub.FPGA_BLANK, blank="sha256:00")
    images = {"nlb": Bitstream("sha256:60", interface), "blank": Bitstream("sha256:00", interface)}
    machine = Machine(described_host("fpga"), {address: treatment}, images)
    plan, back = there_and_back(machine, machine.planned(machine.group(address, bitstream="nlb")))
    image = f"region=region3 port=0 digest=sha256:60 interface={interface}"
    assert plan == golden(f"""
        program_fpga 0000:19:00.0 {image}   undo {image.replace("60", "00")}
        bind 0000:19:00.0 driver=vfio-pci   undo driver=dfl-pci
        => FPGA 0000:19:00.0
        locks group:5 pf:0000:19:00.0
    """)
    assert back == golden(f"""
        reset 0000:19:00.0
        bind 0000:19:00.0 driver=dfl-pci
        program_fpga 0000:19:00.0 region=region3 digest=sha256:00 interface={interface}
        locks group:5 pf:0000:19:00.0
    """)


def test_an_nvme_vf_that_stays_on_vfio_is_sanitized() -> None:
    address = "0000:83:00.0"
    machine = Machine(described_host("zoo"), {address: Treatment(Mode.VF, keep=True, scrub=Scrub.NVME_SANITIZE)})
    plan, back = there_and_back(machine, machine.planned(machine.group(address)))
    assert plan == golden("""
        => CUSTOM_NVME_VF 0000:83:00.1
        locks group:43 pf:0000:83:00.0
    """)
    assert back == golden("""
        reset 0000:83:00.1
        bind 0000:83:00.1 driver=nvme
        scrub 0000:83:00.1 how=nvme-sanitize
        bind 0000:83:00.1 driver=vfio-pci
        locks group:43 pf:0000:83:00.0
    """)
