"""Token tagging: CoNLL files, windows, entities as conlleval counts them, and what is wrong with data."""

import json
import random

import pytest
from task_cases import tagged, write
from tunes import write_tunes

from quorem.cli import main
from quorem.data.readers import READERS
from quorem.data.readers.table import TableRow
from quorem.data.writers.conll import write_conll
from quorem.data.writers.line import Head, Line
from quorem.errors import UserError
from quorem.tasks.tagging import parse_words, score_tags

SHORT = ["train.epochs=1", "data.max_length=16", "train.precision=fp32"]


def conll(path, rows, *, between=" ", middle=()):
    """Rows of tokens and tags as CoNLL, with further columns between the two."""
    lines = ["-DOCSTART- -X- O", ""]
    for row in rows:
        lines += [between.join([token, *middle, tag]) for token, tag in zip(row["tokens"], row["tags"], strict=True)]
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("truth", "found", "wanted"),
    [
        # the type or a border wrong: no entity right; conlleval's figures for the same tags
        (["B-X", "I-X", "O", "B-Y"], ["B-X", "I-X", "O", "B-Y"], (1.0, 1.0, 1.0)),
        (["B-X", "I-X", "O", "B-Y"], ["B-X", "I-X", "O", "B-X"], (0.5, 0.5, 0.5)),
        (["B-X", "I-X", "O", "B-Y"], ["B-X", "O", "O", "B-Y"], (0.5, 0.5, 0.5)),
        (["B-X", "B-X", "I-X", "O"], ["B-X", "I-X", "I-X", "O"], (0.0, 0.0, 0.0)),  # two entities are not one
        (["B-X", "O", "O", "O"], ["O", "O", "O", "O"], (0.0, 0.0, 0.0)),
        (["O", "O", "O", "B-X"], ["I-X", "O", "O", "B-X"], (0.5, 1.0, 2 / 3)),  # I- after O begins one, as in conlleval
        (["I-X", "I-X", "O", "I-Y"], ["I-X", "I-X", "O", "O"], (1.0, 0.5, 2 / 3)),  # IO
        (["S-X", "B-Y", "I-Y", "E-Y"], ["S-X", "B-Y", "E-Y", "O"], (0.5, 0.5, 0.5)),  # IOBES
        (["U-X", "U-X", "B-Y", "L-Y"], ["B-X", "L-X", "B-Y", "L-Y"], (0.5, 1 / 3, 0.4)),  # BILOU
        (["X-B", "X-I", "O", "Y-B"], ["Y-B", "Y-I", "O", "Y-B"], (0.5, 0.5, 0.5)),  # the type before
        (["X-U", "X-U", "Y-B", "Y-L"], ["X-B", "X-L", "Y-B", "Y-L"], (0.5, 1 / 3, 0.4)),
    ],
)
def test_entities_are_counted_as_conlleval_does(truth, found, wanted):
    scores = score_tags([truth], [found], {*truth, *found})
    assert (scores["precision"], scores["recall"], scores["f1"]) == pytest.approx(wanted)
    assert scores["accuracy"] == sum(one == other for one, other in zip(truth, found, strict=True)) / 4


def test_no_entity_crosses_texts():
    assert score_tags([["B-X"], ["I-X"]], [["B-X"], ["I-X"]], ["B-X", "I-X", "O"])["f1"] == 1
    assert score_tags([["B-X", "I-X"]], [["B-X", "I-X"]], ["B-X", "I-X", "O"])["f1"] == 1
    assert score_tags([["B-X"], ["I-X"]], [["B-X"], ["O"]], ["B-X", "I-X", "O"])["recall"] == 0.5  # two entities


def test_every_epoch_is_judged_by_the_same_score():
    """Whatever tags it happens to say."""
    names = ["B-X", "O", "misc"]
    assert score_tags([["B-X", "O"]], [["B-X", "O"]], names)["f1"] == 1
    assert score_tags([["B-X", "O"]], [["B-X", "misc"]], names)["f1"] == pytest.approx(1 / 3)


def test_tags_that_are_no_entities_get_scikit_learns_mean():
    truth, found = ["N", "V", "N", "D"], ["N", "N", "N", "D"]
    scores = score_tags([truth], [found], {*truth, *found})
    assert scores["accuracy"] == 0.75
    assert scores["f1"] == pytest.approx((0.8 + 0 + 1) / 3)


@pytest.mark.parametrize(("between", "middle"), [(" ", ()), ("\t", ()), (" ", ("NNP", "I-NP"))])
def test_a_conll_file_is_what_json_lines_are(base, tmp_path, between, middle):
    rows = tagged(30, random.Random(0))
    results = []
    for path in (conll(tmp_path / "x.conll", rows, between=between, middle=middle), write(tmp_path / "x.jsonl", rows)):
        out = tmp_path / path.suffix
        assert main(["finetune", "--task", "tagging", str(base), str(path), "--out", str(out), *SHORT]) == 0
        results.append(json.loads((out / "result.json").read_text()))
    assert results[0] == results[1]


def test_predictions_stand_in_the_last_column(base, tmp_path):
    rows = tagged(20, random.Random(0))
    path, run = conll(tmp_path / "x.conll", rows, middle=("NN",)), tmp_path / "run"
    assert main(["finetune", "--task", "tagging", str(base), str(path), "--out", str(run), *SHORT]) == 0
    stride = json.loads((run / "model" / "config.json").read_text())["window_stride"]
    assert stride == 7, "windows of 14 tokens share half at most; data.stride is 32"
    for name in ("out.conll", "out.jsonl"):
        assert main(["predict", str(run), str(path), "--out", str(tmp_path / name)]) == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["tokens"] for row in found] == [row["tokens"] for row in rows]
    assert [row["tags"] for row in found] == [row["tags"] for row in rows]
    blocks = (tmp_path / "out.conll").read_text().strip().split("\n\n")
    for block, row in zip(blocks, found, strict=True):
        fields = [line.split("\t") for line in block.split("\n")]
        assert [each[0] for each in fields] == row["tokens"]
        assert [each[1] for each in fields] == ["NN"] * len(fields)
        assert [each[-1] for each in fields] == row["prediction"]
    words = write(tmp_path / "words.jsonl", [{"tokens": row["tokens"]} for row in rows])
    assert main(["predict", str(run), str(words), "--out", str(tmp_path / "words.conll")]) == 0
    again = (tmp_path / "words.conll").read_text().strip().split("\n\n")
    assert [[line.split("\t")[-1] for line in block.split("\n")] for block in again] == [r["prediction"] for r in found]


@pytest.mark.parametrize(
    ("text", "words"),
    [('["a b", 7]', ["a b", "7"]), ("a b\tc", ["a b", "c"]), ("a  b", ["a", "b"]), ("[ a", ["[", "a"]), ("", [])],
)
def test_words_may_be_written_in_several_ways(text, words):
    assert parse_words(text) == words


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"tokens": ["a", "b"], "tags": ["O"]}] * 9, "row 1: 2 words in 'tokens' and 1 tags in 'tags': one for each"),
        ([{"tokens": ["a", "b"], "tags": ["O", "O"]}] * 9, "every tag is 'O': two or more are needed"),
        ([{"tokens": ["a", "b"]}] * 9, "no key 'tags'"),
        ([{"words": ["a", "b"], "tags": ["O", "O"]}] * 9, "no key 'tokens'"),
    ],
)
def test_what_is_wrong_with_rows_is_one_line(refused, base, tmp_path, rows, said):
    path = write(tmp_path / "x.jsonl", rows)
    assert said in refused("finetune", "--task", "tagging", base, path, "--out", tmp_path / "run", after_log=True)


def test_a_line_with_other_columns_is_bad(tmp_path):
    path = tmp_path / "x.conll"
    path.write_text("a O\nb O\n\nc NN O\nd O\n\ne O\n")
    with pytest.raises(UserError, match="line 4: 3 columns, where 2 are needed, as above"):
        list(READERS["conll"].read(path))
    sentences = READERS["conll"].read(path, bad_rows="skip")
    assert [(each.row, each.text) for each in sentences] == [
        (1, '["a", "b"]'),
        (7, '["e"]'),
    ]


@pytest.mark.parametrize("ending", [".conll", ".json"])
def test_conll_is_written_of_tags_only_and_json_of_answers(refused, classifier, sample_csv, tmp_path, ending):
    words = ["predict", classifier, sample_csv, "--text-column", "review", "--out", tmp_path / f"out{ending}"]
    assert f"nothing is written as {ending}: choose a name that ends in .csv" in refused(*words)


def test_notes_of_midi_files_are_tagged(tmp_path, monkeypatch, quorem, refused):
    """High notes are loud: from a folder of tunes to each note's loudness."""
    symusic = pytest.importorskip("symusic")
    monkeypatch.chdir(tmp_path)
    chance = random.Random(0)
    (tmp_path / "tunes").mkdir()
    for number in range(30):
        score, track = symusic.Score(480), symusic.Track()
        for place in range(24):
            pitch = chance.choice([40, 80])
            track.notes.append(symusic.Note(240 * place, 240, pitch, 100 if pitch > 60 else 20))
        score.tracks.append(track)
        score.dump_midi(tmp_path / "tunes" / f"{number}.mid")
    tiny = ["model.size=tiny", "model.discriminator.num_hidden_layers=1", "data.max_length=32"]
    pretrain = ["pretrain", "tunes", "--tokenizer", "items", "train.max_steps=3", *tiny]
    assert quorem(*pretrain, "--out", "notes", "data.midi=notes").code == 0
    finetune = ["finetune", "notes", "tunes", "--task", "tagging", "train.epochs=6", "train.learning_rate=3e-3"]
    why = {
        "": "data.label_column=tags: notes of MIDI files have other tags: give --label-column melody or --label-column",
        "--label-column=tokens": "data.label_column=tokens: notes of MIDI files",
        "--label-column=melody": "no row has tags in 'melody': every file has drums only, or one track",
        "--label-column=velocity --text-column=notes": "data.text_column=notes has no meaning for MIDI files",
        "--label-column=velocity data.paths=true": "data.paths=true has no meaning for --task tagging",
    }
    for words, line in why.items():
        assert line in refused(*finetune, *words.split(), "--out", "loud", after_log=True), words
    assert quorem(*finetune, "--label-column", "velocity", "--out", "loud", "train.batch_size=4").code == 0
    assert json.loads((tmp_path / "loud" / "result.json").read_text())["accuracy"] == 1.0
    assert quorem("predict", "loud", "tunes", "--out", "tags.jsonl").code == 0
    lines = [json.loads(line) for line in (tmp_path / "tags.jsonl").read_text().splitlines()]
    assert [line["file"].split("/")[-1] for line in lines] == sorted(f"{number}.mid" for number in range(30))
    for line in lines:
        notes = symusic.Score(tmp_path / line["file"]).tracks[0].notes
        assert line["prediction"] == ["ff" if note.pitch > 60 else "pp" for note in notes]


def test_words_of_several_a_note_cannot_be_tagged(tmp_path, pretrained, refused):
    pytest.importorskip("symusic")
    write_tunes(tmp_path / "tunes")
    words = ["--task", "tagging", "--label-column", "velocity", "--out", tmp_path / "out"]
    said = refused("finetune", pretrained, tmp_path / "tunes", *words, after_log=True)
    assert "pre-train with data.midi=notes" in said


@pytest.mark.parametrize("word", ["", "b\nc", "b\tc", "b\rc"])
def test_a_word_that_no_line_has_room_for_is_named(tmp_path, word):
    row = TableRow(3, text=json.dumps(["a", word]))
    told = pytest.raises(UserError, match=r"row 3 has the word .*, for which a line of CoNLL has no room")
    with told, write_conll(tmp_path / "a.conll", Head([], [], ())) as fill:
        fill([Line({}, row, {"prediction": ["O", "O"]})])
    assert not (tmp_path / "a.conll").exists()
