"""Give fresh networks the weights of trained ones (--init-from), and log what remains new or unused.

Token tables go first, for they may be of another kind, size or order; then all other weights by their names.
"""

import copy
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quorem.embeddings import TokenEmbedding
from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.errors import UserError
from quorem.models.electra import Electra
from quorem.pretraining.init_from import HEAD, TABLE, Start

logger = logging.getLogger(__name__)

EMBEDDINGS = "electra.embeddings."
POSITIONS = f"{EMBEDDINGS}position_embeddings.weight"
SHOWN = 4  # names of weights in a line of the log


@torch.no_grad()
def initialise(module: Electra, start: Mapping[str, Start]) -> None:
    """Copy weights into fresh networks, and log which weights stay new and which given ones are unused.

    A token table of the same kind and size is copied with its order of tokens; another one is fitted to the vectors,
    and the share of their variance that it explains is logged.

    Args:
        module: fresh networks.
        start: trained ones, by name.

    Raises:
        UserError: if sizes differ, or a table cannot be fitted.
    """
    same_order = _start_tables(module, {name: each.network for name, each in start.items()})
    for name, source in start.items():
        shared = name == "generator" and _shares_whole(module)
        _copy_weights(
            source, getattr(module, name), name, same_order=same_order, elsewhere=EMBEDDINGS if shared else TABLE
        )
    if "generator" not in start:
        logger.info("generator: starts with new weights except the token table, because only a discriminator was given")


def _shares_whole(module: Electra) -> bool:
    return module.generator.electra.embeddings is module.discriminator.electra.embeddings


def _start_tables(module: Electra, networks: Mapping[str, Any]) -> bool:
    """Load token vectors. Returns whether the order of tokens for the generator's softmax is unchanged."""
    table, source = module.discriminator.get_input_embeddings(), networks["discriminator"].get_input_embeddings()
    other = networks["generator"].get_input_embeddings() if "generator" in networks else source
    if isinstance(table, DisentangledEmbedding):
        return _start_disentangled(table, source, other)
    copied = _copy_or_fit(table, source, "the discriminator's")
    if not _shares_whole(module):
        return _copy_or_fit(module.generator.get_input_embeddings(), other, "the generator's")
    if other is not source and not torch.allclose(other.to_dense(), source.to_dense(), atol=1e-5):
        logger.warning(
            "the two networks have different token vectors: both now use the discriminator's, which may set the "
            "generator back (model.shared_embeddings=false keeps both)"
        )
    return copied


def _start_disentangled(table: DisentangledEmbedding, source: TokenEmbedding, other: TokenEmbedding) -> bool:
    """Shared vectors come from the generator; the differences are what the discriminator's vectors add."""
    copied = _copy_or_fit(table.base, other, "the generator's")
    own = copy.deepcopy(table.base)
    if other is not source:
        _copy_or_fit(own, source, "the discriminator's", same_rows=True)
    for difference, mine, base in zip(table.differences, own.parameters(), table.base.parameters(), strict=True):
        difference.copy_(mine - base)
    return copied


def _copy_or_fit(table: TokenEmbedding, source: TokenEmbedding, whose: str, *, same_rows: bool = False) -> bool:
    """Copy token vectors with their order, or fit them. Returns whether they were copied.

    Args:
        table: where to.
        source: where from.
        whose: for the log.
        same_rows: whether tokens must go on reading the rows that they read in `table`.
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
    rows = [name for name, _ in table.named_buffers()]  # an order, codes: which rows tokens read
    if facts[0] == facts[1] and not (same_rows and any(not torch.equal(found[name], wanted[name]) for name in rows)):
        table.load_state_dict(found)
        return True
    try:
        explained = (table.refit if same_rows else table.from_dense)(source.to_dense())
    except (NotImplementedError, ValueError) as error:
        raise UserError(f"model.init_from: {whose} token table cannot be loaded ({error})") from error
    sizes = (f"{sum(parameter.numel() for parameter in each.parameters()):,}" for each in (table, source))
    logger.info("%s token vectors: the table explains %.1f %% of their variance, with %s numbers instead of %s",
                whose, 100 * explained, *sizes)  # fmt: skip
    return False


def _copy_weights(source: Start, target: nn.Module, name: str, *, same_order: bool, elsewhere: str) -> None:
    """All weights but those that come from elsewhere; a softmax if it is of the same kind and its tokens in order.

    Args:
        source: where from.
        target: where to.
        name: of the network, for messages.
        same_order: whether the tokens are in the order they had.
        elsewhere: the prefix of weights that are taken over in another way.
    """
    found = {key: value for key, value in source.network.state_dict().items() if key not in source.new}
    wanted = target.state_dict()
    skipped: tuple[str, ...] = (elsewhere,)
    if not _same_softmax(source.network.state_dict(), wanted, same_order):
        logger.info("%s: its softmax starts with new weights, because its kind or size differs", name)
        skipped = (elsewhere, HEAD)
    taken = {}
    for key, value in wanted.items():
        if key.startswith(skipped) or key in source.new:
            continue
        there = found.get(key)
        if key == POSITIONS and there is not None and len(there) != len(value):
            length = min(len(there), len(value))
            there = torch.cat([there[:length], value[length:]])
        if there is None or there.shape != value.shape:
            raise UserError(
                f"model.init_from: the {name}'s {key} is {'missing' if there is None else tuple(there.shape)} in the "
                f"given network, but {tuple(value.shape)} in this run: leave the sizes to --init-from"
            )
        taken[key] = there
    target.load_state_dict(taken, strict=False)
    _log_unused({key: value for key, value in found.items() if not key.startswith((TABLE, *skipped[1:]))}, target, name)


def _same_softmax(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], same_order: bool) -> bool:
    """Whether a network has no softmax, or a softmax that can be copied: same shapes, same order of tokens."""
    head = [key for key in wanted if key.startswith(HEAD)]
    if not all(key in found and found[key].shape == wanted[key].shape for key in head):
        return False
    return same_order or head in ([], [f"{HEAD}bias"])  # a full softmax goes by ids, in any order


def _log_unused(found: Mapping[str, Tensor], target: Any, name: str) -> None:
    """Log which tensors of a source are unused, or used only in part, and why."""
    here, unused = target.state_dict(), dict[str, list[str]]()
    for key, there in found.items():
        why = _why_unused(key, there, here.get(key), target.config)
        if why:
            parts = key.removeprefix("electra.").split(".")
            unused.setdefault(why, []).append(".".join(parts[:3] if ".layer." in key else parts[:-1]))
    if unused:
        lines = []
        for why, keys in unused.items():
            names = list(dict.fromkeys(keys))
            listed = ", ".join(names) if len(names) <= SHOWN else f"{names[0]} to {names[-1]}"
            lines.append(f"{listed} ({why})")
        logger.info("%s: not used, or only in part: %s", name, "; ".join(lines))


def _why_unused(key: str, there: Tensor, now: Tensor | None, config: Any) -> str | None:
    """Why a tensor is unused or used in part; None if it is fully used."""
    if now is None:
        if ".layer." in key:
            return f"num_hidden_layers={config.num_hidden_layers}"
        return f"model.positions={config.positions}" if key == POSITIONS else "this network has none"
    if not torch.equal(there[: len(now)].to(now.dtype), now[: len(there)]):
        return "both networks read the discriminator's, model.shared_embeddings"
    return None if len(now) >= len(there) else f"the first {len(now)} are enough for data.max_length"
