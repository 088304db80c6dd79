"""Plain ELECTRA: what quorem export --format electra writes loads without quorem and gives the same."""

import re

import pytest
import torch
from export_cases import LABELS, QR, TEXTS, loaded_outside, make_batch, make_tokenizer, save_network
from safetensors.torch import load_file
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from quorem.embeddings import EMBEDDINGS


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def same_tokens(ids, mask):
    expected = make_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(ids, expected["input_ids"])
    assert torch.equal(mask, expected["attention_mask"])


@torch.no_grad()
def test_a_pretraining_run_becomes_two_plain_folders(tmp_path, quorem):
    run, out = tmp_path / "run", tmp_path / "out"
    discriminator = save_network("discriminator", run / "discriminator", embedding=QR)
    generator = save_network("generator", run / "generator", embedding=QR, head={"kind": "full"})
    outcome = quorem("export", run, "--format", "electra", "--out", out)
    assert outcome.code == 0, outcome
    assert "discriminator: ElectraForPreTraining" in outcome.out
    assert "generator: ElectraForMaskedLM" in outcome.out
    ids, mask = make_batch()
    output, *tokens, kind, _ = loaded_outside(out / "discriminator", "AutoModelForPreTraining", tmp_path)
    assert kind == "ElectraForPreTraining"
    close(output[mask.bool()], discriminator(ids, mask).logits[mask.bool()])
    same_tokens(*tokens)
    model, info = ElectraForMaskedLM.from_pretrained(out / "generator", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    close(model.eval()(ids, mask).logits[mask.bool()], generator(ids, mask).logits[mask.bool()])
    assert "generator_lm_head.weight" not in load_file(out / "generator" / "model.safetensors")


@torch.no_grad()
def test_a_classifier_becomes_a_plain_one(tmp_path, quorem):
    run, out = tmp_path / "run", tmp_path / "out"
    model = save_network("classifier", run / "model", embedding=QR, classifier_head="hf", num_hidden_layers=2)
    assert quorem("export", run, "--format", "electra", "--out", out).code == 0
    output, *tokens, kind, labels = loaded_outside(out, "AutoModelForSequenceClassification", tmp_path)
    assert (kind, labels) == ("ElectraForSequenceClassification", LABELS)
    close(output, model(*make_batch()).logits)
    same_tokens(*tokens)


@torch.no_grad()
def test_what_answers_questions_becomes_plain_too(tmp_path, quorem):
    model = save_network("question_answering", tmp_path / "model", embedding=QR, classifier_head="hf")
    assert quorem("export", tmp_path / "model", "--format", "electra", "--out", tmp_path / "out").code == 0
    output, *_, kind, _ = loaded_outside(tmp_path / "out", "AutoModelForQuestionAnswering", tmp_path)
    assert kind == "ElectraForQuestionAnswering"
    ids, mask = make_batch()
    close(output[mask.bool()], model(ids, mask).start_logits[mask.bool()])


def test_a_plain_regression_knows_that_it_is_one_and_its_scale(tmp_path, quorem):
    problem = {"problem_type": "regression", "target_mean": 2.5, "target_std": 1.5}
    save_network("classifier", tmp_path / "model", classifier_head="hf", **problem)
    assert quorem("export", tmp_path / "model", "--format", "electra", "--out", tmp_path / "out").code == 0
    config = ElectraConfig.from_pretrained(tmp_path / "out")
    assert {name: getattr(config, name) for name in problem} == problem


@torch.no_grad()
def test_a_tagger_and_what_chooses_become_plain_ones(tmp_path, quorem):
    ids, mask = make_batch()
    model = save_network("token_classifier", tmp_path / "tagger", embedding=QR)
    assert quorem("export", tmp_path / "tagger", "--format", "electra", "--out", tmp_path / "plain").code == 0
    output, *_, kind, labels = loaded_outside(tmp_path / "plain", "AutoModelForTokenClassification", tmp_path)
    assert (kind, labels) == ("ElectraForTokenClassification", LABELS)
    close(output[mask.bool()], model(ids, mask).logits[mask.bool()])
    model = save_network("multiple_choice", tmp_path / "choice", embedding=QR)
    assert quorem("export", tmp_path / "choice", "--format", "electra", "--out", tmp_path / "plain choice").code == 0
    output, *_, kind, _ = loaded_outside(tmp_path / "plain choice", "AutoModelForMultipleChoice", tmp_path)
    assert kind == "ElectraForMultipleChoice"
    close(output, model(ids.unsqueeze(0), mask.unsqueeze(0)).logits)


TABLES = {
    "dense": {"kind": "dense", "own_rows": 211, "divisor": 1},
    "qr": {**QR, "operation": "add", "own_rank": 3},
    "mixed_radix": {"kind": "mixed_radix", "own_rows": 30, "divisor": 1, "moduli": [6, 6], "operation": "concat"},
    "chinese_remainder": {"kind": "chinese_remainder", "own_rows": 30, "divisor": 1, "moduli": [13, 14]},
    "attributes": {"kind": "attributes", "own_rows": 30, "divisor": 1, "sizes": [10, 19]},
    "path": {"kind": "path", "own_rows": 30, "divisor": 90},
    "hashing": {"kind": "hashing", "own_rows": 30, "divisor": 1, "rows": 40},
    "hash_embedding": {"kind": "hash_embedding", "own_rows": 30, "divisor": 1, "rows": 40},
    "low_rank": {"kind": "low_rank", "own_rows": 30, "divisor": 1, "rank": 5},
    "memcom": {"kind": "memcom", "own_rows": 30, "divisor": 1, "rows": 40},
    "pq": {"kind": "pq", "own_rows": 30, "divisor": 1, "parts": 5},
}


def test_every_kind_of_table_has_a_case():
    assert TABLES.keys() == EMBEDDINGS.keys()


@torch.no_grad()
@pytest.mark.parametrize("kind", TABLES)
def test_every_kind_of_table_becomes_a_dense_one(kind, tmp_path, quorem):
    model = save_network("discriminator", tmp_path / "model", embedding=TABLES[kind])
    assert quorem("export", tmp_path / "model", "--format", "electra", "--out", tmp_path / "out").code == 0
    plain, info = ElectraForPreTraining.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids, mask = make_batch()
    close(plain.eval()(ids, mask).logits[mask.bool()], model(ids, mask).logits[mask.bool()])


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("discriminator", {"positions": "rotary"}, r"positions=rotary.*model\.positions=absolute.*onnx or remote-code"),
        ("discriminator", {"positions": "alibi"}, r"positions=alibi.*model\.positions=absolute.*onnx or remote-code"),
        ("discriminator", {"attention_head_size": 8}, r"2 heads of 8.*model\.discriminator\.attention_head_size"),
        ("next_item", {"causal": True}, r"causal.*next_item\.attention=masked"),
        ("generator", {"embedding": QR, "head": {"kind": "two_level"}}, r"two_level.*model\.head\.kind=full"),
        ("classifier", {}, r"classifier\.head=paper.*classifier\.head=hf.*onnx or remote-code"),
        ("classifier", {"classifier_head": "hf", "classifier_pooling": "mean"}, r"classifier\.pooling=cls"),
        ("classifier", {"classifier_head": "hf", "classifier_layers": "all"}, r"classifier\.layers=last"),
        ("question_answering", {}, r"classifier\.head=paper.*classifier\.head=hf.*onnx or remote-code"),
        ("classifier", {"classifier_length": 20}, r"data\.truncation=head.*--format remote-code"),
        ("classifier", {"classifier_ngrams": 2, "classifier_ngram_rows": 50}, r"classifier\.ngrams=0.*remote-code"),
        ("classifier", {"classifier_sif": True}, r"sif=true.*classifier\.sif=false.*remote-code"),
    ],
)
def test_what_plain_electra_lacks_is_refused_by_the_setting_that_it_comes_from(
    kind, changes, said, tmp_path, refused, half_written
):
    save_network(kind, tmp_path / "model", **changes)
    line = refused("export", tmp_path / "model", "--format", "electra", "--out", tmp_path / "out")
    assert re.search(said, line), line
    assert not (tmp_path / "out").exists()
    assert not half_written(tmp_path / "out")


def test_a_generator_with_another_softmax_is_left_out_and_told(tmp_path, quorem):
    run = tmp_path / "run"
    save_network("discriminator", run / "discriminator", embedding=QR)
    save_network("generator", run / "generator", embedding=QR, head={"kind": "two_level"})
    outcome = quorem("export", run, "--format", "electra", "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "generator: not written" in outcome.out
    assert "two_level" in outcome.out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["discriminator"]


def test_nothing_is_overwritten(tmp_path, refused):
    save_network("discriminator", tmp_path / "model")
    (tmp_path / "out").mkdir()
    assert "exists already" in refused("export", tmp_path / "model", "--format", "electra", "--out", tmp_path / "out")
