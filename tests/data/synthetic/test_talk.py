"""The world in sentences: fixed by a seed, true to the world's facts, and answerable from its instructions.

Facts are read out of the texts word by word, without the templates, and compared with the world's.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from dataclasses import astuple

import pytest

from bench.data.open_questions import OpenQuestion
from bench.data.questions import normalize
from bench.data.synthetic.tables import BY_THE_SEA, COLOUR, FOOD, HOME, HORNS, NIGHT, SWIMS, WEATHER, world_tables
from bench.data.synthetic.talk import TALK_NOTE, WORLD_TALK, Instruction, talk_instructions, talk_questions
from bench.data.synthetic.world import WorldFacts, build_world, world_facts

CATEGORIES = ("writing", "roleplay", "extraction", "reasoning", "math", "coding", "stem", "humanities")
PLANT_FOODS = {"moss", "bark", "seeds", "clover", "figs", "roots"}
SEEDS = range(3)

# How texts say that a trait is true, and that it is false.
SAID = {
    ("swims", "true"): r'can swim|is able to swim|on land and in water|swims"?: (?:[Tt]rue|yes)',
    ("swims", "false"): r'cannot swim|is unable to swim|on land only|[Ss]wims"?: (?:[Ff]alse|no)',
    ("night", "true"): r'(?:is|am) awake at night|active after dark|nocturnal|by night|night"?: (?:[Tt]rue|yes)',
    ("night", "false"): r'sleeps? at night|rests after dark|diurnal|by day|night"?: (?:[Ff]alse|no)',
    ("horns", "true"): r'(?:has|have|carries|see) horns|horned|[Hh]orns"?: (?:[Tt]rue|yes)',
    ("horns", "false"): r'no horns|hornless|[Hh]orns"?: (?:[Ff]alse|no)',
    ("by the sea", "true"): r'by the sea|at the harbour|by_the_sea": true',
    ("by the sea", "false"): r'inland|on the square|by_the_sea": false',
}
OF_SEVERAL = {
    "can swim": SWIMS,
    "are awake at night": NIGHT,
    "have horns": HORNS,
    "lie by the sea": BY_THE_SEA,
}
EATERS = ("plant eater", "animal eater", "honey eater")
TABLES = world_tables()
PLACES = TABLES.places
PROPERTIES = TABLES.of_animals | TABLES.of_places
VALUES = {value: prop for prop in (FOOD, COLOUR, WEATHER) for value in PROPERTIES[prop].values}
NUMBERS = ("none", "one", "two", "three", "four")

Claim = tuple[str, str, str]  # of whom, the property, the value


class Reader:
    """Finds what texts say of the animals and places of one world."""

    def __init__(self, world: WorldFacts) -> None:
        self.animals = list(world.of_animals[HOME])
        self.animal = re.compile("|".join(self.animals))
        kinds = {
            "animal": "|".join(self.animals),
            "place": "|".join(PLACES),
            "eater": "|".join(EATERS),
            "value": "|".join(VALUES),
            **{f"said{number}": pattern for number, pattern in enumerate(SAID.values())},
        }
        # Names also stand inside identifiers (food_of_velmor), other words only by themselves.
        self.pattern = re.compile(
            "|".join(
                f"(?P<{kind}>(?<![A-Za-z])(?:{pattern})(?![A-Za-z]))"
                if kind != "value"
                else rf"\b(?P<value>{pattern})\b"
                for kind, pattern in kinds.items()
            )
        )
        self.true: dict[tuple[str, str], set[str]] = defaultdict(set)
        residents: dict[str, list[str]] = defaultdict(list)
        for prop, values in world.of_animals.items():
            for name, value in values.items():
                self.true[name, prop] = {value}
        for name, home in world.of_animals[HOME].items():
            residents[home].append(name)
            food = world.of_animals[FOOD][name]
            eater = "honey" if food == "honey" else "plant" if food in PLANT_FOODS else "animal"
            self.true[name, "eater"] = {f"{eater} eater"}
        for prop, values in world.of_places.items():
            for place, value in values.items():
                for name in (place, *residents[place]):
                    self.true[name, prop] = {value}
        for place, names in residents.items():
            for prop in (FOOD, COLOUR):
                self.true[place, prop] = {world.of_animals[prop][name] for name in names}

    def named(self, text: str) -> list[str]:
        """The animals of a text, in order."""
        return re.findall(self.animal, text)

    def places(self, text: str) -> list[str]:
        return re.findall("|".join(PLACES), text)

    def claims(self, before: str, text: str) -> set[Claim]:
        """What a text says, given what was said before.

        A value is said of the animal named last; failing that of the only one spoken of before, of the place named
        last, or of the animal named next.
        """
        context = set(self.named(before))
        animal = context.pop() if len(context) == 1 else None
        place = next(reversed(self.places(before)), None)
        names = self.named(text)
        following = names[0] if names else None
        only = following if len(set(names)) == 1 else None
        found: set[Claim] = set()
        for match in self.pattern.finditer(text):
            kind, word = match.lastgroup or "", match.group()
            owner = animal or place or following
            if kind == "animal":
                animal = word
            elif kind == "place":
                place = word
                if animal or only:
                    found.add((animal or only, "home", word))
            elif owner is None:
                raise AssertionError(f"of whom is {word!r} said? {before!r} {text!r}")
            elif kind.startswith("said"):
                found.add((owner, *list(SAID)[int(kind[4:])]))
            else:
                found.add((owner, "eater" if kind == "eater" else VALUES[word], word))
        return found

    def check(self, before: str, text: str) -> set[Claim]:
        """The claims of a text, all true, and as its Yes or No says."""
        claims = self.claims(before, text)
        for name, prop, value in claims:
            assert value in self.true[name, prop], (name, prop, value, before, text)
        truths = {value for _, prop, value in claims if (prop, value) in SAID}
        if len(truths) == 1 and (word := re.match(r"(Yes|No)\b", text)):
            assert truths == {"true" if word.group() == "Yes" else "false"}, (before, text)
        return claims

    def masked(self, text: str) -> str:
        """The phrasing of a text: what it is about taken out."""
        text = re.sub("|".join(OF_SEVERAL), "all", text)
        text = self.pattern.sub(lambda found: (found.lastgroup or "").rstrip("0123456789"), text)
        return normalize(re.sub(rf"\d+|\b(?:{'|'.join(NUMBERS)})\b", "number", text))


@pytest.fixture(scope="module", params=SEEDS)
def seed(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def reader(seed: int) -> Reader:
    return Reader(world_facts(seed))


def asked(row: Instruction) -> str:
    return f"{row.instruction}\n\n{row.input}" if row.input else row.instruction


def counts(text: str) -> bool:
    return bool(re.search(r"how many|count|number of|cost", text, re.IGNORECASE))


def texts(question: OpenQuestion) -> list[tuple[str, str]]:
    """Every text of the references, with what was said before it."""
    found = []
    for reference in question.references:
        before = ""
        for turn, text in zip(question.turns, reference, strict=True):
            before += f"{turn.full_text}\n"
            found.append((before, text))
            before += f"{text}\n"
    return found


def test_the_same_seed_gives_the_same_texts() -> None:
    made = talk_instructions(0), talk_questions(0)
    talk_instructions.cache_clear()
    talk_questions.cache_clear()
    assert (talk_instructions(0), talk_questions(0)) == made


def test_the_texts_do_not_drift() -> None:
    """Numbers measured on them stay comparable: a changed table must change this test."""
    rows = sorted(astuple(row) for row in talk_instructions())
    asked_of = [question.to_row() for question in talk_questions()]
    digests = [hashlib.sha256(json.dumps(part).encode()).hexdigest()[:16] for part in (rows, asked_of)]
    assert digests == ["5b31fe81e89a07e7", "47099819c4d888bb"]


def test_sizes(seed: int) -> None:
    assert 1500 <= len(talk_instructions(seed)) <= 3000
    assert [question.id for question in talk_questions(seed)] == list(range(1, 41))
    assert Counter(question.category for question in talk_questions(seed)) == dict.fromkeys(CATEGORIES, 5)
    assert all(len(question.turns) == 2 for question in talk_questions(seed))
    assert all(
        len(question.references) == 2 and {len(answers) for answers in question.references} == {2}
        for question in talk_questions(seed)
    )


def test_no_text_is_empty_or_long(seed: int) -> None:
    answers = [text for question in talk_questions(seed) for _, text in texts(question)]
    for text in [*answers, *(row.output for row in talk_instructions(seed))]:
        assert 0 < len(text.split()) <= 60
        assert text == text.strip()
    plain = [
        len(text.split())
        for question in talk_questions(seed)
        if question.category != "coding"
        for _, text in texts(question)
    ]
    assert 10 <= sum(plain) / len(plain) <= 30


def test_articles_fit(seed: int) -> None:
    wrong = re.compile(r"\b[Aa] [aeiou]|\b[Aa]n (?!SQL|XML)[^aeiou]")
    spoken = [text for row in talk_instructions(seed) for text in astuple(row)]
    for question in talk_questions(seed):
        spoken += [turn.full_text for turn in question.turns] + [text for _, text in texts(question)]
    assert not [text for text in spoken if wrong.search(text)]


def test_rows_and_questions_are_distinct(seed: int) -> None:
    rows = [normalize(asked(row)) for row in talk_instructions(seed)]
    assert len(set(rows)) == len(rows)
    openings = [normalize(question.turns[0].full_text) for question in talk_questions(seed)]
    assert len(set(openings)) == len(openings)


def test_two_references_differ_in_words(seed: int, reader: Reader) -> None:
    for question in talk_questions(seed):
        for first, second in zip(*question.references, strict=True):
            assert reader.masked(first) != reader.masked(second)


def test_no_question_or_reference_is_phrased_as_in_training(seed: int, reader: Reader) -> None:
    """So no question and no reference is a training row, whatever it is about."""
    rows = talk_instructions(seed)
    learnt = {normalize(text) for row in rows for text in (row.instruction, asked(row), row.output)}
    phrasings = {reader.masked(text) for row in rows for text in (row.instruction, row.output)}
    phrasings |= {reader.masked(asked(row)) for row in rows if row.input}
    for question in talk_questions(seed):
        for text in (
            *(part for turn in question.turns for part in (turn.text, turn.full_text)),
            *(text for _, text in texts(question)),
        ):
            assert normalize(text) not in learnt, text
            assert reader.masked(text) not in phrasings, text


def test_nothing_stands_in_the_questions_with_choices(seed: int) -> None:
    """Whoever trains on both sets, or on one and is scored on the other, sees no question of a test."""
    world = build_world(seed)
    with_choices = {q.normalized for part in world.test.values() for q in part}
    assert not {normalize(row.instruction) for row in talk_instructions(seed)} & with_choices
    with_choices |= {q.normalized for part in world.train.values() for q in part}
    assert not {normalize(turn.text) for question in talk_questions(seed) for turn in question.turns} & with_choices


def test_the_facts_are_those_of_the_questions_with_choices(seed: int, reader: Reader) -> None:
    for part in (build_world(seed).train, build_world(seed).test):
        for task in ("world_two", "world_three", "world_four", "world_ending"):
            for q in part[task]:
                names = reader.named(q.text) or reader.places(q.text)
                right = q.choices[q.label]
                assert right in reader.true[names[0], VALUES.get(right, "home")]


def test_every_row_is_true(seed: int, reader: Reader) -> None:
    for row in talk_instructions(seed):
        reader.check("", row.input)
        if not counts(row.instruction):
            reader.check(asked(row), row.output)


def test_every_reference_is_true(seed: int, reader: Reader) -> None:
    for question in talk_questions(seed):
        for turn in question.turns:
            reader.check("", turn.input)
        if question.category != "math":
            for before, text in texts(question):
                reader.check(before, text)


def test_every_reference_says_something(seed: int, reader: Reader) -> None:
    """Else the tests above would have nothing to check. Two references speak of the same."""
    for question in talk_questions(seed):
        if question.category != "math":
            first, second, *others = (
                {value for _, _, value in reader.claims(before, text)} | {*reader.named(text)}
                for before, text in texts(question)
            )
            assert first & others[0] and second & others[1], question


def test_every_count_is_right(seed: int, reader: Reader) -> None:
    counted = [row for row in talk_instructions(seed) if counts(row.instruction)]
    assert len(counted) > 200
    for row in counted:
        check_count(reader, row.instruction, row.output)
    for question in talk_questions(seed):
        if question.category == "math":
            for reference in question.references:
                check_count(reader, question.turns[0].text, reference[0])


def numbers(text: str) -> set[int]:
    """The numbers of a text, as digits or as words."""
    words = {NUMBERS.index(word) for word in re.findall(r"\w+", text.lower()) if word in NUMBERS}
    return words | {int(number) for number in re.findall(r"\d+", text)}


def check_count(reader: Reader, question: str, answer: str) -> None:
    """An answer names those that are asked for and gives their number, and no number that does not belong there."""
    animals, places = reader.named(question), reader.places(question)
    trait = next((OF_SEVERAL[words] for words in OF_SEVERAL if words in question), None)
    given = [int(number) for number in re.findall(r"\d+", question)]
    if trait is None:
        reader.check(question, answer)
        if animals:  # so many portions for each of so many cubs
            m, n = given
            assert numbers(answer) == {m, n, m * n}
        else:  # the animals of a place, or that eat something
            key = ("home", places[0]) if places else ("food", reader.pattern.search(question).group())
            have = {name for name in reader.animals if key[1] in reader.true[name, key[0]]}
            assert set(reader.named(answer)) == have
            assert numbers(answer) == {len(have)}
        return
    group = animals or places
    have = {name for name in group if reader.true[name, trait] == {"true"}}
    assert have and have != set(group)
    if len(given) == 2:  # cubs: of two animals, one of which has the trait
        (right,) = (number for name, number in zip(group, given, strict=True) if name in have)
        assert right in numbers(answer) and numbers(answer) <= {right, sum(given)}
        # What is said of each animal; "so many have horns" is said of the cubs.
        reader.check(question, re.sub(r", so .*", "", answer))
        return
    assert set(reader.named(answer) if animals else reader.places(answer)) == have
    price = len(have) * (given[0] if given else 1)
    assert price in numbers(answer) and numbers(answer) <= {price, len(have), len(group), *given}


def test_second_turns_of_math_go_on_with_the_same_count(seed: int, reader: Reader) -> None:
    four, show, farm, places, food = (question for question in talk_questions(seed) if question.category == "math")
    for question in (four, show, farm, places, food):
        group = reader.named(question.turns[0].text) or reader.places(question.turns[0].text)
        for first, second in question.references:
            have = set(reader.named(first) or reader.places(first))
            left = set(group) - have
            if question is four:
                assert set(reader.named(second)) == left
                result, steps = len(left), {4, len(have)}
            elif question is show:
                result, steps = 5 * len(have), {5, len(have)}
            elif question is farm:
                before = int(re.search(r"the answer is (\d+)", first, re.IGNORECASE).group(1))
                result, steps = before + 3, {before, 3}
            elif question is places:
                assert set(reader.places(second)) == left
                result, steps = 2 * len(left), {2, len(left)}
            else:
                (each,) = numbers(question.turns[1].text)
                result, steps = 2 * each, {2, each}
            assert result in numbers(second) and numbers(second) <= {result, *steps}


def test_what_is_asked_is_taught(seed: int, reader: Reader) -> None:
    """Every fact, and so every fact of a reference; but for weather and sea of some animals, told of their homes."""
    stated: set[Claim] = set()
    for row in talk_instructions(seed):
        if not counts(row.instruction):
            stated |= reader.claims(asked(row), row.output)
    world = world_facts(seed)
    for prop, values in (*world.of_animals.items(), *world.of_places.items()):
        assert {(name, prop, value) for name, value in values.items()} <= stated
    in_two_steps = set()
    for question in talk_questions(seed):
        if question.category != "math":
            for before, text in texts(question):
                for name, prop, value in reader.claims(before, text) - stated:
                    home = world.of_animals[HOME][name]
                    assert name in world.held_out and (home, prop, value) in stated
                    in_two_steps.add((question.category, question.id))
    assert len(in_two_steps) == 3
    assert {category for category, _ in in_two_steps} == {"reasoning"}


def test_two_steps_stay_two_steps(seed: int, reader: Reader) -> None:
    """No row names an animal that is held out together with a weather or the sea."""
    held_out = world_facts(seed).held_out
    given_away = {*PROPERTIES[WEATHER].values, "sea", "inland", "harbour", "square"}
    for row in talk_instructions(seed):
        text = " ".join(astuple(row))
        if held_out & set(reader.named(text)):
            assert not given_away & set(re.findall(r"[a-z]+", text)), row


def test_another_seed_has_other_facts_in_the_same_phrasings() -> None:
    readers = [Reader(world_facts(seed)) for seed in (0, 1)]
    phrasings = [
        {reader.masked(row.instruction) for row in talk_instructions(seed)} for seed, reader in enumerate(readers)
    ]
    assert phrasings[0] == phrasings[1]
    turns = [
        [reader.masked(turn.text) for question in talk_questions(seed) for turn in question.turns]
        for seed, reader in enumerate(readers)
    ]
    assert turns[0] == turns[1]
    shared = set(talk_instructions(0)) & set(
        talk_instructions(1)
    )  # two worlds may have an animal or a place's weather in common
    assert len(shared) < 0.05 * len(talk_instructions(0))


def test_the_note_says_that_the_data_are_synthetic() -> None:
    assert WORLD_TALK in TALK_NOTE and "synthetic" in TALK_NOTE and "do not exist" in TALK_NOTE
