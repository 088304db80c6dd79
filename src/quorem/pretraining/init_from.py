"""Going on from trained networks: a quorem run's, or ELECTRA checkpoints of the transformers library."""

import copy
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
from quorem.embeddings import TokenEmbedding
from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.errors import UserError
from quorem.models.checkpoint_files import TIED, fill, read_weights, weight_files
from quorem.models.configuration import QuoremConfig, check_sizes
from quorem.models.electra import Electra
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining
from quorem.plan.presets import PRESETS
from quorem.tokenization import adopt_tokenizer, fingerprint, read_tokenizer, tokenizer_files
from quorem.training.run_folder import read_settings

logger = logging.getLogger(__name__)

NETWORKS: dict[str, type[Any]] = {"discriminator": QuoremForPreTraining, "generator": QuoremForMaskedLM}
SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
EMBEDDINGS = "electra.embeddings."
TABLE = f"{EMBEDDINGS}word_embeddings."
POSITIONS = f"{EMBEDDINGS}position_embeddings.weight"
HEAD = "generator_lm_head."
FIXED = ("hidden_act", "layer_norm_eps", "type_vocab_size")  # that no setting of a run changes


@dataclass(frozen=True)
class Start:
    """A network to go on from, and the names of its weights that its folder lacks: they start as in any run."""

    network: nn.Module
    new: frozenset[str] = frozenset()


def places(folder: str | Path) -> dict[str, Path]:
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
            f"model.init_from={folder}: the folder of a finished run of quorem pretrain is needed, one with "
            "discriminator/ and generator/ of transformers' ELECTRA, or a discriminator's own"
        )
    for place in found.values():
        kind = read_settings(place / "config.json").get("model_type")
        if kind not in ("quorem", "electra"):
            raise UserError(f"{place}: is a model of type {kind}, but quorem or electra is needed")
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
    """The settings of a run that goes on from `folder`: its model and its tokenizer, all else as by default.

    Raises:
        UserError: for a folder that cannot be gone on from.
    """
    found, run = places(folder), Path(folder) / "config.yaml"
    if run.is_file():
        model = from_mapping(ModelSettings, read_settings(run).get("model"), where="model.", source=str(run))
    else:
        model = _described({name: _config(place) for name, place in found.items()}, folder)
    table = replace(model.embedding, start=None)
    model = replace(model, init_from=str(folder), init_optimizer="fresh", embedding=table)
    return PretrainConfig(model=model, tokenizer=TokenizerSettings(path=str(found["discriminator"])))


def with_another_table(config: PretrainConfig, start: PretrainConfig) -> PretrainConfig:
    """The settings without what only the table of the start had, if another kind of table is asked for.

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


def settled(config: PretrainConfig) -> PretrainConfig:
    """Settings of which two follow from others: no tokenizer for prepared data; a full softmax that can be kept."""
    if config.model.init_from is None:
        return config
    found = places(config.model.init_from)
    if is_prepared(config.data.path) and config.tokenizer == TokenizerSettings(path=str(found["discriminator"])):
        config = replace(config, tokenizer=TokenizerSettings())  # prepared data has one
    model = config.model
    if "generator" in found and model.shared_embeddings:
        wide, narrow = (_config(found[name])["embedding_size"] for name in NETWORKS)
        if wide != narrow:
            raise UserError(
                f"{found['generator']}: its token vectors are {narrow} wide and the discriminator's {wide}, so that "
                f"the two cannot share them: give model.shared_embeddings=false and "
                f"model.generator.embedding_size={narrow}"
            )
    there = _config(found["generator"]) if "generator" in found else {}
    if model.embedding.kind == "dense" and model.head.kind == "auto" and there.get("model_type") == "electra":
        config = replace(config, model=replace(model, head=replace(model.head, kind="full")))
    return config


def load_networks(folder: str | Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, Start]:
    """The networks of a folder, with the ids of `tokenizer`.

    Raises:
        UserError: if they cannot be read, lack weights, or are for other tokens.
    """
    found = {}
    for name, place in places(folder).items():
        try:
            if _config(place)["model_type"] == "quorem":
                network = _fresh(name, QuoremConfig.from_pretrained(place, local_files_only=True))
                start = Start(network, fill(network, place, name))
                same = network.config.tokenizer_fingerprint == fingerprint(tokenizer)
            else:
                start = _adopted(name, place, tokenizer)
                same = fingerprint(adopt_tokenizer(place)) == fingerprint(tokenizer)
        except UserError:
            raise
        except Exception as error:  # a damaged file can fail in any way
            raise UserError(f"{place}: cannot be read ({error})") from error
        if not same:
            raise UserError(
                f"{place}: its tokenizer is another than the data's, so that ids would mean other tokens: give "
                f"tokenizer.path={place}"
            )
        found[name] = start
    return found


@torch.no_grad()
def initialise(module: Electra, start: Mapping[str, Start]) -> None:
    """Give networks the weights of others, and say what of them is new, and what of the others is not used.

    A token table of the same kind and size is copied with its order of tokens; another one is fitted to the vectors,
    and the share of their variance that it explains is logged.

    Args:
        module: fresh networks.
        start: trained ones, by name.

    Raises:
        UserError: if sizes differ, or a table cannot be fitted.
    """
    copied = _tables(module, {name: each.network for name, each in start.items()})
    for name, source in start.items():
        shared = name == "generator" and _shares_whole(module)
        _copy(source, getattr(module, name), name, same_order=copied, but=EMBEDDINGS if shared else TABLE)
    if "generator" not in start:
        logger.info("generator: new, but for the token table, for only a discriminator was given")


def _described(configs: Mapping[str, dict[str, Any]], folder: str | Path) -> ModelSettings:
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


def _fresh(name: str, config: QuoremConfig) -> Any:
    """A network as its config says; the run's own random numbers stay as they are."""
    with torch.random.fork_rng(devices=[]):
        return NETWORKS[name](config)


def _adopted(name: str, place: Path, tokenizer: PreTrainedTokenizerFast) -> Start:
    """A network of transformers as one of ours, its rows in the order of tokenizer's ids."""
    there = _config(place)
    for key in FIXED:
        if there[key] != getattr(QuoremConfig(), key):
            raise UserError(
                f"{place / 'config.json'}: {key} is {there[key]}, but networks that quorem trains have "
                f"{getattr(QuoremConfig(), key)}: it cannot be gone on from"
            )
    names = ("vocab_size", "embedding_size", *SIZES, "hidden_act", "max_position_embeddings", "type_vocab_size",
             "layer_norm_eps")  # fmt: skip
    converted = _fresh(name, QuoremConfig(**{key: there[key] for key in names}))
    new = fill(converted, place, name)
    whole = read_weights(place, name)
    if TIED in whole and not torch.equal(whole[TIED], whole[f"{TABLE}weight"]):
        logger.warning("%s: its %s is not taken over, for softmaxes here score by the token vectors", place, TIED)
    old = read_tokenizer(place).get_vocab()
    wanted = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    rows = torch.tensor([old.get(token, -1) for token in wanted])
    resized = _fresh(
        name, QuoremConfig(**(converted.config.to_dict() | {"vocab_size": len(wanted), "embedding": None}))
    )
    state = {key: _picked(value, rows, there["vocab_size"]) if _by_token(key) else value
             for key, value in converted.state_dict().items()}  # fmt: skip
    resized.load_state_dict(state)
    return Start(resized, new)


def _by_token(key: str) -> bool:
    return key.startswith((TABLE, HEAD))


def _picked(value: Tensor, rows: Tensor, vocab_size: int) -> Tensor:
    """Rows of a table, or entries of a bias; the mean of all for a token it has none for."""
    if rows.max() >= vocab_size:
        raise UserError(f"the tokenizer has {int(rows.max()) + 1:,} tokens and the model {vocab_size:,} rows")
    return torch.where((rows >= 0).view(-1, *[1] * (value.ndim - 1)), value[rows.clamp(min=0)], value.mean(0))


def _shares_whole(module: Electra) -> bool:
    embeddings = module.discriminator.electra.embeddings
    return hasattr(module.generator, "electra") and module.generator.electra.embeddings is embeddings


def _tables(module: Electra, start: Mapping[str, Any]) -> bool:
    """Take over token vectors; whether the generator's head finds its tokens in the order they had."""
    table, source = module.discriminator.get_input_embeddings(), start["discriminator"].get_input_embeddings()
    other = start["generator"].get_input_embeddings() if "generator" in start and module.learns else source
    if isinstance(table, DisentangledEmbedding):
        copied = _take_over(table.base, other, "the generator's") if module.learns else True
        own = copy.deepcopy(table.base)
        if other is not source or not module.learns:
            _take_over(own, source, "the discriminator's", order_counts=True)
        for difference, mine, base in zip(table.differences, own.parameters(), table.base.parameters(), strict=True):
            difference.copy_(mine - base)
        return copied
    copied = _take_over(table, source, "the discriminator's")
    if _shares_whole(module):
        if other is not source and not torch.allclose(other.to_dense(), source.to_dense(), atol=1e-5):
            logger.warning(
                "the two networks do not have the same token vectors: both read the discriminator's from now on, which "
                "may set the generator back (model.shared_embeddings=false keeps both)"
            )
        return copied
    if module.learns:
        return _take_over(module.generator.get_input_embeddings(), other, "the generator's")
    return copied


def _take_over(table: TokenEmbedding, source: TokenEmbedding, whose: str, *, order_counts: bool = False) -> bool:
    """Copy token vectors, their order too, or fit them; whether they were copied.

    Args:
        table: where to.
        source: where from.
        whose: for the log.
        order_counts: whether a table with another order of tokens has to be fitted.
    """
    found, wanted = source.state_dict(), table.state_dict()
    facts = [
        (
            type(each),
            each.options,
            each.assignment.own_rows,
            each.assignment.divisor,
            {k: v.shape for k, v in state.items()},
        )
        for each, state in ((source, found), (table, wanted))
    ]
    orders = [(found[key], wanted[key]) for key in found if key.endswith("rank")] if facts[0] == facts[1] else []
    if facts[0] == facts[1] and not (order_counts and any(not torch.equal(*pair) for pair in orders)):
        table.load_state_dict(found)
        return True
    try:
        explained = table.from_dense(source.to_dense())
    except (NotImplementedError, ValueError) as error:
        raise UserError(f"model.init_from: {whose} token table cannot be taken over ({error})") from error
    sizes = (f"{sum(parameter.numel() for parameter in each.parameters()):,}" for each in (table, source))
    logger.info("%s token vectors: %.1f %% of their variance explained by %s numbers instead of %s",
                whose, 100 * explained, *sizes)  # fmt: skip
    return False


def _copy(source: Start, target: nn.Module, name: str, *, same_order: bool, but: str) -> None:
    """Everything but keys that start with `but`; a head if it is of the same kind and its tokens in the same order."""
    found, wanted = source.network.state_dict(), target.state_dict()
    head = [key for key in wanted if key.startswith(HEAD)]
    same = all(key in found and found[key].shape == wanted[key].shape for key in head)
    if head and not (same and (same_order or head == [f"{HEAD}bias"])):  # a full softmax goes by ids, in any order
        logger.info("%s: its softmax starts anew, for it is of another kind or size", name)
        but_also = HEAD
    else:
        but_also = but
    taken = {}
    for key, value in wanted.items():
        if key.startswith((but, but_also)) or key in source.new:
            continue
        there = found.get(key)
        if key == POSITIONS and there is not None and len(there) != len(value):
            length = min(len(there), len(value))
            there = torch.cat([there[:length], value[length:]])
        if there is None or there.shape != value.shape:
            raise UserError(
                f"model.init_from: the {name}'s {key} is {'missing' if there is None else tuple(there.shape)} there "
                f"and {tuple(value.shape)} here: leave its sizes to --init-from, which takes them over"
            )
        taken[key] = there
    target.load_state_dict(taken, strict=False)
    found = {key: value for key, value in found.items() if key not in source.new}
    _say_unused(found, target, name, but=(TABLE, but_also if but_also == HEAD else TABLE))


def _say_unused(found: Mapping[str, Tensor], target: Any, name: str, *, but: tuple[str, ...]) -> None:
    """Log which tensors of a source are not, or not whole, in the network made from it; keys of `but` are told of."""
    here, config, unused = target.state_dict(), target.config, dict[str, list[str]]()
    for key, there in found.items():
        now = here.get(key)
        begins = now is not None and torch.equal(there[: len(now)].to(now.dtype), now[: len(there)])
        if key.startswith(but) or (begins and len(now) >= len(there)):
            continue
        if begins:
            why = f"the first {len(now)} are enough for data.max_length"
        elif now is not None:
            why = "both networks read the discriminator's, model.shared_embeddings"
        elif ".layer." in key:
            why = f"num_hidden_layers={config.num_hidden_layers}"
        else:
            why = f"model.positions={config.positions}" if key == POSITIONS else "this network has none"
        parts = key.removeprefix("electra.").split(".")
        unused.setdefault(why, []).append(".".join(parts[:3] if ".layer." in key else parts[:-1]))
    if unused:
        each = ((list(dict.fromkeys(names)), why) for why, names in unused.items())
        said = (
            f"{', '.join(names) if len(names) < 5 else f'{names[0]} to {names[-1]}'} ({why})" for names, why in each
        )
        logger.info("%s: not taken over, or not whole: %s", name, "; ".join(said))
