"""Pre-training with a table made of the tokens' attributes."""

import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from quorem import QuoremForPreTraining
from quorem.pretraining.pretrain import ATTRIBUTES
from quorem.training.run_folder import Run

WORDS = [f"{first}{vowel}{last}" for first in "bdfgkl" for vowel in "aeiou" for last in "mnrst"]
TABLE = "electra.embeddings.word_embeddings."


@pytest.fixture
def words_csv(tmp_path):
    """150 words, the later the rarer."""
    rng = np.random.default_rng(0)
    path = tmp_path / "words.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerow([" ".join(WORDS)])
        for _ in range(300):
            writer.writerow([" ".join(WORDS[int(i)] for i in (len(WORDS) * rng.random(12) ** 2))])
    return path


@pytest.fixture
def attributes_csv(tmp_path):
    """The letters of each word, in an order of their own; one word that is in no text."""
    return write(tmp_path / "attributes.csv", [*reversed(WORDS), "zoo"])


def write(path, words):
    path.write_text("word,first,vowel,last\n" + "".join(f"{w},{w[0]},{w[1]},{w[2]}\n" for w in words), encoding="utf-8")
    return path


@pytest.fixture
def command(tmp_path, words_csv, attributes_csv, pretrain_settings):
    settings = [setting for setting in pretrain_settings if "embedding.kind" not in setting]
    table = ["model.embedding.kind=attributes", f"model.embedding.attributes_file={attributes_csv}"]
    return ["pretrain", words_csv, "--out", tmp_path / "run", *settings, *table, "model.embedding.tier=20"]


@pytest.mark.parametrize("sharing", ["", "model.disentangled_embeddings=false", "model.shared_embeddings=false"])
def test_each_token_reads_the_rows_of_its_values(quorem, tmp_path, command, sharing):
    assert quorem(*command, *([sharing] if sharing else [])).code == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "discriminator")
    for name in ("discriminator", "generator"):
        tensors = load_file(tmp_path / "run" / name / "model.safetensors")
        values, rank = tensors[TABLE + "attributes"], tensors[TABLE + "assignment.rank"]
        assert values.shape == (len(tokenizer) - 25, 3)
        sizes = [len(tensors[f"{TABLE}attribute_{number}"]) for number in (1, 2, 3)]
        assert sizes == [len(column.unique()) for column in values.T]  # no dead rows
        letters = {}
        for word in WORDS:
            place = int(rank[tokenizer.convert_tokens_to_ids(word)]) - 25
            for column in range(3 if place >= 0 else 0):
                letters.setdefault((column, int(values[place, column])), set()).add(word[column])
        assert all(len(found) == 1 for found in letters.values())
        assert len(letters) == sum(sizes)


def test_a_run_resumes_with_the_attributes_it_began_with_and_its_folder_loads(
    quorem, tmp_path, command, attributes_csv, monkeypatch
):
    assert quorem(*command).code == 0
    out, again = tmp_path / "run", tmp_path / "again"
    command[command.index(out)] = again
    saved = Run.save_state

    def save_and_stop(run, step, state, **kept):
        saved(run, step, state, **kept)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save_state", save_and_stop)
        assert quorem(*command).code == 130
    assert (again / ATTRIBUTES).exists()
    with monkeypatch.context() as patch:
        patch.setattr("quorem.pretraining.pretrain.read_attributes", None)  # not read again
        assert quorem(*command).code == 0
    for name in ("discriminator", "generator"):
        once, resumed = (load_file(folder / name / "model.safetensors") for folder in (out, again))
        assert once.keys() == resumed.keys()
        assert all(torch.equal(once[key], resumed[key]) for key in once)
    encoder = AutoModel.from_pretrained(again / "discriminator").eval()
    whole = QuoremForPreTraining.from_pretrained(again / "discriminator").eval()
    inputs = AutoTokenizer.from_pretrained(again / "discriminator")(" ".join(WORDS[::7]), return_tensors="pt").input_ids
    assert torch.equal(encoder(inputs).last_hidden_state, whole.electra(inputs).last_hidden_state)
    assert torch.equal(encoder.embeddings.word_embeddings.attributes, torch.from_numpy(np.load(again / ATTRIBUTES)))
    write(attributes_csv, WORDS)
    assert quorem(*command).code == 2  # what it reads has changed


def test_what_the_vocabulary_lacks_is_said_and_can_be_mended(quorem, refused, command, attributes_csv, tmp_path):
    write(attributes_csv, WORDS[:50])
    assert "tokens that share rows are missing" in refused(*command, after_log=True)
    shards = (tmp_path / "run" / "data" / "shards" / "meta.json").stat().st_mtime_ns
    attributes_csv.write_text("word,first\n" + "".join(f"{w},{w[0]}\n" for w in WORDS))
    assert "have the same attributes" in refused(*command, after_log=True)
    write(attributes_csv, WORDS)
    assert quorem(*command).code == 0  # the same command, with the file mended
    assert (tmp_path / "run" / "data" / "shards" / "meta.json").stat().st_mtime_ns == shards
    assert quorem(*command).code == 0
    write(attributes_csv, WORDS[::-1])
    assert "(attributes_file) has changed" in refused(*command)
    attributes_csv.write_text("word\nbam\n")
    command[command.index(tmp_path / "run")] = tmp_path / "other"
    assert "the header has only one column, 'word'" in refused(*command)
    assert not (tmp_path / "other").exists()  # found before anything is made


def test_describe_takes_the_values_from_the_file(quorem, refused, attributes_csv):
    table = ["model.embedding.kind=attributes", f"model.embedding.attributes_file={attributes_csv}"]
    outcome = quorem("describe", "model.vocab_size=155", "model.embedding.tier=20", *table)
    assert outcome.code == 0
    lines = {line.split("  ")[0]: line.split() for line in outcome.out.splitlines()}
    for number, size in ((1, 7), (2, 5), (3, 6)):
        line = next(words for name, words in lines.items() if name.endswith(f"word_embeddings.attribute_{number}"))
        assert f"{size} x 128" in " ".join(line)
    assert "word_embeddings.attributes  " in outcome.out
    assert "no two tokens share all they read: their attributes differ" in outcome.out
    assert "below the" in refused("describe", "model.vocab_size=3000", *table)
