"""Paired differences, Holm's correction and steps to a target, held to SciPy, to hand-made examples and to simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxopt_lec.lab.statistics import LEVEL, Verdict, compare_to, holm, paired_difference
from jaxopt_lec.lab.targets import Reached, best_on_every_seed, first_reaching

OURS, THEIRS = [0.91, 0.95, 0.90, 0.97, 0.93], [0.90, 0.91, 0.88, 0.93, 0.94]


def test_a_paired_difference_is_scipy_s() -> None:
    found = paired_difference(OURS, THEIRS)
    expected = stats.ttest_rel(OURS, THEIRS)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert found.mean == pytest.approx(np.mean(OURS) - np.mean(THEIRS))
    assert (found.pairs, found.dropped) == (5, 0)


def test_holm_by_hand() -> None:
    # Sorted: 0.005, 0.01, 0.03, 0.04; times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04 → 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_seeds_that_one_of_the_two_lost_are_dropped() -> None:
    found = paired_difference([0.91, None, 0.90, 0.97, 0.93], [0.90, 0.91, None, 0.93, 0.94])
    assert (found.pairs, found.dropped) == (3, 2)
    assert found.p == pytest.approx(stats.ttest_rel([0.91, 0.97, 0.93], [0.90, 0.93, 0.94]).pvalue)


@pytest.mark.parametrize(
    ("ours", "theirs", "mean", "words"),
    [
        ([0.9], [0.8], 0.1, "no test: 1 seed in common with b"),
        ([0.9, None], [None, 0.8], math.nan, "no test: no seed in common with b"),
        ([0.75, 0.5], [0.5, 0.25], 0.25, "no test: it differs from b by the same on all 2 seeds"),
        # Equal but for rounding: 0.9 − 0.8 and 0.8 − 0.7 are not the same number.
        ([0.9, 0.8, 0.7], [0.8, 0.7, 0.6], 0.1, "no test: it differs from b by the same on all 3 seeds"),
    ],
)
def test_where_there_is_no_test_there_is_no_verdict(ours, theirs, mean: float, words: str) -> None:
    found = compare_to(theirs, {"a": ours}, higher_is_better=True)["a"]
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert (found.p, found.p_holm, found.verdict) == (None, None, Verdict.UNTESTED)
    assert math.isnan(found.low)
    assert found.words("b") == words


def test_equal_runs_are_not_distinguishable() -> None:
    found = compare_to(OURS, {"twin": OURS}, higher_is_better=True)["twin"]
    assert (found.mean, found.p, found.verdict) == (0, 1, Verdict.UNCLEAR)
    assert found.words("adam") == "not distinguishable from adam at 5 seeds"


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_better_and_worse_follow_the_direction(higher_is_better: bool) -> None:
    jitter = np.array([0.001, -0.001, 0.002, 0.0, -0.002])
    base = np.array([0.5, 0.6, 0.55, 0.58, 0.52])
    others = {"above": list(base + 0.1 + jitter), "below": list(base - 0.1 + jitter), "near": list(base + jitter)}
    found = compare_to(list(base), others, higher_is_better)
    better, worse = ("above", "below") if higher_is_better else ("below", "above")
    assert found[better].words("adam") == "better than adam"
    assert found[worse].words("adam") == "worse than adam"
    assert found["near"].verdict is Verdict.UNCLEAR
    assert found["near"].low < 0 < found["near"].high


def test_what_cannot_be_tested_counts_as_a_comparison() -> None:
    alone = compare_to(THEIRS, {"a": OURS}, higher_is_better=True)["a"]
    beside = compare_to(THEIRS, {"a": OURS, "b": [None] * 5}, higher_is_better=True)["a"]
    assert alone.p_holm == alone.p
    assert beside.p_holm == pytest.approx(2 * alone.p)


def test_the_family_wise_error_stays_near_five_percent() -> None:
    """No optimizer differs from any other: how often does a study claim that some does?"""
    random = np.random.default_rng(0)
    studies, comparisons, seeds = 1000, 6, 5
    independent = shared = 0
    for _ in range(studies):
        ours, theirs = random.normal(size=(2, comparisons, seeds))
        p = holm([paired_difference(a, b).p for a, b in zip(ours, theirs, strict=True)])
        independent += min(p) <= LEVEL
        found = compare_to(list(theirs[0]), dict(enumerate(map(list, ours))), higher_is_better=True)
        shared += any(d.verdict in (Verdict.BETTER, Verdict.WORSE) for d in found.values())
    # Standard error: 0.7 %. A baseline that all share makes the tests alike, and Holm's correction stricter than it need be.
    assert 0.03 < independent / studies < 0.07
    assert 0.015 < shared / studies < 0.07


def test_without_a_correction_it_would_not() -> None:
    random = np.random.default_rng(1)
    studies = random.normal(size=(300, 6, 2, 5))
    alarms = [any(paired_difference(ours, theirs).p <= LEVEL for ours, theirs in study) for study in studies]
    assert np.mean(alarms) > 0.15


# --- targets -----------------------------------------------------------------------------------------------------------

STEPS = [20, 40, 60, 80]


def test_the_first_evaluation_that_is_there() -> None:
    scores = np.array([0.1, 0.5, 0.4, 0.9])
    assert first_reaching(STEPS, scores, 0.5, True) == 40  # at least: equal is there
    assert first_reaching(STEPS, scores, 0.51, True) == 80
    assert first_reaching(STEPS, scores, 0.95, True) is None
    assert first_reaching(STEPS, scores, 0.45, False) == 20
    assert first_reaching(STEPS, scores, 0.05, False) is None
    assert first_reaching(STEPS, np.array([np.nan, np.nan, 0.6, np.nan]), 0.5, True) == 60


def test_the_median_counts_those_that_never_were_there_as_later_than_any() -> None:
    assert Reached((20, 40, 60)).median == 40
    assert Reached((20, None, 60)).median == 60
    assert Reached((20, None, None)).median is None
    assert Reached((20, None)).median is None  # half of them: the median lies between 20 and never
    assert Reached((20, 40)).median == 30
    assert Reached(()).median is None
    assert Reached((20, None, 60)).count == 2


def test_what_was_reached_with_every_seed() -> None:
    scores = np.array([[0.2, 0.9, 0.7], [0.3, np.nan, 0.8]])
    assert best_on_every_seed(scores, True) == 0.8
    assert best_on_every_seed(scores, False) == 0.3
    assert best_on_every_seed(np.zeros((0, 3)), True) is None
    assert best_on_every_seed(np.full((1, 3), np.nan), True) is None
