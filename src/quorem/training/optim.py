"""The optimizer and the parameter groups of ELECTRA (Clark et al. 2020, Tables 6 and 7)."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from quorem.errors import UserError, did_you_mean
from quorem.training.google_adam import GoogleAdam
from quorem.training.muon import Muon
from quorem.training.row_adam import RowAdam

OPTIMIZERS = ("google", "adamw", "muon")
LAYER = re.compile(r"(?:^|\.)encoder\.layer\.(\d+)\.")


def layerwise_lr(name: str, *, lr: float, decay: float, num_layers: int) -> float:
    """The learning rate of one parameter in fine-tuning: each layer further from the task head learns more slowly.

    Args:
        name: as transformers' ELECTRA names it; what is neither an embedding nor a layer belongs to the task head.
        lr: the head's learning rate.
        decay: factor from one depth to the next, 0 to 1; the paper has .8, and .9 for large (Table 7).
        num_layers: of the encoder. The top layer has `lr * decay` and the embeddings `lr * decay**(num_layers + 1)`
            (the released code is off by one here: google-research/electra, issue 51).
    """
    head_depth = num_layers + 1
    layer = LAYER.search(name)
    if layer:
        depth = int(layer[1]) + 1
    elif re.search(r"(?:^|\.)embeddings(?:_project)?\.", name):
        depth = 0
    else:
        depth = head_depth
    return lr * decay ** (head_depth - depth)


def _is_decayed(name: str, parameter: Tensor, decay_embeddings: bool) -> bool:
    if parameter.ndim <= 1 or name.endswith("bias") or "LayerNorm" in name:
        return False
    if "word_embeddings." in name and not name.endswith(("word_embeddings.weight", "word_embeddings.own")):
        return False  # factors of a product, multipliers, differences: shrinking them is not shrinking vectors
    return decay_embeddings or "embeddings." not in name


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float | Callable[[str], float],
    weight_decay: float,
    decay_embeddings: bool,
    matrix_lr: float | None = None,
    row_tables: Collection[nn.Parameter] = (),
) -> list[dict[str, Any]]:
    """Optimizer groups that hold every parameter exactly once, one group for each kind, learning rate and decay.

    LayerNorms, biases and all other one-dimensional parameters are not decayed, nor what shared rows are made of.

    Args:
        named_parameters: a tied parameter may come under several names: its first name sets the learning rate, and
            it is decayed only if all its names allow it.
        lr: of all parameters, or a function from the name (see `layerwise_lr`).
        weight_decay: of the decayed groups.
        decay_embeddings: whether embedding tables are decayed, as in google-research/electra.
        matrix_lr: of the layers' matrices, whose groups get the `kind` muon then.
        row_tables: parameters whose rows are updated by themselves; their groups get the `kind` rows.

    Returns:
        Groups with `params`, `weight_decay`, `lr` and `base_lr`; a training loop sets `lr = base_lr * scale`.
    """
    names_of: dict[nn.Parameter, list[str]] = {}
    for name, parameter in named_parameters:
        names_of.setdefault(parameter, []).append(name)
    groups: dict[tuple[str | None, float, float, bool], dict[str, Any]] = {}
    by_row = {id(table) for table in row_tables}
    for parameter, names in names_of.items():
        is_matrix = matrix_lr is not None and parameter.ndim == 2 and bool(LAYER.search(names[0]))
        base_lr = lr(names[0]) if callable(lr) else lr
        base_lr = matrix_lr if is_matrix and matrix_lr is not None else base_lr
        kind = "rows" if id(parameter) in by_row else "muon" if is_matrix else None
        decay = weight_decay if all(_is_decayed(name, parameter, decay_embeddings) for name in names) else 0.0
        empty = {"params": [], "lr": base_lr, "base_lr": base_lr, "weight_decay": decay}
        empty |= {"kind": kind} if kind else {}
        cut = isinstance(parameter, DTensor)  # (quorem.training.sharding): a kernel takes the one kind or the other
        groups.setdefault((kind, base_lr, decay, cut), empty)["params"].append(parameter)
    return list(groups.values())


class Combined(torch.optim.Optimizer):
    """Several optimizers over different parameters as one: one list of groups, one state, one step.

    Args:
        parts: each with its groups; `found_inf` is handed on to all.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """The step of every part.

        Args:
            closure: computes the loss and the gradients anew, once; its loss is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.found_inf = getattr(self, "found_inf", None)  # type: ignore[attr-defined]
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Let the parts have these groups and this state, not copies of them."""
        first = 0
        for part in self.parts:
            part.param_groups = self.param_groups[first : first + len(part.param_groups)]
            first += len(part.param_groups)
            part.state = self.state


def build_optimizer(
    groups: list[dict[str, Any]],
    *,
    kind: str,
    betas: tuple[float, float],
    eps: float,
    matrix_dtype: torch.dtype = torch.float32,
) -> torch.optim.Optimizer:
    """The optimizer over the groups of `parameter_groups`.

    Args:
        groups: each with its `lr` and `weight_decay`; one that has a `kind` is optimised by that.
        kind: of the other groups: "google" (`GoogleAdam`), "adamw" (`torch.optim.AdamW`, fused), or "muon", which has
            groups of its own and is AdamW for the others.
        betas: decay of the gradient's running mean and running square.
        eps: added to the denominator.
        matrix_dtype: what Muon iterates in.

    Raises:
        UserError: the kind is unknown.
    """
    if kind not in OPTIMIZERS:
        raise UserError(f"optimizer: '{kind}' is unknown.{did_you_mean(kind, OPTIMIZERS)}")
    kinds: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        group.setdefault("kind", "adamw" if kind == "muon" else kind)
        kinds.setdefault(group["kind"], []).append(group)
    make: dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
        "google": lambda own: GoogleAdam(own, betas=betas, eps=eps),
        "adamw": lambda own: torch.optim.AdamW(own, betas=betas, eps=eps, fused=True),
        "muon": lambda own: Muon(own, dtype=matrix_dtype),
        "rows": lambda own: RowAdam(own, beta=betas[1], eps=eps),
    }
    parts = [make[name](own) for name, own in kinds.items()]
    return parts[0] if len(parts) == 1 else Combined(parts)
