"""Checkpoints as other libraries leave them: every tensor is accounted for, in every command that takes one."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining, PreTrainedTokenizerFast, pipeline

from quorem import QuoremConfig, QuoremForMaskedLM, QuoremForPreTraining, load
from quorem.errors import UserError
from quorem.models.checkpoint_files import fill, read_weights, weight_files
from quorem.tokenization import adopt_tokenizer, load_tokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(40)), "fü", "##ü", "cafe"]
SIZES = {
    "vocab_size": len(TOKENS), "embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128,
}  # fmt: skip
ROLES = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}


@pytest.fixture(scope="module")
def whole():
    """The weights of a discriminator and of a generator of transformers, under their own names."""
    torch.manual_seed(5)
    networks = {"discriminator": ElectraForPreTraining, "generator": ElectraForMaskedLM}
    return {name: kind(ElectraConfig(**SIZES)).state_dict() for name, kind in networks.items()}


def folder_of(place, weights, *, tokenizer="json"):
    place.mkdir(parents=True)
    ElectraConfig(**SIZES).save_pretrained(place)
    if tokenizer == "json":
        backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(TOKENS)}, unk_token="[UNK]"))
        backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=backend, **ROLES).save_pretrained(place)
    else:
        (place / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    if weights is not None:
        torch.save(weights, place / "pytorch_model.bin")
    return place


def shard(place, weights, save, name):
    """Write weights as two files and an index."""
    names, (stem, ending) = list(weights), name.rsplit(".", 1)
    placed = {key: f"{stem}-0000{1 + number % 2}-of-00002.{ending}" for number, key in enumerate(names)}
    for file in set(placed.values()):
        save({key: weights[key].clone() for key in names if placed[key] == file}, place / file)
    (place / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def network(name="discriminator", **changes):
    kind = {"discriminator": QuoremForPreTraining, "generator": QuoremForMaskedLM}[name]
    return kind(QuoremConfig(**(SIZES | changes)))


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "discriminator.", "electra.", "module.model.net."]
)
@pytest.mark.parametrize("within", [None, "state_dict", "model_state_dict"])
def test_prefixes_of_known_wrappers_are_taken_off(tmp_path, whole, prefix, within):
    weights = whole["discriminator"]
    stored = {prefix + key: value for key, value in weights.items()}
    place = folder_of(tmp_path / "a", stored if within is None else {within: stored, "epoch": 3})
    filled = network()
    assert fill(filled, place, "discriminator") == frozenset()
    found = filled.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[key], weights[key]) for key in found)


def test_of_a_file_with_both_networks_each_gets_its_own(tmp_path, whole):
    stored = {f"model.{name}.{key}": value for name in whole for key, value in whole[name].items()}
    place = folder_of(tmp_path / "a", stored)
    for name, weights in whole.items():
        filled = network(name)
        assert fill(filled, place, name) == frozenset()
        found = filled.state_dict()
        assert all(torch.equal(found[key], weights[key]) for key in found)


def test_an_encoder_alone_and_old_names_are_known_and_the_new_head_is_said(tmp_path, whole, caplog):
    weights = {key: value for key, value in whole["discriminator"].items() if key.startswith("electra.")}
    stored = {
        key.removeprefix("electra.")
        .replace("LayerNorm.weight", "LayerNorm.gamma")
        .replace("Norm.bias", "Norm.beta"): value
        for key, value in weights.items()
    }
    stored |= {"embeddings.position_ids": torch.arange(128), "pooler.dense.weight": torch.zeros(2, 2)}
    filled = network()
    with caplog.at_level(logging.INFO, "quorem"):
        new = fill(filled, folder_of(tmp_path / "a", stored), "discriminator")
    assert new == {key for key in filled.state_dict() if key.startswith("discriminator_predictions.")}
    assert len(new) == 4
    assert all(torch.equal(filled.state_dict()[key], value) for key, value in weights.items())
    (line,) = caplog.messages
    assert f"{len(weights)} of its {len(weights) + 4} tensors are from" in line
    assert "new, because the file holds only an encoder: discriminator_predictions.dense.weight" in line
    assert line.endswith("not used, because the discriminator has no such part: pooler.dense.weight")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda w: {f"foreign.{key}": value for key, value in w.items()},
            "none of its 43 tensors belong to the discrimin.*foreign",
        ),
        (lambda w: {}, "none of its 0 tensors"),
        (
            lambda w: {k: v for k, v in w.items() if ".layer.1." not in k},
            r"lacks electra\.encoder\.layer\.1\..* 11 more",
        ),
        (
            lambda w: {k: v for k, v in w.items() if k != "discriminator_predictions.dense.bias"},
            "lacks discriminator_pre",
        ),
        (
            lambda w: {k: v for k, v in w.items() if "word_embeddings" not in k},
            "lacks electra.embeddings.word_embeddings",
        ),
        (
            lambda w: w | {"electra.embeddings.LayerNorm.bias": torch.zeros(3)},
            r"is \(3,\), but config.json says \(16,\)",
        ),
        (lambda w: w | {"module.electra.embeddings.LayerNorm.bias": torch.zeros(16)}, "both electra.*keep one"),
        (lambda w: [1, 2], "holds a list"),
        (lambda w: w | {"harm": SimpleNamespace()}, "more than tensors"),
    ],
)
def test_weights_that_are_not_all_there_are_an_error(tmp_path, whole, change, said):
    place = folder_of(tmp_path / "a", change(dict(whole["discriminator"])))
    with pytest.raises(UserError, match=f"pytorch_model.bin: .*{said}"):
        fill(network(), place, "discriminator")


@pytest.mark.parametrize("name", ["discriminator", "generator"])
def test_one_network_given_for_the_other_is_an_error(tmp_path, whole, name):
    (other,) = whole.keys() - {name}
    with pytest.raises(UserError, match=f"is a {other}, by its {other}_predictions.*not a {name}"):
        fill(network(name), folder_of(tmp_path / "a", whole[other]), name)


def test_shards_are_read_and_each_has_to_be_there(tmp_path, whole):
    weights = whole["discriminator"]
    for name, save in (("model.safetensors", save_file), ("pytorch_model.bin", torch.save)):
        place = folder_of(tmp_path / name, None)
        shard(place, weights, save, name)
        assert len(weight_files(place)) == 3
        found = read_weights(place, "discriminator")
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], weights[key]) for key in found)
        index, one = place / f"{name}.index.json", weight_files(place)[1]
        content = index.read_text()
        index.write_text(content.replace('"weight_map": {', '"weight_map": {"lost": "' + one.name + '", '))
        with pytest.raises(UserError, match="names lost, which no shard holds"):
            read_weights(place, "discriminator")
        index.write_text(content.replace(one.name, f"../{one.name}"))
        with pytest.raises(UserError, match="which is not in the folder"):
            weight_files(place)
        index.write_text(content)
        one.unlink()
        with pytest.raises(UserError, match="which is not in the folder"):
            weight_files(place)
        index.write_text("[]")
        with pytest.raises(UserError, match="not an index of shards"):
            weight_files(place)
        index.unlink()
        with pytest.raises(UserError, match="has no weights"):
            weight_files(place)


@pytest.mark.parametrize(("lower", "expected"), [(None, "cafe"), (True, "cafe"), (False, "[UNK]")])
def test_a_vocabulary_alone_is_berts_word_piece(tmp_path, lower, expected):
    place = folder_of(tmp_path / "a", None, tokenizer="vocab")
    if lower is not None:
        (place / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    tokenizer = load_tokenizer(place)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("word7 Café")["input_ids"])
    assert tokens == ["[CLS]", "word7", expected, "[SEP]"]
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertJapaneseTokenizer"}))
    with pytest.raises(UserError, match="says BertJapaneseTokenizer"):
        load_tokenizer(place)


def test_a_classifier_of_pairs_from_a_vocabulary_alone_scores_alike_in_a_pipeline(tmp_path, quorem, whole):
    whole = {name: 3 * value for name, value in whole["discriminator"].items()}  # types count
    place, path = folder_of(tmp_path / "a", whole, tokenizer="vocab"), tmp_path / "pairs.csv"
    path.write_text("text,second,label\n" + "".join(f"word{i},word{i % 7},{i % 2}\n" for i in range(40)))
    words = ("--label-column", "label", "data.text_pair_column=second", "train.max_steps=1", "data.max_length=16")
    assert quorem("finetune", place, path, "--out", tmp_path / "run", *words).code == 0
    found = load(tmp_path / "run").predict([("word7", "word9 word8")])[0]
    theirs = pipeline("text-classification", model=str(tmp_path / "run" / "model"))
    expected = theirs({"text": "word7", "text_pair": "word9 word8"})
    assert found == expected | {"score": pytest.approx(expected["score"], abs=1e-5)}


@pytest.mark.parametrize("kind", ["vocab", "json"])
@pytest.mark.parametrize("read", [load_tokenizer, adopt_tokenizer])
def test_the_tokenizers_of_others_give_token_types(tmp_path, kind, read):
    tokenizer = read(folder_of(tmp_path / "a", None, tokenizer=kind))
    assert tokenizer("word7", "word9").keys() == {"input_ids", "token_type_ids", "attention_mask"}


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "rows.csv"
    rows = [f"{' '.join(f'word{(i * 7 + j) % 40}' for j in range(12))},{i % 2}" for i in range(60)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("kind", ["vocab.txt and pytorch_model.bin", "prefix", "shards"])
def test_every_command_reads_them(tmp_path, quorem, whole, labelled, kind):
    weights = whole["discriminator"]
    if kind == "shards":
        place = folder_of(tmp_path / "ckpt", None, tokenizer="vocab")
        shard(place, weights, save_file, "model.safetensors")
    else:
        stored = {("model." if kind == "prefix" else "") + key: value for key, value in weights.items()}
        place = folder_of(tmp_path / "ckpt", stored, tokenizer="vocab")
    few = ("train.max_steps=1", "train.batch_size=4", "data.max_length=16", "train.learning_rate=1e-9")
    outcome = quorem("pretrain", labelled, "--init-from", place, "--out", tmp_path / "run", *few, "train.warmup=0",
                     "train.matrix_learning_rate=1e-9")  # fmt: skip
    assert outcome.code == 0
    assert f"discriminator: {len(weights)} of its {len(weights)} tensors are from" in outcome.err
    assert "generator: starts with new weights" in outcome.err
    after = load_file(tmp_path / "run" / "discriminator" / "model.safetensors")
    for key, value in weights.items():
        if "position" not in key:
            torch.testing.assert_close(after[key], value, atol=1e-4, rtol=0)
    tuned = quorem("finetune", place, labelled, "--label-column", "label", "--out", tmp_path / "tuned", *few)
    assert tuned.code == 0
    model = tmp_path / "tuned" / "model"
    tensors = load_file(model / "model.safetensors")
    key = "electra.encoder.layer.1.output.dense.weight"
    torch.testing.assert_close(tensors[key], weights[key], atol=1e-4, rtol=0)
    assert quorem("predict", tmp_path / "tuned", labelled, "--out", tmp_path / "one.csv").code == 0
    torch.save({f"module.{name}": value for name, value in tensors.items()}, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    assert quorem("predict", model, labelled, "--out", tmp_path / "two.csv").code == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_an_encoder_alone_goes_on_with_the_runs_own_new_head(tmp_path, quorem, whole, labelled):
    weights = {key: value for key, value in whole["discriminator"].items() if key.startswith("electra.")}
    place, few = (
        folder_of(tmp_path / "ckpt", weights),
        ("train.max_steps=1", "train.batch_size=4", "data.max_length=16"),
    )
    for name in ("a", "b"):
        outcome = quorem("pretrain", labelled, "--init-from", place, "--out", tmp_path / name, *few)
        assert outcome.code == 0
        assert "new, because the file holds only an encoder: discriminator_predictions" in outcome.err
    one, two = ((tmp_path / name / "discriminator" / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert one == two


def test_what_cannot_be_begun_with_is_refused_before_a_folder_is_made(tmp_path, refused, whole, labelled):
    for name, kind, sizes in (
        ("discriminator", ElectraForPreTraining, SIZES),
        ("generator", ElectraForMaskedLM, SIZES),
    ):
        changed = sizes if name == "discriminator" else sizes | {"embedding_size": 8}
        kind(ElectraConfig(**changed)).save_pretrained(folder_of(tmp_path / "wide" / name, None))
    line = refused("pretrain", labelled, "--init-from", tmp_path / "wide", "--out", tmp_path / "a")
    assert "token vectors are 8 wide, the discriminator's 16" in line
    empty = folder_of(tmp_path / "empty", None)
    for command in (
        ("pretrain", labelled, "--init-from", empty),
        ("finetune", empty, labelled, "--label-column", "label"),
    ):
        assert "has no weights" in refused(*command, "--out", tmp_path / "a", after_log=True)
    assert not (tmp_path / "a").exists()
