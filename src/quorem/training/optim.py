"""The optimizer, learning-rate schedules and parameter groups of ELECTRA (Clark et al. 2020, Tables 6 and 7)."""

import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from quorem.errors import UserError, did_you_mean
from quorem.training.muon import Muon
from quorem.training.row_adam import RowAdam
from quorem.training.skippable import Skippable

SCHEDULES = ("google", "linear", "cosine", "constant")
OPTIMIZERS = ("google", "adamw", "muon")
LAYER = re.compile(r"(?:^|\.)encoder\.layer\.(\d+)\.")


class GoogleAdam(Skippable):
    """Adam as google-research/electra runs it: without bias correction, with decoupled weight decay.

    `parameter -= lr * (mean / (sqrt(square) + eps) + weight_decay * parameter)`. Without the correction the first
    updates are 3 to 7 times larger than Adam's and stay larger for about 1,000 steps, so warm up. As in torch's fused
    optimizers a step changes nothing if the attribute `found_inf`, float32 () on the parameters' device, is 1.0.

    Args:
        params: dense parameters or groups of them; float32 or float64, because the second moment stalls in half
            precision. Parameters without a gradient are skipped.
        lr: learning rate of the groups that bring none.
        betas: decay of the running mean and of the running square of the gradient.
        eps: added outside the square root.
        weight_decay: scaled by `lr`, not by the gradient's size.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update_group(self, group: dict[str, Any], skip: Tensor | None = None) -> None:
        """Update a group; not if skip, float32 (), is 1.0."""
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
                self.state[parameter]["exp_avg_sq"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means = [self.state[parameter]["exp_avg"] for parameter in parameters]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        mean_decay, square_decay = group["betas"]

        keep: Any = 1.0
        if skip is not None:
            keep = 1.0 - skip
            gradients = [gradient.masked_fill(skip.bool(), 0.0) for gradient in gradients]
        torch._foreach_mul_(means, 1 - (1 - mean_decay) * keep)
        torch._foreach_add_(means, gradients, alpha=1 - mean_decay)
        torch._foreach_mul_(squares, 1 - (1 - square_decay) * keep)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - square_decay)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_add_(denominators, group["eps"])
        if skip is not None:
            torch._foreach_div_(denominators, keep)  # by 0: what is added to the parameters is 0
        # The decay comes first so that both terms see the old parameter, as in the reference.
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"] * keep)
        torch._foreach_addcdiv_(parameters, means, denominators, -group["lr"])


def learning_rate_scale(step: int, *, total_steps: int, warmup_steps: int, schedule: str) -> float:
    """The factor, 0 to 1, by which each group's `base_lr` is multiplied at one step.

    Args:
        step: updates made so far; the first update is step 0.
        total_steps: where the decay ends, at least 1.
        warmup_steps: 0 for no warm-up.
        schedule: "google" multiplies a linear decay over all steps by min(1, step / warmup), so the two overlap, the
            peak stays below 1 and step 0 changes nothing (google-research/electra optimization.py); "linear" and
            "cosine" rise to 1, then fall to 0; "constant" rises to 1 and stays. Those three start at 1 / warmup.

    Raises:
        UserError: the schedule is unknown.
    """
    if schedule not in SCHEDULES:
        raise UserError(f"schedule: '{schedule}' is unknown.{did_you_mean(schedule, SCHEDULES)}")
    if schedule == "google":
        warmup = min(1.0, step / warmup_steps) if warmup_steps else 1.0
        return warmup * max(0.0, 1 - step / total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return 1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


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
