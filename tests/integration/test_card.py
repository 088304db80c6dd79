"""Model cards and pushing: what a card says is what the run says, and the hub gets a whole model, private."""

import json
import re
from types import SimpleNamespace

import huggingface_hub
import pytest
import yaml
from export_cases import LABELS, QR, save_network
from huggingface_hub import ModelCard

RESULTS = {
    "discriminator": {
        "mlm_loss": 5.123456, "unigram_entropy": 6.5, "rtd_loss": 0.31, "base_rate_entropy": 0.4, "rtd_auc": 0.87,
        "parameters": {"trained": 12345}, "vocab_size": 211, "verdict": "the generator has learned more than nothing",
    },
    "classifier": {"accuracy": 0.912345, "macro_f1": 0.9, "confusion": [[5, 1, 0], [2, 30, 0], [0, 0, 2]],
                   "labels": list(LABELS.values()), "baselines": {"TF-IDF, ridge": {"accuracy": 0.8765}}},
    "next_item": {
        "test": {"hr@20": 0.4755, "mrr@20": 0.1615, "rows": 4000}, "baselines": {"V-SKNN": {"hr@20": 0.5105}},
    },
    "question_answering": {"f1": 0.512345, "exact_match": 0.25, "held_out": {"rows": 9, "splits": []},
                           "baselines": {"nearest words": {"f1": 0.125, "exact_match": 0.0}}},
}  # fmt: skip


def make_run(folder, kind, **settings):
    """A run folder as training leaves it, but for its length."""
    model = folder / ("discriminator" if kind == "discriminator" else "model")
    save_network(kind, model, embedding=QR)
    settings = {"data": {"path": "/home/somebody/reviews.csv", "text_column": "review"}, "train": {}} | settings
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "result.json").write_text(json.dumps(RESULTS[kind]))
    (folder / "environment.json").write_text(json.dumps({"versions": {"quorem": "0.1.0", "torch": "2.13.0"}}))
    return model


def metrics(card):
    return {result.metric_type: result.metric_value for result in card.data.eval_results}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_card_has_the_numbers_of_the_run(kind, tmp_path, quorem):
    model = make_run(tmp_path / "reviews", kind)
    outcome = quorem("card", tmp_path / "reviews", "--license", "cc-by-4.0")
    assert outcome.out.split() == [str(model / "README.md")]
    card = ModelCard.load(model / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.model_name == "reviews"
    found, result = metrics(card), RESULTS[kind].get("test", RESULTS[kind])
    assert found
    for name, value in found.items():
        assert value == result[name]
        assert f"{value:.4f}" in card.text
    assert "reviews.csv" in card.text
    assert "/home" not in card.content
    assert "quorem 0.1.0, torch 2.13.0" in card.text
    beside = {
        "discriminator": "unigram_entropy 6.5000",
        "classifier": "the largest class always: 0.8000 | 0.8765 |",
        "next_item": "| V-SKNN |  |  | 0.5105 |",
        "question_answering": "| f1 | 0.5123 |  | 0.1250 |",
    }
    assert beside[kind] in card.text


def test_the_same_run_gives_the_same_card_and_none_is_overwritten(tmp_path, quorem, refused):
    model = make_run(tmp_path / "run", "discriminator")
    quorem("card", tmp_path / "run")
    first = (model / "README.md").read_bytes()
    assert "exists already" in refused("card", tmp_path / "run")
    (model / "README.md").unlink()
    quorem("card", tmp_path / "run")
    assert (model / "README.md").read_bytes() == first
    assert "No licence has been given" in first.decode()
    assert "has no model" in refused("card", tmp_path)


@pytest.mark.parametrize(("format", "used"), [("electra", "AutoModel"), ("remote-code", "trust_remote_code=True")])
def test_an_export_has_a_card_of_its_format(format, used, tmp_path, quorem):
    make_run(tmp_path / "run", "discriminator")
    assert quorem("export", tmp_path / "run", "--format", format, "--out", tmp_path / "out").code == 0
    place = tmp_path / "out" / ("discriminator" if format == "electra" else "")
    card = ModelCard.load(place / "README.md")
    assert used in card.text
    assert metrics(card)["rtd_auc"] == 0.87
    for code in re.findall(r"```python\n(.*?)```", card.text, re.DOTALL):
        compile(code, "card", "exec")


class FakeHub:
    """What `push` asks of HfApi, noted."""

    calls: list

    def __init__(self, token):
        self.token = token

    def create_repo(self, name, **options):
        FakeHub.calls.append(("create_repo", name, options))
        if name == "taken/name":
            raise OSError("403 Forbidden")
        return SimpleNamespace(repo_id=f"me/{name}", __str__=lambda: "")

    def upload_folder(self, *, folder_path, **options):
        FakeHub.calls.append(("upload_folder", sorted(path.name for path in folder_path.iterdir()), options))


@pytest.fixture
def hub(monkeypatch):
    FakeHub.calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    return FakeHub.calls


def test_a_run_is_pushed_private_with_its_card(tmp_path, quorem, hub):
    make_run(tmp_path / "run", "discriminator")
    assert quorem("push", tmp_path / "run", "reviews").code == 0
    (_, name, made), (_, files, options) = hub
    assert (name, made["private"], options["repo_id"]) == ("reviews", True, "me/reviews")
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    hub.clear()
    assert quorem("push", tmp_path / "run", "reviews", "--public").code == 0
    assert hub[0][2]["private"] is False


def test_without_a_token_or_a_right_nothing_is_pushed(tmp_path, refused, hub, monkeypatch):
    make_run(tmp_path / "run", "discriminator")
    assert "taken/name: the hub has refused it (403 Forbidden)" in refused("push", tmp_path / "run", "taken/name")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "no token" in refused("push", tmp_path / "run", "reviews")
    assert [call[0] for call in hub] == ["create_repo"]
