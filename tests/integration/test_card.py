"""Model cards and pushing: what a card says is what the run says, and the hub gets a whole model, private."""

import json
import re
from types import SimpleNamespace

import huggingface_hub
import pytest
import yaml
from export_cases import LABELS, QR, save_network
from huggingface_hub import ModelCard

import quorem as package
import quorem.training.card as quorem_card
from quorem.training.card import is_ours

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


def test_the_same_run_gives_the_same_card(tmp_path, quorem, refused):
    model = make_run(tmp_path / "run", "discriminator")
    quorem("card", tmp_path / "run")
    first = (model / "README.md").read_bytes()
    assert "No licence has been given" in first.decode()
    quorem("card", tmp_path / "run")
    assert (model / "README.md").read_bytes() == first
    assert "has no model" in refused("card", tmp_path)


@pytest.mark.parametrize("change", ["a sentence more", "another file"])
def test_a_card_that_somebody_has_changed_is_kept(change, tmp_path, quorem, refused):
    model = make_run(tmp_path / "run", "discriminator")
    quorem("card", tmp_path / "run")
    card = model / "README.md"
    text = card.read_text()
    text = (
        text.replace("## Limits", "It was made on a Sunday.\n\n## Limits") if change == "a sentence more" else "Mine.\n"
    )
    card.write_text(text)
    assert "README.md: was changed, or is not of quorem, and is kept: delete it" in refused("card", tmp_path / "run")
    assert card.read_text() == text


def test_a_licence_is_kept_when_a_card_is_written_again(tmp_path, quorem):
    model = make_run(tmp_path / "run", "discriminator")
    quorem("card", tmp_path / "run", "--license", "cc-by-4.0")
    (tmp_path / "run" / "result.json").write_text(json.dumps(RESULTS["discriminator"] | {"rtd_auc": 0.9}))
    quorem("card", tmp_path / "run")
    card = ModelCard.load(model / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert metrics(card)["rtd_auc"] == 0.9


@pytest.mark.parametrize(
    ("kind", "changes", "title"),
    [
        ("classifier", {"problem_type": "regression"}, "says a number for each text"),
        ("classifier", {"problem_type": "multi_label_classification"}, "any number of labels"),
        ("classifier", {"architectures": ["QuoremForTokenClassification"]}, "a tagger"),
        ("classifier", {"architectures": ["QuoremForMultipleChoice"]}, "chooses one of several"),
    ],
)
def test_a_card_says_what_the_model_is_for(kind, changes, title, tmp_path, quorem):
    model = make_run(tmp_path / "run", kind, pretrained="runs/base", task="regression")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))
    assert quorem("card", tmp_path / "run").code == 0
    text = (model / "README.md").read_text()
    assert title in text
    assert "quorem finetune base reviews.csv --task regression --config config.yaml" in text


def test_every_run_ends_with_a_card_and_a_longer_one_keeps_what_was_changed(
    tmp_path, sample_csv, pretrained, pretrain_settings, classifier, quorem
):
    for model in (pretrained / "discriminator", pretrained / "generator", classifier / "model"):
        card = ModelCard.load(model / "README.md")
        run = json.loads((model.parent / "result.json").read_text())
        found = metrics(card)
        assert found
        assert all(value == run[name] for name, value in found.items())
        assert is_ours(model / "README.md")
    run, settings = tmp_path / "run", [*pretrain_settings, "train.keep_state=true"]
    words = ["pretrain", sample_csv, "--text-column", "review", "--out", run, *settings]
    assert quorem(*words, "train.max_steps=2").code == 0
    mine, other = run / "generator" / "README.md", run / "discriminator" / "README.md"
    mine.write_text("Mine.\n")
    before = other.read_text()
    assert quorem(*words, "train.max_steps=4").code == 0
    assert mine.read_text() == "Mine.\n"
    assert is_ours(other)
    assert other.read_text() != before


def test_a_card_costs_no_run(tmp_path, sample_csv, pretrain_settings, monkeypatch, quorem):
    def broken(*_args, **_options):
        raise ValueError("a card without words")

    monkeypatch.setattr(quorem_card, "model_card", broken)
    words = ["pretrain", sample_csv, "--text-column", "review", "--out", tmp_path / "run", *pretrain_settings]
    outcome = quorem(*words)
    assert outcome.code == 0
    assert "no model card (a card without words): write it with quorem card" in outcome.err
    assert not list((tmp_path / "run").rglob("README.md"))


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


EXPORTED = {
    "token_classifier": ("a tagger", "AutoModelForTokenClassification"),
    "multiple_choice": ("chooses one of several", "AutoModelForMultipleChoice"),
    "question_answering": ("finds the answer to a question", "AutoModelForQuestionAnswering"),
    "next_item": ("says which comes next", "AutoModelForMaskedLM"),
}


@pytest.mark.parametrize("kind", EXPORTED)
def test_a_plain_export_of_a_task_is_named_by_it(kind, tmp_path, quorem):
    changes = {"head": {"kind": "full"}} if kind == "next_item" else {"classifier_head": "hf"}
    save_network(kind, tmp_path / "run" / "model", embedding=QR, **changes)
    settings = {"data": {"path": "rows.jsonl"}, "pretrained": "runs/base", "task": kind}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    assert quorem("export", tmp_path / "run", "--format", "electra", "--out", tmp_path / "out").code == 0
    text = (tmp_path / "out" / "README.md").read_text()
    title, auto = EXPORTED[kind]
    assert title in text
    assert f"model = {auto}.from_pretrained" in text
    assert "discriminator" not in text


@pytest.mark.parametrize(
    "content", ["data: images\n", "data: [images]\n", "- data\n", "data: [\n", "data: !images {}\n"]
)
def test_a_config_of_another_program_beside_a_model_stops_nothing(content, tmp_path, quorem):
    save_network("classifier", tmp_path / "model", embedding=QR, classifier_head="hf")
    (tmp_path / "model" / "config.yaml").write_text(content)
    outcome = quorem("export", tmp_path / "model", "--format", "electra", "--out", tmp_path / "out")
    assert outcome.code == 0, outcome
    assert "config.yaml: does not hold the settings of a run" in outcome.err
    assert "No config.yaml of a run was beside the model." in (tmp_path / "out" / "README.md").read_text()


def test_every_head_has_a_card_of_its_own():
    heads = {name for name in dir(package) if name.startswith("QuoremFor")}
    assert heads == {name for name in quorem_card.KINDS if name.startswith("QuoremFor")}
    kinds = set(quorem_card.KINDS.values()) | set(quorem_card.BY_PROBLEM.values())
    assert kinds == quorem_card.TITLES.keys() == quorem_card.LIMITS.keys() == quorem_card.AUTO.keys()


def test_a_folder_of_another_network_gets_no_card(tmp_path, refused):
    model = make_run(tmp_path / "run", "classifier")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    assert "config.json: architectures=BertModel: is no network of quorem" in refused("card", tmp_path / "run")
    assert not (model / "README.md").exists()


class ConnectionAborted(Exception):
    """Of the library that carries the hub's requests: no OSError."""


class FakeHub:
    """What `push` asks of HfApi, noted."""

    calls: list

    def __init__(self, token):
        self.token = token

    def create_repo(self, name, **options):
        FakeHub.calls.append(("create_repo", name, options))
        if name == "taken/name":
            raise OSError("403 Forbidden")
        if name == "me/offline":
            raise ConnectionAborted("no route to host")
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


def test_a_licence_given_when_pushing_stands_in_the_card(tmp_path, quorem, refused, hub):
    model = make_run(tmp_path / "run", "discriminator")
    quorem("card", tmp_path / "run")
    assert quorem("push", tmp_path / "run", "reviews", "--license", "cc-by-4.0").code == 0
    assert ModelCard.load(model / "README.md").data.license == "cc-by-4.0"
    (model / "README.md").write_text("Mine.\n")
    assert "does not say license: mit: write it into its first lines" in refused(
        "push", tmp_path / "run", "reviews", "--license", "mit"
    )


def test_without_a_token_or_a_right_nothing_is_pushed(tmp_path, refused, hub, monkeypatch):
    make_run(tmp_path / "run", "discriminator")
    for name, said in (("taken/name", "403 Forbidden"), ("me/offline", "no route to host")):
        line = refused("push", tmp_path / "run", name)
        assert f"{name}: the hub has refused it, or was not reached ({said})" in line
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "no token" in refused("push", tmp_path / "run", "reviews")
    assert [call[0] for call in hub] == ["create_repo"] * 2
