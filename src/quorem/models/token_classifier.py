"""A class for each token: the encoder, dropout and one linear layer, as transformers' ElectraForTokenClassification."""

from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.utils.generic import can_return_tuple

from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremModel, QuoremPreTrainedModel, cross_entropy


class QuoremForTokenClassification(QuoremPreTrainedModel):
    """Encoder and classifier: input_ids (batch, time) -> logits (batch, time, num_labels)."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.electra = QuoremModel(config)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Scores of the classes of every token.

        Args:
            input_ids: int64 (batch, time).
            attention_mask: (batch, time), 1 for real tokens; None if all are.
            token_type_ids: int64 (batch, time); zeros if None.
            labels: int64 (batch, time), IGNORED where a token has none; adds the mean cross-entropy over the others.
            kwargs: passed to the encoder.
        """
        found = self.electra(input_ids, attention_mask, token_type_ids, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(found.last_hidden_state))
        loss = None
        if labels is not None:
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten())
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=found.hidden_states, attentions=found.attentions
        )
