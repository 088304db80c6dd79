"""The weights in a model's folder, in whichever of the usual files, under the names that networks have here.

Read are, in this order, model.safetensors, its shards (model.safetensors.index.json), pytorch_model.bin and its shards;
the latter are pickles, of which nothing but tensors is read.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from quorem.errors import UserError
from quorem.models.configuration import QuoremConfig

logger = logging.getLogger(__name__)

FILES = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"
NESTED = ("state_dict", "model_state_dict", "model")  # where a trainer's checkpoint has the weights
ENCODER = ("electra.embeddings.", "electra.embeddings_project.", "electra.encoder.")
HEADS = {
    "discriminator": ("discriminator_predictions.",),
    "generator": ("generator_predictions.", "generator_lm_head."),
    "classifier": ("classifier.", "ngrams.", "sif."),
    "token_classifier": ("classifier.",),
    "multiple_choice": ("sequence_summary.", "classifier."),
    "question_answering": ("qa_outputs.", "qa_joint."),
    "next_item": ("generator_predictions.", "generator_lm_head."),  # which has the generator's
}
TABLE = "electra.embeddings.word_embeddings."  # of every network
BARE = ("embeddings.", "embeddings_project.", "encoder.layer.")  # an encoder's that was saved alone
WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "model.", "network.", "net.", "backbone.", "encoder.",
            "electra.")  # fmt: skip
"""What other libraries put before the names: DataParallel, torch.compile, FSDP, Lightning and modules of users."""
OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
NO_WEIGHTS = "position_ids"  # a counter that old files have
TIED = "generator_lm_head.weight"  # transformers' second name of the table
SHOWN = 5


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that a folder's weights are in, an index before its shards.

    Raises:
        UserError: if there are none, or a shard is missing.
    """
    for name in FILES:
        if (folder / name).is_file():
            return (folder / name,)
        if (folder / (name + INDEX)).is_file():
            index = folder / (name + INDEX)
            shards = sorted(set(_placed(index).values()))
            for shard in shards:
                if Path(shard).name != shard or not (folder / shard).is_file():
                    raise UserError(f"{index}: names {shard}, which is not in the folder: copy all of its shards there")
            return (index, *(folder / shard for shard in shards))
    raise UserError(
        f"{folder}: has no weights ({', '.join(FILES)}, or shards with an index): copy them there, or save them again "
        "in the layout of transformers (save_pretrained)"
    )


def read_weights(folder: Path, network: str) -> dict[str, Tensor]:
    """The tensors in a folder by the names that the network has here, prefixes of known wrappers taken off.

    Args:
        folder: of the model.
        network: discriminator, generator, classifier or next_item: which of two networks that a file may hold is meant.

    Raises:
        UserError: if a file is missing or damaged, holds more than tensors, or has two tensors for one name.
    """
    first, *others = weight_files(folder)
    found: dict[str, Tensor] = {}
    for file in others or [first]:
        found |= _tensors(file)
    if others and (lost := sorted(_placed(first).keys() - found.keys())):
        raise UserError(f"{first}: names {lost[0]}, which no shard holds: copy all shards of one model there")
    named: dict[str, str] = {}
    for name in found:
        ours = _known_as(name, network)
        if ours in named:
            raise UserError(f"{first}: both {named[ours]} and {name} are the {network}'s {ours}: keep one of them")
        named[ours] = name
    return {ours: found[name] for ours, name in named.items() if not ours.endswith(NO_WEIGHTS)}


def fill(network: nn.Module, folder: Path, name: str) -> frozenset[str]:
    """Give a network the weights of a folder, and account for every tensor: loaded, new, or not used, and why.

    Args:
        network: built from the folder's config.json.
        folder: of the model.
        name: discriminator or generator.

    Returns:
        Names of the weights that the folder lacks: all of a head, or none.

    Raises:
        UserError: if none of the tensors are the network's, the encoder or a head is not complete, shapes differ, or
            they are the other network's.
    """
    found, wanted, file = read_weights(folder, name), network.state_dict(), weight_files(folder)[0]
    heads, (other,) = HEADS[name], {"discriminator", "generator"} - {name}
    if not any(key.startswith(ENCODER) for key in found):
        raise UserError(
            f"{file}: none of its {len(found)} tensors belong to the {name}: they have names like "
            f"{next(iter(found), '-')}: rename them to names like {ENCODER[0]}word_embeddings.weight"
        )
    if not any(key.startswith(heads) for key in found) and any(key.startswith(HEADS[other]) for key in found):
        raise UserError(f"{file}: is a {other}, by its {HEADS[other][0]}*, not a {name}: give the folder of a {name}")
    new = [key for key in wanted if key not in found]
    there = tuple(head for head in heads if any(key.startswith(head) for key in found))
    if lost := [key for key in new if not key.startswith(heads) or (there and key.startswith(heads))]:
        raise UserError(
            f"{file}: lacks {_listed(lost)} of the {name} that config.json describes: copy the whole checkpoint, or "
            "correct config.json"
        )
    for key, value in wanted.items():
        if key in found and found[key].shape != value.shape:
            raise UserError(
                f"{file}: {key} is {tuple(found[key].shape)}, but config.json says {tuple(value.shape)}: take both "
                "files from one checkpoint"
            )
    network.load_state_dict({key: value for key, value in found.items() if key in wanted}, strict=False)
    unused = [key for key in found if key not in wanted and key != TIED]
    summary = f"{len(wanted) - len(new)} of its {len(wanted)} tensors are from {file}"
    summary += f"; new, because the file holds only an encoder: {_listed(new)}" if new else ""
    summary += f"; not used, because the {name} has no such part: {_listed(unused)}" if unused else ""
    logger.log(logging.WARNING if new or unused else logging.INFO, "%s: %s", name, summary)
    return frozenset(new)


def read_config(folder: Path) -> QuoremConfig:
    """A model folder's config.json.

    Raises:
        UserError: if it is damaged.
    """
    try:
        return QuoremConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{folder}: config.json is damaged ({error}): copy it again") from error


def check_finite(network: nn.Module, folder: Path, *, prefix: str = "") -> None:
    """Accept weights that are all finite.

    Args:
        network: with the weights of the folder, or a part of one.
        folder: of the model.
        prefix: what the names of that part begin with.

    Raises:
        UserError: naming the first that is not.
    """
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(
                f"{weight_files(folder)[0]} has NaN or an infinite number in {prefix}{name}, so its scores mean "
                "nothing: train again, with a smaller train.learning_rate"
            )


def _placed(index: Path) -> dict[str, str]:
    """Which shard has which tensor."""
    try:
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(shard) for name, shard in placed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index}: is not an index of shards (no weight_map, {error}): copy it again") from error


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        why = " ".join(str(error).split())[:200]
        if file.suffix == ".safetensors":
            raise UserError(f"{file}: cannot be read ({why}): copy it again") from error
        raise UserError(
            f"{file}: cannot be read: it is damaged, or holds more than tensors, which could run code ({why}): copy it "
            "again, or save its weights as model.safetensors"
        ) from error
    for inner in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(inner), Mapping):
            found = found[inner]
    if not isinstance(found, Mapping):
        raise UserError(f"{file}: holds a {type(found).__name__}, not tensors by name: save a state_dict")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _known_as(name: str, network: str) -> str:
    """A tensor's name in quorem; unchanged if unknown."""
    heads = tuple(head for each in HEADS.values() for head in each)
    own = "generator." if network == "generator" else "discriminator."
    rest, wrappers = name, (*WRAPPERS, own)
    for old, today in OLD.items():
        rest = rest.replace(old, today)
    while not rest.startswith((*ENCODER, *heads)):
        if rest.startswith(BARE):
            return f"electra.{rest}"
        wrapper = next((each for each in wrappers if rest.startswith(each)), None)
        if wrapper is None:
            return name
        rest = rest.removeprefix(wrapper)
    return rest


def _listed(names: Iterable[str]) -> str:
    """Some names, and how many more."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
