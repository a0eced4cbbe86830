"""Formulas against scipy and naive definitions; verdicts against their rule; both against simulations of a known truth.

The simulations are seeded. What they are compared with allows for the error of a share that is estimated from as many
runs: `within` says the 4 s.d. of it.
"""

from __future__ import annotations

import itertools
import math
import time
import zlib

import numpy as np
import pytest
from scipy import optimize, special, stats

from bench import statistics
from bench.statistics import (
    Answers,
    detectable,
    detection_power,
    holm,
    judge,
    mcnemar,
    mean_interval,
    noise_floor,
    p_value,
    percentile_interval,
    question_noise,
    resampled_averages,
    seeds_needed,
    spread,
    tie_power,
    wilson,
)


def within(share: float, n: int) -> float:
    """How far a share estimated from n runs strays: less than this but once in 16,000."""
    return 4 * math.sqrt(share * (1 - share) / n)


# --- Formulas


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (1, 7), (5, 10), (288, 500), (500, 500), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipy_s(correct: int, n: int, level: float) -> None:
    theirs = stats.binomtest(correct, n).proportion_ci(level, method="wilson")
    ours = wilson(correct, n, level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_counts_that_are_none(correct: int, n: int) -> None:
    with pytest.raises(ValueError, match="right answers of"):
        wilson(correct, n)


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [0.3, -0.2, 0.1, 0.9, 0.4]])
def test_mean_interval_and_p_are_the_one_sample_t(values: list[float]) -> None:
    theirs = stats.ttest_1samp(values, 0)
    interval, ours = theirs.confidence_interval(0.95), mean_interval(values)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert p_value(values) == pytest.approx(theirs.pvalue, abs=1e-12)
    assert p_value([-value for value in values]) == p_value(values)
    assert mean_interval(values[:2]) is None and p_value(values[:2]) is None


@pytest.mark.parametrize(
    ("values", "p", "said"),
    [
        ([0.0, 0.0, 0.0], 1.0, "tie"),
        ([1e-14, -1e-14, 3e-14], 1.0, "tie"),  # sums of the same accuracies in another order
        ([2.5, 2.5, 2.5], 0.0, "better"),
        ([-0.1 - 0.2, -0.3, -0.3], 0.0, "tie"),
        ([-2.5, -2.5, -2.5], 0.0, "worse"),
    ],
)
def test_differences_without_a_spread(values: list[float], p: float, said: str) -> None:
    (found,) = judge([values])
    assert (found.p, found.verdict) == (p, said)
    assert (found.interval.low, found.interval.high) == pytest.approx((values[0], values[0]), abs=1e-9)
    assert detectable(spread(values), 3) == 0.0
    assert seeds_needed(values[0], spread(values)) == 3


def test_equal_differences_are_known_to_their_step() -> None:
    (found,) = judge([[-4.5, -4.5, -4.5]], steps=[0.25])
    half = stats.t.ppf(0.975, 2) * 0.25 / math.sqrt(12 * 3)
    assert (found.interval.low, found.interval.high) == pytest.approx((-4.5 - half, -4.5 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(4.5 / (0.25 / math.sqrt(12 * 3)), 2)) and found.verdict == "worse"
    # Unequal ones are further apart than that already.
    assert judge([[1.0, 1.25, 1.0]], steps=[0.25]) == judge([[1.0, 1.25, 1.0]])


def test_question_noise_of_an_average_over_tasks() -> None:
    tasks = [(0.5, 100), (0.25, 400)]
    variance = sum(stats.binom.var(n, p) / n**2 for p, n in tasks) / 4
    assert question_noise(tasks) == pytest.approx(1.959963984540054 * math.sqrt(variance))


def closed_testing(p_values: list[float]) -> list[float]:
    """Holm by what it is: a hypothesis falls where every set of hypotheses that holds it does, by Bonferroni."""
    places = range(len(p_values))
    sets = [one for size in range(1, len(p_values) + 1) for one in itertools.combinations(places, size)]
    return [
        max(min(1.0, len(one) * min(p_values[place] for place in one)) for one in sets if mine in one)
        for mine in places
    ]


def test_holm_is_closed_testing_with_bonferroni() -> None:
    random = np.random.default_rng(0)
    for size in range(1, 8):
        p_values = [float(p) for p in random.random(size) ** 3]
        assert holm(p_values) == pytest.approx(closed_testing(p_values), abs=1e-12)
    assert holm([0.02, 0.02, 0.02]) == pytest.approx([0.06] * 3)  # ties


def test_holm_passes_what_has_no_p_and_does_not_count_it() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, 0.02, None, 0.04]
    assert holm([None]) == [None] and holm([]) == []


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 0), (5, 5), (12, 30)])
def test_mcnemar_by_counting(first: int, second: int) -> None:
    """Of all ways that the discordant questions could have fallen, those as uneven as what was seen."""
    n = first + second
    ways = [math.comb(n, k) for k in range(n + 1)]
    expected = sum(way for way in ways if way <= ways[first]) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1.0, expected), abs=1e-12)


def naive_bootstrap(task: str, answers: Answers, resamples: int) -> list[list[float]]:
    """The same draws, spelled out: a cluster drawn twice has its questions twice."""
    labels = sorted(set(answers.clusters))
    random = np.random.default_rng(zlib.crc32(task.encode()))
    found = []
    for _ in range(resamples):
        times = random.multinomial(len(labels), [1 / len(labels)] * len(labels))
        drawn = [
            place
            for label, count in zip(labels, times, strict=True)
            for _ in range(count)
            for place, its in enumerate(answers.clusters)
            if its == label
        ]
        found.append([sum(row[place] for place in drawn) / len(drawn) for row in answers.correct])
    return found


def some_answers(random: np.random.Generator, rows: int, questions: int, clusters: int) -> Answers:
    labels = np.array([f"c{at}" for at in random.integers(clusters, size=questions)])
    return Answers((random.random((rows, questions)) < 0.6).astype(float), labels)


def test_the_bootstrap_is_its_naive_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    tasks = {"a": some_answers(random, 3, 40, 12), "b": some_answers(random, 3, 25, 25)}
    ours = resampled_averages(tasks, 50)
    theirs = np.mean([naive_bootstrap(name, one, 50) for name, one in tasks.items()], axis=0)
    assert np.abs(ours - theirs).max() < 1e-12
    # Neither the order of the questions nor that of the runs, nor the memory it is given, changes a draw.
    order, runs = random.permutation(40), [2, 0, 1]
    shuffled = Answers(tasks["a"].correct[runs][:, order], tasks["a"].clusters[order])
    other = {"a": shuffled, "b": Answers(tasks["b"].correct[runs], tasks["b"].clusters)}
    assert np.abs(resampled_averages(other, 50) - ours[:, runs]).max() < 1e-12
    monkeypatch.setattr(statistics, "WEIGHTS", 60)
    assert np.array_equal(resampled_averages(tasks, 50), ours)


def test_the_bootstrap_is_scipy_s() -> None:
    random = np.random.default_rng(1)
    questions = np.arange(400).astype(str)
    correct = (random.random((2, 400)) < [[0.6], [0.5]]).astype(float)
    found = resampled_averages({"task": Answers(correct, questions)}, 4000)
    ours = percentile_interval(found[:, 0] - found[:, 1])
    theirs = stats.bootstrap(
        (correct[0] - correct[1],), np.mean, n_resamples=4000, method="percentile", rng=random
    ).confidence_interval
    # Of two sets of 4,000 draws: an end has an s.d. of about 0.04 of the difference's, 0.035.
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_the_bootstrap_of_a_report_is_quick() -> None:
    random = np.random.default_rng(0)
    tasks = {name: some_answers(random, 50, 500, 500) for name in "abcd"}
    begun = time.process_time()
    resampled_averages(tasks)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_the_detectable_difference_is_detected_so_often(n: int) -> None:
    random = np.random.default_rng(n)
    difference = detectable(1.5, n)
    runs = 20_000
    values = random.normal(difference, 1.5, (runs, n))
    shares = (stats.ttest_1samp(values, 0, axis=1).pvalue < 0.05).mean()
    assert abs(shares - 0.8) < within(0.8, runs)
    assert detection_power(difference, 1.5, n) == pytest.approx(0.8, abs=1e-9)
    with pytest.raises(ValueError, match="detects nothing"):
        detectable(1.5, 1)


def test_the_power_where_scipy_has_no_number() -> None:
    """Against the definition, integrated over the s.d. that comes out."""
    middles = (np.arange(20_000) + 0.5) / 20_000
    missing = 0
    for n in (2, 3, 5, 1000):
        deviations = np.sqrt(stats.chi2.ppf(middles, n - 1) / (n - 1))
        limit = special.stdtrit(n - 1, 0.975)
        for shift in np.linspace(0, 100, 101):
            expected = 1 - np.mean(special.ndtr(limit * deviations - shift) - special.ndtr(-limit * deviations - shift))
            assert detection_power(shift / math.sqrt(n), 1.0, n) == pytest.approx(expected, abs=1e-4)
            missing += np.isnan(special.nctdtr(n - 1, shift, -limit))
    assert missing > 50


@pytest.mark.parametrize(("difference", "n"), [(0.0, 12), (0.4, 20), (-0.4, 20)])
def test_the_power_of_a_tie_is_a_near_lower_bound(difference: float, n: int) -> None:
    random = np.random.default_rng(n)
    runs = 20_000
    values = random.normal(difference, 1.0, (runs, n))
    half = special.stdtrit(n - 1, 0.975) * values.std(axis=1, ddof=1) / math.sqrt(n)
    share = (np.abs(values.mean(axis=1)) + half <= 1).mean()
    assert tie_power(difference, 1.0, n) <= share + within(share, runs)
    assert tie_power(difference, 1.0, n) == pytest.approx(share, abs=0.01 + within(share, runs))


def test_seeds_needed_is_the_first_number_that_is_enough() -> None:
    for difference, deviation, comparisons, margin in [(1, 1, 1, 0), (-2, 1, 10, 1), (0.2, 1, 1, 1), (0.9, 2, 3, 1)]:
        found = seeds_needed(difference, deviation, comparisons, margin)

        def power(n: int, setting: tuple = (difference, deviation, comparisons, margin)) -> float:
            difference, deviation, comparisons, margin = setting
            told = detection_power(difference, deviation, n, 1 - 0.05 / comparisons)
            return max(told, tie_power(difference, deviation, n, margin))

        assert found == next(n for n in range(3, 1000) if power(n) >= 0.8) > 3
    assert seeds_needed(0.001, 1, margin=0) is None
    assert seeds_needed(5.0, 0.1) == 3


def test_the_noise_floor_pools_series() -> None:
    series = [[50.0, 51.0, 53.0], [40.0], [60.0, 62.0]]
    squares = sum((value - sum(one) / len(one)) ** 2 for one in series for value in one)
    found = noise_floor(series)
    assert (found.spread, found.degrees) == (pytest.approx(math.sqrt(squares / 3)), 3)
    assert found.difference == pytest.approx(stats.t.ppf(0.975, 3) * math.sqrt(2 * squares / 3))
    assert noise_floor([[50.0], [40.0]]) is None


# --- Verdicts


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([3.0, 3.2, 3.1], "better"),
        ([-3.0, -3.2, -3.1], "worse"),
        ([0.1, 0.2, 0.0], "tie"),
        ([2.0, -1.0, 3.0], "unresolved"),
        ([5.0], "these two runs"),
        ([5.0, 5.1], "these two runs"),
        ([0.3, 0.31, 0.29], "tie"),  # above zero, but no difference that matters
    ],
)
def test_verdicts(differences: list[float], expected: str) -> None:
    assert judge([differences])[0].verdict == expected


def test_a_verdict_is_of_its_family() -> None:
    near = [2.0, 3.5, 2.6]  # p = 0.026 alone
    assert judge([near])[0].verdict == "better"
    among = judge([near, [2.0, -1.0, 3.0], [1.0]])
    assert [one.verdict for one in among] == ["unresolved", "unresolved", "these two runs"]
    assert among[0].p_adjusted == pytest.approx(2 * among[0].p)
    assert among[0].interval.low > 0  # the interval is not adjusted
    assert judge([[0.1, 0.2, 0.0], *[[2.0, -1.0, 3.0]] * 20])[0].verdict == "tie"


# --- Simulations of a known truth


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_over_seeds_cover_what_they_claim(seeds: int) -> None:
    runs = 4000
    values = np.random.default_rng(seeds).normal(0.7, 1.7, (runs, seeds))
    intervals = [mean_interval(row) for row in values.tolist()]
    covered = sum(one.low <= 0.7 <= one.high for one in intervals) / runs
    print(f"intervals over {seeds} seeds cover {covered:.1%}")
    assert abs(covered - 0.95) < within(0.95, runs)


@pytest.mark.parametrize(("comparisons", "seeds"), [(5, 3), (12, 5)])
def test_false_verdicts_of_a_family_are_at_most_one_in_twenty(comparisons: int, seeds: int) -> None:
    """No method differs; all are compared with the same baseline, so their differences go together. With seeds of
    3 points the margin of a tie is seldom reached, which would hide false verdicts."""
    runs = 3000
    random = np.random.default_rng(comparisons)
    scores = random.normal(50, 3, (runs, comparisons + 1, seeds))
    differences = scores[:, 1:] - scores[:, :1]
    families = [judge(family) for family in differences.tolist()]
    false = sum(any(one.verdict in ("better", "worse") for one in family) for family in families) / runs
    assert false <= 0.05 + within(0.05, runs)
    unadjusted = sum(any(one.p < 0.05 for one in family) for family in families) / runs
    print(f"{comparisons} comparisons over {seeds} seeds: a false verdict in {false:.1%}, unadjusted {unadjusted:.1%}")
    assert unadjusted > 0.12  # what the adjustment is for


def test_scores_that_come_in_steps_make_no_more_false_verdicts() -> None:
    """Of many comparisons over three seeds some come to three equal differences, at a mean that is not zero."""
    runs, step = 1000, 0.25
    differences = np.random.default_rng(0).normal(0, 0.5, (runs, 30, 3))
    families = (np.round(differences / step) * step).tolist()
    false = {
        known: sum(
            any(one.verdict in ("better", "worse") for one in judge(family, 0.1, [known] * 30)) for family in families
        )
        / runs
        for known in (0.0, step)
    }
    print(f"a false verdict in {false[step]:.1%} of families, {false[0.0]:.1%} where equal ones are taken to be exact")
    assert false[step] <= 0.05 + within(0.05, runs)
    assert false[0.0] > 0.2  # what the step is for


def moderated(differences: np.ndarray) -> np.ndarray:
    """p values (families, comparisons) of t tests whose variances are drawn towards that of their family, as limma's
    (Smyth 2004, section 6.2), of differences (families, comparisons, seeds)."""
    comparisons, seeds = differences.shape[1:]
    own, degrees = differences.var(axis=2, ddof=1), seeds - 1
    logs = np.log(own) - special.digamma(degrees / 2) + np.log(degrees / 2)
    found = np.empty_like(own)
    for family, (mean, spare) in enumerate(
        zip(logs.mean(axis=1), logs.var(axis=1, ddof=1) - special.polygamma(1, degrees / 2), strict=True)
    ):
        prior, shared = 1e6, np.exp(mean)
        if spare > 0:
            prior = 2 * optimize.brentq(lambda at, spare=spare: special.polygamma(1, at) - spare, 1e-3, 1e6)
            shared = np.exp(mean + special.digamma(prior / 2) - np.log(prior / 2))
        variance = (prior * shared + degrees * own[family]) / (prior + degrees)
        t = np.abs(differences[family].mean(axis=1)) / np.sqrt(variance / seeds)
        found[family] = 2 * stats.t.sf(t, min(prior + degrees, comparisons * degrees))
    return found


def test_each_comparison_is_judged_by_its_own_seeds() -> None:
    """A variance of all comparisons would have more degrees of freedom, and be wrong for the methods whose seeds vary
    more than the others'. Here two thirds of them have an s.d. within 1.65 times the middle one."""
    runs, comparisons = 1000, 38
    random = np.random.default_rng(0)
    deviations = 3 * np.exp(random.normal(0, 0.5, (runs, comparisons, 1)))
    differences = random.normal(50, deviations, (runs, comparisons, 3)) - random.normal(50, 3, (runs, 1, 3))
    families = [judge(family) for family in differences.tolist()]
    false = sum(any(one.verdict in ("better", "worse") for one in family) for family in families) / runs
    pooled = np.sqrt(differences.var(axis=2, ddof=1).mean(axis=1, keepdims=True) / 3)
    by_all = 2 * stats.t.sf(np.abs(differences.mean(axis=2)) / pooled, 2 * comparisons)
    shared = {
        name: (p.min(axis=1) * comparisons < 0.05).mean()
        for name, p in (("pooled", by_all), ("moderated", moderated(differences)))
    }
    others = ", ".join(f"{name} {share:.1%}" for name, share in shared.items())
    print(f"a false verdict in {false:.1%} of families; by the variance of all, {others}")
    assert false <= 0.05 + within(0.05, runs)
    assert min(shared.values()) > 0.08


def test_two_runs_differ_by_seed_alone_as_the_noise_floor_says() -> None:
    runs = 4000
    random = np.random.default_rng(0)
    series = random.normal(50, 1.2, (runs, 2, 3))
    pairs = random.normal(50, 1.2, (runs, 2))
    limits = [noise_floor(one).difference for one in series.tolist()]
    covered = (np.abs(pairs[:, 0] - pairs[:, 1]) <= limits).mean()
    assert abs(covered - 0.95) < within(0.95, runs)


def simulated_sweeps(runs: int, deviation: float) -> np.ndarray:
    """Correct answers (runs, 2 methods, 3 seeds, 2,000 questions) of two equal methods. Questions are of all
    difficulties; a seed moves a run's accuracy by `deviation` points; each run answers a few questions for reasons of
    its own."""
    random = np.random.default_rng(0)
    difficulty = random.random((runs, 1, 1, 2000))
    accuracy = 0.6 + random.normal(0, deviation / 100, (runs, 2, 3, 1))
    own = random.random((runs, 2, 3, 2000))
    # 4 % of the answers have nothing to do with the difficulty: drawn anew, at the same accuracy.
    return np.where(random.random((runs, 2, 3, 2000)) < 0.04, own, difficulty) < accuracy


def test_questions_alone_cover_half_of_what_they_claim_where_seeds_vary() -> None:
    """Why the verdicts are made over seeds (design rule 3): 2,000 questions, 3 seeds, a seed s.d. of 1.2 points."""
    runs = 400
    correct = simulated_sweeps(runs, 1.2)
    # One draw of questions for all runs: their questions are new in each.
    answers = Answers(correct.reshape(runs * 6, 2000).astype(float), np.arange(2000).astype(str))
    averages = resampled_averages({"task": answers}, 500).reshape(500, runs, 2, 3)
    differences = (averages[:, :, 1] - averages[:, :, 0]).mean(axis=2)
    low, high = np.quantile(differences, [0.025, 0.975], axis=0)
    by_questions = ((low <= 0) & (high >= 0)).mean()
    means = 100 * correct.mean(axis=3)
    over_seeds = [mean_interval(one) for one in (means[:, 1] - means[:, 0]).tolist()]
    by_seeds = sum(one.low <= 0 <= one.high for one in over_seeds) / runs
    print(f"questions alone cover {by_questions:.1%}, seeds {by_seeds:.1%}")
    assert 0.40 < by_questions < 0.56
    assert abs(by_seeds - 0.95) < within(0.95, runs)


def test_questions_alone_cover_where_seeds_do_not_vary() -> None:
    """The other half of the argument: the bootstrap itself is right, of what it knows."""
    runs = 400
    correct = simulated_sweeps(runs, 0.0)
    answers = Answers(correct.reshape(runs * 6, 2000).astype(float), np.arange(2000).astype(str))
    averages = resampled_averages({"task": answers}, 500).reshape(500, runs, 2, 3)
    differences = (averages[:, :, 1] - averages[:, :, 0]).mean(axis=2)
    low, high = np.quantile(differences, [0.025, 0.975], axis=0)
    covered = ((low <= 0) & (high >= 0)).mean()
    assert abs(covered - 0.95) < within(0.95, runs) + 0.01  # percentiles of 500


def test_clusters_are_resampled_whole() -> None:
    """Questions of one passage fall together: taken one by one their interval is too narrow, by clusters it covers."""
    runs, clusters, size = 500, 120, 8
    random = np.random.default_rng(0)
    passages = random.normal(0, 0.25, (runs, clusters, 1))
    correct = (random.random((runs, clusters, size)) < 0.5 + passages.clip(-0.5, 0.5)).reshape(runs, -1).astype(float)
    labels = np.repeat(np.arange(clusters), size).astype(str)
    alone = np.arange(clusters * size).astype(str)

    def covered(groups: np.ndarray) -> float:
        low, high = np.quantile(resampled_averages({"t": Answers(correct, groups)}, 500), [0.025, 0.975], axis=0)
        return float(((low <= 0.5) & (high >= 0.5)).mean())

    assert abs(covered(labels) - 0.95) < within(0.95, runs) + 0.01
    assert covered(alone) < 0.86
