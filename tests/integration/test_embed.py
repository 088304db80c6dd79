"""Vectors from the command line: of rows, of items, of all tokens; the same numbers in every format."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import quorem as package
from quorem.errors import UserError
from quorem.samples import write_sessions
from quorem.vectors.encoder import encode_texts, load_encoder
from quorem.vectors.tokens import token_table

TEXTS = ["a good film", "", "the dull plot of a film that I saw", "words nobody knows"]


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["id", "review"], *([number, text] for number, text in enumerate(TEXTS))])
    return path


@pytest.mark.parametrize("pooling", ["sif", "mean", "first", "max"])
def test_rows_have_the_vectors_that_encode_gives(quorem, tmp_path, pretrained, texts, pooling):
    words = ("embed", pretrained, texts, "--text-column", "review", "--pooling", pooling)
    width = 16 if pooling == "sif" else 32
    assert f"4 rows, vectors of {width} numbers" in quorem(*words, "--out", tmp_path / "v.npy").out
    found = np.load(tmp_path / "v.npy", allow_pickle=False)
    assert (found.shape, found.dtype) == ((4, width), np.float32)
    expected = package.load(pretrained).encode(TEXTS, pooling=pooling)
    np.testing.assert_allclose(found, expected.numpy(), atol=0.1)  # bf16, where the processor has it
    assert not np.allclose(found[0], found[2], atol=0.1 if pooling != "sif" else 0.01)


def test_rare_tokens_weigh_more_and_special_ones_nothing(pretrained):
    network, tokenizer = load_encoder(pretrained)
    table, size = network.get_input_embeddings(), network.config.vocab_size
    tokens = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(TEXTS[2]))
    known = [token for token in tokens if token >= 5]
    weights = [1e-3 / (1e-3 + 1 / ((token - 4) * math.log(size))) for token in known]
    expected = sum(weight * table(torch.tensor(token)) for weight, token in zip(weights, known, strict=True))
    found = encode_texts(network, tokenizer, TEXTS[1:3])
    torch.testing.assert_close(found[1], expected / sum(weights), atol=1e-6, rtol=1e-5)
    assert len(known) > 1
    ends = torch.tensor(tokenizer("")["input_ids"])  # of nothing, all there is
    torch.testing.assert_close(found[0], table(ends).mean(0), atol=1e-6, rtol=1e-5)


def test_other_formats_hold_the_rows_too(quorem, tmp_path, pretrained, texts):
    words = ("embed", pretrained, texts, "--text-column", "review", "--out")
    assert quorem(*words, tmp_path / "v.npy").code == 0
    expected = np.load(tmp_path / "v.npy")
    assert quorem(*words, tmp_path / "v.jsonl").code == 0
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [row["review"] for row in rows] == TEXTS
    np.testing.assert_allclose([row["vector"] for row in rows], expected, rtol=1e-6, atol=1e-7)
    assert quorem(*words, tmp_path / "v.csv").code == 0
    with (tmp_path / "v.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([json.loads(row["vector"]) for row in rows], expected, rtol=1e-6, atol=1e-7)
    parquet = pytest.importorskip("pyarrow.parquet")
    assert quorem(*words, tmp_path / "v.parquet").code == 0
    table = parquet.read_table(tmp_path / "v.parquet")
    assert str(table.schema.field("vector").type) == "list<element: float>"
    np.testing.assert_allclose(table["vector"].to_pylist(), expected, rtol=1e-6, atol=1e-7)


def test_what_the_model_does_not_know_is_told(quorem, tmp_path, pretrained):
    (tmp_path / "a.txt").write_text("a good film\nzyzzyva qwxv\n")
    outcome = quorem("embed", pretrained, tmp_path / "a.txt", "--out", tmp_path / "v.npy")
    assert "a.txt: 80.00 % of tokens and 95.00 % of characters unknown to the model" in outcome.err


def test_a_classifier_has_vectors_too(quorem, tmp_path, classifier, texts):
    assert quorem("embed", classifier, texts, "--text-column", "review", "--out", tmp_path / "v.npy").code == 0
    network, tokenizer = load_encoder(classifier)
    expected = encode_texts(network, tokenizer, TEXTS).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=0.1)


def test_padding_and_neighbours_change_no_vector(pretrained):
    network, tokenizer = load_encoder(pretrained)
    together = encode_texts(network, tokenizer, TEXTS)
    alone = torch.cat([encode_texts(network, tokenizer, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_tokens_in_every_format_are_the_rows_of_the_table(quorem, tmp_path, pretrained):
    table, tokenizer = token_table(pretrained)
    ids = torch.arange(5, len(tokenizer))
    names, expected = tokenizer.convert_ids_to_tokens(ids.tolist()), table(ids).detach().numpy()
    words = ("embed", pretrained, "--tokens", "--out")
    assert f"{len(ids)} tokens, vectors of 16 numbers" in quorem(*words, tmp_path / "t.npy").out
    np.testing.assert_allclose(np.load(tmp_path / "t.npy"), expected, rtol=1e-6)
    assert (tmp_path / "t.tokens.txt").read_text().splitlines() == names
    assert quorem(*words, tmp_path / "t.vec").code == 0
    first, *lines = (tmp_path / "t.vec").read_text().splitlines()
    assert first == f"{len(ids)} 16"
    assert [line.split(" ")[0] for line in lines] == names
    found = [[float(value) for value in line.split(" ")[1:]] for line in lines]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert quorem(*words, tmp_path / "t.jsonl").code == 0
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [row["token"] for row in rows] == names
    np.testing.assert_allclose([row["vector"] for row in rows], expected, rtol=1e-6, atol=1e-7)


def test_a_next_item_model_gives_what_its_softmax_is_asked_with(quorem, tmp_path, pretrain_settings):
    sessions, runs = tmp_path / "items.txt", tmp_path / "runs"
    write_sessions(sessions, rows=60, vocab_size=100, seed=0)
    settings = [*pretrain_settings, "model.embedding.kind=dense", "train.max_steps=1"]
    assert quorem("pretrain", sessions, "--tokenizer", "items", "--out", runs / "shop", *settings).code == 0
    few = ["train.max_steps=1", "train.precision=fp32"]
    assert quorem("finetune", runs / "shop", sessions, "--task", "next_item", "--out", runs / "next", *few).code == 0
    assert quorem("embed", runs / "next", sessions, "--out", tmp_path / "v.npy").code == 0
    found, model = np.load(tmp_path / "v.npy"), package.load(runs / "next")
    lines = [line.split() for line in sessions.read_text().splitlines()]
    assert len(found) == len(lines)
    expected = model.model.vectors(
        [model.tokenizer.convert_tokens_to_ids(line) for line in lines], max_items=model.data.max_items
    )
    np.testing.assert_allclose(found, expected.numpy(), atol=0.1)


def test_what_embed_cannot_use(refused, tmp_path, pretrained, texts):
    out = ("--out", tmp_path / "v.npy")
    assert "data files or --tokens are needed" in refused("embed", pretrained, *out)
    assert "data files or --tokens are needed" in refused("embed", pretrained, texts, "--tokens", *out)
    assert "no column 'text'" in refused("embed", pretrained, texts, *out)
    assert "--pooling=sum: unknown" in refused("embed", pretrained, texts, "--pooling", "sum", *out)
    assert "nothing is written as .png" in refused("embed", pretrained, texts, "--out", tmp_path / "v.png")
    (tmp_path / "v.npy").write_bytes(b"mine")
    assert "exists already" in refused("embed", pretrained, texts, "--text-column", "review", *out)
    assert (tmp_path / "v.npy").read_bytes() == b"mine"


def test_what_a_recommender_and_tokens_have_no_use_for(refused, tmp_path, small_recommender):
    sessions = small_recommender.parent / "items.txt"
    words = ["embed", small_recommender, sessions, "--out", tmp_path / "v.npy"]
    assert "--max-length=-2: a number at least 1 needed" in refused(*words, "--max-length", "-2")
    assert "--max-length=0: a number at least 1 needed" in refused(*words, "--max-length", "0")
    assert "--pooling max: a run of next_item has one vector for each row" in refused(*words, "--pooling", "max")
    words = ["embed", small_recommender, "--tokens", "--out", tmp_path / "v.npy", "--pooling", "mean"]
    assert "--pooling mean: is for texts, and --tokens has none" in refused(*words)


def test_damaged_and_diverged_models_are_named(refused, tmp_path, pretrained, texts):
    words = ["--text-column", "review", "--out", tmp_path / "v.npy"]
    shutil.copytree(pretrained, tmp_path / "damaged")
    (tmp_path / "damaged" / "discriminator" / "config.json").write_text("{")
    assert "config.json is damaged" in refused("embed", tmp_path / "damaged", texts, *words)
    shutil.copytree(pretrained, tmp_path / "diverged")
    file = tmp_path / "diverged" / "discriminator" / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("word_embeddings.own"))
    weights[name][9] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    assert "has NaN or an infinite number in" in refused("embed", tmp_path / "diverged", texts, *words)
    assert "has NaN or an infinite number in" in refused("similar", tmp_path / "diverged", "--item", "the")
    with pytest.raises(UserError, match="has NaN or an infinite number in"):
        package.load(tmp_path / "diverged")
