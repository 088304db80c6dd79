"""Adam for tables of which a step reads few rows: what a step costs grows with these rows, not with the table.

A row has one running square, of the mean over its entries, as in the row-wise optimizers of recommenders
(rowwise_adagrad in pytorch/FBGEMM, fbgemm_gpu/codegen/genscript/optimizers.py), and the step it was last read in,
instead of Adam's 2 D numbers.
Adam is Kingma and Ba, ICLR 2015, arXiv:1412.6980, here with beta1 = 0: without a running mean a row without a gradient
stays where it is, so that leaving it out is no approximation.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from quorem.embeddings import TokenEmbedding
from quorem.errors import check_choice
from quorem.training.skippable import Skippable

UPDATES = ("auto", "rows", "whole")
LARGE = 2**23
"""Numbers in a table from which on auto updates rows: 65,536 rows of 128."""


class RowAdam(Skippable):
    """Adam with beta1 = 0 and one running square a row, that of the row's root mean square.

        square = beta**(steps since the row's last) * square + (1 - beta) * mean(gradient**2)
        row -= lr * gradient / (sqrt(square / (1 - beta**steps)) + eps)

    The square fades with the steps taken, not with those that read the row: a sparse gradient and the same one made
    dense take the same step, but for rounding. A frequent row moves by about lr a step. One that is read more rarely
    than every 1 / (1 - beta) steps moves by lr / sqrt(1 - beta), about as far as Adam's running mean would carry it in
    the steps that follow. Nothing is random.

    State of a table (V, D), in its dtype: `square` and `seen` (V, 1), `steps` (). Float32 counts up to 2**24 steps.

    As in torch's fused optimizers a step changes nothing if the attribute `found_inf`, float32 () on the parameters'
    device, is 1.0. With uncoalesced sparse gradients the host waits for a GPU, to learn the number of rows.

    Args:
        params: parameters (V, D) or groups of them, float32 or float64, whose gradients are dense or sparse in their
            first dimension. Parameters without a gradient are skipped.
        lr: learning rate of the groups that bring none.
        beta: decay of the running square.
        eps: added outside the square root.
        weight_decay: `lr * weight_decay * row` is taken off the rows that have a gradient, and off no others.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 5e-4,
        beta: float = 0.98,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "eps": eps, "weight_decay": weight_decay})

    def update_group(self, group: dict[str, Any], skip: Tensor | None) -> None:
        """Update the rows that have a gradient; not if skip, float32 (), is 1.0."""
        for parameter in group["params"]:
            if parameter.grad is not None:
                self._update(parameter, group, skip)

    def _update(self, parameter: Tensor, group: dict[str, Any], skip: Tensor | None = None) -> None:
        """Update a table; not if skip, float32 (), is 1.0, which nobody waits for to know."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["steps"] = parameter.new_zeros(())
            state["square"], state["seen"] = (parameter.new_zeros(len(parameter), 1) for _ in range(2))
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            rows, gradient = gradient.indices()[0], gradient.values()
        else:
            rows = torch.arange(len(parameter), device=parameter.device)
        steps, beta = state["steps"] + 1, group["beta"]
        square, seen = state["square"].index_select(0, rows), state["seen"].index_select(0, rows)
        mean = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True).square() / gradient.shape[-1]
        faded = beta ** (steps - seen) * square + (1 - beta) * mean
        change = gradient * (-group["lr"] / ((faded / (1 - beta**steps)).sqrt() + group["eps"]))
        if group["weight_decay"]:
            change -= group["lr"] * group["weight_decay"] * parameter.index_select(0, rows)
        now = steps.expand_as(seen)
        if skip is not None:
            undone = skip.bool()
            faded, now, steps = (
                torch.where(undone, old, new) for old, new in ((square, faded), (seen, now), (state["steps"], steps))
            )
            change.masked_fill_(undone, 0.0)
        state["steps"].copy_(steps)
        state["square"].index_copy_(0, rows, faded)
        state["seen"].index_copy_(0, rows, now)
        parameter.scatter_add_(0, rows.unsqueeze(-1).expand_as(change), change)  # half the time of index_add_


def row_tables(module: nn.Module, updates: str) -> list[nn.Parameter]:
    """The tables of which a step is to update only the rows it has read; from now on their gradients are sparse.

    Args:
        module: both networks, whose `generator` has the softmax as its `generator_lm_head`, or one that has it itself.
        updates: "whole" (none), "rows" (all that embeddings call `row_parameters`) or "auto" (the large ones of these).

    Returns:
        None of them, where the softmax reads every row.
    """
    check_choice("train.table_updates", updates, UPDATES)
    head = getattr(getattr(module, "generator", module), "generator_lm_head", None)
    if updates == "whole" or getattr(head, "reads_all", False):
        return []
    found = []
    for embedding in module.modules():
        if isinstance(embedding, TokenEmbedding):
            tables = [table for table in embedding.row_parameters() if table.requires_grad]
            if updates == "rows" or sum(table.numel() for table in tables) >= LARGE:
                embedding.sparse = bool(tables)
                found += tables
    return found
