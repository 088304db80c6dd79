"""The fine-tuned sequence classifier: the encoder, a pooled vector, and the paper's or transformers' head."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from quorem.configuration import QuoremConfig
from quorem.errors import UserError, did_you_mean
from quorem.modeling import QuoremModel, QuoremPreTrainedModel


class PaperHead(nn.Module):
    """Dropout and one linear layer (google-research/electra, finetune/classification)."""

    def __init__(self, width: int, config: QuoremConfig, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(width, config.num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Scores (batch, num_labels) of pooled vectors (batch, width)."""
        return self.out_proj(self.dropout(pooled))


class HuggingFaceHead(nn.Module):
    """transformers' ElectraClassificationHead: dropout, dense, gelu, dropout, linear."""

    def __init__(self, width: int, config: QuoremConfig, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Scores (batch, num_labels) of pooled vectors (batch, width)."""
        return self.out_proj(self.dropout(F.gelu(self.dense(self.dropout(pooled)))))


CLASSIFIER_HEADS: dict[str, type[nn.Module]] = {"paper": PaperHead, "hf": HuggingFaceHead}


def pool(hidden: Tensor, attention_mask: Tensor | None, how: str) -> Tensor:
    """One vector (batch, width) for hidden (batch, time, width); padding never counts.

    Args:
        hidden: (batch, time, width).
        attention_mask: (batch, time), 1 for real tokens; None if all are.
        how: cls (the first real token), mean or max.
    """
    if how == "cls":
        first = 0 if attention_mask is None else attention_mask.long().argmax(1)  # not 0 where padding is on the left
        return hidden[torch.arange(len(hidden), device=hidden.device), first]
    real = torch.ones_like(hidden[..., :1]) if attention_mask is None else attention_mask.unsqueeze(-1).to(hidden.dtype)
    if how == "mean":
        return (hidden * real).sum(1) / real.sum(1).clamp(min=1)
    return hidden.masked_fill(real == 0, torch.finfo(hidden.dtype).min).amax(1)


class QuoremForSequenceClassification(QuoremPreTrainedModel):
    """Encoder and classifier: input_ids (batch, time) -> logits (batch, num_labels)."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.electra = QuoremModel(config)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        kind = config.classifier_head
        if kind not in CLASSIFIER_HEADS:
            raise UserError(f"unknown classifier_head {kind!r}.{did_you_mean(kind, CLASSIFIER_HEADS)}")
        states = {"last": 1, "all": config.num_hidden_layers + 1}[config.classifier_layers]
        self.classifier = CLASSIFIER_HEADS[kind](states * config.hidden_size, config, dropout)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Scores of the classes.

        Args:
            input_ids: int64 (batch, time).
            attention_mask: (batch, time), 1 for real tokens; None if all are.
            token_type_ids: int64 (batch, time); zeros if None.
            labels: int64 (batch,); adds the mean cross-entropy.
            kwargs: passed to the encoder.
        """
        every = self.config.classifier_layers == "all"
        wanted = kwargs.pop("output_hidden_states", False)
        found = self.electra(input_ids, attention_mask, token_type_ids, output_hidden_states=every or wanted, **kwargs)
        states = found.hidden_states if every else (found.last_hidden_state,)
        pooled = [pool(state, attention_mask, self.config.classifier_pooling) for state in states]
        logits = self.classifier(torch.cat(pooled, dim=-1))
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=found.hidden_states if wanted else None)
