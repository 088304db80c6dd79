"""`quorem compress`: the same model with a smaller token table, usable as the run is."""

import csv
import json

import pytest
import torch
from export_cases import make_batch, save_network
from safetensors.torch import load_file

import quorem as library
from quorem.embeddings.product_quantization import ProductQuantizationEmbedding
from quorem.exporting.compress import TABLE, compressed
from quorem.exporting.networks import read_network
from quorem.samples.sessions import write_sessions

COLUMNS = ("--text-column", "review")
NAMES = ("discriminator", "generator")


def predictions(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [row["prediction"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def dense(tmp_path_factory, sample_csv, pretrain_settings):
    """A pre-training run with a row for each token."""
    out = tmp_path_factory.mktemp("dense") / "run"
    words = ["pretrain", sample_csv, *COLUMNS, "--out", out, *pretrain_settings, "model.embedding.kind=dense"]
    assert library.cli.main([str(word) for word in words]) == 0
    return out


@pytest.fixture(scope="module")
def sentiment(tmp_path_factory, sample_csv, dense, finetune_settings):
    out = tmp_path_factory.mktemp("dense") / "sentiment"
    words = ["finetune", dense, sample_csv, *COLUMNS, "--label-column", "sentiment", "--out", out, *finetune_settings]
    assert library.cli.main([*map(str, words), "classifier.baseline=false"]) == 0
    return out


def test_a_compressed_classifier_predicts_as_it_did(tmp_path, quorem, sentiment, sample_csv):
    outcome = quorem("compress", sentiment, "--compression", "2x", "--out", tmp_path / "small")
    assert outcome.code == 0, outcome
    before, after = read_network(sentiment).model, read_network(tmp_path / "small").model
    assert isinstance(after.get_input_embeddings(), ProductQuantizationEmbedding)
    bytes_of_rows = before.config.vocab_size * before.config.embedding_size * 4
    assert 0.9 * bytes_of_rows / 2 < after.get_input_embeddings().nbytes <= bytes_of_rows / 2
    old, new = before.get_input_embeddings().to_dense(), after.get_input_embeddings()
    assert f"keeps {100 * new.explained(old):.1f} %" in outcome.out
    for name, weight in before.state_dict().items():  # all else is as it was
        assert name.startswith(TABLE) or torch.equal(after.state_dict()[name], weight)
    for folder in (sentiment, tmp_path / "small"):  # of both the text's column is known
        assert quorem("predict", folder, sample_csv, "--out", tmp_path / f"{folder.name}.csv").code == 0
    said = [predictions(tmp_path / f"{name}.csv") for name in (sentiment.name, "small")]
    assert sum(one == other for one, other in zip(*said, strict=True)) > 0.95 * len(said[0])
    card = (tmp_path / "small" / "model" / "README.md").read_text(encoding="utf-8")
    assert "accuracy" not in card  # that of the whole table


def test_a_compressed_run_is_fine_tuned_and_its_codes_stay(tmp_path, quorem, dense, sample_csv, finetune_settings):
    small, out = tmp_path / "small", tmp_path / "sentiment"
    assert quorem("compress", dense, "--budget", "100KB", "--out", small).code == 0
    assert sorted(path.name for path in small.iterdir()) == [
        "compressed.json",
        "config.yaml",
        "discriminator",
        "environment.json",
        "generator",
    ]
    words = ["finetune", small, sample_csv, *COLUMNS, "--label-column", "sentiment", "--out", out, *finetune_settings]
    assert quorem(*words, "train.max_steps=3", "classifier.baseline=false").code == 0
    before, after = (load_file(each / "model.safetensors") for each in (small / "discriminator", out / "model"))
    assert torch.equal(before[f"{TABLE}token_codes"], after[f"{TABLE}token_codes"])
    assert not torch.equal(before[f"{TABLE}codewords"], after[f"{TABLE}codewords"])


def test_a_run_goes_on_from_a_compressed_one(tmp_path, quorem, dense, sample_csv):
    """Its vectors, not its codes, are taken over: this run has the table of the first one."""
    assert quorem("compress", dense, "--compression", "2x", "--out", tmp_path / "small").code == 0
    words = ["pretrain", sample_csv, *COLUMNS, "--init-from", tmp_path / "small", "train.max_steps=1"]
    outcome = quorem(*words, "train.learning_rate=1e-9", "--out", tmp_path / "on")
    assert outcome.code == 0, outcome
    for name in NAMES:
        found, wanted = (read_network(tmp_path / run / name).model for run in ("on", "small"))
        torch.testing.assert_close(
            found.get_input_embeddings().to_dense(), wanted.get_input_embeddings().to_dense(), atol=1e-4, rtol=0
        )


def test_a_compressed_run_is_told_apart_by_differences_of_its_own_rows(tmp_path, quorem, dense, sample_csv):
    """A discriminator's table is the generator's and a difference, so that both must have the same codes."""
    words = ["pretrain", sample_csv, *COLUMNS, "--init-from", dense, "model.embedding.kind=pq", "train.max_steps=1"]
    outcome = quorem(*words, "train.learning_rate=1e-9", "--out", tmp_path / "on")
    assert outcome.code == 0, outcome
    codes = [read_network(tmp_path / "on" / name).model.get_input_embeddings().token_codes for name in NAMES]
    assert torch.equal(*codes)
    for name in NAMES:
        found, wanted = (read_network(run / name).model.get_input_embeddings() for run in (tmp_path / "on", dense))
        assert found.explained(wanted.to_dense()) > 0.7


def test_a_compressed_recommender_recommends(tmp_path, quorem, pretrain_settings):
    items = tmp_path / "items.txt"
    write_sessions(items, rows=800, vocab_size=2_000, seed=0)
    words = ["pretrain", items, "--tokenizer", "items", "--out", tmp_path / "run", *pretrain_settings]
    assert quorem(*words, "model.embedding.kind=dense", "data.rows=isolated").code == 0
    words = ["finetune", tmp_path / "run", items, "--task", "next_item", "--out", tmp_path / "next"]
    assert quorem(*words, "train.max_steps=3", "data.max_items=12", "next_item.baselines=false").code == 0
    assert quorem("compress", tmp_path / "next", "--compression", "2x", "--out", tmp_path / "small").code == 0
    found = [
        library.load(tmp_path / name).recommend([line.split() for line in items.read_text().split("\n")[:5]], top=3)
        for name in ("next", "small")
    ]
    pairs = [
        (one["item"], other["item"]) for rows in zip(*found, strict=True) for one, other in zip(*rows, strict=True)
    ]
    assert sum(one == other for one, other in pairs) > 10  # of 15


SOFTMAX = {"never_targets": [0, 2, 3, 4]}
GRID = {"kind": "dense", "own_rows": 120, "divisor": 55, "permuted": True}


@pytest.mark.parametrize(
    ("kind", "head"),
    [("generator", "full"), ("next_item", "cosine"), ("generator", "tree"), ("next_item", "two_level")],
)
def test_every_softmax_reads_the_new_vectors(kind, head, tmp_path):
    """As it would read a dense table of these."""
    changes = {"vocab_size": 3_000, "embedding": GRID, "head": {"kind": head}, "causal": kind == "next_item"} | SOFTMAX
    save_network(kind, tmp_path / "model", **changes)
    network = read_network(tmp_path / "model")
    network.model.get_input_embeddings().assignment.set_order(
        torch.cat([torch.arange(5), torch.arange(5, 3_000).flip(0)])
    )
    small, kept = compressed(network, 3_000 * 24 * 4 // 4)
    assert kept > 0.7
    assert small.get_input_embeddings().nbytes <= 3_000 * 24 * 4 // 4
    network.model.get_input_embeddings().weight.data.copy_(small.get_input_embeddings().to_dense())
    ids, mask = make_batch()
    with torch.no_grad():
        found, wanted = small(ids, mask).logits, network.model(ids, mask).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_softmax_that_reads_rows_of_its_table_is_refused(tmp_path, refused):
    table = {"kind": "qr", "own_rows": 500, "divisor": 5, "operation": "add", "permuted": False}
    changes = {"vocab_size": 3_000, "embedding": table, "head": {"kind": "two_level"}, "causal": True} | SOFTMAX
    save_network("next_item", tmp_path / "model", **changes)
    line = refused("compress", tmp_path / "model", "--compression", "3.2x", "--out", tmp_path / "out")
    assert "two_level softmax reads rows of its qr table" in line
    assert not (tmp_path / "out").exists()


def test_a_generator_that_cannot_be_smaller_stays(tmp_path, quorem):
    """Its classes of their own take more than is allowed; the discriminator has none, and can be fine-tuned."""
    for kind in NAMES:
        changes = {"vocab_size": 3_000, "embedding": GRID | {"own_rows": 1_500, "divisor": 40}}
        save_network(kind, tmp_path / "run" / kind, **changes, head={"kind": "tree"}, **SOFTMAX)
    outcome = quorem("compress", tmp_path / "run", "--compression", "5x", "--out", tmp_path / "small")
    assert outcome.code == 0, outcome
    assert "generator: its token table" not in outcome.out
    assert "it stays as it is" in outcome.err
    tables = [read_network(tmp_path / "small" / kind).config.embedding["kind"] for kind in NAMES]
    assert tables == ["pq", "dense"]


def test_no_run_is_written_over_a_compressed_one(
    tmp_path, quorem, refused, dense, sentiment, sample_csv, finetune_settings
):
    """And its card says how it came to be."""
    small = tmp_path / "small"
    assert quorem("compress", sentiment, "--compression", "2x", "--out", small).code == 0
    words = ["finetune", dense, sample_csv, *COLUMNS, "--label-column", "sentiment", "--out", small]
    assert "written by quorem compress" in refused(*words, *finetune_settings, after_log=True)
    card = (small / "model" / "README.md").read_text(encoding="utf-8")
    assert f"quorem compress {sentiment.name} --compression 2x --out small" in card
    assert quorem("card", small).code == 0
    assert (small / "model" / "README.md").read_text(encoding="utf-8") == card
    assert json.loads((small / "compressed.json").read_text())["networks"]["model"]["explained"] > 0.9


def test_too_few_bytes_and_others_are_refused(tmp_path, refused, quorem, sentiment, pretrained):
    line = refused("compress", sentiment, "--budget", "10KB", "--out", tmp_path / "out")
    least = int(line.split(" take ")[1].split(":")[0].replace(",", ""))
    assert refused("compress", sentiment, "--budget", str(least - 1), "--out", tmp_path / "out") == line.replace(
        "10,000", f"{least - 1:,}"
    )
    assert "--compression much: a ratio of 1 or more" in refused(
        "compress", sentiment, "--compression", "much", "--out", tmp_path / "out"
    )
    assert "give a smaller --budget" in refused(
        "compress", pretrained, "--compression", "1x", "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()
    assert quorem("compress", sentiment, "--budget", str(least), "--out", tmp_path / "out").code == 0
    assert "exists already" in refused("compress", sentiment, "--budget", str(least), "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "model" / "config.json").read_text())["embedding"]["parts"] == 1
