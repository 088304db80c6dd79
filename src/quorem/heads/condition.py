"""How the choices so far condition the choice of the next digit."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONDITIONS = ("mlp", "multiply")


class Condition(nn.Module):
    """f(h, g) (n, D) of a state h (n, D) and the vector g (n, D) of what was chosen.

    Args:
        kind: `multiply` is h * g; `mlp` is LayerNorm(h + MLP([h, g])).
        dim: D.
        num_choices: how many there are to choose among; each has a vector.

    Raises:
        ValueError: for another kind.
    """

    def __init__(self, kind: str, dim: int, num_choices: int) -> None:
        super().__init__()
        if kind not in CONDITIONS:
            raise ValueError(f"condition {kind!r}: one of {', '.join(CONDITIONS)} needed")
        self.kind = kind
        self.gate = nn.Parameter(torch.empty(num_choices, dim))
        if kind == "mlp":
            self.mix = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, dim))
            self.norm = nn.LayerNorm(dim)
        self.reset_parameters()

    def reset_parameters(self, scale: float = 1.0) -> None:
        """Draw parameters anew; states come out about `scale` times as large as they went in, or as normalised ones."""
        if self.kind == "multiply":
            nn.init.normal_(self.gate, mean=scale, std=0.02 * scale)
            return
        nn.init.normal_(self.gate, std=1.0)
        for layer in self.mix:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=(3 * layer.in_features) ** -0.5)
                nn.init.zeros_(layer.bias)
        nn.init.constant_(self.norm.weight, scale)
        nn.init.zeros_(self.norm.bias)

    def forward(self, state: Tensor, choices: Tensor) -> Tensor:
        """The state (n, D) after the choices int64 (n,)."""
        gate = F.embedding(choices, self.gate)
        if self.kind == "multiply":
            return state * gate
        return self.norm(state + self.mix(torch.cat([state, gate], dim=-1)))
