"""Early warning, medication, genomics and telemedicine: edges, traps and refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import pytest

from inference.domain import workitem as ups_states
from inference.domain.care_errors import PopulationError, ReadingError
from inference.domain.workitem import Step, StepState
from inference.services.diagnosis.rules import danger_zone, pharmacogenomics, polygenic
from inference.services.medication.rules import adherence, interactions, schedule
from inference.services.telemedicine.rules import radpeer
from inference.services.vitals.rules import news2, qsofa

WELL = news2.Observations(
    rr=16, spo2=97, is_on_oxygen=False, sbp=120, pulse=75, acvpu="A", temp=37.0
)


@pytest.mark.parametrize("field", ["rr", "spo2", "is_on_oxygen", "sbp", "pulse", "acvpu", "temp"])
def test_a_missing_parameter_makes_news2_incomplete_not_zero(field: str) -> None:
    with pytest.raises(ReadingError) as caught:
        news2.news2(replace(WELL, **{field: None}))
    assert (caught.value.field, caught.value.kind) == (field, "missing")


@pytest.mark.parametrize(
    ("field", "value"),
    [("rr", -1), ("spo2", 101), ("spo2", 0.97), ("temp", 98.6), ("pulse", math.nan),
     ("sbp", math.inf), ("acvpu", "X"), ("temp", 36.05), ("rr", 20.5)],
)  # fmt: skip
def test_what_cannot_be_charted_is_refused(field: str, value) -> None:
    with pytest.raises(ReadingError) as caught:
        news2.news2(replace(WELL, **{field: value}))
    assert (caught.value.field, caught.value.kind) == (field, "impossible")


def test_news2_is_for_sixteen_and_over_and_not_in_pregnancy() -> None:
    for changed in ({"age_a": 15}, {"is_pregnant": True}):
        with pytest.raises(PopulationError):
            news2.news2(replace(WELL, **changed))


def test_scale_two_counts_high_saturation_on_oxygen_only_where_it_is_prescribed() -> None:
    """RCP 2017: 89 % scores 3 on scale 1 and 0 on scale 2."""
    low = replace(WELL, spo2=89)
    assert news2.news2(low).components["spo2"] == 3
    assert news2.news2(replace(low, scale2_prescribed=True)).components["spo2"] == 0
    rich = replace(WELL, spo2=97, is_on_oxygen=True)
    assert news2.news2(rich).components["spo2"] == 0
    assert news2.news2(replace(rich, scale2_prescribed=True)).components["spo2"] == 3


def test_every_charted_value_has_exactly_one_score() -> None:
    bands = {**news2.CHART, "s2air": news2.SCALE2_AIR, "s2o2": news2.SCALE2_OXYGEN}
    for name, rows in bands.items():
        step = 0.1 if name == "temp" else 1
        values = [round(i * step, 1) for i in range(3500)]
        for value in values:
            assert sum(low <= value <= high for low, high, _ in rows) == 1, (name, value)


def test_qsofa_limits_are_inclusive_and_nothing_may_be_missing() -> None:
    assert qsofa.qsofa_points(22, 100, "C") == 3
    assert qsofa.qsofa_points(21, 101, "A") == 0
    for wrong in ((None, 100, "A"), (22, None, "A"), (22, 100, None), (22, 999, "A")):
        with pytest.raises(ReadingError):
            qsofa.qsofa_points(*wrong)


def test_every_eight_hours_is_eight_hours_when_the_clocks_change() -> None:
    new_york = schedule.zone("America/New_York")
    first = datetime(2025, 3, 8, 22, 0, tzinfo=new_york)
    doses = schedule.interval_doses(first, timedelta(hours=8), 4)
    assert {b - a for a, b in pairwise(doses)} == {timedelta(hours=8)}
    assert doses[1].astimezone(new_york).hour == 7  # the local-time rule would say 6


def test_eight_oclock_is_eight_oclock_on_both_sides_of_the_change() -> None:
    doses = schedule.time_of_day_doses(date(2025, 3, 8), [time(8)], 3, "America/New_York")
    local = [dose.astimezone(schedule.zone("America/New_York")).hour for dose in doses]
    assert local == [8, 8, 8]
    assert [dose.hour for dose in doses] == [13, 12, 12]
    assert all(dose.tzinfo is UTC for dose in doses)


def test_a_local_time_that_does_not_exist_is_given_after_the_gap() -> None:
    (dose,) = schedule.time_of_day_doses(date(2025, 3, 9), [time(2, 30)], 1, "America/New_York")
    assert dose == datetime(2025, 3, 9, 7, 30, tzinfo=UTC)  # 03:30 daylight time


@pytest.mark.parametrize(
    "rule", ["FREQ=DAILY", "FREQ=SOMETIMES;COUNT=2", "FREQ=SECONDLY;COUNT=20000", "COUNT=2"]
)
def test_a_rule_without_end_or_sense_is_refused(rule: str) -> None:
    start = datetime(2026, 1, 1, 9, tzinfo=UTC)
    with pytest.raises(PopulationError):
        schedule.expand_rule(start, rule)


@pytest.mark.parametrize(
    "repeat",
    [
        {}, {"period": 8}, {"duration": 1}, {"frequency": 1, "period": 0, "periodUnit": "h"},
        {"when": ["CM"], "timeOfDay": ["08:00:00"]}, {"offset": 30}, {"when": ["C"], "offset": 5},
        {"when": ["TEATIME"]}, {"frequency": 1, "period": 1, "periodUnit": "d", "colour": "red"},
    ],
)  # fmt: skip
def test_half_a_schedule_is_not_said(repeat) -> None:
    with pytest.raises(PopulationError):
        schedule.timing_text(repeat)


def test_schedules_of_the_standards_table_in_words() -> None:
    week = {"frequency": 3, "period": 1, "periodUnit": "wk", "duration": 0.5, "durationUnit": "h"}
    assert schedule.timing_text(week) == "3 times a week for 0.5 hours"
    daily = {"frequency": 1, "period": 1, "periodUnit": "d"}
    assert schedule.timing_text(daily) == "once a day"
    assert schedule.timing_text(daily | {"when": ["CM"]}) == "with breakfast"
    before = daily | {"when": ["ACM"], "offset": 10}
    assert schedule.timing_text(before) == "10 min before breakfast"


def fills(*pairs: tuple[int, int]) -> list[adherence.Fill]:
    start = date(2026, 1, 1)
    return [adherence.Fill(on=start + timedelta(days=day), days=days) for day, days in pairs]


def test_overlapping_supply_is_used_one_after_another() -> None:
    window = adherence.Window(start=date(2026, 1, 1), days=100)
    early = fills((0, 30), (20, 30))
    assert adherence.covered_days(early, window) == 60
    assert adherence.cma7(early, window) == pytest.approx(0.6)
    assert adherence.cma1(fills((0, 30), (20, 30), (25, 1)), window) == pytest.approx(60 / 25)


def test_adherence_without_fills_or_window_is_refused() -> None:
    window = adherence.Window(start=date(2026, 1, 1), days=10)
    for call in (
        lambda: adherence.cma7([], window),
        lambda: adherence.cma1(fills((0, 30)), window),
        lambda: adherence.cma8(fills((-5, 400)), window),
        lambda: adherence.cma7(fills((0, -3)), window),
        lambda: adherence.cma7(fills((0, 30)), replace(window, days=0)),
    ):
        with pytest.raises(PopulationError):
            call()


def test_an_interaction_check_says_what_it_knows_and_what_not() -> None:
    found = interactions.check_pairs(
        {"sertraline": {"SSRI"}, "phenelzine": {"MAOI"}, "herbal tea": set()}
    )
    assert found.found == (("phenelzine", "sertraline", "SSRI with MAOI"),)
    assert (found.n_rules, found.unrecognised) == (15, ("herbal tea",))
    qt = "high-risk QT prolonging"
    assert len(interactions.check_pairs({"a": {qt}, "b": {qt}}).found) == 1
    assert interactions.check_pairs({"a": {qt}}).found == ()


def test_cyp2d6_needs_copy_number_and_follows_the_agreement_of_2019() -> None:
    with pytest.raises(PopulationError, match="copy number"):
        pharmacogenomics.call_gene("CYP2D6", {"rs3892097": "CT"})
    assert pharmacogenomics.cyp2d6_phenotype("*1/*10") == ("Normal Metabolizer", 1.25)
    assert pharmacogenomics.cyp2d6_phenotype("*1/*41") == ("Normal Metabolizer", 1.25)
    assert pharmacogenomics.cyp2d6_phenotype("*1x3/*4")[0] == "Ultrarapid Metabolizer"
    with pytest.raises(PopulationError):
        pharmacogenomics.cyp2d6_phenotype("*1")


def test_positions_that_were_not_typed_are_no_calls() -> None:
    found = pharmacogenomics.call_gene("CYP2C9", {"rs1799853": "CC"})
    assert found.phenotypes == ("Normal Metabolizer",)
    assert found.not_assessed == ("*3", "*13")
    assert pharmacogenomics.call_gene("CYP2C19", {}).result == "not tested"
    assert pharmacogenomics.call_gene("CYP3A5", {"rs776746": "DI"}).result == "unreadable"


@pytest.mark.parametrize(
    ("gene", "genotypes", "phenotype"),
    [
        ("CYP2C19", {"rs4244285": "GG", "rs12248560": "CT"}, "Rapid Metabolizer"),
        ("CYP2C19", {"rs4244285": "GG", "rs28399504": "AG", "rs12248560": "CT"},
         "Intermediate Metabolizer"),
        ("CYP2C9", {"rs1799853": "CT", "rs1057910": "AC"}, "Poor Metabolizer"),
        ("TPMT", {"rs1800462": "CC", "rs1800460": "TT", "rs1142345": "CC"}, "Poor Metabolizer"),
        ("SLCO1B1", {"rs4149056": "TC"}, "Decreased Function"),
        ("CYP3A5", {"rs776746": "CC", "rs10264272": "CC"}, "Poor Metabolizer"),
    ],
)  # fmt: skip
def test_phenotypes_of_the_cpic_tables(gene: str, genotypes, phenotype: str) -> None:
    assert pharmacogenomics.call_gene(gene, genotypes).phenotypes == (phenotype,)


def test_a_result_for_one_hla_allele_is_none_for_another() -> None:
    assert pharmacogenomics.hla_category("carbamazepine", "HLA-B*58:01 negative") == "needs test"
    assert pharmacogenomics.hla_category("carbamazepine", "HLA-B*15:02 negative") == "needs test"
    assert pharmacogenomics.hla_category("allopurinol", "HLA-B*5801 negative") == "standard"
    with pytest.raises(PopulationError):
        pharmacogenomics.hla_category("allopurinol", "carrier")


def test_too_few_matched_variants_give_no_score() -> None:
    weights = [polygenic.Weight(rsid=f"rs{i}", effect_allele="A", effect_weight=0.1)
               for i in range(4)]  # fmt: skip
    assert polygenic.polygenic_score(weights, [2, 1, 0, None]).n_alleles == 6
    for wrong in ([2, 1, None, None], [2, 1, 0], [2, 1, 0, 3], [2, 1, 0, math.nan]):
        with pytest.raises(PopulationError):
            polygenic.polygenic_score(weights, wrong)


def test_the_danger_zone_is_strictly_above_and_not_offered_as_a_scale() -> None:
    assert danger_zone.danger_signs(240, hr=100, rr=20, spo2=92) == ()
    assert danger_zone.danger_signs(240, hr=101, rr=21, spo2=91) == ("hr", "rr", "spo2")
    assert not danger_zone.IS_OFFERED
    with pytest.raises(PopulationError):
        danger_zone.danger_signs(-1, hr=100, rr=20, spo2=97)


@pytest.mark.parametrize("state", list(StepState))
@pytest.mark.parametrize("wanted", list(StepState))
def test_every_state_change_of_a_work_item(state: StepState, wanted: StepState) -> None:
    """DICOM PS3.4 table CC.1.1-2, read row by row, for the holder of the step."""
    table = {
        "SCHEDULED": (0xC303, 0x0000, 0xC310, 0xC310),
        "IN PROGRESS": (0xC303, 0xC302, 0x0000, 0x0000),
        "COMPLETED": (0xC303, 0xC300, 0xB306, 0xC300),
        "CANCELED": (0xC303, 0xC300, 0xC300, 0xB304),
    }
    step = Step(state=state, transaction_uid="1.2", is_reported=True)
    after, status = ups_states.change_state(step, wanted, "1.2")
    assert status == table[state][list(StepState).index(wanted)]
    assert after.state is (wanted if status == 0 else state)


def test_only_the_holder_changes_a_claimed_step() -> None:
    held = Step(state=StepState.IN_PROGRESS, transaction_uid="1.2", is_reported=True)
    assert ups_states.change_state(held, StepState.COMPLETED, "9")[1] == 0xC301
    assert ups_states.update(held, "9") == 0xC301
    unclaimed = Step(state=StepState.SCHEDULED)
    assert ups_states.change_state(unclaimed, StepState.IN_PROGRESS, "")[1] == 0xC301


def test_radpeer_has_no_fourth_point() -> None:
    assert radpeer.needs_internal_review("2b")
    assert not radpeer.needs_internal_review("2a")
    for wrong in ("4", "1a", "2", ""):
        with pytest.raises(PopulationError):
            radpeer.explain(wrong)
