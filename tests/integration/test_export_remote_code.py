"""Folders with code: transformers alone loads them, with the same outputs."""

import re
import sys

import pytest
import torch
from export_cases import LABELS, QR, TEXTS, loaded_outside, make_batch, make_tokenizer, save_network
from transformers.dynamic_module_utils import get_imports

from quorem.exporting.remote_code import ENTRY, OWN, code_files

WINDOWS = {"classifier_length": 12, "classifier_ngrams": 2, "classifier_ngram_rows": 500, "classifier_sif": True}


def same(found, expected):
    """Weights are the same; where a file's weights lie in memory can change the last bit of a product."""
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-6)


def exported(quorem, run, out):
    outcome = quorem("export", run, "--format", "remote-code", "--out", out)
    assert outcome.code == 0, outcome
    return outcome.out


@torch.no_grad()
def test_a_discriminator_and_its_encoder_load_without_quorem(tmp_path, quorem):
    changes = {"embedding": QR, "positions": "rotary", "num_hidden_layers": 2}
    model = save_network("discriminator", tmp_path / "run" / "discriminator", **changes)
    assert "AutoModelForPreTraining" in exported(quorem, tmp_path / "run", tmp_path / "out")
    ids, mask = make_batch()
    output, *tokens, kind, _ = loaded_outside(tmp_path / "out", "AutoModelForPreTraining", tmp_path, trusted=True)
    assert kind == "QuoremForPreTraining"
    same(output, model(ids, mask).logits)
    expected = make_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(tokens[0], expected["input_ids"])
    assert torch.equal(tokens[1], expected["attention_mask"])
    output, *_, kind, _ = loaded_outside(tmp_path / "out", "AutoModel", tmp_path, trusted=True)
    assert kind == "QuoremModel"
    same(output, model.electra(ids, mask).last_hidden_state)


@torch.no_grad()
def test_a_classifier_of_whole_documents_loads_without_quorem(tmp_path, quorem):
    model = save_network("classifier", tmp_path / "run" / "model", embedding=QR, **WINDOWS)
    exported(quorem, tmp_path / "run", tmp_path / "out")
    auto = "AutoModelForSequenceClassification"
    output, *_, kind, labels = loaded_outside(tmp_path / "out", auto, tmp_path, trusted=True)
    assert (kind, labels) == ("QuoremForSequenceClassification", LABELS)
    same(output, model(*make_batch()).logits)


@torch.no_grad()
def test_a_recommender_loads_without_quorem(tmp_path, quorem):
    changes = {"embedding": QR, "head": {"kind": "two_level"}, "causal": True}
    model = save_network("next_item", tmp_path / "run" / "model", **changes)
    exported(quorem, tmp_path / "run", tmp_path / "out")
    output, *_, kind, _ = loaded_outside(tmp_path / "out", "AutoModelForCausalLM", tmp_path, trusted=True)
    assert kind == "QuoremForNextItem"
    same(output, model(*make_batch()).logits)


@torch.no_grad()
def test_what_answers_questions_loads_without_quorem(tmp_path, quorem):
    model = save_network("question_answering", tmp_path / "model", embedding=QR)
    exported(quorem, tmp_path / "model", tmp_path / "out")
    auto = "AutoModelForQuestionAnswering"
    output, *_, kind, _ = loaded_outside(tmp_path / "out", auto, tmp_path, trusted=True)
    assert kind == "QuoremForQuestionAnswering"
    same(output, model(*make_batch()).start_logits)


@torch.no_grad()
def test_a_tagger_and_what_chooses_load_without_quorem(tmp_path, quorem):
    ids, mask = make_batch()
    for kind, auto in (("token_classifier", "TokenClassification"), ("multiple_choice", "MultipleChoice")):
        model = save_network(kind, tmp_path / kind, embedding=QR, positions="rotary")
        exported(quorem, tmp_path / kind, tmp_path / auto)
        output, *_, name, _ = loaded_outside(tmp_path / auto, f"AutoModelFor{auto}", tmp_path, trusted=True)
        assert name == f"QuoremFor{auto}"
        rows = (ids, mask) if kind == "token_classifier" else (ids.unsqueeze(0), mask.unsqueeze(0))
        same(output, model(*rows).logits)


@pytest.mark.parametrize("kind", OWN)
def test_no_file_imports_quorem_and_every_import_is_there(kind):
    files = code_files(("AutoModel", *OWN[kind]))
    for name, text in files.items():
        assert not re.search(r"^\s*(from|import) quorem", text, re.MULTILINE), name
        assert set(re.findall(r"^\s*from \.(\w+) import", text, re.MULTILINE)) <= files.keys(), name
    assert set(re.findall(r"^from \.(\w+) import", files[ENTRY], re.MULTILINE)) == files.keys() - {ENTRY}


def test_the_loader_asks_for_no_package_but_what_transformers_needs(tmp_path):
    """It looks for import statements anywhere, in functions too, and refuses to load where one is missing."""
    asked = set()
    for kind in OWN:
        for name, text in code_files(("AutoModel", *OWN[kind])).items():
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
            asked |= set(get_imports(tmp_path / f"{name}.py"))
    found = asked - set(sys.stdlib_module_names)
    assert found <= {"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "numpy", "yaml"}, found
