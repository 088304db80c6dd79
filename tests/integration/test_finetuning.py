"""What fine-tuning does to the weights it starts from."""

import csv
import json
import math

import pytest
import torch

from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import override
from quorem.config.settings import TrainSettings
from quorem.errors import UserError
from quorem.finetuning.checkpoint import size_of
from quorem.finetuning.text_task import groups_of
from quorem.models.classifier import QuoremForSequenceClassification
from quorem.models.configuration import QuoremConfig
from quorem.tasks.classification import Classification
from quorem.training.loop import fit
from quorem.training.run_folder import Run


def classifier():
    grid = {"kind": "qr", "own_rows": 10, "divisor": 7, "permuted": True}
    sizes = {"vocab_size": 60, "embedding_size": 16, "hidden_size": 24, "intermediate_size": 32}
    return QuoremForSequenceClassification(
        QuoremConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, positions="alibi", embedding=grid)
    )


def test_every_parameter_of_a_compositional_classifier_has_its_layers_rate():
    """Trap 9, through the groups that fine-tuning really uses."""
    model = classifier()
    head_depth, settings = 3, ["classifier.layer_decay=0.5", "train.learning_rate=1"]
    groups = groups_of(model, override(FinetuneConfig(), settings))
    rate = {id(p): group["base_lr"] for group in groups for p in group["params"]}
    assert len(rate) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        part = name.removeprefix("electra.")
        depth = 0 if part.startswith("embeddings") else int(part.split(".")[2]) + 1 if "layer" in part else head_depth
        assert rate[id(parameter)] == pytest.approx(0.5 ** (head_depth - depth)), name


def test_the_preset_is_found_through_the_run_or_its_discriminator(tmp_path):
    (tmp_path / "discriminator").mkdir()
    (tmp_path / "config.yaml").write_text("model: {size: tiny}\ndata: {}\ntrain: {}\n")
    assert size_of(str(tmp_path)) == size_of(str(tmp_path / "discriminator")) == "tiny"
    assert size_of(str(tmp_path / "elsewhere" / "model")) == "small"


@pytest.mark.parametrize(
    ("size", "given", "expected"),
    [
        ("tiny", [], 0.0),
        ("small", [], 0.1),
        ("small", ["classifier.dropout=0.2"], 0.2),
        ("tiny", ["classifier.attention_dropout=0.3"], 0.3),
    ],
)
def test_attention_has_dropout_where_asked_or_where_the_preset_has_it(tmp_path, size, given, expected):
    (tmp_path / "discriminator").mkdir()
    (tmp_path / "config.yaml").write_text(f"model: {{size: {size}}}\ndata: {{}}\ntrain: {{}}\n")
    config = Classification().resolve(override(FinetuneConfig(), [f"pretrained={tmp_path}", *given]))
    assert config.classifier.attention_dropout == expected


class Diverging:
    """A program whose loss is no number from its fourth step on."""

    def __init__(self):
        self.module = torch.nn.Linear(1, 1)

    def micro_batches(self, step, *, rank, num_processes):
        yield step

    def loss(self, module, micro_batch):
        return module(torch.ones(1, 1)).sum() * (math.nan if micro_batch >= 3 else 1.0)

    def record(self):
        return {"tokens": 1}

    def reset(self):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_losses_that_are_not_finite_end_the_run_and_change_no_weight(tmp_path):
    program, run = Diverging(), Run(tmp_path / "run", {})
    optimizer = torch.optim.SGD([{"params": list(program.module.parameters()), "base_lr": 0.1}], lr=0.1, fused=True)
    settings = TrainSettings(checkpoint_every=2, log_every=100)
    with pytest.raises(UserError, match=r"step 13: 10 steps in a row .*Lower train\.learning_rate"):
        fit(program, optimizer, settings=settings, total_steps=20, schedule="constant", run=run)
    states = run.load_state(), torch.load(tmp_path / "run" / "state" / "step-000010" / "state.pt")
    assert [state["step"] for state in states] == [12, 10]
    assert all(torch.equal(state["model"]["weight"], program.module.weight) for state in states)
    assert program.module.weight.isfinite().all()


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    run = Run(tmp_path / "run", {})
    for step in (1, 2):
        run.save_state(step, {"model": {"weight": torch.full((3,), float(step))}}, keep=2)
    last = tmp_path / "run" / "state" / "step-000002" / "state.pt"
    last.write_bytes(last.read_bytes()[:100])
    assert run.load_state()["step"] == 1
    assert "damaged" in caplog.text
    (tmp_path / "run" / "state" / "step-000001" / "state.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        run.load_state()


def test_text_of_other_words_is_told(quorem, tmp_path, pretrained, classifier, sample_csv):
    foreign = tmp_path / "foreign.csv"
    foreign.write_text("review,sentiment\n" + "다른 언어,0\n언어,1\n" * 12, encoding="utf-8")
    for data, told in (
        (foreign, "100.00 % of tokens and 100.00 % of characters unknown to the model; is this the column"),
        (sample_csv, "% of characters unknown to the model\n"),
    ):
        columns = ["--text-column", "review", "--label-column", "sentiment"]
        words = ["finetune", pretrained, data, *columns, "--out", tmp_path / data.stem, "train.max_steps=1"]
        assert told in quorem(*words).err
        words = ["predict", classifier, data, *columns[:2], "--out", tmp_path / f"out-{data.stem}.csv"]
        assert told in quorem(*words).err


def test_json_lines_give_what_the_same_csv_gives(quorem, tmp_path, pretrain_settings, sample_csv):
    lines = tmp_path / "reviews.jsonl"
    with sample_csv.open(encoding="utf-8", newline="") as file, lines.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in csv.DictReader(file))
    results = []
    for data in (sample_csv, lines):
        run, tuned = tmp_path / f"run{data.suffix}", tmp_path / f"tuned{data.suffix}"
        columns = ["--text-column", "review", "--label-column", "sentiment"]
        assert quorem("pretrain", data, *columns[:2], "--out", run, *pretrain_settings).code == 0
        assert quorem("finetune", run, data, *columns, "--out", tuned, "train.max_steps=2").code == 0
        results.append([json.loads((folder / "result.json").read_text()) for folder in (run, tuned)])
    assert results[0] == results[1]
    for data in (sample_csv, lines):
        assert quorem("predict", tuned, data, "--out", tmp_path / f"from{data.suffix}.csv").code == 0
    assert (tmp_path / "from.csv.csv").read_bytes() == (tmp_path / "from.jsonl.csv").read_bytes()
