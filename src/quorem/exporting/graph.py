"""What ONNX is made of: each kind of network as a function of input_ids, attention_mask and, of two texts, their types.

A graph has no branch on a length or on a value, so that attention is written out for every length, ids are not checked
(onnxruntime refuses those beyond a table; hashed tables have a row for any), and what cuts documents is left out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quorem.embeddings import Assignment, DenseEmbedding
from quorem.errors import UserError
from quorem.exporting.networks import Network
from quorem.heads import FullHead
from quorem.models.layers import SelfAttention
from quorem.models.positions import rotate
from quorem.models.question_answering import BEAM

WITH_TYPES = ("input_ids", "attention_mask", "token_type_ids")
NEVER = -1e30  # below it a score says that something cannot be


class Graph(nn.Module):
    """A network whose outputs have names.

    Args:
        network: its model is changed: it is no use but to be exported, and gives the same outputs.

    Attributes:
        inputs: names of what it takes, int64.
        axes: their sizes, which a caller chooses.
        names: those of its outputs.
        by_token: those of the outputs that have a number, or several, for each token.
    """

    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    axes: tuple[str, ...] = ("batch", "time")
    by_token: tuple[str, ...] = ()

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.model = network.model
        self.names: tuple[str, ...] = ()
        for module in list(self.model.modules()):
            if isinstance(module, Assignment):
                module.checks_ids = False
            for name, child in module.named_children():
                if isinstance(child, SelfAttention):
                    setattr(module, name, JointAttention(child))
        self.eval()


class JointAttention(nn.Module):
    """SelfAttention with one matrix instead of three, written out whatever the length.

    Args:
        attention: whose weights it takes.
    """

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.num_heads, self.head_size = attention.num_heads, attention.head_size
        parts = (attention.query, attention.key, attention.value)
        self.joint = nn.Linear(parts[0].in_features, 3 * parts[0].out_features)
        self.joint.weight.data = torch.cat([part.weight.data for part in parts])
        self.joint.bias.data = torch.cat([part.bias.data for part in parts])

    def forward(
        self, hidden: Tensor, bias: Tensor | None, rotation: Tensor | None, shares: list[Tensor] | None = None
    ) -> Tensor:
        batch, time, _ = hidden.shape
        joint = self.joint(hidden).view(batch, time, 3, self.num_heads, self.head_size)
        query, key, value = joint.permute(2, 0, 3, 1, 4)  # (batch, heads, time, head_size) each
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        scores = (query * self.head_size**-0.5) @ key.transpose(-1, -2)  # (batch, heads, time, time)
        scores = scores if bias is None else scores + bias
        return (torch.softmax(scores, dim=-1) @ value).transpose(1, 2).reshape(batch, time, -1)


class Discriminator(Graph):
    """logits (batch, time), positive where a token was replaced, and last_hidden_state (batch, time, hidden_size)."""

    by_token = ("logits", "last_hidden_state")

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.names = ("logits", "last_hidden_state")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        hidden = self.model.electra(input_ids, attention_mask).last_hidden_state
        return self.model.discriminator_predictions(hidden), hidden


class Generator(Graph):
    """hidden (batch, time, D): what the softmax is asked with at each place."""

    by_token = ("hidden",)

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.names = ("hidden",)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return (self.model.generator_predictions(self.model.electra(input_ids, attention_mask).last_hidden_state),)


class Classifier(Graph):
    """logits (batch, num_labels), from token_type_ids too: what the texts of a pair are told apart by."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.names = ("logits",)
        config = network.config
        if config.type_vocab_size > 1:
            self.inputs = WITH_TYPES
        for key, value, needed in (
            ("classifier.ngrams", config.classifier_ngrams, 0),
            ("classifier.sif", str(config.classifier_sif).lower(), "false"),
            ("data.truncation", config.classifier_truncation if config.classifier_length else "head", "head"),
        ):
            if value != needed:
                raise UserError(
                    f"{network.folder}: {key}={value}: the classifier cuts whole documents, whose number of pieces an "
                    f"ONNX graph cannot choose: fine-tune with {key}={needed}, or export with --format remote-code"
                )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        return (self.model(input_ids, attention_mask, token_type_ids).logits,)


class TokenClassifier(Graph):
    """logits (batch, time, num_labels); a word's first token carries its tag."""

    by_token = ("logits",)

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.names = ("logits",)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return (self.model(input_ids, attention_mask).logits,)


class MultipleChoice(Graph):
    """logits (batch, choices), of rows [CLS] text [SEP] choice [SEP], (batch, choices, time)."""

    inputs, axes = WITH_TYPES, ("batch", "choices", "time")

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.names = ("logits",)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        return (self.model(input_ids, attention_mask, token_type_ids).logits,)


class NextItem(Graph):
    """hidden (batch, D): what the softmax is asked with after each row's last real token; padding is on the right.

    With a full softmax (full, cosine) also log_probs (batch, V), exact. Of a compositional table the file has its
    parts, and every run makes the V vectors of them. Other softmaxes choose level by level: their `topk` stays in
    quorem.
    """

    bias: Tensor  # (V, 1)

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        head = self.model.generator_lm_head
        self.whole = isinstance(head, FullHead)
        self.names = ("hidden", "log_probs") if self.whole else ("hidden",)
        if self.whole:
            bias = head.bias.detach().index_fill(0, head.never(head.bias.device), -torch.inf)
            self.register_buffer("bias", bias.unsqueeze(1))
            head.bias = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        seen = None if self.model.config.causal else attention_mask  # no token sees padding, which comes after it
        states = self.model.electra(input_ids, seen).last_hidden_state
        rows = torch.arange(states.shape[0], device=states.device)  # len() would fix the number of rows
        hidden = self.model.generator_predictions(states[rows, attention_mask.sum(1) - 1])
        if not self.whole:
            return (hidden,)
        head, table = self.model.generator_lm_head, self.model.electra.embeddings.word_embeddings
        if isinstance(table, DenseEmbedding):
            vectors = table.weight
        else:  # ids that follow from an input: what follows from none is computed once, and the file holds all vectors
            vectors = table(attention_mask[0, :1].clamp(1, 1).expand(table.num_embeddings).cumsum(0) - 1)
        keys = head.keys(vectors)  # not turned: a dense table is in the file once
        return hidden, F.log_softmax(keys @ head.query(hidden).T + self.bias, dim=0).T


class QuestionAnswering(Graph):
    """start_logits and end_logits (batch, time) of rows [CLS] question [SEP] text [SEP].

    With the paper's head end_logits are summed over the likeliest starts, and there are also impossible_logits
    (batch,), positive where the text has no answer; starts int64 (batch, 20), the likeliest, the best first; and
    span_scores (batch, 20, time), log p of an answer from each of them to each token. Where a row has fewer starts, the
    others are 0 and have no score above -1e30.
    """

    inputs, by_token = WITH_TYPES, ("start_logits", "end_logits", "span_scores")

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.joint = network.config.classifier_head != "hf"
        self.names = ("start_logits", "end_logits")
        if self.joint:
            self.names += ("impossible_logits", "starts", "span_scores")

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        found = self.model(input_ids, attention_mask, token_type_ids)
        if not self.joint:
            return found.start_logits, found.end_logits
        of_starts = F.pad(found.start_logits.log_softmax(-1), (0, BEAM), value=-torch.inf)
        of_starts = of_starts.gather(1, found.start_top_index)
        scores = of_starts.unsqueeze(-1) + found.end_top_logits.log_softmax(-1)
        # impossible starts score alike: which of them stands first differs between libraries
        starts = found.start_top_index.masked_fill(of_starts < NEVER, 0)
        return found.start_logits, found.end_logits, found.impossible_logits, starts, scores


GRAPHS: dict[str, type[Graph]] = {
    "discriminator": Discriminator,
    "generator": Generator,
    "classifier": Classifier,
    "next_item": NextItem,
    "token_classifier": TokenClassifier,
    "multiple_choice": MultipleChoice,
    "question_answering": QuestionAnswering,
}


def build_graph(network: Network) -> Graph:
    """The function of a network that ONNX is to have.

    Raises:
        UserError: for a network that sorts or cuts by values.
    """
    if (network.config.embedding or {})["kind"] == "path":
        raise UserError(
            f"{network.folder}: model.embedding.kind=path sorts tokens by their function, which no ONNX graph can: "
            "pre-train with another kind, or export with --format electra or remote-code"
        )
    return GRAPHS[network.kind](network)
