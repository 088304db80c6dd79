"""Everything a user can get wrong: exit code 2, one line that says what, and nothing half-written."""

import json
import resource
import shutil
from contextlib import contextmanager

import pytest

from quorem.cli import main

TEXTS = "text,label\n" + "".join(f"{'good' if i % 2 else 'bad'} film,{i % 2}\n" for i in range(20))
BROKEN_FILES = {
    "empty": (b"", "is empty"),
    "header only": (b"text,label\n", "no data rows"),
    "all rows empty": (b"text,label\n,1\n  ,0\n", "all 2 data rows have an empty text"),
    "broken quote": (b'text,label\ngood film,1\n"bad film,0\nmore,1\n', "row 2 (starts at line 3, ends at 4): broken"),
    "bad encoding": (b"text,label\ngood film,1\nsch\xf6n,0\n", "line 3: byte 0xf6"),
    "too many fields": (b"text,label\ngood film,1\none, two,0\n", "row 2 (line 3): found 3 fields, expected 2"),
}
BAD_LABELS = {
    "one class": ("text,label\n" + "a film,1\n" * 9, "every label is '1'"),
    "all differ": ("text,label\n" + "".join(f"a film,{i}\n" for i in range(9)), "all 9 labels differ"),
    "no labels": ("text,label\n" + "a film,\n" * 9, "empty text or label"),
}
BAD_PRETRAINING = [
    ("train.max_step=3", "unknown setting train.max_step. Did you mean train.max_steps?"),
    ("nothing.at=3", "unknown setting nothing.at"),
    ("train=3", "train must be a mapping"),
    ("train.seed.deep=3", "seed has no settings inside it"),
    ("train.max_steps=many", "train.max_steps='many': int or none needed"),
    ("train.epochs=[1, 2]", "train.epochs=[1, 2]: float needed"),
    ("train.epochs=[1", "not valid YAML"),
    ("model.shared_embeddings=7", "bool needed"),
    ("model.disentangled_embeddings=7", "bool or none needed"),
    ("model.size=huge", "model.size=huge: unknown"),
    ("model.vocab_size=0", "model.vocab_size=0"),
    ("model.vocab_size=-7", "model.vocab_size=-7"),
    ("model.vocab_size=5", "model.vocab_size=5"),
    ("model.embedding_size=0", "model.embedding_size=0"),
    ("model.dropout=1.5", "model.dropout=1.5"),
    ("model.generator.dropout=1", "model.generator.dropout=1"),
    ("model.positions=rotari", "Did you mean rotary?"),
    ("model.initializer=x", "model.initializer=x"),
    ("model.embedding.kind=hashng", "Did you mean hashing?"),
    ("model.embedding.operation=ad", "Did you mean add?"),
    ("model.embedding.assignment=x", "model.embedding.assignment=x"),
    ("model.embedding.kind=attributes", "model.embedding.attributes_file=PATH go together"),
    ("model.embedding.attributes_file=x.csv", "model.embedding.attributes_file=PATH go together"),
    ("model.embedding.tier=-1", "model.embedding.tier=-1"),
    ("model.embedding.divisor=0", "model.embedding.divisor=0"),
    ("model.head.kind=x", "model.head.kind=x"),
    ("model.generator.hidden_size=-1", "model.generator.hidden_size=-1"),
    ("model.generator.hidden_size=0", "model.generator.hidden_size=0"),
    ("data.max_length=3", "data.max_length=3"),
    ("data.max_length=0", "data.max_length=0"),
    ("tokenizer.kind=word", "Did you mean words?"),
    ("tokenizer.normalization=x", "normalization"),
    ("tokenizer.min_frequency=0", "min_frequency=0"),
    ("objective.recipe=moden", "Did you mean modern?"),
    ("objective.mask_rate=1.5", "objective.mask_rate=1.5"),
    ("objective.mask_rate=0", "objective.mask_rate=0"),
    ("objective.keep_rate=-0.1", "objective.keep_rate=-0.1"),
    ("train.batch_size=0", "train.batch_size=0"),
    ("train.micro_batch_size=-1", "train.micro_batch_size=-1"),
    ("train.learning_rate=0", "train.learning_rate=0"),
    ("train.learning_rate=.nan", "train.learning_rate=nan"),
    ("train.generator_learning_rate=-1", "train.generator_learning_rate=-1"),
    ("train.epochs=.inf", "train.epochs=inf"),
    ("train.warmup=-1", "train.warmup=-1"),
    ("train.precision=fp8", "train.precision=fp8"),
    ("train.schedule=x", "train.schedule=x"),
    ("train.seed=-1", "train.seed=-1"),
    ("train.optimizer=muin", "Did you mean muon?"),
    ("train.matrix_learning_rate=0", "train.matrix_learning_rate=0"),
    ("train.table_updates=row", "Did you mean rows?"),
    ("model.embedding.start=coocurrence", "Did you mean cooccurrence?"),
    ("model.embedding.own_rank=-1", "model.embedding.own_rank=-1"),
]
BAD_FINE_TUNING = [
    ("train.shard_layers=true", "in fine-tuning all weights are kept by each process"),
    ("train.table_updates=rows", "is for pre-training"),
    ("train.optimizer=adam", "Did you mean adamw?"),
    ("classifier.ngrams=-1", "classifier.ngrams=-1"),
    ("classifier.recipe=papr", "Did you mean paper?"),
    ("classifier.head=x", "classifier.head=x"),
    ("classifier.pooling=x", "classifier.pooling=x"),
    ("classifier.layers=x", "classifier.layers=x"),
    ("classifier.layer_decay=0", "classifier.layer_decay=0"),
    ("classifier.layer_decay=1.5", "classifier.layer_decay=1.5"),
    ("classifier.dropout=1", "classifier.dropout=1"),
    ("classifier.attention_dropout=1", "classifier.attention_dropout=1"),
    ("data.truncation=tial", "Did you mean tail?"),
    ("data.max_length=3", "data.max_length=3"),
    ("data.validation_share=0", "data.validation_share=0"),
    ("data.validation_share=1", "data.validation_share=1"),
    ("data.split_seed=-1", "data.split_seed=-1"),
    ("train.learning_rate=0", "train.learning_rate=0"),
    ("train.precision=fp8", "train.precision=fp8"),
    ("model.size=tiny", "unknown setting model.size"),
]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(TEXTS, encoding="utf-8")
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / f"copy of {folder.name}")


# ---- the data


@pytest.mark.parametrize("name", BROKEN_FILES)
@pytest.mark.parametrize("command", ["pretrain", "finetune", "predict"])
def test_a_broken_file_is_refused_and_the_mended_one_accepted(
    refused, quorem, data, out, half_written, pretrained, classifier, pretrain_settings, command, name
):
    content, message = BROKEN_FILES[name]
    if command == "predict" and name in ("header only", "all rows empty"):
        pytest.skip("nothing to learn from, but a valid file to predict")
    words = {
        "pretrain": ["pretrain", data, "--out", out, *pretrain_settings, "train.max_steps=1"],
        "finetune": ["finetune", pretrained, data, "--out", out, "train.max_steps=1"],
        "predict": ["predict", classifier, data, "--out", out],
    }[command]
    data.write_bytes(content)
    line = refused(*words)
    assert str(data) in line
    assert message in line
    assert half_written(out) == []
    assert command == "pretrain" or not out.exists()
    data.write_text(TEXTS, encoding="utf-8")
    if command == "pretrain" or name == "broken quote":  # where nothing is left, once says what the others would
        assert quorem(*words).code == 0


@pytest.mark.parametrize("command", ["pretrain", "finetune", "predict"])
def test_a_missing_file_or_column_is_named(refused, data, out, pretrained, classifier, command):
    run = {"pretrain": [], "finetune": [pretrained], "predict": [classifier]}[command]
    assert "nowhere.csv does not exist" in refused(command, *run, data.parent / "nowhere.csv", "--out", out)
    line = refused(command, *run, data, "--text-column", "txt", "--out", out)
    assert "no column 'txt'" in line
    assert "Did you mean text? Allowed: label, text" in line
    (data.parent / "empty").mkdir()
    assert "no file of a known format in this folder" in refused(command, *run, data.parent / "empty", "--out", out)
    assert not out.exists()


def test_pretrain_without_data_says_how_to_name_it(refused, out):
    assert "name a file" in refused("pretrain", "--out", out)


@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_that_cannot_be_learned_are_refused_before_anything_is_written(refused, data, out, pretrained, name):
    content, message = BAD_LABELS[name]
    data.write_text(content, encoding="utf-8")
    assert message in refused("finetune", pretrained, data, "--out", out, after_log=True)
    assert not out.exists()


def test_a_wrong_label_column_does_not_spoil_the_folder(refused, quorem, data, out, pretrained):
    data.write_text("text,kind,label\n" + "".join(f"a film,film,{i % 2}\n" for i in range(20)), encoding="utf-8")
    words = ["finetune", pretrained, data, "--out", out, "train.max_steps=1", "--label-column"]
    assert "every label is 'film'" in refused(*words, "kind", after_log=True)
    assert "no column 'lable'" in refused(*words, "lable")
    assert quorem(*words, "label").code == 0


# ---- the settings


@pytest.mark.parametrize(("setting", "message"), BAD_PRETRAINING)
def test_a_bad_setting_of_pretraining_is_refused(refused, data, out, pretrain_settings, setting, message):
    assert message in refused("pretrain", data, "--out", out, *pretrain_settings, setting)
    assert not out.exists()


@pytest.mark.parametrize(("setting", "message"), BAD_FINE_TUNING)
def test_a_bad_setting_of_fine_tuning_is_refused(refused, data, out, pretrained, setting, message):
    assert message in refused("finetune", pretrained, data, "--out", out, setting, after_log=True)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {max_step: 3}", "unknown setting train.max_step. Did you mean max_steps?"),
        ("train: 3", "train must be a mapping"),
        ("- 1", "must be a mapping"),
        ("train: [", "not valid YAML"),
    ],
)
def test_a_bad_settings_file_is_refused(refused, tmp_path, data, out, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    for words in (["pretrain", data, "--out", out], ["describe"]):
        line = refused(*words, "--config", file)
        assert message in line
        assert str(file) in line
    assert "cannot be read" in refused("describe", "--config", tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "words", [["predict", "x", "y", "--out", "z", "train.seed=1"], ["pretrain", "x.csv"], ["sing"]]
)
def test_a_bad_command_line_ends_with_code_2_and_the_usage(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: quorem" in capsys.readouterr().err


# ---- the folders


def test_a_folder_that_holds_something_else_is_left_alone(refused, data, out, pretrained, pretrain_settings):
    words = ["pretrain", data, "--out", out, *pretrain_settings]
    out.write_text("mine", encoding="utf-8")
    assert "is a file, not a folder" in refused(*words)
    assert out.read_text() == "mine"
    out.unlink()
    out.mkdir()
    (out / "thesis.doc").write_text("mine", encoding="utf-8")
    assert "is not empty (thesis.doc) and holds no run" in refused(*words)
    assert [path.name for path in out.iterdir()] == ["thesis.doc"]
    line = refused("pretrain", data, "--out", pretrained, *pretrain_settings)
    assert "already holds another run (data.path: " in line
    assert "is a file" in refused("finetune", pretrained, data, "--out", data, after_log=True)


def test_a_folder_below_a_file_is_refused(refused, data, pretrained, pretrain_settings, classifier):
    for words in (
        ["pretrain", data, *pretrain_settings],
        ["finetune", pretrained, data],
        ["predict", classifier, data],
    ):
        assert str(data) in refused(*words, "--out", data / "run", after_log=True)


def test_fine_tuning_needs_a_finished_run(refused, tmp_path, data, out, pretrained):
    unfinished = copy(pretrained, tmp_path)
    shutil.rmtree(unfinished / "discriminator")
    (unfinished / "result.json").unlink()
    assert "not finished" in refused("finetune", unfinished, data, "--out", out)
    (tmp_path / "folder").mkdir()
    assert "no pre-trained model there" in refused("finetune", tmp_path / "folder", data, "--out", out)
    assert "there is no such folder" in refused("finetune", tmp_path / "nowhere", data, "--out", out)
    assert not out.exists()


def test_predict_needs_a_classifier(refused, tmp_path, data, out, pretrained):
    assert "a pre-training run: run quorem finetune on it first" in refused("predict", pretrained, data, "--out", out)
    assert "no classifier" in refused("predict", tmp_path, data, "--out", out)
    assert "no classifier" in refused("predict", pretrained / "discriminator", data, "--out", out)
    assert not out.exists()


def test_predict_does_not_overwrite(refused, tmp_path, data, classifier):
    existing = tmp_path / "mine.csv"
    existing.write_text("mine", encoding="utf-8")
    assert "exists already" in refused("predict", classifier, data, "--out", existing)
    assert "exists already" in refused("predict", classifier, data, "--out", data)
    assert "exists already" in refused("sample", "reviews", "--rows", "3", "--out", existing)
    assert (existing.read_text(), data.read_text()) == ("mine", TEXTS)


@pytest.mark.parametrize("column", ["prediction", "probability"])
def test_a_column_named_like_a_prediction_is_refused(refused, data, out, classifier, column):
    data.write_text(TEXTS.replace("label", column, 1), encoding="utf-8")
    assert f"already has a column '{column}'" in refused("predict", classifier, data, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "other", "missing"])
def test_a_damaged_model_is_refused(refused, tmp_path, data, out, half_written, pretrained, classifier, name, damage):
    for command, run, folder in (("finetune", pretrained, "discriminator"), ("predict", classifier, "model")):
        broken = copy(run, tmp_path)
        file = broken / folder / name
        content = file.read_bytes()
        if damage == "missing":
            file.unlink()
        elif damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "other":
            other = json.loads(content) | {"hidden_size": 40} if name == "config.json" else {}
            file.write_text(json.dumps(other), encoding="utf-8")
        else:
            file.write_bytes(b"\x00nonsense" if damage == "garbage" else b"")
        line = refused(command, broken, data, "--out", out, after_log=True)
        assert str(broken) in line
        assert not out.exists()
        assert half_written(out) == []


def test_a_tokenizer_that_is_not_the_models_is_refused(refused, tmp_path, data, out, pretrained, classifier):
    """Of the same size, so that nothing else would notice."""
    for command, run, folder in (("finetune", pretrained, "discriminator"), ("predict", classifier, "model")):
        broken = copy(run, tmp_path)
        file = broken / folder / "tokenizer.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        first, second = [token for token, index in vocabulary.items() if index >= 5][:2]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        file.write_text(json.dumps(content), encoding="utf-8")
        line = refused(command, broken, data, "--out", out, after_log=True)
        assert "is not the tokenizer of the model beside it" in line
        assert str(file) in line
        assert not out.exists()


# ---- the disc


@contextmanager
def room_for(size):
    """No file may grow beyond so many bytes: what a full disc does, as far as a program can tell."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # Python ignores SIGXFSZ, so writing fails with EFBIG
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WHOLE = [
    "config.yaml", "environment.json", "data/tokenizer", "data/shards", "discriminator", "generator", "result.json",
]  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "rows", "texts", "checkpoint_every", "num_whole"),
    [
        pytest.param(500, 100, "few words here", 2, 0, id="config.yaml"),
        pytest.param(2_400, 100, "few words here", 2, 2, id="tokenizer.json"),
        pytest.param(8_000, 100, "many words " * 50, 2, 3, id="tokens.bin"),
        pytest.param(8_000, 2_000, "one", 2, 3, id="ends.bin"),
        pytest.param(20_000, 100, "few words here", 2, 4, id="checkpoint"),
        pytest.param(20_000, 100, "few words here", 100, 4, id="model.safetensors"),
    ],
)
def test_pretraining_on_a_full_disc(
    refused, quorem, data, out, half_written, pretrain_settings, limit, rows, texts, checkpoint_every, num_whole
):
    data.write_text("text\n" + f"{texts}\n" * rows, encoding="utf-8")
    words = ["pretrain", data, "--out", out, *pretrain_settings, f"train.checkpoint_every={checkpoint_every}"]
    with room_for(limit):
        assert "the disc is full" in refused(*words, after_log=True)
    assert half_written(out) == []
    assert [name for name in WHOLE if (out / name).exists()] == WHOLE[:num_whole]
    assert not list((out / "state").glob("*"))
    assert quorem(*words).code == 0
    assert (out / "result.json").exists()


@pytest.mark.parametrize("limit", [300, 20_000, 60_000])
def test_fine_tuning_and_predicting_on_a_full_disc(
    refused, quorem, tmp_path, out, half_written, sample_csv, pretrained, finetune_settings, limit
):
    words = ["finetune", pretrained, sample_csv, "--text-column", "review", "--label-column", "sentiment", "--out", out]
    with room_for(limit):
        assert "the disc is full" in refused(*words, *finetune_settings, after_log=True)
    assert half_written(out) == []
    assert not (out / "model").exists()
    assert quorem(*words, *finetune_settings).code == 0
    words = ["predict", out, sample_csv, "--text-column", "review", "--out", tmp_path / "predictions.csv"]
    with room_for(limit):
        assert "the disc is full" in refused(*words)
    assert half_written(out) == []
    assert not (tmp_path / "predictions.csv").exists()
    assert quorem(*words).code == 0


def test_a_sample_on_a_full_disc(refused, out, half_written):
    with room_for(5_000):
        assert "the disc is full" in refused("sample", "reviews", "--rows", "100", "--out", out)
    assert half_written(out) == []
    assert not out.exists()


def test_a_folder_that_may_not_be_written(refused, monkeypatch, data, out, pretrain_settings):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(out))

    monkeypatch.setattr("quorem.training.run_folder.write_text", refuse)
    assert f"{out}: Permission denied" in refused("pretrain", data, "--out", out, *pretrain_settings)
