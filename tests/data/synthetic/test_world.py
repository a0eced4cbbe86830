"""The invented world: fixed by a seed, balanced, free of shortcuts, and answerable from its training set."""

import math
import re
from collections import Counter

import pytest

from bench.data.questions import Question, render
from bench.data.synthetic.tables import world_tables
from bench.data.synthetic.world import ANIMALS, TASK_NOTE, WORLD_TASKS, World, build_world
from bench.hashing import short_hash

TABLES = world_tables()
ANIMAL_NAMES = {start + end for start in TABLES.name_starts for end in TABLES.name_ends}


@pytest.fixture(scope="module")
def world() -> World:
    return build_world()


def keys(world: World) -> list[str]:
    return [q.key for part in (world.train, world.test) for questions in part.values() for q in questions]


def all_of(part: dict[str, tuple[Question, ...]]) -> list[Question]:
    return [question for questions in part.values() for question in questions]


def test_the_same_seed_is_the_same_world(world: World) -> None:
    assert keys(build_world(0)) == keys(world)


def test_the_world_does_not_drift(world: World) -> None:
    """Numbers measured on this world stay comparable: a changed table must change this test."""
    assert world.test["world_four"][0].key == "0bf06385b1c8ffdd"
    assert [short_hash(*keys(build_world(seed))) for seed in (0, 1)] == ["94e003b26a05189d", "ef9180c8e711169c"]


def test_another_seed_is_another_world(world: World) -> None:
    other = build_world(1)
    shared = set(keys(other)) & set(keys(world))  # two worlds may have an animal in common
    assert len(shared) < 0.05 * len(keys(world))
    assert {task: len(questions) for task, questions in other.train.items()} == {
        task: len(questions) for task, questions in world.train.items()
    }


def test_sizes(world: World) -> None:
    assert set(world.train) == set(world.test) == set(WORLD_TASKS)
    assert len(all_of(world.train)) > 3000
    assert {len(questions) for questions in world.test.values()} == {84}
    assert all(q.task == task for part in (world.train, world.test) for task, qs in part.items() for q in qs)


@pytest.mark.parametrize("seed", range(5))
def test_no_test_question_is_trained_or_asked_twice(seed: int) -> None:
    world = build_world(seed)
    for form in ("normalized", "normalized_with_choices"):
        trained = [getattr(q, form) for q in all_of(world.train)]
        tested = [getattr(q, form) for q in all_of(world.test)]
        assert not set(trained) & set(tested)
    assert len(set(keys(world))) == len(keys(world))


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_balanced_in_every_task(seed: int) -> None:
    world = build_world(seed)
    for part in (world.train, world.test):
        for task, questions in part.items():
            counts = Counter(q.label for q in questions)
            assert len(counts) == len(questions[0].choices), task
            assert len(set(counts.values())) == 1, (task, counts)


def test_who_sees_only_the_choices_is_at_chance(world: World) -> None:
    """Exactly: among the questions with the same choices, in this order, each is right equally often."""
    for part in (world.train, world.test):
        for task, questions in part.items():
            right = Counter((q.choices, q.label) for q in questions)
            for q in questions:
                assert len({right[q.choices, i] for i in range(len(q.choices))}) == 1, (task, q)


@pytest.mark.parametrize("seed", range(5))
def test_choice_frequencies_and_lengths_learnt_in_training_do_not_help(seed: int) -> None:
    """Within three standard errors of chance, for scorers fitted on the choices of the training questions."""
    world = build_world(seed)
    for task, questions in world.test.items():
        n, size = len(questions), len(questions[0].choices)
        right = Counter(q.choices[q.label] for q in world.train[task])
        wins = Counter((len(q.choices[q.label]), q.label) for q in world.train[task])
        bound = 3 * math.sqrt(n * (1 / size) * (1 - 1 / size))
        for score in (
            lambda q, i, right=right: right[q.choices[i]],
            lambda q, i, wins=wins: wins[len(q.choices[i]), i],
            lambda q, i: len(q.choices[i]),
            lambda q, i: -len(q.choices[i]),
        ):
            hits = sum(max(range(size), key=lambda i, q=q, s=score: s(q, i)) == q.label for q in questions)
            assert abs(hits - n / size) <= bound, (task, hits)


def test_every_question_renders_in_both_formats(world: World) -> None:
    for question in [*all_of(world.train), *all_of(world.test)]:
        for format in ("question", "llm_adapters"):
            rendered = render(question, WORLD_TASKS[question.task], format)
            assert len(rendered.contexts) == len(rendered.continuations) == len(question.choices)
            texts = [a + b for a, b in zip(rendered.contexts, rendered.continuations, strict=True)]
            assert len(set(texts)) == len(texts)
            assert all(part.strip() for part in [*rendered.contexts, *rendered.continuations])
            assert "{" not in "".join(texts)


def test_questions_are_short(world: World) -> None:
    """So that a sweep on a processor takes minutes."""
    assert max(len(q.text.split()) for q in [*all_of(world.train), *all_of(world.test)]) <= 12


@pytest.mark.parametrize("seed", range(3))
def test_what_is_asked_can_be_learnt(seed: int) -> None:
    """Every asked value is told of its animal in training, or else of the animal's home."""
    world = build_world(seed)
    stated: dict[str, set[str]] = {name: set() for name in [*ANIMAL_NAMES, *TABLES.places]}
    for q in all_of(world.train):
        words = set(re.findall(r"\w+", f"{filled(q)} {q.choices[q.label]}"))
        for name in words & stated.keys():
            stated[name] |= words
    values = {value for words in stated.values() for value in words}
    in_two_steps = 0
    for q in all_of(world.test):
        (name,) = ANIMAL_NAMES & set(re.findall(r"\w+", filled(q)))
        assert stated[name]
        if q.task == "world_true_false":
            continue
        assert values.issuperset(q.choices)
        value = re.findall(r"\w+", q.text)[-1] if q.task == "world_blank" else q.choices[q.label]
        if value not in stated[name]:
            (home,) = stated[name] & set(TABLES.places)
            assert value in stated[home]
            in_two_steps += 1
    assert in_two_steps == 5 * 12


def test_statements_are_as_true_as_their_like_in_training(world: World) -> None:
    """A trait's statements about one animal agree: what is asked in other words was told."""
    truth: dict[tuple[str, str], set[int]] = {}
    for q in [*world.train["world_true_false"], *world.test["world_true_false"]]:
        (trait,) = (trait for trait in ("swim", "night", "horn", "sea") if re.search(rf"\b{trait}", q.text))
        for name in ANIMAL_NAMES & set(re.findall(r"\w+", q.text)):
            truth.setdefault((trait, name), set()).add(q.label)
    assert len(truth) == 4 * ANIMALS
    assert all(len(labels) == 1 for labels in truth.values())


def filled(q: Question) -> str:
    """The text with its blank filled in."""
    return q.text.replace("_", q.choices[q.label])


def test_the_note_says_that_the_data_are_synthetic() -> None:
    assert "synthetic" in TASK_NOTE and "designed" in TASK_NOTE
