"""transformers' pipelines on model folders."""

import numpy as np
import pytest
import torch
from export_cases import LABELS, TEXTS
from interop_cases import HEADS, save
from transformers import AutoTokenizer, pipeline


def loaded(name, folder):
    return HEADS[name].auto.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def test_text_classification(tmp_path):
    folder = save("classifier", tmp_path, architectures=["QuoremForSequenceClassification"])
    model, tokenizer = loaded("classifier", folder)
    found = pipeline("text-classification", model=folder, top_k=None)(TEXTS)
    for text, each in zip(TEXTS, found, strict=True):
        expected = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        assert {row["label"]: pytest.approx(row["score"], abs=1e-5) for row in each} == {
            LABELS[number]: float(share) for number, share in enumerate(expected)
        }


@torch.no_grad()
def test_text_classification_tells_the_texts_of_a_pair_apart(tmp_path):
    folder = save("classifier", tmp_path, architectures=["QuoremForSequenceClassification"])
    model = HEADS["classifier"].auto.from_pretrained(folder).eval()
    found = pipeline("text-classification", model=folder, top_k=None)({"text": "w7 w9", "text_pair": "w8"})
    rows = torch.tensor([[2, 7, 9, 3, 8, 3]]), None, torch.tensor([[0, 0, 0, 0, 1, 1]])  # as fine-tuning reads them
    expected = model(*rows).logits.softmax(-1)[0].tolist()
    assert [row["score"] for row in found] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)


@torch.no_grad()
def test_token_classification_says_a_class_for_each_word(tmp_path):
    folder = save("token classifier", tmp_path)
    model, tokenizer = loaded("token classifier", folder)
    found = pipeline("token-classification", model=folder, ignore_labels=[])(TEXTS[0])
    logits = model(**tokenizer(TEXTS[0], return_tensors="pt")).logits[0, 1:-1]  # without [CLS] and [SEP]
    assert [row["entity"] for row in found] == [LABELS[int(number)] for number in logits.argmax(-1)]
    assert [TEXTS[0][row["start"] : row["end"]] for row in found] == TEXTS[0].split()


@pytest.mark.parametrize("name", ["generator", "generator, tree"])
@torch.no_grad()
def test_fill_mask_gives_the_likeliest_tokens_with_their_probabilities(name, tmp_path):
    folder = save(name, tmp_path)
    model, tokenizer = loaded(name, folder)
    found = pipeline("fill-mask", model=folder, top_k=3)("w7 [MASK] w9")
    encoded = tokenizer("w7 [MASK] w9", return_tensors="pt")
    hidden = model.hidden_at(encoded["input_ids"], encoded["attention_mask"], torch.tensor([2]))
    values, ids = model.generator_lm_head.topk(hidden, 3)
    assert [row["token"] for row in found] == ids[0].tolist()
    if name == "generator, tree":  # of the full softmax the pipeline counts special tokens in
        assert [row["score"] for row in found] == pytest.approx(values[0].exp().tolist(), rel=1e-4)
    assert found[0]["sequence"] == f"w7 {found[0]['token_str']} w9"


@torch.no_grad()
def test_feature_extraction_gives_the_last_states_of_the_encoder(tmp_path):
    folder = save("discriminator", tmp_path)
    model, tokenizer = loaded("encoder", folder)
    found = pipeline("feature-extraction", model=folder)(TEXTS[0])
    expected = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), atol=1e-5)


def test_question_answering_is_none_of_the_pipelines_any_more(tmp_path):
    """transformers 5 has dropped it; quorem's own predict answers."""
    with pytest.raises(KeyError, match="question-answering"):
        pipeline("question-answering", model=save("encoder", tmp_path))
