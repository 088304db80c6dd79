"""Load the networks of --init-from: a quorem run, or ELECTRA checkpoints of the transformers library."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedTokenizerFast

from quorem.config.loading import from_mapping
from quorem.config.settings import EmbeddingSettings, HeadSettings, ModelSettings, PretrainConfig, TokenizerSettings
from quorem.data.prepare import is_prepared
from quorem.errors import UserError
from quorem.models.checkpoint_files import TABLE, TIED, fill, read_weights, weight_files
from quorem.models.configuration import QuoremConfig, check_sizes
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining
from quorem.plan.presets import PRESETS, SIZE_KEYS
from quorem.tokenization import adopt_tokenizer, fingerprint, read_tokenizer, tokenizer_files
from quorem.training.run_folder import read_settings

logger = logging.getLogger(__name__)

NETWORKS: dict[str, type[Any]] = {"discriminator": QuoremForPreTraining, "generator": QuoremForMaskedLM}
SIZES = SIZE_KEYS[:4]  # transformers' ELECTRA has no width of a head
HEAD = "generator_lm_head."
FIXED = ("hidden_act", "layer_norm_eps", "type_vocab_size")  # that no setting of a run changes


@dataclass(frozen=True)
class Start:
    """A network to start from, and the names of weights missing in its folder, which start as in any run."""

    network: nn.Module
    new: frozenset[str] = frozenset()


def network_folders(folder: str | Path) -> dict[str, Path]:
    """The folders of the networks there are: of a run, of a folder like it, or a discriminator's own.

    Raises:
        UserError: if there is no discriminator, a network of another kind, or one without weights or a tokenizer.
    """
    folder = Path(folder)
    found = {name: folder / name for name in NETWORKS if (folder / name / "config.json").is_file()}
    if not found and (folder / "config.json").is_file():
        found = {"discriminator": folder}
    if "discriminator" not in found:
        raise UserError(
            f"model.init_from={folder}: no networks found: give the folder of a finished quorem pretrain run, a folder "
            "with discriminator/ and generator/ of transformers' ELECTRA, or the folder of a discriminator"
        )
    for place in found.values():
        kind = read_settings(place / "config.json").get("model_type")
        if kind not in ("quorem", "electra"):
            raise UserError(f"{place}: is a model of type {kind}: give one of type quorem or electra")
        if not tokenizer_files(place):
            raise UserError(
                f"{place}: has no tokenizer.json and no vocab.txt: put its fast tokenizer there (save_pretrained does)"
            )
        weight_files(place)
    return found


def _config(place: Path) -> dict[str, Any]:
    """A network's config, its defaults filled in."""
    try:
        found = dict(AutoConfig.from_pretrained(place, local_files_only=True).to_dict())
        check_sizes(found)
        return found
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{place}: its config.json cannot be read ({error})") from error


def settings_of(folder: str | Path) -> PretrainConfig:
    """The settings of a run that starts from `folder`: the folder's model and tokenizer, otherwise defaults.

    Raises:
        UserError: for a folder that cannot be started from.
    """
    found, run = network_folders(folder), Path(folder) / "config.yaml"
    if run.is_file():
        model = from_mapping(ModelSettings, read_settings(run).get("model"), where="model.", source=str(run))
    else:
        model = _model_settings({name: _config(place) for name, place in found.items()}, folder)
    table = replace(model.embedding, start=None)
    model = replace(model, init_from=str(folder), init_optimizer="fresh", embedding=table)
    return PretrainConfig(model=model, tokenizer=TokenizerSettings(path=str(found["discriminator"])))


def with_another_table(config: PretrainConfig, start: PretrainConfig) -> PretrainConfig:
    """Drop the settings of the start's table if another kind of table is asked for.

    Args:
        config: `settings_of` a folder, changed.
        start: as it was before.
    """
    table, before, default = config.model.embedding, start.model.embedding, EmbeddingSettings()
    if table.kind == before.kind:
        return config
    kept = {item.name: getattr(default, item.name) for item in fields(table)
            if item.name != "kind" and getattr(table, item.name) == getattr(before, item.name)}  # fmt: skip
    head = config.model.head if config.model.head != start.model.head else HeadSettings()
    return replace(config, model=replace(config.model, embedding=replace(table, **kept), head=head))


def with_implied_settings(config: PretrainConfig) -> PretrainConfig:
    """Adapt two settings to others: no tokenizer for prepared data; a full softmax only if it can be kept."""
    if config.model.init_from is None:
        return config
    found = network_folders(config.model.init_from)
    if is_prepared(config.data.path) and config.tokenizer == TokenizerSettings(path=str(found["discriminator"])):
        config = replace(config, tokenizer=TokenizerSettings())  # prepared data has its own tokenizer
    model = config.model
    if "generator" in found and model.shared_embeddings:
        wide, narrow = (_config(found[name])["embedding_size"] for name in NETWORKS)
        if wide != narrow:
            raise UserError(
                f"{found['generator']}: the generator's token vectors are {narrow} wide, the discriminator's {wide}, "
                f"so the two cannot share them: set model.shared_embeddings=false and "
                f"model.generator.embedding_size={narrow}"
            )
    there = _config(found["generator"]) if "generator" in found else {}
    if model.embedding.kind in ("auto", "dense") and model.head.kind == "auto" and there.get("model_type") == "electra":
        config = replace(config, model=replace(model, head=replace(model.head, kind="full")))
    return config


def load_networks(folder: str | Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, Start]:
    """The networks of a folder, with the ids of `tokenizer`.

    Raises:
        UserError: if they cannot be read, lack weights, or are for other tokens.
    """
    found = {}
    for name, place in network_folders(folder).items():
        try:
            if _config(place)["model_type"] == "quorem":
                network = _new_network(name, QuoremConfig.from_pretrained(place, local_files_only=True))
                start = Start(network, fill(network, place, name))
                same = network.config.tokenizer_fingerprint == fingerprint(tokenizer)
            else:
                start = _convert(name, place, tokenizer)
                same = fingerprint(adopt_tokenizer(place)) == fingerprint(tokenizer)
        except UserError:
            raise
        except Exception as error:  # a damaged file can fail in any way
            raise UserError(f"{place}: cannot be read ({error})") from error
        if not same:
            raise UserError(
                f"{place}: its tokenizer differs from the data's, so ids would mean other tokens: set "
                f"tokenizer.path={place}"
            )
        found[name] = start
    return found


def _model_settings(configs: Mapping[str, dict[str, Any]], folder: str | Path) -> ModelSettings:
    """Model settings that give networks of these configs; their tables are dense."""
    first = configs["discriminator"]
    kinds = {name: (config.get("embedding") or {}).get("kind", "dense") for name, config in configs.items()}
    if other := [kind for kind in kinds.values() if kind != "dense"]:
        raise UserError(f"model.init_from={folder}: has a table of kind {other[0]}: give the folder of its run")
    sizes = {name: tuple(config[key] for key in SIZES) for name, config in configs.items()}
    known = {name: (preset.discriminator[:4], preset.generator[:4]) for name, preset in PRESETS.items()}
    near = [name for name, pair in known.items() if pair == (sizes["discriminator"], sizes.get("generator", pair[1]))]
    near += [name for name, pair in known.items() if pair[0] == sizes["discriminator"]]
    networks = {
        name: {key: config[key] for key in SIZES}
        | {
            "attention_head_size": config.get("attention_head_size")
            or config["hidden_size"] // config["num_attention_heads"]
        }
        for name, config in configs.items()
    }
    return from_mapping(
        ModelSettings,
        {
            "size": near[0] if near else "small",
            "vocab_size": first["vocab_size"],
            "embedding_size": first["embedding_size"],
            "positions": first.get("positions", "absolute"),
            "initializer": first.get("initializer", "bert"),
            "dropout": first["hidden_dropout_prob"],
            "disentangled_embeddings": False,
            **networks,
        },
    )


def _new_network(name: str, config: QuoremConfig) -> Any:
    """A fresh network of this config; the run's random numbers do not change."""
    with torch.random.fork_rng(devices=[]):
        return NETWORKS[name](config)


def _convert(name: str, place: Path, tokenizer: PreTrainedTokenizerFast) -> Start:
    """Convert a transformers network to quorem's, with rows in the order of the tokenizer's ids."""
    there = _config(place)
    for key in FIXED:
        if there[key] != getattr(QuoremConfig(), key):
            raise UserError(
                f"{place / 'config.json'}: {key} is {there[key]}, but quorem's networks have "
                f"{getattr(QuoremConfig(), key)}: give another network"
            )
    names = ("vocab_size", "embedding_size", *SIZES, "hidden_act", "max_position_embeddings", "type_vocab_size",
             "layer_norm_eps")  # fmt: skip
    converted = _new_network(name, QuoremConfig(**{key: there[key] for key in names}))
    new = fill(converted, place, name)
    whole = read_weights(place, name)
    if TIED in whole and not torch.equal(whole[TIED], whole[f"{TABLE}weight"]):
        logger.warning("%s: its %s is not used, because quorem's softmax scores by the token vectors", place, TIED)
    old = read_tokenizer(place).get_vocab()
    wanted = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    rows = torch.tensor([old.get(token, -1) for token in wanted])
    resized = _new_network(
        name, QuoremConfig(**(converted.config.to_dict() | {"vocab_size": len(wanted), "embedding": None}))
    )
    state = {key: _rows_of_tokens(value, rows, there["vocab_size"]) if _by_token(key) else value
             for key, value in converted.state_dict().items()}  # fmt: skip
    resized.load_state_dict(state)
    return Start(resized, new)


def _by_token(key: str) -> bool:
    return key.startswith((TABLE, HEAD))


def _rows_of_tokens(value: Tensor, rows: Tensor, vocab_size: int) -> Tensor:
    """Rows of a table, or entries of a bias; tokens without one get the mean of all."""
    if rows.max() >= vocab_size:
        raise UserError(f"the tokenizer has {int(rows.max()) + 1:,} tokens and the model {vocab_size:,} rows")
    return torch.where((rows >= 0).view(-1, *[1] * (value.ndim - 1)), value[rows.clamp(min=0)], value.mean(0))
