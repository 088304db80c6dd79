"""From scores of starts and ends in windows to the best answers of each question."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quorem.finetuning.program import infer
from quorem.finetuning.questions import Origin, Passage, cut
from quorem.finetuning.rows import Examples

N_BEST = 20  # answers that are kept of a question (google-research/electra, n_best_size)
CERTAIN = 1e9  # how much speaks against any answer where a text has no token

Span = tuple[float, tuple[int, int]]
"""A log-probability, and the first and the last token of a text."""


class Found(NamedTuple):
    """What a model says of a question.

    Attributes:
        answers: probabilities by first and last token of the text, the most probable first, at most N_BEST.
        no_answer: how much speaks against any answer: with head `paper` its logit, the least over windows; with `hf`
            the log-probability of [CLS], the least over windows, less that of the best answer.
    """

    answers: dict[tuple[int, int], float]
    no_answer: float


def find_answers(model: Any, examples: Examples, **how: Any) -> list[Found]:
    """The best answers to each question, over all windows of its text.

    A window's probabilities of starts and of ends given the start are over its tokens of the text and [CLS], which
    stands for no answer there. A start counts in the one window in which it has most context on both sides.

    Args:
        model: a QuoremForQuestionAnswering.
        examples: of `encode_questions`.
        how: pad_id, batch_size and dtype of `infer`.
    """
    rows = cut(examples, model.config)
    found: list[list[Span]] = [[] for _ in examples.rows]
    against: list[list[float]] = [[] for _ in examples.rows]
    for chosen, outputs in infer(model, rows, **how) if rows.rows else ():
        part = [rows.origins[place] for place in chosen]
        spans, no_answer = window_spans(outputs, part, model.config.answer_length)
        for origin, some, score in zip(part, spans, no_answer, strict=True):
            found[origin.question] += some
            against[origin.question].append(score)
    relative = model.config.classifier_head == "hf"
    return [_joined(*each, relative=relative) for each in zip(found, against, strict=True)]


def window_spans(outputs: Any, origins: Sequence[Origin], answer_length: int) -> tuple[list[list[Span]], list[float]]:
    """The best spans of each window, and how much speaks against any in it.

    Args:
        outputs: the model's for them, (windows, time).
        origins: of the windows.
        answer_length: most tokens of a span.
    """
    device, time = outputs.start_logits.device, outputs.start_logits.shape[1]
    place = torch.arange(time, device=device)

    def column(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, device=device).unsqueeze(1)

    first, behind = (column([getattr(each.window, end) + each.shift for each in origins]) for end in ("start", "end"))
    own = [column([getattr(each.window, end) + each.shift for each in origins]) for end in ("own_start", "own_end")]
    inside = (place >= first) & (place < behind)  # (windows, time)
    allowed = inside | (place == 0)
    starts = _log_shares(outputs.start_logits, allowed)
    if outputs.start_top_index is None:
        top = starts.topk(min(N_BEST, time), -1).indices
        ends = _log_shares(outputs.end_logits, allowed).unsqueeze(1)
        none = starts[:, 0] + ends[:, 0, 0]
    else:
        top = outputs.start_top_index
        ends = _log_shares(outputs.end_top_logits, allowed.unsqueeze(1))
        none = outputs.impossible_logits.float()
    at = top.unsqueeze(-1)  # (windows, starts, 1)
    right = (place >= at) & (place < at + answer_length) & inside.unsqueeze(1)
    right &= ((top >= own[0]) & (top < own[1])).unsqueeze(-1)
    scores = (starts.gather(1, top.clamp(max=time - 1)).unsqueeze(-1) + ends).masked_fill(~right, -torch.inf).flatten(1)
    best = scores.topk(min(N_BEST, scores.shape[1]), -1)
    begins = top.gather(1, best.indices // time).tolist()
    values, stops = best.values.tolist(), (best.indices % time).tolist()
    spans = [
        [(score, (start - each.shift, end - each.shift)) for score, start, end in zip(*row, strict=True)
         if score > -torch.inf]
        for each, row in zip(origins, zip(values, begins, stops, strict=True), strict=True)
    ]  # fmt: skip
    return spans, none.tolist()


def average(models: Sequence[list[Found]]) -> list[Found]:
    """The mean over models: of probabilities, 0 where an answer is none of a model's best, and of no_answer."""
    found = []
    for each in zip(*models, strict=True):
        answers: dict[tuple[int, int], float] = {}
        for one in each:
            for span, share in one.answers.items():
                answers[span] = answers.get(span, 0.0) + share / len(each)
        best = sorted(answers.items(), key=lambda item: -item[1])[:N_BEST]
        found.append(Found(dict(best), sum(one.no_answer for one in each) / len(each)))
    return found


def best_answer(found: Found, passage: Passage) -> tuple[int, int, float] | None:
    """The most probable answer that is not blank: its beginning and end in the text, in characters; None if none is."""
    for (first, last), share in found.answers.items():
        start, end = passage.characters(first, last)
        if start < end:
            return start, end, share
    return None


def _log_shares(logits: Tensor, allowed: Tensor) -> Tensor:
    return logits.float().masked_fill(~allowed, -torch.inf).log_softmax(-1)


def _joined(spans: list[Span], against: list[float], *, relative: bool) -> Found:
    """Windows of one question put together."""
    best = sorted(spans, key=lambda each: -each[0])[:N_BEST]
    no_answer = min(against, default=CERTAIN) - (best[0][0] if relative and best else 0.0)
    return Found({span: math.exp(score) for score, span in best}, no_answer if best else CERTAIN)
