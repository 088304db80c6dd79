"""The fine-tuned sequence classifier: the encoder, a pooled vector, and the paper's or transformers' head."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from quorem.errors import UserError, did_you_mean
from quorem.models.configuration import QuoremConfig
from quorem.models.excerpts import Excerpts, excerpts
from quorem.models.linear_branch import LinearBranch
from quorem.models.modeling import QuoremModel, QuoremPreTrainedModel, is_wanted
from quorem.models.ngrams import NgramBranch
from quorem.models.sif import SifBranch

PIECES_AT_ONCE = 64  # that the encoder reads without gradients, however many a document has


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
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), first]  # torch.export fixes len()
    real = torch.ones_like(hidden[..., :1]) if attention_mask is None else attention_mask.unsqueeze(-1).to(hidden.dtype)
    if how == "mean":
        return (hidden * real).sum(1) / real.sum(1).clamp(min=1)
    return hidden.masked_fill(real == 0, torch.finfo(hidden.dtype).min).amax(1)


def pool_documents(vectors: Tensor, weights: Tensor, owners: Tensor, documents: int, how: str) -> Tensor:
    """One vector float32 (documents, width) for the pooled vectors of each document's pieces.

    Args:
        vectors: (pieces, width), as `pool` gives them.
        weights: (pieces,), real tokens of each: the mean is one over all tokens of a document.
        owners: int64 (pieces,), the document of each; every document has one piece at least.
        documents: how many.
        how: cls (the mean of them), mean or max.
    """
    vectors = vectors.float()
    empty = vectors.new_zeros(documents, vectors.shape[1])
    if how == "max":
        return empty.scatter_reduce(0, owners.unsqueeze(1).expand_as(vectors), vectors, "amax", include_self=False)
    weights = torch.ones_like(vectors[:, :1]) if how == "cls" else weights.unsqueeze(1).to(vectors.dtype)
    return empty.index_add(0, owners, vectors * weights) / empty[:, :1].index_add(0, owners, weights)


class QuoremForSequenceClassification(QuoremPreTrainedModel):
    """Encoder and classifier: input_ids (batch, time) -> logits (batch, num_labels).

    With config.classifier_length a row is a whole document: the encoder reads excerpts of at most so many tokens, and
    linear branches, if there are any, all of it; their scores are added up.
    """

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
        one_column = config.num_labels == 2 and config.problem_type != "multi_label_classification"
        scores: dict[str, Any] = {"num_labels": config.num_labels, "one_column": one_column}
        self.ngrams: NgramBranch | None = None
        if config.classifier_ngrams:
            self.ngrams = NgramBranch(longest=config.classifier_ngrams, rows=config.classifier_ngram_rows, **scores)
        self.sif = SifBranch(vocab_size=config.vocab_size, **scores) if config.classifier_sif else None
        self.post_init()

    @property
    def reads_whole(self) -> bool:
        """Whether a row of input_ids is a whole document, however long."""
        return self.config.classifier_length > 0

    @property
    def branches(self) -> list[LinearBranch]:
        """The linear ones beside the encoder."""
        return [branch for branch in (self.ngrams, self.sif) if branch is not None]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LinearBranch):
            module.reset_parameters()

    def cut(self, input_ids: Tensor, attention_mask: Tensor | None, *, multiple: int = 1) -> Excerpts:
        """What the encoder reads of whole documents (see `excerpts`)."""
        config = self.config
        return excerpts(
            input_ids, attention_mask, length=config.classifier_length, truncation=config.classifier_truncation,
            pad_id=config.pad_token_id or 0, multiple=multiple,
        )  # fmt: skip

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        pieces: Excerpts | None = None,
        branch_scores: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Scores of the classes.

        Args:
            input_ids: int64 (batch, time).
            attention_mask: (batch, time), 1 for real tokens; None if all are.
            token_type_ids: int64 (batch, time); zeros if None. A document that is cut is all of type 0.
            labels: int64 (batch,); adds the mean cross-entropy. By config.problem_type, or by their kind without one,
                also float (batch, num_labels) of 0 and 1, for binary cross-entropy, or float (batch,), standardised,
                for the squared error of one logit.
            pieces: what the encoder reads, if it has been cut already.
            branch_scores: (batch, num_labels), to add in place of those of the linear branches.
            kwargs: passed to the encoder. Of a document that is cut neither hidden states nor attention are returned:
                its pieces have their own.

        Raises:
            UserError: for inputs_embeds where the model reads ids: it cuts documents, or has a linear branch.
        """
        states = attentions = None
        if input_ids is None and (self.reads_whole or self.branches):
            raise UserError(
                "inputs_embeds: this classifier cuts whole documents or has a linear branch that reads them, which "
                "needs input_ids (its classifier_length, classifier_ngrams or classifier_sif is set): give input_ids"
            )
        if self.reads_whole:
            assert input_ids is not None
            pieces = pieces or self.cut(input_ids, attention_mask)
            pooled = self._pooled_documents(pieces, len(input_ids), **kwargs)
        else:
            wanted = is_wanted(kwargs.pop("output_hidden_states", None), self.config.output_hidden_states)
            how = {**kwargs, "output_hidden_states": wanted}
            pooled, found = self._pooled(input_ids, attention_mask, token_type_ids, **how)
            states = found.hidden_states if wanted else None
            attentions = found.attentions
        logits = self.classifier(pooled)
        if branch_scores is not None:
            logits = logits + branch_scores
        else:
            for branch in self.branches:
                logits = logits + branch(input_ids)
        loss = None if labels is None else self._loss(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=states, attentions=attentions)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """By config.problem_type, or without one as transformers guess it: one logit is a number, float labels many."""
        guess = "regression" if self.num_labels == 1 else "multi_label_classification"
        problem = self.config.problem_type or (guess if labels.is_floating_point() or self.num_labels == 1 else None)
        if problem == "multi_label_classification":
            return F.binary_cross_entropy_with_logits(logits, labels.float())
        if problem == "regression":
            return F.mse_loss(logits.squeeze(-1), labels.float())
        return F.cross_entropy(logits, labels)

    def _pooled(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, BaseModelOutput]:
        """Pooled vectors (rows, states x width) of one or all layers, and what the encoder gave."""
        every = self.config.classifier_layers == "all"
        how = {"output_hidden_states": every or kwargs.get("output_hidden_states", False), "return_dict": True}
        found = self.electra(input_ids, attention_mask, token_type_ids, **{**kwargs, **how})
        states = found.hidden_states if every else (found.last_hidden_state,)
        pooled = [pool(state, attention_mask, self.config.classifier_pooling) for state in states]
        return torch.cat(pooled, dim=-1), found

    def _pooled_documents(self, pieces: Excerpts, documents: int, **kwargs: Any) -> Tensor:
        """Pooled vectors float32 (documents, states x width) over all pieces of each document."""
        input_ids, mask, owners = pieces
        size = len(input_ids) if torch.is_grad_enabled() else PIECES_AT_ONCE
        vectors = [
            self._pooled(input_ids[i : i + size], None if mask is None else mask[i : i + size], **kwargs)[0]
            for i in range(0, len(input_ids), size)
        ]
        weights = torch.full_like(owners, input_ids.shape[1]) if mask is None else mask.sum(1)
        return pool_documents(torch.cat(vectors), weights, owners, documents, self.config.classifier_pooling)
