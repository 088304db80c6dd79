"""Where the answer to a question begins and ends in a text: the paper's head, or transformers' two scores a token."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from quorem.errors import UserError, did_you_mean
from quorem.models.configuration import QuoremConfig
from quorem.models.layers import is_plain
from quorem.models.modeling import IGNORED, QuoremModel, QuoremPreTrainedModel, cross_entropy

HEAD_WIDTH = 512  # google-research/electra, finetune/qa: of both hidden layers
BEAM = 20  # starts for which ends are scored (the same, beam_size)
ANSWERABLE_WEIGHT = 0.5  # of its loss (the same, answerable_weight)
HEADS = ("paper", "hf")


@dataclass
class AnswerOutput(ModelOutput):
    """What the model says of rows [CLS] question [SEP] text [SEP].

    Attributes:
        loss: float32 (), where positions were given.
        start_logits: (batch, time).
        end_logits: (batch, time); with head `paper` given the start, or summed over the likeliest starts.
        start_top_index: int64 (batch, BEAM), the likeliest starts, behind the row's end where it has fewer tokens; None
            with head `hf`.
        end_top_logits: (batch, BEAM, time), for each of them; None with head `hf`.
        impossible_logits: (batch,), positive where the text has no answer; None with head `hf`.
        hidden_states: those of the encoder, if asked for.
        attentions: (batch, heads, time, time) of each layer, if asked for.
    """

    loss: Tensor | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None
    start_top_index: Tensor | None = None
    end_top_logits: Tensor | None = None
    impossible_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


class JointHead(nn.Module):
    """Starts, ends given a start, and whether there is an answer (google-research/electra, finetune/qa/qa_tasks.py).

    Neither padding nor the question can be a start or an end; [CLS] can, which stands for no answer in this row.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.start = nn.Linear(width, 1)
        self.hidden = nn.Linear(2 * width, HEAD_WIDTH)
        self.end = nn.Linear(HEAD_WIDTH, 1)
        self.impossible_hidden = nn.Linear(2 * width, HEAD_WIDTH)
        self.impossible = nn.Linear(HEAD_WIDTH, 1)

    def forward(self, hidden: Tensor, allowed: Tensor, start_positions: Tensor | None) -> AnswerOutput:
        """Scores of states.

        Args:
            hidden: (batch, time, width).
            allowed: bool (batch, time), what may be a start or an end.
            start_positions: int64 (batch,), the starts that ends are scored for; None for the likeliest ones.
        """
        start = self._masked(self.start(hidden).squeeze(-1), allowed)
        expected = torch.einsum("bt,btw->bw", start.float().softmax(-1).to(hidden.dtype), hidden)
        whole = torch.cat([hidden[:, 0], expected], -1)
        impossible = self.impossible(F.gelu(self.impossible_hidden(whole))).squeeze(-1)
        if start_positions is not None:
            chosen = start_positions.clamp(0, hidden.shape[1] - 1).unsqueeze(-1)
            end = self._ends(hidden, allowed, chosen).squeeze(1)
            return AnswerOutput(start_logits=start, end_logits=end, impossible_logits=impossible)
        none = (0, BEAM)  # so many starts in every row: those behind its end have p = 0
        top = F.pad(start.float().log_softmax(-1), none, value=-torch.inf).topk(BEAM, -1)
        ends = self._ends(hidden, allowed, top.indices)
        summed = (top.values.unsqueeze(-1) + ends.float().log_softmax(-1)).logsumexp(1)
        return AnswerOutput(
            start_logits=start, end_logits=summed, start_top_index=top.indices, end_top_logits=ends,
            impossible_logits=impossible,
        )  # fmt: skip

    def _ends(self, hidden: Tensor, allowed: Tensor, starts: Tensor) -> Tensor:
        """Scores (batch, starts, time) of the ends for starts int64 (batch, starts).

        A layer on [start; end] is the sum of one on either, so that no pair is ever written side by side; one start at
        a time is in memory, for HEAD_WIDTH numbers a pair are many.
        """
        width, inside = hidden.shape[-1], starts.clamp(max=hidden.shape[1] - 1)
        chosen = hidden.gather(1, inside.unsqueeze(-1).expand(-1, -1, width)).unbind(1)
        if is_plain(self.hidden):
            of_start, of_end = self.hidden.weight.split(width, dim=1)
            ends = F.linear(hidden, of_end, self.hidden.bias)
            pairs = (F.linear(each, of_start).unsqueeze(1) + ends for each in chosen)
        else:  # an adapter or an eight-bit weight: the layer as it is
            pairs = (self.hidden(torch.cat([each.unsqueeze(1).expand_as(hidden), hidden], -1)) for each in chosen)
        scores = [self.end(F.gelu(each)).squeeze(-1) for each in pairs]
        return self._masked(torch.stack(scores, 1), allowed.unsqueeze(1))

    @staticmethod
    def _masked(scores: Tensor, allowed: Tensor) -> Tensor:
        return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)


class QuoremForQuestionAnswering(QuoremPreTrainedModel):
    """Encoder and head: input_ids (batch, time) -> start and end scores (batch, time).

    With config.classifier_head `hf` it is transformers' ElectraForQuestionAnswering.
    """

    def __init__(self, config: QuoremConfig) -> None:
        super().__init__(config)
        if config.classifier_head not in HEADS:
            raise UserError(
                f"classifier_head={config.classifier_head!r} is unknown.{did_you_mean(config.classifier_head, HEADS)}"
            )
        self.electra = QuoremModel(config)
        if config.classifier_head == "hf":
            self.qa_outputs = nn.Linear(config.hidden_size, 2)
        else:
            self.qa_joint = JointHead(config.hidden_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        is_impossible: Tensor | None = None,
        **kwargs: Any,
    ) -> AnswerOutput:
        """Scores of starts and ends.

        Args:
            input_ids: int64 (batch, time).
            attention_mask: (batch, time), 1 for real tokens; None if all are.
            token_type_ids: int64 (batch, time), 1 for the text; head `paper` takes all tokens for it if None.
            start_positions: int64 (batch,), where answers begin, 0 for none; outside of the row it counts for nothing.
            end_positions: int64 (batch,), their last tokens; with both the mean cross-entropy of the two is added.
            is_impossible: (batch,), 1 where there is no answer; head `paper` learns it too.
            kwargs: passed to the encoder.
        """
        found = self.electra(input_ids, attention_mask, token_type_ids, return_dict=True, **kwargs)
        if self.config.classifier_head == "hf":
            start, end = self.qa_outputs(found.last_hidden_state).unbind(-1)
            outputs = AnswerOutput(start_logits=start, end_logits=end)
        else:
            hidden = found.last_hidden_state
            allowed = torch.ones_like(hidden[..., 0], dtype=torch.bool)
            for mask in (token_type_ids, attention_mask):
                allowed = allowed if mask is None else allowed & mask.bool()
            allowed = allowed | (torch.arange(hidden.shape[1], device=hidden.device) == 0)
            outputs = self.qa_joint(hidden, allowed, start_positions)
        if start_positions is not None and end_positions is not None:
            outputs.loss = _loss(outputs, start_positions, end_positions, is_impossible)
        outputs.hidden_states, outputs.attentions = found.hidden_states, found.attentions
        return outputs


def _loss(outputs: AnswerOutput, start: Tensor, end: Tensor, is_impossible: Tensor | None) -> Tensor:
    assert outputs.start_logits is not None
    assert outputs.end_logits is not None
    time = outputs.start_logits.shape[1]
    pairs = ((outputs.start_logits, start), (outputs.end_logits, end))
    found = [cross_entropy(each, place.masked_fill((place < 0) | (place >= time), IGNORED)) for each, place in pairs]
    loss = (found[0] + found[1]) / 2
    if is_impossible is not None and outputs.impossible_logits is not None:
        wanted, given = is_impossible.float(), outputs.impossible_logits.float()
        loss = loss + ANSWERABLE_WEIGHT * F.binary_cross_entropy_with_logits(given, wanted)
    return loss
