"""ELECTRA's networks: transformers' parameter names, our attention, embeddings and heads.

What differs from transformers' ElectraModel:
- the token table is any of quorem.embeddings, the generator's output any of quorem.heads, computed only where asked;
- positions may be absolute, rotary or ALiBi, attention may be causal, and weights may start scaled by width;
- heads may be wider or narrower than hidden_size / heads;
- on the CPU attention is written out, because its fused kernel's backward pass is 3-4 times slower there (measured on
  sequences of 128 and 256 in bf16); elsewhere it is scaled_dot_product_attention.
With `absolute`, `dense` and `full`, weights of transformers' ELECTRA load strictly and give the same outputs.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput, TokenClassifierOutput
from transformers.utils.generic import can_return_tuple

from quorem.embeddings import EMBEDDINGS, TokenEmbedding, build_table
from quorem.errors import UserError, did_you_mean
from quorem.heads import HEADS, CosineHead, FullHead, GeneratorHead
from quorem.models.configuration import QuoremConfig
from quorem.models.layers import Layer
from quorem.models.positions import attention_bias, rotation_angles

IGNORED = -100  # a label that counts for nothing, as torch and transformers have it


def build_embedding(config: QuoremConfig) -> TokenEmbedding:
    """The token embedding a config describes; a kind that is not registered is an error that lists those that are."""
    entry = config.embedding or {}
    if (kind := entry["kind"]) not in EMBEDDINGS:
        raise UserError(f"unknown embedding kind {kind!r}.{did_you_mean(kind, EMBEDDINGS)}")
    return build_table(entry, config.vocab_size, config.embedding_size)


def build_head(config: QuoremConfig, embedding: TokenEmbedding) -> GeneratorHead:
    """The generator head a config describes, tied to `embedding`."""
    options = dict(config.head or {})
    kind = options.pop("kind")
    if kind not in HEADS:
        raise UserError(f"unknown head kind {kind!r}.{did_you_mean(kind, HEADS)}")
    return HEADS[kind](embedding, never=config.never_targets or (), **options)


class Embeddings(nn.Module):
    """Token, type and (absolute) position vectors, summed and normalised: ids (batch, time) -> (batch, time, D)."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__()
        self.word_embeddings = build_embedding(config)
        self.position_embeddings = (
            nn.Embedding(config.max_position_embeddings, config.embedding_size)
            if config.positions == "absolute"
            else None
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.embedding_size)
        self.LayerNorm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)

    def forward(
        self,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        vectors = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if token_type_ids is None:
            vectors = vectors + self.token_type_embeddings.weight[0]
        else:
            vectors = vectors + self.token_type_embeddings(token_type_ids)
        if self.position_embeddings is not None:
            time = vectors.shape[1]
            limit = self.position_embeddings.num_embeddings
            if time > limit:
                raise UserError(f"a sequence of {time} tokens, but absolute positions end at {limit}: lower max_length")
            vectors = vectors + (
                self.position_embeddings.weight[:time]
                if position_ids is None
                else self.position_embeddings(position_ids)
            )
        return self.LayerNorm(vectors)


class Encoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))


class QuoremPreTrainedModel(PreTrainedModel):
    """Initialisation and loading, shared by every quorem model."""

    config_class = QuoremConfig
    base_model_prefix = "electra"
    _supports_sdpa = True
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # so that transformers' Trainer divides losses by the number of micro-batches
    # A folder holds one network with its head; the encoder alone, or with another head, leaves that head's weights out.
    _keys_to_ignore_on_load_unexpected: ClassVar = [
        r"^(discriminator|generator)_predictions\.",
        r"^(generator_lm_head|classifier|ngrams|sif|sequence_summary|qa_outputs|qa_joint)\.",
    ]

    def _init_weights(self, module: nn.Module) -> None:
        config = self.config
        by_width = config.initializer == "width"
        table_std = config.embedding_size**-0.5 if by_width else config.initializer_range
        if isinstance(module, LinearPredictions) and module.in_features == module.out_features:
            nn.init.eye_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(
                module.weight, std=(3 * module.in_features) ** -0.5 if by_width else config.initializer_range
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=table_std)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, TokenEmbedding | GeneratorHead):
            module.reset_parameters(table_std)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Refused: the rows of a partition depend on the vocabulary.

        Raises:
            UserError: always.
        """
        raise UserError("quorem models cannot resize their vocabulary: pre-train with the model.vocab_size you need")


class QuoremModel(QuoremPreTrainedModel):
    """The encoder: input_ids (batch, time) -> last_hidden_state (batch, time, hidden_size)."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = nn.Linear(config.embedding_size, config.hidden_size)
        self.encoder = Encoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: TokenEmbedding) -> None:
        """Replace the token embedding."""
        self.embeddings.word_embeddings = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        """Encode.

        Args:
            input_ids: int64 (batch, time).
            attention_mask: (batch, time), 1 or True for real tokens, or (batch, time, time), which of them each sees
                (packed documents); None if all are real and see each other.
            token_type_ids: int64 (batch, time); zeros if None.
            position_ids: int64 (batch, time), for absolute positions; if None, 0, 1, ... over a document's real tokens.
            inputs_embeds: (batch, time, D) in place of input_ids: vectors as `get_input_embeddings()` gives them.
            output_hidden_states: also return the (layers + 1) states (batch, time, hidden_size); None for what the
                config says.
            output_attentions: also return each layer's attention (batch, heads, time, time), whose rows add up to 1;
                None for what the config says. Attention is written out then, whatever the device.

        Raises:
            UserError: for both input_ids and inputs_embeds, or neither.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise UserError("a model reads either input_ids or inputs_embeds: give one of them")
        config = self.config
        if position_ids is None and attention_mask is not None and config.positions == "absolute":
            before = attention_mask.cumsum(-1) if attention_mask.ndim == 2 else attention_mask.tril().sum(-1)
            position_ids = (before.long() - 1).clamp(min=0)  # neither padding nor another document counts places
        hidden = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        hidden = F.dropout(hidden, config.hidden_dropout_prob, self.training)  # embeddings may be shared, dropout not
        if hasattr(self, "embeddings_project"):
            hidden = self.embeddings_project(hidden)
        time, device = hidden.shape[1], hidden.device
        if torch.is_autocast_enabled(device.type):  # a residual stream that is cast once, not before every product
            hidden = hidden.to(torch.get_autocast_dtype(device.type))
        bias = attention_bias(config, attention_mask, time, device)
        rotation = None
        if config.positions == "rotary":
            rotation = rotation_angles(time, config.attention_head_size, device)
        keeps = is_wanted(output_hidden_states, config.output_hidden_states)
        states = [hidden]
        shares: list[Tensor] | None = [] if is_wanted(output_attentions, config.output_attentions) else None
        for layer in self.encoder.layer:
            hidden = layer(hidden, bias, rotation) if shares is None else layer(hidden, bias, rotation, shares)
            if keeps:
                states.append(hidden)
        return BaseModelOutput(
            last_hidden_state=hidden,
            hidden_states=tuple(states) if keeps else None,
            attentions=None if shares is None else tuple(shares[: len(self.encoder.layer)]),
        )


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of -log p over the labels int64 (n,) that are not IGNORED, float32 (); 0 without any."""
    found = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
    return found / (labels != IGNORED).sum().clamp(min=1)


def is_wanted(asked: bool | None, config: bool | None) -> bool:
    """Whether an output is: as a call asks for it, or as the config says."""
    return bool(config if asked is None else asked)


class GeneratorPredictions(nn.Module):
    """hidden (n, hidden_size) -> vectors (n, D) comparable with the token table's."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__()
        self.LayerNorm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(hidden)))


class LinearPredictions(nn.Linear):
    """The same for a softmax over cosines, which takes lengths off itself: at first the hidden vectors as they are."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__(config.hidden_size, config.embedding_size)


class QuoremForMaskedLM(QuoremPreTrainedModel):
    """The generator."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__(config)
        self.electra = QuoremModel(config)
        self.generator_lm_head: GeneratorHead = build_head(config, self.electra.embeddings.word_embeddings)
        cosine = isinstance(self.generator_lm_head, CosineHead)
        self.generator_predictions = (LinearPredictions if cosine else GeneratorPredictions)(config)
        self.post_init()

    def hidden_at(self, input_ids: Tensor, attention_mask: Tensor | None, positions: Tensor) -> Tensor:
        """Vectors (n, D), ready for the head, at flat positions int64 (n,) of input_ids (batch, time)."""
        hidden = self.electra(input_ids, attention_mask, return_dict=True).last_hidden_state
        return self.generator_predictions(hidden.reshape(-1, hidden.shape[-1])[positions])

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_logits: bool | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Scores of every id at every place, or, with labels, the exact loss without making them.

        Args:
            input_ids: int64 (batch, time).
            attention_mask: (batch, time), 1 for real tokens; None if all are.
            token_type_ids: int64 (batch, time); zeros if None.
            labels: int64 (batch, time), IGNORED where there is nothing to predict; adds the mean of the exact -log p
                (nats) over the others.
            output_logits: whether to return logits (batch, time, V), whose memory grows with V; None for those without
                labels. They are log-probabilities without a gradient, but of the full softmax of a dense table its
                unnormalised scores, as transformers' ElectraForMaskedLM gives them.
            kwargs: passed to the encoder.

        Raises:
            UserError: for a label that the softmax never predicts.
        """
        found = self.electra(input_ids, attention_mask, token_type_ids, return_dict=True, **kwargs)
        hidden = self.generator_predictions(found.last_hidden_state)
        return MaskedLMOutput(
            loss=None if labels is None else self._loss(hidden, labels),
            logits=self._logits(hidden) if is_wanted(output_logits, labels is None) else None,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )

    def _loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Mean of the exact -log p where there are labels; 0 without any."""
        targets, head = labels.flatten(), self.generator_lm_head
        places = (targets != IGNORED).nonzero().squeeze(-1)
        targets = targets[places]
        if (never := torch.isin(targets, head.never(targets.device))).any():
            raise UserError(
                f"labels: id {int(targets[never][0])} is one of those that the softmax never predicts (special "
                f"tokens): give {IGNORED} there"
            )
        return head.nll(hidden.flatten(0, 1)[places], targets).sum() / max(1, len(places))

    def _logits(self, hidden: Tensor) -> Tensor:
        head: GeneratorHead = self.generator_lm_head
        flat = hidden.flatten(0, 1)
        if isinstance(head, FullHead):
            logits = head.logits(flat)
        else:
            pieces = list(head.full_log_prob(flat))
            ids = torch.cat([ids for ids, _ in pieces])
            logits = torch.cat([log_prob for _, log_prob in pieces], dim=-1)[:, torch.argsort(ids)]
        return logits.unflatten(0, hidden.shape[:-1])


class DiscriminatorPredictions(nn.Module):
    """hidden (batch, time, hidden_size) -> one score a token; positive means replaced."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.dense_prediction = nn.Linear(config.hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.dense_prediction(self.activation(self.dense(hidden))).squeeze(-1)


class QuoremForPreTraining(QuoremPreTrainedModel):
    """The discriminator."""

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__(config)
        self.electra = QuoremModel(config)
        self.discriminator_predictions = DiscriminatorPredictions(config)
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
        """Scores (batch, time): positive means replaced.

        Args:
            input_ids: int64 (batch, time).
            attention_mask: (batch, time), 1 for real tokens; None if all are.
            token_type_ids: int64 (batch, time); zeros if None.
            labels: (batch, time), 1 for replaced tokens, 0 for others, IGNORED for those that do not count; adds the
                mean binary cross-entropy over real tokens.
            kwargs: passed to the encoder.
        """
        found = self.electra(input_ids, attention_mask, token_type_ids, return_dict=True, **kwargs)
        logits = self.discriminator_predictions(found.last_hidden_state)
        loss = None
        if labels is not None:
            counts = labels != IGNORED if attention_mask is None else (labels != IGNORED) & (attention_mask != 0)
            each = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
            loss = each.masked_fill(~counts, 0.0).sum() / counts.sum().clamp(min=1)
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=found.hidden_states, attentions=found.attentions
        )
