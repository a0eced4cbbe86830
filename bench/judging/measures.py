"""What judgments add up to: means in whole clusters, how well a judge tells good from bad, its noise, who wins.

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

USELESS_BELOW = 0.8
"""An AUC below this, and the judge's scores carry a warning."""

RIDGE = 0.01
"""Pulls Bradley-Terry strengths to zero so slightly that it shows only where somebody won or lost every game, where
there would be no finite answer."""

ELO = 400 / math.log(10)
"""Points of an Elo scale for each unit of Bradley-Terry's."""


@dataclass(frozen=True)
class Separation:
    """How well a judge tells gold answers from others."""

    auc: float
    """The chance that a gold answer scores above another one, ties counting half."""
    interval: Interval
    """The question bootstrap's."""
    gold: int
    others: int

    @property
    def useless(self) -> bool:
        return self.auc < USELESS_BELOW


def interval_over_questions(name: str, values: Sequence[float], questions: Sequence[Hashable]) -> Interval | None:
    """The question bootstrap's interval of a mean of scores; `questions` says which question each is of. None without
    two questions."""
    clusters = np.array([repr(one) for one in questions])
    if len(set(clusters.tolist())) < 2:
        return None
    answers = statistics.TaskAnswers(np.asarray(values, dtype=float)[None], clusters)
    return statistics.percentile_interval(statistics.resampled_averages({name: answers})[:, 0])


def separation(
    gold: Mapping[Hashable, Sequence[float]], others: Mapping[Hashable, Sequence[float]]
) -> Separation | None:
    """The AUC of gold answers' scores against others', by question; None where either is missing."""
    questions = [one for one in gold if one in others]
    if not questions:
        return None
    good = [np.asarray(gold[one], dtype=float) for one in questions]
    bad = [np.asarray(others[one], dtype=float) for one in questions]
    random = np.random.default_rng(0)
    drawn = random.integers(len(questions), size=(RESAMPLES, len(questions)))
    found = [_auc(np.concatenate([good[i] for i in row]), np.concatenate([bad[i] for i in row])) for row in drawn]
    all_good, all_bad = np.concatenate(good), np.concatenate(bad)
    interval = statistics.percentile_interval(np.array(found))
    return Separation(_auc(all_good, all_bad), interval, len(all_good), len(all_bad))


def _auc(good: np.ndarray, bad: np.ndarray) -> float:
    """By ranks (Mann and Whitney): ties have the mean of their ranks."""
    ranks = stats.rankdata(np.concatenate([good, bad]))
    above = ranks[: len(good)].sum() - len(good) * (len(good) + 1) / 2
    return float(above / (len(good) * len(bad)))


def noise(first: Sequence[float], second: Sequence[float]) -> float:
    """The s.d. of one judgment about what the judge says on the mean, from the same answers judged twice."""
    apart = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    return float(np.sqrt(np.mean(apart**2) / 2))


def noise_of_mean(deviation: float, judgments: int) -> float:
    """Half-width of the interval in which the mean of so many judgments lies if only the judge's noise moves it."""
    return float(stats.norm.ppf((1 + LEVEL) / 2)) * deviation / math.sqrt(judgments)


@dataclass(frozen=True)
class Standing:
    """How one player fares against the others."""

    player: str
    wins: float
    ties: float
    losses: float
    elo: float
    """Bradley-Terry strength on Elo's scale, the anchor at 0."""
    interval: Interval | None

    @property
    def win_rate(self) -> float:
        """FastChat's adjusted one: ties count half."""
        return (self.wins + self.ties / 2) / (self.wins + self.ties + self.losses)


@dataclass(frozen=True)
class Match:
    """Two players' answers to one turn of a question, and who won: 1 the first, 0 the second, 0.5 neither."""

    first: str
    second: str
    question: Hashable
    won: float


def bradley_terry(players: Sequence[str], matches: Sequence[Match], anchor: str) -> np.ndarray:
    """Strengths (players,) in natural units, the anchor's 0: the maximum of Bradley and Terry's likelihood (1952), a
    tie being half a win of each, with a very weak pull to zero. Raises ValueError for an anchor that is no player."""
    return _strengths(*_games(players, matches), len(players), players.index(anchor))


def _games(players: Sequence[str], matches: Sequence[Match]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    place = {name: number for number, name in enumerate(players)}
    first = np.array([place[one.first] for one in matches], dtype=int)
    second = np.array([place[one.second] for one in matches], dtype=int)
    return first, second, np.array([one.won for one in matches])


def _strengths(first: np.ndarray, second: np.ndarray, won: np.ndarray, players: int, anchor: int) -> np.ndarray:
    def loss(strengths: np.ndarray) -> tuple[float, np.ndarray]:
        gap = strengths[first] - strengths[second]
        chance = 1 / (1 + np.exp(-gap))
        value = np.sum(np.logaddexp(0, -gap) * won + np.logaddexp(0, gap) * (1 - won)) + RIDGE * np.sum(strengths**2)
        slope = np.bincount(first, chance - won, players) - np.bincount(second, chance - won, players)
        return float(value), slope + 2 * RIDGE * strengths

    found = optimize.minimize(loss, np.zeros(players), jac=True, method="L-BFGS-B").x
    return found - found[anchor]


def standings(players: Sequence[str], matches: Sequence[Match], anchor: str, resamples: int = 500) -> list[Standing]:
    """Each player's wins and strength, with the question bootstrap's interval of the strength; the strongest first."""
    found = ELO * bradley_terry(players, matches, anchor)
    first, second, won = _games(players, matches)
    questions = {one: number for number, one in enumerate(dict.fromkeys(match.question for match in matches))}
    of_question = np.array([questions[one.question] for one in matches])
    members = [np.flatnonzero(of_question == number) for number in range(len(questions))]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(resamples if len(questions) > 1 else 0):
        rows = np.concatenate([members[i] for i in random.integers(len(questions), size=len(questions))])
        drawn.append(ELO * _strengths(first[rows], second[rows], won[rows], len(players), players.index(anchor)))
    table = []
    for number, name in enumerate(players):
        mine = np.concatenate([won[first == number], 1 - won[second == number]])
        interval = statistics.percentile_interval(np.array([row[number] for row in drawn])) if drawn else None
        counts = (float((mine == 1).sum()), float((mine == 0.5).sum()), float((mine == 0).sum()))
        table.append(Standing(name, *counts, float(found[number]), interval))
    return sorted(table, key=lambda one: -one.elo)
