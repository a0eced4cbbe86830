"""Statistics of judgments: means with intervals, how well a judge separates good answers from bad ones, the noise of
its ratings, and a ranking from pairwise comparisons.

A question's turns and repeats are one cluster: 160 scores of MT-Bench are 80 clusters.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from bench import statistics
from bench.statistics import LEVEL, RESAMPLES, Interval

MINIMUM_AUC = 0.8
"""A judge with a lower AUC fails its check."""

RIDGE = 0.01
"""Penalty on squared Bradley-Terry strengths. It matters only where a player won or lost every match, which has no
finite maximum without it."""

ELO = 400 / math.log(10)
"""Elo points per unit of Bradley-Terry strength."""


@dataclass(frozen=True)
class Separation:
    """How well a judge's scores separate gold answers from others."""

    auc: float
    """The probability that a gold answer scores above another answer; ties count half."""
    interval: Interval
    """From a bootstrap over questions."""
    gold: int
    """Number of gold answers."""
    others: int

    @property
    def insufficient(self) -> bool:
        return self.auc < MINIMUM_AUC


def interval_over_questions(name: str, values: Sequence[float], questions: Sequence[Hashable]) -> Interval | None:
    """The interval of a mean of scores from a bootstrap over questions; `questions` has the question of each score.
    None with fewer than two questions."""
    clusters = np.array([repr(question) for question in questions])
    if len(set(clusters.tolist())) < 2:
        return None
    answers = statistics.TaskAnswers(np.asarray(values, dtype=float)[None], clusters)
    return statistics.percentile_interval(statistics.resampled_averages({name: answers})[:, 0])


def separation(
    gold: Mapping[Hashable, Sequence[float]], others: Mapping[Hashable, Sequence[float]]
) -> Separation | None:
    """The AUC of gold answers' scores against others' scores, both by question; None without a common question."""
    questions = [question for question in gold if question in others]
    if not questions:
        return None
    wins = np.array([[_wins(gold[first], others[second]) for second in questions] for first in questions])  # (q, q)
    good = np.array([len(gold[question]) for question in questions])  # (q,)
    bad = np.array([len(others[question]) for question in questions])  # (q,)
    samples = np.random.default_rng(0).integers(len(questions), size=(RESAMPLES, len(questions)))
    counts = np.zeros((RESAMPLES, len(questions)))  # how often each sample has each question
    np.add.at(counts, (np.arange(RESAMPLES)[:, None], samples), 1)
    resampled = ((counts @ wins) * counts).sum(axis=1) / ((counts @ good) * (counts @ bad))
    auc = float(wins.sum() / (good.sum() * bad.sum()))
    return Separation(auc, statistics.percentile_interval(resampled), int(good.sum()), int(bad.sum()))


def _wins(good: Sequence[float], bad: Sequence[float]) -> float:
    """In how many pairs the good score is above the bad one; ties count half. The AUC is the share of such pairs (Mann
    and Whitney)."""
    above = np.asarray(good, dtype=float)[:, None] - np.asarray(bad, dtype=float)
    return float((above > 0).sum() + (above == 0).sum() / 2)


def judgment_noise(first: Sequence[float], second: Sequence[float]) -> float:
    """The standard deviation of one rating around the judge's mean rating, from the same answers rated twice."""
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    return float(np.sqrt(np.mean(differences**2) / 2))


def noise_of_mean(deviation: float, judgments: int) -> float:
    """Half-width of the interval of a mean of that many ratings, if the judge's noise alone varies."""
    return float(stats.norm.ppf((1 + LEVEL) / 2)) * deviation / math.sqrt(judgments)


@dataclass(frozen=True)
class Standing:
    """A player's results against the others."""

    player: str
    wins: float
    ties: float
    losses: float
    elo: float
    """Bradley-Terry strength on the Elo scale; the anchor has 0."""
    interval: Interval | None

    @property
    def win_rate(self) -> float:
        """FastChat's adjusted win rate: ties count half."""
        return (self.wins + self.ties / 2) / (self.wins + self.ties + self.losses)


@dataclass(frozen=True)
class Match:
    """Two players' answers to one turn of a question; `won` is 1 for the first, 0 for the second, 0.5 for a tie."""

    first: str
    second: str
    question: Hashable
    won: float


def bradley_terry(players: Sequence[str], matches: Sequence[Match], anchor: str) -> np.ndarray:
    """Strengths (players,) in natural units, the anchor's 0: the maximum of Bradley and Terry's likelihood (1952) with
    a tie as half a win of each, and a very small ridge penalty. Raises ValueError for an anchor that is not a
    player."""
    return _strengths(*_games(players, matches), len(players), players.index(anchor))


def _games(players: Sequence[str], matches: Sequence[Match]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the first and the second players (matches,), and the results (matches,)."""
    place = {name: number for number, name in enumerate(players)}
    first = np.array([place[match.first] for match in matches], dtype=int)
    second = np.array([place[match.second] for match in matches], dtype=int)
    return first, second, np.array([match.won for match in matches])


def _strengths(first: np.ndarray, second: np.ndarray, won: np.ndarray, players: int, anchor: int) -> np.ndarray:
    def loss(strengths: np.ndarray) -> tuple[float, np.ndarray]:
        gap = strengths[first] - strengths[second]
        chance = 1 / (1 + np.exp(-gap))
        value = np.sum(np.logaddexp(0, -gap) * won + np.logaddexp(0, gap) * (1 - won)) + RIDGE * np.sum(strengths**2)
        slope = np.bincount(first, chance - won, players) - np.bincount(second, chance - won, players)
        return float(value), slope + 2 * RIDGE * strengths

    strengths = np.asarray(optimize.minimize(loss, np.zeros(players), jac=True, method="L-BFGS-B").x)
    return strengths - strengths[anchor]


def standings(players: Sequence[str], matches: Sequence[Match], anchor: str, resamples: int = 500) -> list[Standing]:
    """Each player's wins and strength, with the strength's interval from a bootstrap over questions; sorted by
    strength."""
    elo = ELO * bradley_terry(players, matches, anchor)
    first, second, won = _games(players, matches)
    questions = {question: number for number, question in enumerate(dict.fromkeys(m.question for m in matches))}
    of_question = np.array([questions[match.question] for match in matches])
    members = [np.flatnonzero(of_question == number) for number in range(len(questions))]
    random = np.random.default_rng(0)
    resampled = []
    for _ in range(resamples if len(questions) > 1 else 0):
        rows = np.concatenate([members[i] for i in random.integers(len(questions), size=len(questions))])
        resampled.append(ELO * _strengths(first[rows], second[rows], won[rows], len(players), players.index(anchor)))
    table = []
    for number, name in enumerate(players):
        results = np.concatenate([won[first == number], 1 - won[second == number]])
        interval = statistics.percentile_interval(np.array([row[number] for row in resampled])) if resampled else None
        counts = (float((results == 1).sum()), float((results == 0.5).sum()), float((results == 0).sum()))
        table.append(Standing(name, *counts, float(elo[number]), interval))
    return sorted(table, key=lambda standing: -standing.elo)
