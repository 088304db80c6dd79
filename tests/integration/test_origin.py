"""pretraining.py and FineTuning.py: the original's arguments and hyperparameters, and what they do here."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import quorem.origin
from quorem.cli import finetuning_script, pretraining_script
from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import leaves, load, override
from quorem.config.settings import PretrainConfig
from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.errors import UserError
from quorem.origin import FINETUNE_DEFAULTS, PRETRAIN_DEFAULTS, SETTINGS_OF, parse_hparams, settings
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.program import build_electra, build_pretraining_optimizer
from quorem.tokenization import encode, load_tokenizer

ROOT = Path(__file__).parents[2]
SMALL = {
    "MAX_LEN": 16,
    "VOCAB_SIZE": 400,
    "G_EMBED_DIM": 8,
    "D_EMBED_DIM": 16,
    "ATTN_KEY_DIM": 4,
    "G_FF_DIM": 8,
    "D_FF_DIM": 16,
    "D_NUM_HEAD": 2,
    "D_NUM_LAYERS": 2,
    "train.max_steps": 2,
    "train.precision": "fp32",
}
UNUSUAL = {
    "MAX_LEN": 77,
    "VOCAB_SIZE": 1234,
    "PRETRAIN_BATCH_SIZE": 3,
    "PRETRAIN_EPOCHS": 7,
    "G_LR": 0.0123,
    "D_LR": 0.0321,
    "SHARED_EMBEDDINGS": False,
    "G_EMBED_DIM": 24,
    "D_EMBED_DIM": 40,
    "ATTN_KEY_DIM": 6,
    "EMBED_TYPE": "compositional",
    "COMPOSITION_BUCKET_SIZE": 9,
    "G_NUM_HEAD": 3,
    "D_NUM_HEAD": 5,
    "G_FF_DIM": 28,
    "D_FF_DIM": 36,
    "G_NUM_LAYERS": 2,
    "D_NUM_LAYERS": 3,
    "FINETUNE_EPOCHS": 11,
    "FINETUNE_BATCH_SIZE": 13,
}


def configured(**hparams):
    assignments = ["model.size=origin", "model.embedding.tier=0"]
    return override(PretrainConfig(), [*assignments, *settings(hparams, PRETRAIN_DEFAULTS, PretrainConfig())])


def built(counts, **hparams):
    config = resolve(configured(**hparams))
    module = build_electra(Plan.of(config, len(counts)), counts)
    return module, build_pretraining_optimizer(module, config)


def value_of(config, name):
    return next(value for leaf, value, _ in leaves(config) if leaf == name)


def shell(text):
    """The words bash makes of an unquoted text."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\n' {text}"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


# ---- the forms of --hparams


@pytest.mark.parametrize(
    "text",
    [
        """'{"VOCAB_SIZE": 60000, "EMBED_TYPE": "compositional"}'""",
        """'{"VOCAB_SIZE":60000,"EMBED_TYPE":"compositional"}'""",
        """'{VOCAB_SIZE:60000,EMBED_TYPE:compositional}'""",
        """'VOCAB_SIZE: 60000, EMBED_TYPE: compositional'""",
        """{"VOCAB_SIZE": 60000, "EMBED_TYPE": "compositional"}""",
        """{"VOCAB_SIZE":60000,"EMBED_TYPE":"compositional"}""",
        """{"VOCAB_SIZE":60000, "EMBED_TYPE":"compositional"}""",
        """{'VOCAB_SIZE': 60000, 'EMBED_TYPE': 'compositional'}""",
        """'{' VOCAB_SIZE: 60000 , EMBED_TYPE: compositional '}'""",
    ],
)
def test_every_way_to_write_hparams_gives_the_same_mapping(text):
    assert parse_hparams(shell(text)) == {"VOCAB_SIZE": 60000, "EMBED_TYPE": "compositional"}


def test_one_hparam_alone_unquoted():
    assert parse_hparams(shell('{"SHARED_EMBEDDINGS": False}')) == {"SHARED_EMBEDDINGS": False}
    assert parse_hparams(shell('{"G_LR":1e-3}')) == {"G_LR": "1e-3"}  # YAML's text, read as a number later


@pytest.mark.parametrize("words", [[], [""], ["{}"], ["{", "}"]])
def test_no_hparams_are_none(words):
    assert parse_hparams(words) == {}


def test_all_hparams_at_once_in_one_word():
    text = json.dumps(UNUSUAL)
    assert len(text) > 255  # longer than any file name
    assert parse_hparams([text]) == UNUSUAL


@pytest.mark.parametrize(
    ("name", "text"), [("h.json", '{"G_LR": 0.25}'), ("h.yaml", "G_LR: 0.25\n"), ("h.yml", "{G_LR: 0.25}")]
)
def test_hparams_from_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert parse_hparams([str(tmp_path / name)]) == {"G_LR": 0.25}


def test_a_text_with_a_colon_stays_what_it_is():
    found = parse_hparams(['{"data.text_column": "a:b # c", "train.max_steps": 1}'])
    assert found == {"data.text_column": "a:b # c", "train.max_steps": 1}
    assert (
        override(PretrainConfig(), settings(found, PRETRAIN_DEFAULTS, PretrainConfig())).data.text_column == "a:b # c"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (['{"VOCAB_SIZ": 60000}'], "unknown hyperparameter VOCAB_SIZ. Did you mean VOCAB_SIZE?"),
        (['{"train.max_step": 6}'], "unknown hyperparameter train.max_step. Did you mean train.max_steps?"),
        (["[1, 2]"], "not a mapping"),
        (["60000"], "not a mapping"),
        (["{VOCAB_SIZE}"], "not a mapping"),
        (['{"VOCAB_SIZE": '], "not a mapping"),
        (["nowhere.json"], "nowhere.json: cannot be read"),
        (['{"EMBED_TYPE": "compositonal"}'], "Did you mean compositional?"),
        (['{"COMPOSITION_BUCKET_SIZE": 0}'], "COMPOSITION_BUCKET_SIZE=0"),
        (['{"VOCAB_SIZE": "many"}'], "VOCAB_SIZE='many'"),
        (['{"G_LR": "fast"}'], "train.generator_learning_rate='fast': float or none needed"),
        (['{"SHARED_EMBEDDINGS": 3}'], "model.shared_embeddings=3: bool needed"),
        (['{"D_NUM_LAYERS": -1}'], "model.discriminator.num_hidden_layers=-1"),
    ],
)
def test_wrong_hparams_end_with_one_line_and_code_2(capsys, tmp_path, sample_csv, words, message):
    folder = tmp_path / "work"
    code = pretraining_script(["--raw_data_loc", str(sample_csv), "--working_dir", str(folder), "--hparams", *words])
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("quorem: ")
    assert message in lines[0]
    assert not folder.exists()


# ---- what each hyperparameter does


def test_the_table_in_the_documentation_is_this_one():
    text = (ROOT / "docs" / "original.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if re.match(r"\| [A-Z_]{4,}", line)]
    documented = {name: row[2] for row in rows for name in re.findall(r"[A-Z_]{4,}", row[0])}
    assert documented.keys() == SETTINGS_OF.keys()
    for name, ours in SETTINGS_OF.items():
        assert [setting for setting in ours if setting not in documented[name]] == []


@pytest.mark.parametrize("name", PRETRAIN_DEFAULTS)
def test_every_hyperparameter_of_pretraining_sets_what_the_table_says(name):
    expected = {"EMBED_TYPE": "qr", "COMPOSITION_BUCKET_SIZE": 30000 // 9}.get(name, UNUSUAL[name])
    usual, config = configured(), configured(**{name: UNUSUAL[name]})
    also = {
        "VOCAB_SIZE": {"model.embedding.divisor"},
        "EMBED_TYPE": {"model.embedding.operation", "model.embedding.assignment"},
    }.get(name, set())
    changed = {leaf for leaf, value, _ in leaves(config) if value != value_of(usual, leaf)}
    assert changed == set(SETTINGS_OF[name]) | also
    assert [value_of(config, ours) for ours in SETTINGS_OF[name]] == [expected] * len(SETTINGS_OF[name])
    resolved = resolve(config)
    assert [value_of(resolved, ours) for ours in SETTINGS_OF[name]] == [expected] * len(SETTINGS_OF[name])


@pytest.mark.parametrize("name", FINETUNE_DEFAULTS)
def test_every_hyperparameter_of_fine_tuning_sets_what_the_table_says(name):
    config = override(FinetuneConfig(), settings({name: UNUSUAL[name]}, FINETUNE_DEFAULTS, FinetuneConfig()))
    assert [value_of(config, ours) for ours in SETTINGS_OF[name]] == [UNUSUAL[name]]


def test_sizes_reach_both_networks():
    module, _ = built(torch.arange(1234), **{name: UNUSUAL[name] for name in PRETRAIN_DEFAULTS if name != "EMBED_TYPE"})
    sizes = {
        name: (c.hidden_size, c.intermediate_size, c.num_attention_heads, c.attention_head_size, c.num_hidden_layers)
        for name, c in (("G", module.generator.config), ("D", module.discriminator.config))
    }
    assert sizes == {"G": (24, 28, 3, 6, 2), "D": (40, 36, 5, 6, 3)}
    assert module.discriminator.config.embedding_size == 40
    layer = module.generator.electra.encoder.layer
    assert len(layer) == 2
    assert layer[0].attention.self.query.weight.shape == (18, 24)
    assert layer[0].intermediate.dense.weight.shape == (28, 24)


def test_learning_rates_reach_the_optimizer():
    module, optimizer = built(torch.arange(1234), **SMALL | {"VOCAB_SIZE": 1234, "G_LR": 0.01, "D_LR": 0.02})
    rate_of = {id(p): group["base_lr"] for group in optimizer.param_groups for p in group["params"]}
    names = dict(module.named_parameters(remove_duplicate=False))
    rates = {name: rate_of[id(parameter)] for name, parameter in names.items()}
    for name, rate in rates.items():
        assert rate == (0.01 if name.startswith("generator.") else 0.02), name
    assert 0.01 in rates.values()


@pytest.mark.parametrize("embed_type", ["default", "compositional"])
def test_shared_embeddings_can_be_turned_off(embed_type):
    for shared in (True, False):
        hparams = SMALL | {"VOCAB_SIZE": 400, "SHARED_EMBEDDINGS": shared, "EMBED_TYPE": embed_type}
        module, _ = built(torch.arange(400), **hparams)
        table, other = (network.get_input_embeddings() for network in (module.generator, module.discriminator))
        assert isinstance(other, DisentangledEmbedding) is shared
        assert (getattr(other, "base", None) is table) is shared


def test_composition_bucket_size_is_the_number_of_quotient_rows():
    for buckets in (4, 10):
        hparams = SMALL | {"VOCAB_SIZE": 1000, "EMBED_TYPE": "compositional", "COMPOSITION_BUCKET_SIZE": buckets}
        module, _ = built(torch.arange(1000), **hparams)
        table = module.generator.get_input_embeddings()
        assert table.quotient.shape == (buckets, 16)  # the original kept as many rows as there are remainders
        assert table.remainder.shape == (1000 // buckets, 16)


# ---- the scripts


@pytest.fixture(scope="module")
def working_dir(tmp_path_factory):
    """What pretraining.py and FineTuning.py leave, run on a text in several scripts."""
    folder = tmp_path_factory.mktemp("origin")
    data = folder / "films: best #1.csv"
    rows = ['"ein schöner Film, 映画 кино",1', '"ein schlechter Film, नहीं",0'] * 30
    data.write_text("\n".join(['"text: a #",sentiment', *rows]) + "\n", encoding="utf-8")
    words = ["--raw_data_loc", str(data), "--working_dir", str(folder / "work"), "--hparams"]
    hparams = SMALL | {"EMBED_TYPE": "compositional"}
    with pytest.MonkeyPatch.context() as patch:
        for script, extra, given in (
            ("pretraining.py", ["--col_name", "text: a #"], hparams),
            ("FineTuning.py", [], {"MAX_LEN": 16, "FINETUNE_EPOCHS": 1, "train.precision": "fp32"}),
        ):
            patch.setattr(sys, "argv", [script, *extra, *words, json.dumps(given)])
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(ROOT / script), run_name="__main__")
            assert ended.value.code == 0
    return folder / "work"


def test_working_dir_holds_tokenizer_config_and_weights(working_dir):
    names = {path.name for path in (working_dir / "discriminator").iterdir()}
    assert {"tokenizer.json", "vocab.txt", "config.json", "model.safetensors"} <= names
    assert (working_dir / "generator" / "model.safetensors").exists()
    config = load(PretrainConfig, working_dir / "config.yaml")
    assert (config.model.size, config.model.vocab_size, config.data.text_column) == ("origin", 400, "text: a #")


def test_fine_tuning_adds_the_classifier_with_both_phases(working_dir):
    config = load(FinetuneConfig, working_dir / "classifier" / "config.yaml")
    assert (config.classifier.recipe, config.classifier.pooling) == ("origin", "max")
    assert (config.train.schedule, config.train.warmup, config.train.learning_rate) == ("constant", 0, 1e-4)
    frozen = load(FinetuneConfig, working_dir / "classifier" / "frozen" / "config.yaml")
    assert (frozen.classifier.freeze_encoder, frozen.train.learning_rate) == (True, 1e-3)
    result = json.loads((working_dir / "classifier" / "result.json").read_text())
    assert "frozen_accuracy" in result
    model = AutoModelForSequenceClassification.from_pretrained(working_dir / "classifier" / "model")
    assert model.config.id2label == {0: "0", 1: "1"}


def test_every_script_of_the_world_is_kept(working_dir):
    tokenizer = load_tokenizer(working_dir / "discriminator")
    assert len(tokenizer) < 400  # fewer words than VOCAB_SIZE are fine
    ids = encode(tokenizer, ["schöner 映画 кино नहीं"])[0]
    assert tokenizer.unk_token_id not in ids


def test_without_data_the_sample_is_written_beside_the_working_dir(tmp_path, monkeypatch):
    monkeypatch.setattr(quorem.origin, "SAMPLE_ROWS", 40)
    monkeypatch.chdir(tmp_path)
    assert pretraining_script(["--hparams", json.dumps(SMALL)]) == 0
    assert (tmp_path / "sample_reviews.csv").exists()
    assert finetuning_script(["--hparams", '{"FINETUNE_EPOCHS": 1}']) == 0
    assert (tmp_path / "working_dir" / "classifier" / "model" / "model.safetensors").exists()


def test_a_wrong_working_dir_is_found_before_the_sample_is_written(tmp_path, capsys):
    other, file = tmp_path / "photographs", tmp_path / "file"
    other.mkdir()
    (other / "a.jpg").touch()
    file.touch()
    for script, folder, message in (
        (pretraining_script, other, "is not empty (a.jpg) and holds no run"),
        (pretraining_script, file, "is a file, not a folder"),
        (finetuning_script, other, "no pre-trained model there"),
        (finetuning_script, tmp_path / "none", "there is no such folder"),
    ):
        assert script(["--working_dir", str(folder)]) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "photographs"]


def test_fine_tuning_before_pretraining_says_so(capsys, tmp_path, sample_csv):
    code = finetuning_script(["--raw_data_loc", str(sample_csv), "--working_dir", str(tmp_path / "none")])
    assert code == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_importing_the_scripts_runs_nothing():
    for script in ("pretraining.py", "FineTuning.py"):
        runpy.run_path(str(ROOT / script), run_name="imported")


def test_our_own_settings_are_accepted_by_their_dotted_names():
    config = configured(**{"train.seed": 5, "model.embedding.divisor": 17})
    assert (config.train.seed, config.model.embedding.divisor) == (5, 17)
    with pytest.raises(UserError, match="unknown hyperparameter nothing"):
        settings({"nothing": 1}, PRETRAIN_DEFAULTS, PretrainConfig())
