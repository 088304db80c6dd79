"""Question answering from files in every form: SQuAD's JSON, rows, Python; windows; what is wrong with data."""

import csv
import json
import random

import pytest
from task_cases import asked, write

import quorem as package
from quorem.cli import main
from quorem.finetuning.questions import Gold, cut, encode_questions
from quorem.models.configuration import QuoremConfig
from quorem.tokenization import TOKENIZERS, Unknown, load_tokenizer, train_tokenizer

SHORT = ["train.max_steps=3", "data.max_length=16", "data.doc_stride=4", "train.precision=fp32"]
ONE_TEXT = 3  # questions


def squad(path, rows, *, v2=False):
    """Rows as SQuAD has them, an article each."""
    data = []
    for row in rows:
        pairs = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        found = {"id": row["id"], "question": row["question"]}
        found["answers"] = [{"text": text, "answer_start": start} for text, start in pairs]
        found |= {"is_impossible": not found["answers"]} if v2 else {}
        data.append({"title": "t", "paragraphs": [{"context": row["context"], "qas": [found]}]})
    path.write_text(json.dumps({"data": data}), encoding="utf-8")
    return path


def table(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question", "context", "answer", "begin"])
        for row in rows:
            answers = row["answers"]
            cells = [*answers["text"], *answers["answer_start"]] or ["", ""]
            writer.writerow([row["id"], row["question"], row["context"], *cells])
    return path


def tune(base, path, out, *more):
    words = ["finetune", "--task", "question_answering", base, path, "--out", out, *SHORT, *more]
    assert main([str(word) for word in words]) == 0
    return json.loads((out / "result.json").read_text())


@pytest.mark.parametrize("lacking", [False, True])
def test_every_form_of_a_file_gives_one_result(base, tmp_path, lacking):
    rows = asked(40, random.Random(0), lacking=lacking)
    results = [
        tune(base, squad(tmp_path / "x.json", rows, v2=lacking), tmp_path / "0"),
        tune(base, write(tmp_path / "x.jsonl", rows), tmp_path / "1"),
        tune(
            base, table(tmp_path / "x.csv", rows), tmp_path / "2", "data.label_column=answer", "data.start_column=begin"
        ),
    ]
    assert results[0] == results[1] == results[2]
    assert results[0]["may_lack_answer"] == lacking
    assert ("never an answer" in results[0]["baselines"]) == lacking
    assert results[0]["ceiling"]["f1"] == 1  # answers are whole words here
    config = package.finetune(
        tmp_path / "1" / "model", rows, out=tmp_path / "3", task="question_answering", steps=1, max_length=16
    ).model.config
    assert config.may_lack_answer == lacking


def test_files_of_a_split_are_told_by_their_names(base, tmp_path):
    rows = asked(40, random.Random(0))
    folder = tmp_path / "data"
    folder.mkdir()
    squad(folder / "train-v1.1.json", rows[:30])
    squad(folder / "dev-v1.1.json", rows[30:])
    assert tune(base, folder, tmp_path / "run")["held_out"] == {"splits": ["dev"], "rows": 10}
    assert tune(base, folder / "train-v1.1.json", tmp_path / "alone")["held_out"] == {"splits": [], "rows": 3}


def test_answers_are_the_characters_of_the_text_and_go_into_json(base, tmp_path):
    rows = asked(40, random.Random(0), lacking=True)
    path, run = squad(tmp_path / "x.json", rows, v2=True), tmp_path / "run"
    tune(base, path, run, "train.max_steps=60", "train.learning_rate=3e-3")
    for name in ("answers.json", "answers.jsonl", "answers.csv"):
        assert main(["predict", str(run), str(path), "--out", str(tmp_path / name)]) == 0
    by_id = json.loads((tmp_path / "answers.json").read_text())
    found = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert by_id == {row["id"]: row["prediction"] for row in found}
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert {"", "w"} == {answer[:1] for answer in by_id.values()}  # both kinds
    for row, given in zip(found, rows, strict=True):
        assert (row["context"], row["answers"]) == (given["context"], given["answers"])
        if row["prediction"]:
            assert row["context"][row["prediction_start"] : row["prediction_end"]] == row["prediction"]
            assert 0 < row["probability"] <= 1
        else:
            assert row["probability"] is row["prediction_start"] is row["prediction_end"] is None
    again = package.load(run).predict([{"question": "w1", "context": rows[1]["context"]}, ("", "w2")])
    assert set(again[0]) == {"prediction", "probability", "prediction_start", "prediction_end"}
    assert again[1]["prediction"] is None


def test_all_questions_of_a_text_are_on_one_side(base, tmp_path):
    rows = asked(20, random.Random(0))
    rows = [row | {"id": f"{row['id']} {number}"} for row in rows for number in range(ONE_TEXT)]
    result = tune(base, write(tmp_path / "x.jsonl", rows), tmp_path / "run", "data.validation_share=0.25")
    assert result["held_out"]["rows"] == 5 * ONE_TEXT


def test_rows_of_which_the_answer_cannot_be_used_are_named_or_skipped(refused, base, tmp_path):
    rows = asked(12, random.Random(0))
    rows[2]["answers"] = {"text": ["nowhere"], "answer_start": [1]}
    rows[4]["answers"]["answer_start"] = [1]
    rows[5]["answers"] = None
    path = write(tmp_path / "x.jsonl", rows)
    words = ["finetune", "--task", "question_answering", base, path, "--out", tmp_path / "run", *SHORT]
    line = refused(*words, after_log=True)
    assert "row 3: the answer 'nowhere' does not stand in 'context': correct it, or skip such rows" in line
    assert main([str(word) for word in [*words, "data.bad_rows=skip"]]) == 0
    assert "nowhere" in (tmp_path / "run" / "bad_rows.txt").read_text()


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        ({"answers": {"text": [], "answer_start": []}}, [], "no question has an answer in 'answers'"),
        (
            {"answers": [[7]]},
            [],
            "row 1: 'answers' is '[[\"7\"]]' (no texts), where an answer is needed, or JSON such as",
        ),
        ({}, ["data.label_column=answer"], "no key 'answer'. Did you mean answers?"),
        ({}, ["data.answer_units=word"], "data.answer_units=word: unknown"),
        ({}, ["data.max_answer_length=0"], "data.max_answer_length=0: a number at least 1"),
        ({}, ["classifier.head=joint"], "classifier.head=joint: unknown"),
    ],
)
def test_what_is_wrong_is_one_line(refused, base, tmp_path, change, more, said):
    path = write(tmp_path / "x.jsonl", [row | change for row in asked(12, random.Random(0))])
    words = ["finetune", "--task", "question_answering", base, path, "--out", tmp_path / "run", *SHORT, *more]
    assert said in refused(*words, after_log=True)
    assert not (tmp_path / "run").exists()


# ---- windows and characters


def windows_of(text, start, end, **changes):
    """Windows over a text of words w0 w1 ..., of which the answer is some."""
    words = text.split()
    tokenizer = train_tokenizer([text, "ask me"], kind="words", vocab_size=90)
    examples = encode_questions(tokenizer, ["ask me"], [text], Unknown())
    first = len(" ".join(words[:start])) + bool(start)
    examples.labels.append(Gold(("x",), (first, first + len(" ".join(words[start:end])))))
    config = QuoremConfig(**{"window_length": 12, "window_stride": 4, "question_length": 5} | changes)
    return tokenizer, cut(examples, config)


def test_windows_hold_the_question_and_say_where_the_answer_is():
    text = " ".join(f"w{number}" for number in range(15))
    tokenizer, rows = windows_of(text, 6, 8)
    assert [tokenizer.decode(row) for row in rows.rows] == [
        f"[CLS] ask me [SEP] {' '.join(f'w{number}' for number in range(first, last))} [SEP]"
        for first, last in ((0, 7), (4, 11), (8, 15))
    ]  # the stride is at most half of the room of 7
    assert rows.boundaries == [4, 4, 4]
    assert [(each.start, each.end) for each in rows.labels] == [(0, 0), (6, 7), (0, 0)]
    own = [range(*each.window[2:]) for each in rows.origins]
    assert [place for some in own for place in some] == list(range(15))
    _, one = windows_of(text, 6, 8, window_length=384)
    assert len(one.rows) == 1
    _, short = windows_of(text, 6, 8, question_length=1)
    assert short.boundaries[0] == 3


def test_a_long_question_leaves_half_of_the_window_to_the_text(base):
    tokenizer = load_tokenizer(base / "discriminator")
    examples = encode_questions(tokenizer, ["w1 " * 40], ["w2 " * 40], Unknown())
    rows = cut(examples, QuoremConfig(window_length=13, window_stride=128, question_length=64))
    assert {row.index(tokenizer.sep_token_id) for row in rows.rows} == {6}
    assert max(map(len, rows.rows)) == 13


TEXT = "\uff34\uff48\uff45 Cat  sat on東京タワーの mat.\n\nNew　line, cafe\u0301 Éa ﬁne [MASK] 12"


@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind != "item_bpe"])
@pytest.mark.parametrize("normalization", ["nfc", "nfkc"])
def test_tokens_lead_back_to_the_characters_of_the_text(kind, normalization):
    if kind == "items" and normalization != "nfc":
        pytest.skip("items are not normalised")
    tokenizer = train_tokenizer([TEXT, TEXT.lower()], kind=kind, vocab_size=100, normalization=normalization)
    (passage,) = encode_questions(tokenizer, ["on"], [TEXT], Unknown()).origins
    for answer in ("Cat", "New", "cafe\u0301", "Éa", "12"):
        start = TEXT.index(answer)
        first, last = passage.tokens(start, start + len(answer))
        found = TEXT[slice(*passage.characters(first, last))]
        assert found == answer, (kind, found)
    start = TEXT.index("京タ")
    found = TEXT[slice(*passage.characters(*passage.tokens(start, start + 2)))]
    assert "京タ" in found
    assert found in "on東京タワーの"
    assert found == "京タ" or kind not in ("characters",)
