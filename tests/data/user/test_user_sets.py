"""The user's own sets: guessed columns, labels, what is refused and how; files where sets are named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.questions import alpaca_file, data_of, question_rows
from helpers.sweeps import bench, make_tiny_model

from bench.data import hub
from bench.data.files.row_files import read_rows
from bench.data.user.user_sets import UserSet, load_user_set
from bench.errors import UserError
from bench.sweep.schema import Sweep
from bench.sweep.sections import OwnSet


def load(folder: Path, rows: Sequence[object] | str | bytes, name: str = "own.jsonl", **settings: object) -> UserSet:
    """The training rows of a file of these rows, or of this content."""
    path = folder / name
    if not isinstance(rows, bytes):
        rows = (rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows))).encode()
    path.write_bytes(rows)
    return load_user_set("own", OwnSet.model_validate({"train": str(path), **settings}), ("train",))


def refusal(folder: Path, rows: Sequence[object] | str | bytes, name: str = "own.jsonl", **settings: object) -> str:
    with pytest.raises(UserError) as error:
        load(folder, rows, name, **settings)
    assert "\n" not in error.value.problem and error.value.fix
    return str(error.value)


def labelled(*labels: object, choices: Sequence[object] = ("a", "b", "c")) -> list[object]:
    return [{"question": f"{n}?", "choices": choices, "label": label} for n, label in enumerate(labels)]


def places(user_set: UserSet) -> list[int]:
    return [row.label for row in user_set.train]  # type: ignore[union-attr]


def test_a_mapped_input_that_no_row_has_is_refused(tmp_path: Path) -> None:
    rows = [{"q": "Say it.", "a": "It.", "input": "Loud."}]
    columns = {"instruction": "q", "output": "a", "input": "inputs"}
    message = refusal(tmp_path, rows, columns=columns)
    assert "no row has the column 'inputs'; they have 'q', 'a', 'input'" in message
    assert "data.sets.own.columns.input" in message
    columns = {"messages": "m", "system": "sys"}
    chat = [{"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]
    assert "no row has the column 'sys'" in refusal(tmp_path, [{"m": chat}], columns=columns)
    some = load(tmp_path, [*rows, {"q": "Say more.", "a": "More."}], columns={"instruction": "q", "output": "a"})
    assert [row.turns[0].input for row in some.train] == ["Loud.", ""]  # type: ignore[union-attr]


def test_numeric_labels_count_from_what_fits_all_of_them(tmp_path: Path) -> None:
    assert places(load(tmp_path, labelled(0, 1, 2))) == [0, 1, 2]
    assert places(load(tmp_path, labelled(1, 3, "2"))) == [0, 2, 1]
    assert "counts from 1" in load(tmp_path, labelled(1, 3)).reading
    message = refusal(tmp_path, labelled(1, 2, 1))
    assert "labels such as 1 could each be a number that counts from 0 or a number that counts from 1" in message
    assert "data.sets.own.label_from to 0 or 1" in message
    assert places(load(tmp_path, labelled(1, 2, 1), label_from=1)) == [0, 1, 0]
    assert places(load(tmp_path, labelled(1, 2, 1), label_from=0)) == [1, 2, 1]
    assert "row 2: label 3 is none of the choices" in refusal(tmp_path, labelled(0, 3))


def test_the_test_file_says_what_the_training_labels_count_from(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, labelled(1, 3))))
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, labelled(1, 2))))
    settings = OwnSet(train=str(tmp_path / "train.jsonl"), test=str(tmp_path / "test.jsonl"))
    user_set = load_user_set("own", settings, ("train", "test"))
    assert places(user_set) == [0, 1] and [row.label for row in user_set.test] == [0, 2]


def test_a_number_or_letter_that_is_a_choice_too_must_be_plain(tmp_path: Path) -> None:
    assert places(load(tmp_path, labelled(4, 3, choices=[3, 4, 5]))) == [1, 0]
    both = refusal(tmp_path, labelled(1, 2, choices=[2, 1, 0]), label_from=1)
    assert (
        "1 could each be a number that counts from 1 or its text" in both and "Write each label as a choice's" in both
    )
    assert "could each be a letter or its text" in refusal(tmp_path, labelled("A", choices=["B", "A"]))
    assert places(load(tmp_path, labelled("A", choices={"B": "x", "A": "y"}))) == [1]  # its name, not its place


@pytest.mark.parametrize(
    ("choices", "why"),
    [
        (["a", "b", "a"], "choices 1 and 3 in 'choices' are the same, 'a'"),
        (["a", "a ", "b"], "choices 1 and 2 in 'choices' are the same"),
        (["a", " ", "b"], "choice 2 in 'choices' must be a text, got ' '"),
        (["a", None, "b"], "choice 2 in 'choices' must be a text, got null"),
        (["a"], "'choices' must hold two or more texts"),
        ("a, b", "'choices' must hold two or more texts"),
        ([["a"], ["b"]], "choice 1 in 'choices' must be a text, got ['a']"),
        ("['a' 'b']", "'choices' must hold two or more texts"),
        ("[a, b]", "'choices' is neither JSON nor Python's form of a list"),
        (["a", "\ud83d"], r"choice 2 in 'choices' holds half of a character (\ud83d"),
    ],
)
def test_choices_that_are_none_are_refused(choices: object, why: str, tmp_path: Path) -> None:
    assert f"own.jsonl, row 2: {why}" in refusal(tmp_path, [*labelled("a"), *labelled("a", choices=choices)])  # type: ignore[arg-type]


@pytest.mark.parametrize("label", [None, -1, 1.5, float("nan"), "", "E", "maybe", {"a": 1}, ["a", "b"], 10**400, True])
def test_a_label_that_is_none_is_refused(label: object, tmp_path: Path) -> None:
    assert "own.jsonl, row 3: " in refusal(tmp_path, labelled(0, 2, label))


def test_one_odd_row_does_not_decide_what_the_columns_are(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}+1=", "completion": f"{n + 1}"} for n in range(5)]
    odd = [{"role": "user", "content": "a bare chat"}]
    assert "row 1: no column 'prompt'; it has 'messages'" in refusal(tmp_path, [odd, *rows])
    assert "row 1: no column 'prompt'; it has 'prompt '" in refusal(
        tmp_path, [{"prompt ": "x", "completion": "y"}, *rows]
    )
    some = [{"instruction": "Say.", "output": "It."}] * 9 + [{"instruction": "Say.", "output": "It.", "input": "x"}]
    assert load(tmp_path, some).settings.columns["input"] == "input"  # what few rows have is not dropped


def test_parquet_has_the_keys_of_all_rows_in_every_row(tmp_path: Path) -> None:
    """With null where a row has no such key: turns of two forms, choices with letters and with numbers."""
    import pandas as pd

    turns = [[{"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]]
    turns.append([{"from": "human", "value": "V"}, {"from": "gpt", "value": "B"}])
    pd.DataFrame({"messages": turns}).to_parquet(tmp_path / "chats.parquet")
    chats = load_user_set("own", OwnSet(train=str(tmp_path / "chats.parquet")), ("train",))
    assert [row.answers for row in chats.train] == [("A",), ("B",)]  # type: ignore[union-attr]
    choices = [{"A": "x", "B": "y"}, {"1": "z", "2": "w"}]
    table = pd.DataFrame({"question": ["1?", "2?"], "choices": choices, "answer": ["B", "2"]})
    table.to_parquet(tmp_path / "quiz.parquet")
    quiz = load_user_set("own", OwnSet(train=str(tmp_path / "quiz.parquet")), ("train",))
    assert [(row.choices, row.label) for row in quiz.train] == [(("x", "y"), 1), (("z", "w"), 1)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        (None, "'messages' must be a list of {role, content}, got null"),
        ([], "'messages' must be a list"),
        ("hello", "'messages' must be a list"),
        ("[{'role': 'user'", "'messages' is neither JSON nor Python's form"),
        ([None], "turn 1 in 'messages' must be {role, content}, got null"),
        (["hi", "ho"], "turn 1 in 'messages' must be {role, content}, got 'hi'"),
        ([{"role": "narrator", "content": "x"}], "the role of turn 1 in 'messages' must be user"),
        ([{"role": "user", "content": None}], "the content of turn 1 in 'messages' must be a text, got null"),
        ([{"role": "user"}], "turn 1 in 'messages' has no content"),
        (
            [{"role": "user", "content": "x"}],
            "'messages' must be user and assistant in turns, ending with assistant; got user",
        ),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}],
            "turn 2 in 'messages' calls a tool in a field of its own",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
            "turn 1 in 'messages' has a part that is no text",
        ),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "\ud83d"}],
            r"turn 2 in 'messages' holds half of a character (\ud83d",
        ),
    ],
)
def test_a_chat_that_is_none_is_named_by_row_and_turn(turns: object, why: str, tmp_path: Path) -> None:
    good = [{"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]
    assert f"own.jsonl, row 2: {why}" in refusal(tmp_path, [{"messages": good}, {"messages": turns}])


def test_the_first_three_bad_rows_are_named_and_all_counted(tmp_path: Path) -> None:
    good, *bad = map(json.dumps, labelled("a", "z", None))
    rows = "\n".join([good, *bad, "{", good, '{"question": 5}'])
    message = refusal(tmp_path, rows)
    assert "own.jsonl, row 2: label 'z' is none of the choices" in message
    assert "; row 3: the label must be" in message and "; row 4: not valid JSON" in message
    assert "; 4 of 6 rows are bad" in message and "row 6" not in message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"question": "x", "choices": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
        ('{"question": "x", "choices": ["a", "b"], "label": ' + "1" * 5_000 + "}", "a number has too many digits"),
        ('{"question": "x", "question": "y", "choices": ["a", "b"], "label": 0}', "the key 'question' occurs twice"),
        ('{"question": "\\ud83d", "choices": ["a", "b"], "label": 0}', r"'question' holds half of a character (\ud83d"),
    ],
)
def test_json_that_no_file_should_hold_is_refused_in_a_sentence(content: str, why: str, tmp_path: Path) -> None:
    good = json.dumps(labelled(0)[0])
    assert why in refusal(tmp_path, f"{good}\n{content}\n")
    assert "row 2: " in refusal(tmp_path, f"{good}\n{content}\n")
    assert why in refusal(tmp_path, f"[{good},\n{content}]", "own.json")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("own.xlsx", b"PK", "Save it as CSV"),
        ("own.jsonl.gz", b"\x1f\x8b", "Unpack it"),
        ("own.parquet", b"{}", "is no parquet file"),
        ("own.parquet", b"PAR1 and nothing", "is no parquet file"),
        ("own.csv", "question,answer\n\u00e9?,1\n".encode("latin-1"), "is not utf-8 text: byte 0xe9 in line 2"),
        ("own.csv", b"question,answer,answer\nx,y,z\n", "the header has 'answer' twice"),
        ("own.csv", b"question,answer\nx,y\nx\n", "row 2: it has 1 cells, and the header 2"),
        ("own.csv", b"question,answer\nx,y,z\n", "row 1: it has 3 cells, and the header 2"),
        ("own.csv", b'question,answer\nx,y\n"x,y\n', "row 2: its quotes cannot be read"),
        ("own.csv", b"", "is empty"),
        ("own.json", b"5", "holds no rows but a JSON int"),
        ("own.json", b"nonsense", "is not valid JSON"),
        ("own.json", b"[]", "is empty"),
        ("own.jsonl", b'{"a1": "x", "b1": "y"}', "its columns do not say what they are: 'a1', 'b1'"),
        ("own.jsonl", b'{"question": "x", "answer": ""}', "the answer of every row is empty"),
    ],
)
def test_files_that_cannot_be_read_say_why(name: str, content: bytes, why: str, tmp_path: Path) -> None:
    assert why in refusal(tmp_path, content, name)


def test_a_folder_or_missing_file_is_named(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path, "is a folder"),
        (tmp_path / "no.jsonl", "no data file"),
        ("a\0b.jsonl", "cannot read"),
    ):
        with pytest.raises(UserError, match=why):
            list(read_rows(path))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_files_with_a_byte_order_mark_are_read(encoding: str, tmp_path: Path) -> None:
    table = "question\tanswer\nWas ist ä?\tä\n"
    (row,) = load(tmp_path, table.encode(encoding), "own.tsv").train
    assert (row.turns[0].text, row.answers) == ("Was ist ä?", ("ä",))  # type: ignore[union-attr]


def test_cells_keep_their_characters(tmp_path: Path) -> None:
    """Numbers as they are written, `NA`, quotes, line ends, cells longer than the csv module takes by default."""
    long = "x" * 200_000
    table = f'prompt,completion\n007,NA\n"a ""b"" c","1\r\n2"\nlong,{long}\nnull,1.0\n'
    rows = load(tmp_path, table, "own.csv").train
    assert [(row.prompt, row.answer) for row in rows] == [  # type: ignore[union-attr]
        ("007", "NA"),
        ('a "b" c', "1\r\n2"),
        ("long", long),
        ("null", "1.0"),
    ]


def test_what_the_columns_were_taken_for_is_in_the_plan(tmp_path: Path, tiny_model: Path) -> None:
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text(
        "\n".join(
            json.dumps({"q": row["q"], "options": row["c"], "label": row["a"], "id": i})
            for i, row in enumerate(question_rows(40))
        )
    )
    held = tmp_path / "held.jsonl"
    held.write_text(
        "\n".join(
            json.dumps({"question": row["q"], "choices": row["c"], "label": row["a"]})
            for row in question_rows(9, "other")
        )
    )
    sweep = tmp_path / "s.yaml"
    sweep.write_text(
        f"name: s\nbase_model: {{id: {tiny_model}, dtype: float32}}\nmethods: [lora]\nsamples: 8\n"
        f"data: {{train: {quiz}}}\nevaluation: {{tasks: {held}}}\n"
    )
    done = bench("plan", sweep, "--results", tmp_path)
    assert done.exit_code == 0, done.output
    assert (
        "how quiz is read: question from 'q', choices from 'options', label from 'label' (guessed from the "
        "names of the columns); a numeric label is a number that counts from 0; columns not read: 'id'"
    ) in done.stdout
    assert "questions: held 9" in done.stdout


def test_a_file_is_a_training_set_and_a_task(tmp_path: Path) -> None:
    for name, rows in (("quiz", question_rows(30)), ("exam", question_rows(5, "other"))):
        content = [{"question": row["q"], "choices": row["c"], "label": row["a"]} for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, content)))
    data = data_of({"train": str(tmp_path / "quiz.jsonl")}, tasks=str(tmp_path / "exam.jsonl"))
    assert set(data.pools) == {"quiz"} and set(data.questions) == {"exam"}
    with pytest.raises(UserError, match=r"nothing to be scored on\n.*a file of questions"):
        data_of({"train": str(tmp_path / "quiz.jsonl")})
    with pytest.raises(UserError, match=r"unknown training set 'quiz'\n.*Or give a file, whose name ends with .jsonl"):
        data_of({"train": "quiz"})


def test_files_of_one_name_are_not_confused() -> None:
    sweep = {"name": "t", "base_model": "b", "methods": ["lora"], "samples": 1}
    both = Sweep.model_validate({**sweep, "data": {"train": "a/quiz.csv"}, "evaluation": {"tasks": ["b/quiz.csv"]}})
    assert both.data.sets == {"quiz": OwnSet(train="a/quiz.csv", test="b/quiz.csv")}
    assert Sweep.model_validate(both.resolved()) == both
    with pytest.raises(ValueError, match="would both be the set quiz"):
        Sweep.model_validate({**sweep, "data": {"train": ["a/quiz.csv", "b/quiz.csv"]}})
    with pytest.raises(ValueError, match=r"data\.sets has already"):
        Sweep.model_validate({**sweep, "data": {"train": "quiz.csv", "sets": {"quiz": {"train": "x.csv"}}}})


def test_a_set_that_nothing_uses_is_an_error(tmp_path: Path) -> None:
    sets = {"quiz": {"train": "quiz.jsonl"}}
    with pytest.raises(UserError, match=r"data.sets.quiz is not used: data.train is world\n.*data.train: quiz"):
        data_of({"sets": sets})
    answers = {"questions": "world_talk", "sets": {"mine": {"questions": "q.jsonl"}}}
    with pytest.raises(UserError, match=r"answers\.sets\.mine is not used: answers\.questions is world_talk"):
        data_of({"train": "world"}, answers)


def test_alpaca_may_be_a_table(tmp_path: Path) -> None:
    import pandas as pd

    rows = pd.read_json(alpaca_file(tmp_path))
    rows.to_csv(tmp_path / "alpaca.csv", index=False)
    rows.to_parquet(tmp_path / "alpaca.parquet")
    sets = [
        data_of({"train": "alpaca", "alpaca": str(tmp_path / f"alpaca.{end}")}, {"questions": "world_talk"})
        for end in ("json", "csv", "parquet")
    ]
    assert len({data.fingerprint for data in sets}) == 1


def test_a_hub_data_set_is_guessed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a data set made here, with labels as the hub has them: class labels."""
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    features = {
        "question": Value("string"),
        "choices": Sequence(Value("string")),
        "label": ClassLabel(names=["A", "B"]),
    }
    rows = [{"question": f"{n}?", "choices": ["x", "y"], "label": n % 2} for n in range(4)]
    monkeypatch.setattr(hub, "hub_rows", lambda *_: Dataset.from_list(rows, features=Features(features)))
    user_set = load_user_set("own", OwnSet(hub="owner/name", train="train"), ("train",))
    assert places(user_set) == [0, 1, 0, 1] and "question from 'question'" in user_set.reading


@pytest.mark.slow
def test_a_table_trains_a_cell(tmp_path: Path) -> None:
    """From the file to a record, its columns guessed."""
    model = make_tiny_model(tmp_path / "model")
    (tmp_path / "talk.csv").write_text("question,answer\n" + "".join(f"{n}?,{n}\n" for n in range(12)))
    sweep = tmp_path / "s.yaml"
    sweep.write_text(
        f"name: s\nbase_model: {{id: {model}, dtype: float32}}\nmethods: [{{method: lora, lr: 1e-2}}]\nsamples: 8\n"
        f"data: {{train: {tmp_path / 'talk.csv'}}}\nevaluation: {{tasks: world_two, limit: 4}}\n"
        "costs: {inference: false}\n"
    )
    done = bench("run", sweep, "--results", tmp_path)
    assert done.exit_code == 0, done.output
