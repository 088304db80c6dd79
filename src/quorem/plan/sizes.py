"""Sizes before anything is built: parameters and bytes, table by table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quorem.embeddings import DenseEmbedding, TokenEmbedding
from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.models.electra import Electra
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining
from quorem.plan.plan import Plan
from quorem.training.row_adam import row_tables

BYTES = 4  # float32
TRAINED_BYTES = 4 * BYTES  # weight, gradient and Adam's two moments


@dataclass(frozen=True)
class Part:
    """One line of the description.

    Args:
        name: the table or sub-network.
        shape: of a table; None for a sum over a sub-network.
        parameters: how many numbers.
        bytes: that they take, float32 but for indices.
        trained: whether the optimizer changes them; index tables it does not.
    """

    name: str
    shape: tuple[int, ...] | None
    parameters: int
    bytes: int
    trained: bool = True


def describe(plan: Plan) -> dict[str, Any]:
    """Parameters of both networks as `quorem pretrain` would build them, without allocating any.

    Args:
        plan: of the run; of a table of attributes, with their sizes.

    Returns:
        `parts` (list of Part), `parameters` in all, `weight_bytes` (float32), `training_bytes` (weights, gradients and
        the optimizer's state; of tables updated by rows the gradient is not counted), `table` (`table_facts`),
        `table_ratio` (bytes of a dense table over bytes of this one, index included), and the configs of
        `discriminator` and `generator`.

    Raises:
        UserError: for settings that cannot be used.
    """
    config, generator, discriminator = plan.config, plan.generator, plan.discriminator
    model = config.model
    with torch.device("meta"):
        module = Electra(
            QuoremForMaskedLM(generator),
            QuoremForPreTraining(discriminator),
            shared_embeddings=model.shared_embeddings,
            disentangled=bool(model.disentangled_embeddings),
        )
    whole = model.shared_embeddings and not model.disentangled_embeddings
    parts = list(_parts(module, shared=whole))
    parameters = sum(part.parameters for part in parts if part.trained)
    spared = sum(map(spared_bytes, row_tables(module, config.train.table_updates)))
    index_bytes = sum(part.bytes for part in parts if not part.trained)
    table = module.discriminator.get_input_embeddings()
    table = table.base if isinstance(table, DisentangledEmbedding) else table
    return {
        "parts": parts,
        "parameters": parameters,
        "weight_bytes": parameters * BYTES + index_bytes,
        "training_bytes": parameters * TRAINED_BYTES - spared + index_bytes,
        "table_ratio": plan.vocab_size * discriminator.embedding_size * BYTES / table.nbytes,
        "table": table_facts(table),
        "generator": generator,
        "discriminator": discriminator,
    }


def spared_bytes(table: nn.Parameter) -> int:
    """What a table updated by rows needs less than others: its gradient is small, its state two numbers a row."""
    return table.numel() * (TRAINED_BYTES - BYTES) - 2 * len(table) * BYTES


NO_SHARED_ROWS = ("own", "projection", "own_projection", "rotation")
"""Parameters of tables whose rows belong to a token, or to a matrix that all vectors go through."""


def table_facts(table: TokenEmbedding) -> dict[str, Any]:
    """How the ids share the rows.

    Returns:
        `own_rows`; `ids_per_row`, how many ids read a shared row, on average; `room` for more ids without another row;
        `uniqueness`, why no two ids read the same, empty if some do.
    """
    grid = table.assignment
    shared = [len(p) for name, p in table.named_parameters() if name not in NO_SHARED_ROWS and p.numel()]
    dense = isinstance(table, DenseEmbedding)
    return {
        "own_rows": grid.vocab_size if dense else grid.own_rows,
        "ids_per_row": 1 if dense or not shared else -(-grid.tail // min(shared)),
        "room": table.capacity - grid.vocab_size,
        "uniqueness": table.uniqueness,
    }


def head_text(head: dict[str, Any]) -> str:
    """A config's entry of a head in words: two_level (condition mlp)."""
    options = ", ".join(f"{key} {value}" for key, value in head.items() if key != "kind")
    return f"{head['kind']} ({options})" if options else str(head["kind"])


def _parts(module: Electra, *, shared: bool) -> Iterator[Part]:
    listed: set[int] = set()
    networks: dict[str, Any] = {"discriminator": module.discriminator, "generator": module.generator}
    for name, network in networks.items():
        if name == "discriminator" or not shared:
            owner = "shared" if shared else name
            yield from _tables(f"{owner} embeddings", network.electra.embeddings, listed)
        inner = [child for label, child in network.electra.named_children() if label != "embeddings"]
        numbers = sum(parameter.numel() for child in inner for parameter in child.parameters())
        yield Part(f"{name} encoder", None, numbers, numbers * BYTES)
        heads = [(label, child) for label, child in network.named_children() if label != "electra"]
        for label, child in heads:
            yield from _tables(f"{name} {label.removeprefix(name + '_')}", child, listed)


def _tables(name: str, module: nn.Module, listed: set[int]) -> Iterator[Part]:
    for label, parameter in module.named_parameters():
        yield _part(f"{name}: {label}", parameter, trained=parameter.requires_grad)
    for label, buffer in module.named_buffers():  # an index that two tables share is listed with the first
        if id(buffer) in listed:
            continue
        listed.add(id(buffer))
        yield _part(f"{name}: {label}", buffer, trained=False)


def _part(name: str, tensor: Tensor, *, trained: bool) -> Part:
    return Part(name, tuple(tensor.shape), tensor.numel(), tensor.nbytes, trained=trained)
