"""What a step keeps for its backward pass, measured on one layer and a row or two of its input."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quorem.heads.full import SCORES_AT_ONCE
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import Layer
from quorem.models.positions import alibi_bias, rotation_angles

FLOAT32 = 4  # bytes
MEASURED = 1_024  # tokens of a row: what longer ones keep is computed


@dataclass
class Kept:
    """Bytes of the tensors that autograd keeps while it is entered, each storage once, parameters left out.

    Args:
        but: a module whose parameters are not counted.
    """

    but: nn.Module
    bytes: int = 0

    def __enter__(self) -> "Kept":
        """Count from here on."""
        self._seen = {parameter.untyped_storage().data_ptr() for parameter in self.but.parameters()}
        self._alive: list[Tensor] = []  # so that no address is used twice
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Count no more."""
        self._hooks.__exit__(*error)
        self._alive.clear()

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self._alive.append(tensor)
            self.bytes += storage.nbytes()
        return tensor


def encoder_bytes(
    config: QuoremConfig, *, rows: int, length: int, dtype: torch.dtype | None, checkpointing: bool = False
) -> int:
    """What the layers of one network keep of a micro-batch, in training on the CPU.

    Args:
        config: of the network; one of its layers is built and thrown away.
        rows: in the micro-batch.
        length: tokens in a row.
        dtype: of autocast; None for float32.
        checkpointing: whether a layer's input alone is kept, and one layer at a time computed again.
    """
    layer = Layer(config).train()

    def kept(batch: int, length: int) -> int:
        hidden = torch.zeros(batch, length, config.hidden_size, dtype=dtype or torch.float32).requires_grad_()
        rotation = bias = None
        if config.positions == "rotary":
            rotation = rotation_angles(length, config.attention_head_size, hidden.device)
        if config.positions == "alibi":
            bias = alibi_bias(config.num_attention_heads, length, hidden.device)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None), Kept(but=layer) as found:
            layer(hidden, bias, rotation)
        return found.bytes

    def of_length(batch: int) -> int:
        """What is kept grows with the square of the length, at most: what memory may not hold follows from less."""
        if length <= MEASURED:
            return kept(batch, length)
        quarter, half, full = (kept(batch, MEASURED * part // 4) for part in (1, 2, 4))
        x = 4 * length / MEASURED
        return round(quarter * (x - 2) * (x - 4) / 3 - half * (x - 1) * (x - 4) / 2 + full * (x - 1) * (x - 2) / 6)

    one, two = of_length(1), of_length(2)
    layer_bytes = one + (two - one) * (rows - 1)  # weights that were cast do not grow with rows
    if not checkpointing:
        return layer_bytes * config.num_hidden_layers
    inputs = rows * length * config.hidden_size * (dtype or torch.float32).itemsize
    return layer_bytes + inputs * config.num_hidden_layers


def head_bytes(config: QuoremConfig, *, masked: int, classes: int) -> int:
    """What the generator's head keeps: scores and log-probabilities of a first level, or a full softmax's scores.

    Args:
        config: of the generator.
        masked: positions to predict in a micro-batch.
        classes: of the first level.
    """
    if (config.head or {})["kind"] == "full":
        return min(masked * config.vocab_size, SCORES_AT_ONCE["cpu"]) * FLOAT32
    return masked * 2 * classes * FLOAT32
