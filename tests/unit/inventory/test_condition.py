# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Health over time: worse is believed at once, better only after clean checks, silence never."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devagent.inventory.condition import Rules, follow, resume, settled
from devagent.inventory.operators import clear, verdict
from devagent.model.claim import Mode
from devagent.model.device import Decision, Share
from devagent.model.health import Condition, End, Health, Kept, State
from devagent.model.occurrence import AerError, DriverLoaded, PcieError, Xid

from ..worlds import claim, managed, pf
from .conditions import ADDRESS, DEAD, OUT_OF_PROCESSOR, SICK, SUSPECT, WELL, Patient, fatal, given_away, gpu

STOPPED = Xid(ADDRESS, 46, "GPU stopped processing", 0.0)
NAME = gpu().key


def test_what_is_worse_is_believed_at_once() -> None:
    assert Patient().looks(WELL, SUSPECT, SICK, DEAD) == ["healthy", "suspect", "unhealthy", "lost"]


def test_it_is_over_only_after_clean_checks_in_a_row() -> None:
    patient = Patient()
    assert patient.looks(SICK, WELL, WELL, SICK, WELL, WELL) == ["unhealthy"] * 6
    assert patient.condition.clean == 2
    assert patient.looks(WELL) == ["healthy"]
    assert patient.condition.clean == 0


def test_what_is_better_but_not_well_is_what_remains_after_the_checks() -> None:
    assert Patient().looks(SICK, SUSPECT, SUSPECT, SUSPECT) == ["unhealthy"] * 3 + ["suspect"]


def test_since_tells_when_the_state_began() -> None:
    patient = Patient()
    patient.looks(SICK)
    began = patient.now
    patient.looks(SICK, WELL)
    assert patient.condition.since == began


def test_another_state_begins_with_the_look_that_finds_it() -> None:
    patient = Patient()
    patient.looks(WELL, WELL, SICK)
    assert patient.condition.since == patient.now


def test_of_several_troubles_the_one_with_the_fewest_clean_checks_says_how_many_there_were() -> None:
    patient = Patient()
    patient.looks(SICK)
    patient.look(gpu(files={"current_link_width": "8", "max_link_width": "16"}))
    assert sorted(each.clean for each in patient.condition.troubles) == [0, 1]
    assert patient.condition.clean == 0


def test_what_nothing_monitors_is_so_since_the_first_look() -> None:
    patient = Patient()
    patient.looks(None)
    began = patient.now
    patient.looks(None)
    assert patient.condition.since == began


def test_silence_is_no_clean_check() -> None:
    patient = Patient()
    patient.looks(SICK)
    assert patient.looks(*[None] * 5) == ["unhealthy"] * 5
    assert patient.health.reasons[-1] == "nothing watches it now: `devagent health clear` once it is cured"


def test_a_good_link_ends_nothing_that_the_driver_found() -> None:
    patient = Patient()
    patient.looks(SICK)
    linked = {"current_link_width": "16", "max_link_width": "16"}
    assert [patient.look(gpu(None, files=linked)) for _ in range(5)] == ["unhealthy"] * 5


def test_a_link_that_got_its_lanes_back_is_over_though_nothing_else_watches() -> None:
    patient = Patient()
    narrow, wide = ({"current_link_width": width, "max_link_width": "16"} for width in ("8", "16"))
    assert [patient.look(gpu(None, files=files)) for files in (narrow, wide, wide, wide)] == ["suspect"] * 3 + [
        "unmonitored"
    ]


def test_the_recovery_action_must_be_none_before_anything_is_over() -> None:
    patient = Patient()
    patient.looks(SICK, action="gpu reset")
    assert patient.looks(WELL, WELL, WELL, action="drain p2p") == ["unhealthy"] * 3
    assert patient.looks(WELL, WELL, WELL) == ["unhealthy"] * 3  # it said so before, and now says nothing
    assert patient.looks(WELL, WELL, WELL, action="none") == ["unhealthy"] * 2 + ["healthy"]


def test_an_action_that_is_no_longer_named_is_not_none() -> None:
    patient = Patient()
    patient.looks(SICK, action="none")
    assert patient.looks(WELL, WELL, WELL) == ["unhealthy"] * 3


def test_a_recovery_is_over_only_when_nothing_else_is_wrong() -> None:
    patient = Patient()
    patient.look(gpu(), PcieError(ADDRESS, "failed_recovery"), PcieError(ADDRESS, "successful_recovery"))
    assert patient.looks(*[SUSPECT] * 5) == ["unhealthy"] * 5


def test_a_storm_of_different_errors_is_bounded_and_the_worst_of_them_stays() -> None:
    patient = Patient()
    patient.look(gpu(), STOPPED, *[Xid(ADDRESS, number, "", 0.0) for number in range(500, 600)])
    assert len(patient.condition.troubles) <= 20
    assert patient.state == "unhealthy"


def test_looks_that_an_event_caused_find_what_is_worse_and_end_nothing() -> None:
    patient = Patient()
    assert patient.look(gpu(SICK), checked=()) == "unhealthy"
    assert [patient.look(gpu(), checked=()) for _ in range(5)] == ["unhealthy"] * 5
    assert [patient.look(gpu(), checked=[ADDRESS]) for _ in range(3)] == ["unhealthy"] * 2 + ["healthy"]


def test_a_monitor_that_fell_silent_is_told_and_forgiven_at_once() -> None:
    patient = Patient()
    assert patient.looks(WELL, None) == ["healthy", "unmonitored"]
    assert patient.health.reasons == ("the driver nvidia told how it is before, and says nothing now",)
    assert patient.looks(WELL) == ["healthy"]


def test_what_was_never_monitored_or_is_given_away_is_no_complaint() -> None:
    fresh, away = Patient(), Patient()
    fresh.looks(None)
    away.looks(WELL)
    away.look(given_away())
    assert fresh.health == away.health == Health(State.UNMONITORED)


@pytest.mark.parametrize(("fenced", "well"), [(SICK, WELL), (DEAD, WELL), (SICK, SUSPECT)])
def test_a_device_that_goes_to_and_fro_stays_unhealthy_until_it_is_cleared(fenced: Health, well: Health) -> None:
    patient = Patient(Rules(clean_checks=1, flap_window=1800))
    patient.looks(*[fenced, well] * 4)
    assert patient.state == "unhealthy"
    assert patient.health.reasons[0] == (
        "flapping: unhealthy again 3 times within 30 min; clear it with `devagent health clear`"
    )
    assert patient.looks(*[WELL] * 50)[-1] == "unhealthy", "though it is long over"
    patient.book = clear(patient.book, NAME, "uid 0", patient.now)
    assert patient.looks(WELL, SICK, WELL) == ["healthy", "unhealthy", "healthy"]


def test_after_a_clear_the_next_time_is_the_first() -> None:
    patient = Patient(Rules(clean_checks=1, flap_limit=1))
    patient.looks(SICK, WELL)
    patient.book = clear(patient.book, NAME, "uid 0", patient.now)
    assert patient.looks(WELL, SICK, WELL) == ["healthy", "unhealthy", "healthy"]


def test_a_limit_of_one_time_is_reached_the_first_time_however_long_it_was_well_before() -> None:
    patient = Patient(Rules(clean_checks=1, flap_limit=1))
    assert patient.looks(SICK, WELL, WELL, SICK, WELL) == ["unhealthy", "healthy", "healthy", "unhealthy", "unhealthy"]


def test_flapping_that_was_just_found_can_be_cleared() -> None:
    patient = Patient(Rules(clean_checks=1, flap_limit=1))
    patient.looks(SICK, WELL, SICK)
    patient.book = clear(patient.book, NAME, "uid 0", patient.now)
    assert patient.looks(WELL) == ["healthy"]


def test_one_that_stays_unhealthy_does_not_go_to_and_fro() -> None:
    patient = Patient(Rules(clean_checks=1))
    assert patient.looks(SICK, WELL, SICK, SICK, SICK, SICK, WELL)[-1] == "healthy"


def test_a_limit_of_no_times_is_none() -> None:
    patient = Patient(Rules(clean_checks=1, flap_limit=0))
    assert patient.looks(*[SICK, WELL] * 9)[-1] == "healthy"
    assert len(patient.condition.flaps) == 1, "nor does the state grow"


def test_flaps_that_are_far_apart_do_not_add_up() -> None:
    patient = Patient(Rules(clean_checks=1, flap_window=200))
    for _ in range(10):
        patient.looks(SICK, WELL)
        patient.now += 200
    assert patient.looks(WELL) == ["healthy"]
    assert patient.condition.flaps == ()


def test_a_clock_that_was_ahead_keeps_no_flap_for_ever() -> None:
    patient = Patient(Rules(clean_checks=1))
    patient.looks(SICK, WELL, SICK, WELL)
    patient.now -= 10 * 365 * 86400
    patient.looks(WELL)
    assert patient.condition.flaps == (patient.now,)
    assert patient.condition.since == patient.now
    patient.now += 3600 - 60
    patient.looks(WELL)
    assert not patient.condition.flaps, "an hour is over"


def test_no_step_of_the_clock_ends_a_trouble() -> None:
    for step in (-1e9, 1e9):
        patient = Patient()
        patient.looks(SICK)
        patient.now += step
        assert patient.looks(WELL, WELL, WELL) == ["unhealthy"] * 2 + ["healthy"]


def test_new_fatal_pcie_errors_make_it_unhealthy_and_others_suspect() -> None:
    patient = Patient()
    states = [patient.look(gpu(files=fatal(*totals))) for totals in ((0, 0), (0, 2), (1, 2))]
    assert states == ["healthy", "suspect", "unhealthy"]
    assert patient.health.reasons == ("1 fatal PCIe error since the last look (AER)",)
    assert [patient.look(gpu(files=fatal(1, 2))) for _ in range(3)] == ["unhealthy"] * 2 + ["healthy"]


def test_counters_that_fell_begin_anew() -> None:
    patient = Patient()
    assert [patient.look(gpu(files=fatal(*totals))) for totals in ((0, 9), (0, 3), (0, 4))] == [
        "healthy",
        "healthy",
        "suspect",
    ]


def test_fatal_errors_from_before_the_first_look_make_it_suspect_for_some_checks() -> None:
    patient = Patient()
    assert [patient.look(gpu(files=fatal(2, 7))) for _ in range(4)] == ["suspect"] * 3 + ["healthy"]


def test_the_log_is_believed_only_where_there_are_no_counters() -> None:
    error = AerError(ADDRESS, True, 0.0)
    told, counted = Patient(), Patient()
    assert told.look(gpu(), error) == "unhealthy"
    assert counted.look(gpu(files=fatal(0)), error) == "healthy"


def test_a_recovery_makes_it_suspect_until_it_succeeded() -> None:
    patient = Patient()
    assert patient.look(gpu(), PcieError(ADDRESS, "begin_recovery")) == "suspect"
    assert patient.looks(*[WELL] * 5) == ["suspect"] * 5
    assert patient.look(gpu(), PcieError(ADDRESS, "successful_recovery")) == "suspect"
    assert patient.looks(WELL, WELL, WELL) == ["suspect"] * 2 + ["healthy"]


@pytest.mark.parametrize("health", [WELL, None])
def test_a_recovery_that_failed_lasts_until_the_device_was_away(health: Health | None) -> None:
    """Of what nothing monitors, being there again is all that can be known."""
    patient = Patient()
    patient.look(gpu(health), PcieError(ADDRESS, "begin_recovery"), PcieError(ADDRESS, "failed_recovery"))
    assert patient.looks(*[health] * 5) == ["unhealthy"] * 5
    patient.look(None)
    assert patient.looks(*[health] * 3) == ["unhealthy"] * 2 + ["healthy" if health else "unmonitored"]


def test_a_vf_that_is_not_recovered_closes_no_other_vf() -> None:
    of, vf, *_ = pf(2, driver="mlx5_core")
    nic = managed(of, claim=claim(of))
    book = follow([nic], {}, [PcieError(vf.address, "failed_recovery")], 1.0, Rules())
    health = settled([nic], book, 1.0)[0].health
    assert health.state is State.SUSPECT
    assert f"its VF 0 ({vf.address})" in health.reasons[0]


@pytest.mark.parametrize("number", [13, 31, 43, 45, 94])
def test_a_storm_of_programs_errors_is_harmless(number: int) -> None:
    storm = [Xid(ADDRESS, number, f"pid={pid}, name=python3, Ch 00000008", float(pid)) for pid in range(20_000)]
    patient = Patient()
    assert patient.look(gpu(), *storm) == "healthy"
    (evidence,) = patient.condition.evidence
    assert (evidence.times, evidence.at) == (20_000, 19_999.0)
    assert str(evidence).endswith("pid=19999, name=python3, Ch 00000008 (20000 times)")


def test_a_storm_hides_no_other_evidence() -> None:
    patient = Patient()
    patient.look(gpu(), STOPPED, *[Xid(ADDRESS, 13, "", float(at)) for at in range(100)])
    assert [each.subject for each in patient.condition.evidence] == ["xid 46", "xid 13"]


def test_without_a_recovery_action_the_table_decides_and_only_a_reset_ends_it() -> None:
    patient = Patient()
    assert patient.look(gpu(), STOPPED) == "unhealthy"
    assert patient.health.reasons == (
        "XID 46: the GPU stopped processing: end what uses it, then nvidia-smi --gpu-reset or reboot this host",
    )
    assert patient.looks(*[WELL] * 9) == ["unhealthy"] * 9


def test_where_the_driver_names_a_recovery_action_xids_are_only_evidence() -> None:
    patient = Patient()
    assert patient.look(gpu(action="none"), STOPPED) == "healthy"
    assert patient.condition.evidence[0].text.startswith("XID 46: the GPU stopped processing")
    assert patient.look(gpu(), STOPPED) == "healthy", "it named one before, and is only silent now"
    later = Patient()
    later.look(gpu())
    later.look(gpu(action="none"))
    assert later.look(gpu(), STOPPED) == "healthy"


def test_another_driver_may_name_no_recovery_action() -> None:
    patient = Patient()
    patient.look(gpu(action="none"))
    patient.look(given_away())
    assert patient.look(gpu(), STOPPED) == "unhealthy"


@pytest.mark.parametrize(("number", "state"), [(62, "unhealthy"), (79, "lost"), (119, "unhealthy"), (120, "unhealthy")])
def test_what_nvml_is_blind_to_counts_whatever_it_says(number: int, state: str) -> None:
    patient = Patient()
    assert patient.look(gpu(action="none"), Xid(ADDRESS, number, "", 0.0)) == state
    assert patient.looks(*[WELL] * 5, action="none") == [state] * 5


def test_an_xid_of_one_mig_instance_is_evidence_that_names_it() -> None:
    patient = Patient()
    assert patient.look(gpu(), Xid(ADDRESS, 95, "Uncontained", 0.0, "GI 5 CI 0")) == "healthy"
    assert "(GI 5 CI 0): Uncontained" in patient.condition.evidence[0].text


def test_an_xid_of_another_gpu_is_nothing_of_this_one() -> None:
    patient = Patient()
    assert patient.look(gpu(), replace(STOPPED, address="0000:af:00.0")) == "healthy"
    assert patient.condition.evidence == ()


def test_the_operators_word_on_an_xid_counts() -> None:
    words = {46: "ignore", 13: "unhealthy", 45: "suspect"}
    for number, state in ((46, "healthy"), (13, "unhealthy"), (45, "suspect")):
        assert Patient(Rules(xids=words)).look(gpu(action="none"), Xid(ADDRESS, number, "", 0.0)) == state


def test_another_driver_in_between_resets_a_gpu() -> None:
    patient = Patient()
    patient.look(gpu(), OUT_OF_PROCESSOR)
    assert patient.look(given_away()) == "unhealthy"
    assert patient.look(given_away()) == "unhealthy"
    assert patient.looks(WELL, WELL, WELL) == ["unhealthy"] * 2 + ["healthy"]


def test_a_driver_that_cannot_be_read_is_no_other_driver() -> None:
    patient = Patient()
    patient.look(gpu(), STOPPED)
    patient.look(gpu(driver=None, unread=frozenset({"driver"})))
    assert patient.looks(*[WELL] * 9) == ["unhealthy"] * 9


@pytest.mark.parametrize("action", [None, "drain p2p"])
def test_a_recovery_action_that_is_not_named_again_was_not_obeyed(action: str | None) -> None:
    patient = Patient()
    patient.look(gpu(SICK, "gpu reset"), OUT_OF_PROCESSOR)
    patient.looks(WELL, action=action)
    assert End.RESET in {each.end for each in patient.condition.troubles}


def test_a_device_that_was_away_is_back_for_good() -> None:
    """Only once it was a reset, and from then on it is there."""
    patient = Patient()
    for device in (gpu(), None, gpu()):
        patient.look(device)
    assert patient.condition.gone is None
    patient.look(gpu(), STOPPED)
    assert patient.looks(*[WELL] * 9)[-1] == "unhealthy"


def test_a_recovery_action_that_was_obeyed_was_a_reset() -> None:
    patient = Patient()
    patient.look(gpu(SICK, "gpu reset"), OUT_OF_PROCESSOR)
    assert patient.looks(WELL, WELL, WELL, action="none") == ["unhealthy"] * 2 + ["healthy"]


def test_a_module_that_was_loaded_anew_was_a_reset_for_what_came_before_it() -> None:
    before, after = Patient(), Patient()
    before.look(gpu(), STOPPED, DriverLoaded(1.0))
    after.look(gpu(), DriverLoaded(1.0), STOPPED)
    assert before.looks(*[WELL] * 3)[-1] == "healthy"
    assert after.looks(*[WELL] * 3)[-1] == "unhealthy"


def rebooted(patient: Patient, boot: str = "another") -> None:
    patient.book = resume(Kept(patient.book, "one", 77), boot).book


def test_a_reboot_is_a_reset_and_clean_checks_follow() -> None:
    patient = Patient()
    patient.look(gpu(), OUT_OF_PROCESSOR)
    patient.look(gpu(), PcieError(ADDRESS, "failed_recovery"))
    rebooted(patient)
    assert patient.looks(WELL, WELL, WELL) == ["unhealthy"] * 2 + ["healthy"]


def test_a_reboot_cures_nothing_that_a_monitor_found_and_no_flapping() -> None:
    found, flapping = Patient(), Patient(Rules(clean_checks=1))
    found.looks(SICK)
    flapping.looks(*[SICK, WELL] * 4)
    for patient in (found, flapping):
        rebooted(patient)
        assert patient.looks(*[None] * 5)[-1] == "unhealthy"


def test_clean_checks_before_a_reboot_count_for_nothing_after_it() -> None:
    patient = Patient()
    patient.looks(SICK, WELL, WELL)
    rebooted(patient)
    assert patient.looks(WELL, WELL, WELL) == ["unhealthy"] * 2 + ["healthy"]


def test_what_happens_after_a_reboot_before_the_driver_can_be_read_was_reset_by_nothing() -> None:
    patient = Patient()
    patient.looks(WELL)
    rebooted(patient)
    patient.look(gpu(driver=None, unread=frozenset({"driver"})), STOPPED)
    assert patient.looks(*[WELL] * 9) == ["unhealthy"] * 9


def test_a_reboot_is_what_the_driver_asked_for() -> None:
    patient = Patient()
    patient.looks(SICK, action="gpu reset")
    rebooted(patient)
    assert patient.looks(WELL, WELL, WELL) == ["unhealthy"] * 2 + ["healthy"]


def test_the_first_boot_of_which_anything_is_known_is_none_after_another() -> None:
    patient = Patient()
    patient.look(gpu(), OUT_OF_PROCESSOR)
    assert resume(Kept(patient.book), "one") == Kept(patient.book, "one")
    assert resume(Kept(patient.book, "one"), "two").boot_id == "two"


def test_a_restart_is_no_reboot() -> None:
    patient = Patient()
    patient.look(gpu(), OUT_OF_PROCESSOR)
    kept = resume(Kept(patient.book, "one", 77), "one")
    assert kept == Kept(patient.book, "one", 77)
    assert resume(kept, "two").log_position is None
    assert resume(kept, None) == kept  # the boot id cannot be read: nothing follows


def test_counters_of_another_boot_are_nothing_to_compare_with() -> None:
    patient = Patient()
    patient.look(gpu(files=fatal(0)))
    rebooted(patient)
    assert patient.look(gpu(files=fatal(0, 4))) == "healthy"


def test_a_device_that_is_missing_is_remembered_for_thirty_days() -> None:
    patient = Patient()
    patient.look(gpu(SICK))
    patient.look(None)
    patient.now += 30 * 86400 - 60 - 1
    patient.look(None)
    assert patient.condition.health == SICK
    patient.now += 1 - 60
    patient.look(None)
    assert patient.book == {}


def test_of_too_many_that_are_gone_the_latest_are_remembered_and_what_is_there_counts_for_none() -> None:
    """A host whose NVMe drives come and go must not fill its state with what it once had."""
    gone = {f"gone {number}": Condition(since=0.0, gone=float(number)) for number in reversed(range(256))}
    book = follow([gpu()], gone, (), 1000.0, Rules())
    assert book.keys() == {*gone, NAME}
    assert follow([gpu()], book, (), 1500.0, Rules()).keys() == book.keys(), "nor does it count later"
    assert follow([], book, (), 2000.0, Rules()).keys() == book.keys() - {"gone 0"}


def test_what_is_missing_in_an_incomplete_look_may_only_be_unread() -> None:
    patient = Patient()
    patient.look(gpu(), OUT_OF_PROCESSOR)
    assert follow([], patient.book, (), patient.now, patient.rules, complete=False) == patient.book


def test_a_device_that_is_not_in_the_book_keeps_its_own_health() -> None:
    device = replace(gpu(), health=SICK)
    assert settled([device], {}, 1.0) == (device,)
    assert verdict(Patient(book=follow([device], {}, (), 1.0, Rules())).condition, 1.0) == WELL


UNREAD = Decision(False, "unknown: nvml could not be read; what was reported of it stays", unknown=True)


def test_a_sick_device_that_cannot_be_read_is_closed_as_it_was_given() -> None:
    """NVML tells nothing of a GPU off the bus, and hangs on one whose system processor does."""
    traits = [f"CUSTOM_{letter}" for letter in "ABCDEFGH"]
    patient, given = Patient(), replace(gpu().decision, traits=frozenset(traits))
    patient.look(replace(gpu(), decision=given))
    unread = replace(gpu(DEAD), decision=UNREAD)
    patient.look(unread)
    decision = settled([unread], patient.book, patient.now)[0].decision
    assert (decision.managed, decision.resource_class, decision.total, decision.mode) == (True, "PGPU", 1, "whole")
    assert decision == replace(given, reason=f"{UNREAD.reason}; it is closed as it was given before")
    assert patient.condition.given is not None
    assert list(patient.condition.given.traits) == traits, "in their order: else the file is another each time"
    patient.looks(WELL, WELL, WELL)
    well = replace(gpu(), decision=UNREAD)
    assert settled([well], patient.book, patient.now)[0].decision == UNREAD


def test_a_sick_device_that_can_be_read_is_decided_about_as_any_other() -> None:
    patient = Patient()
    patient.look(gpu())
    patient.look(gpu(SICK))
    assert settled([gpu(SICK)], patient.book, patient.now)[0].decision == gpu(SICK).decision


def test_a_sick_device_of_several_classes_that_cannot_be_read_is_closed_in_each() -> None:
    shares = (Share("CUSTOM_VGPU_A", 4, 2), Share("CUSTOM_VGPU_B", 2))
    made = Decision(True, "r", "r", Mode.VGPU, "CUSTOM_VGPU_A", 4, shares=shares)
    patient = Patient()
    patient.look(replace(gpu(), decision=made))
    unread = replace(gpu(DEAD), decision=UNREAD)
    patient.look(unread)
    assert settled([unread], patient.book, patient.now)[0].decision.given == shares


@pytest.mark.parametrize(
    "decision",
    [
        Decision(False, "rule r ignores it", "r"),
        Decision(False, "Nova gives it", "r", Mode.WHOLE, "PGPU", 1, owner="nova"),
        Decision(True, "no VFs exist", "r", Mode.VF, "CUSTOM_VF", 0),
    ],
    ids=["ignored", "Nova's", "it had none to give"],
)
def test_a_sick_device_that_was_not_given_is_not_given_because_it_cannot_be_read(decision: Decision) -> None:
    patient = Patient()
    ignored = replace(gpu(), decision=decision)
    for device in (gpu(), ignored, replace(gpu(DEAD), decision=UNREAD)):
        patient.look(device)
    assert settled([patient.last], patient.book, patient.now)[0].decision == UNREAD


def test_evidence_says_when_it_began_and_ended() -> None:
    patient = Patient()
    patient.looks(WELL, SICK, SICK, WELL, WELL, WELL)
    assert [each.text for each in patient.condition.evidence] == [SICK.reasons[0], "driver: well again"]
    assert all(trouble.end is End.CHECKS for trouble in patient.condition.troubles)
