"""`datasets`: map with the tokenizer of a run, set_format, and rows that go into the models."""

import pytest
import torch
from export_cases import TEXTS
from interop_cases import HEADS, save
from transformers import AutoTokenizer, DataCollatorWithPadding

datasets = pytest.importorskip("datasets", reason="needs quorem[datasets]")


@torch.no_grad()
def test_mapped_and_formatted_rows_give_what_texts_give(tmp_path):
    folder = save("classifier", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1]})
    mapped = rows.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True, remove_columns=["text"])
    mapped.set_format("torch", columns=["input_ids", "attention_mask", "label"])
    batch = DataCollatorWithPadding(tokenizer)([mapped[number] for number in range(2)])
    assert batch["input_ids"].dtype == torch.int64
    model = HEADS["classifier"].auto.from_pretrained(folder).eval()
    found = model(**batch)
    assert found.loss.isfinite()
    for text, logits in zip(TEXTS, found.logits, strict=True):
        alone = model(**tokenizer(text, return_tensors="pt")).logits[0]
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-4)


def test_the_tokenizer_is_hashed_alike_so_that_maps_are_cached(tmp_path):
    folder = save("classifier", tmp_path)
    hashes = [datasets.fingerprint.Hasher.hash(AutoTokenizer.from_pretrained(folder)) for _ in range(2)]
    assert hashes[0] == hashes[1]
