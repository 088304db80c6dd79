"""A score for each of several choices: the encoder, a summary of [CLS] and a linear layer, as transformers' ELECTRA."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import MultipleChoiceModelOutput
from transformers.utils.generic import can_return_tuple

from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremModel, QuoremPreTrainedModel


class SequenceSummary(nn.Module):
    """The first token's state through a dense layer, gelu and dropout (transformers' ElectraSequenceSummary)."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__()
        self.summary = nn.Linear(config.hidden_size, config.hidden_size)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.last_dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Vectors (batch, hidden_size) of states (batch, time, hidden_size)."""
        return self.last_dropout(F.gelu(self.summary(hidden[:, 0])))


class QuoremForMultipleChoice(QuoremPreTrainedModel):
    """Encoder and score: input_ids (batch, choices, time) -> logits (batch, choices)."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__(config)
        self.electra = QuoremModel(config)
        self.sequence_summary = SequenceSummary(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> MultipleChoiceModelOutput:
        """Scores of the choices.

        Args:
            input_ids: int64 (batch, choices, time).
            attention_mask: (batch, choices, time), 1 for real tokens, padded on the right; None if all are.
            token_type_ids: int64 (batch, choices, time); zeros if None.
            labels: int64 (batch,), the right choice; adds the mean cross-entropy.
            position_ids: int64 (batch, choices, time), for absolute positions; as the encoder has them if None.
            inputs_embeds: (batch, choices, time, D) in place of input_ids.
            kwargs: passed to the encoder.
        """
        given = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        flat = [None if each is None else each.flatten(0, 1) for each in given]
        found = self.electra(*flat, return_dict=True, **kwargs)
        read = input_ids if inputs_embeds is None else inputs_embeds
        assert read is not None  # the encoder has refused that
        logits = self.classifier(self.sequence_summary(found.last_hidden_state)).view(-1, read.shape[1])
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return MultipleChoiceModelOutput(
            loss=loss, logits=logits, hidden_states=found.hidden_states, attentions=found.attentions
        )
