"""The code of docs/interop.md runs as it stands, and its table names tests that are there."""

import re
from pathlib import Path

import pytest
import torch

import quorem
from quorem.samples import write_reviews

PAGE = Path(__file__).parents[2] / "docs" / "interop.md"
NEEDS = {"Trainer": ["datasets"], "PEFT": ["datasets", "peft"], "sentence-transformers": ["sentence_transformers"]}
AFTER = {"PEFT": ["Trainer"], "Quantisation": ["torch.export"]}
TINY = {
    "model.size": "tiny", "model.embedding.kind": "qr", "model.vocab_size": 3000, "data.max_length": 32,
    "train.precision": "fp32", "train.max_steps": 3, "train.batch_size": 8,
}  # fmt: skip
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def sections():
    text = PAGE.read_text(encoding="utf-8")
    return {title: re.findall(r"```python\n(.*?)```", body, re.DOTALL) for title, body in SECTION.findall(text)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the README's commands make, smaller."""
    place = tmp_path_factory.mktemp("page")
    write_reviews(place / "reviews.csv", rows=120)
    data, columns = str(place / "reviews.csv"), {"text_column": "review", "label_column": "sentiment"}
    run = quorem.pretrain(data, place / "runs" / "reviews", text_column="review", settings=TINY)
    few = {"train.max_steps": 2, "train.precision": "fp32"}
    quorem.finetune(run, data, place / "runs" / "sentiment", settings=few, **columns)
    return place


# PEFT and Trainer ask transformers for names that it has renamed; a machine without a GPU has no memory to pin.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*pin_memory:UserWarning")
@pytest.mark.parametrize("title", list(sections()))
def test_the_code_of_each_section_runs(title, folder, monkeypatch):
    """After the sections further up whose names it uses, so that each test runs by itself."""
    for package in NEEDS.get(title, []):
        pytest.importorskip(package, reason="needs quorem[interop,datasets]")
    monkeypatch.chdir(folder)
    names = {"torch": torch, "quorem": quorem}
    for each in (*AFTER.get(title, []), title):
        for block in sections()[each]:
            exec(compile(block, f"docs/interop.md, {each}", "exec"), names)
    if title == "sentence-transformers":
        torch.testing.assert_close(torch.tensor(names["vectors"]), names["same"], atol=1e-5, rtol=1e-4)
    if title == "Auto classes":
        assert names["loss"].isfinite()


def test_every_test_that_the_table_names_is_there():
    listed = set(re.findall(r"`(test_\w+\.py)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    there = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    assert listed == there - {"test_page.py"}


def test_every_section_has_code():
    assert all(len(blocks) == 1 for blocks in sections().values())
    assert len(sections()) == 7
