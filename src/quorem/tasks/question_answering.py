"""Extractive question answering: where in a text the answer to a question stands, if it has one."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from quorem.config.tasks import QuestionAnsweringConfig
from quorem.data.bad_rows import check_some_used
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.table import Column
from quorem.data.readers.value import Number
from quorem.data.source import Source
from quorem.errors import UserError, check_choice, check_number
from quorem.finetuning.answer_baseline import nearest_spans
from quorem.finetuning.answer_scores import best_threshold, score_answers
from quorem.finetuning.program import MicroBatch, TextProgram
from quorem.finetuning.questions import Gold, answer_units, check_row, cut, encode_questions, find_answer, parse_answers
from quorem.finetuning.rows import Examples, choose_rows, is_blank, split, tell_unknown
from quorem.finetuning.spans import Found, average, best_answer, find_answers
from quorem.finetuning.task import Begun
from quorem.finetuning.text_task import TextTask
from quorem.models.configuration import ANSWER_UNITS
from quorem.models.question_answering import ANSWERABLE_WEIGHT, HEADS, QuoremForQuestionAnswering
from quorem.tokenization import Unknown

logger = logging.getLogger(__name__)


class SpanTensors(NamedTuple):
    """The labels of windows.

    Args:
        start: int64 (batch,), 0 for none.
        end: int64 (batch,), the last token.
        impossible: float32 (batch,).
        allowed: bool (batch, time), [CLS] and the text.
    """

    start: Tensor
    end: Tensor
    impossible: Tensor
    allowed: Tensor


class SpanCrossEntropy:
    """Half of -log p of the start and of the end given it, and with head `paper` half of that of having an answer."""

    def labels(self, examples: Examples, time: int) -> SpanTensors:
        """Of windows."""
        start, end, impossible = zip(*examples.labels, strict=True)
        place = torch.arange(time)
        behind = torch.tensor([len(row) - 1 for row in examples.rows]).unsqueeze(1)
        inside = (place >= torch.tensor(examples.boundaries).unsqueeze(1)) & (place < behind)
        given = torch.tensor(impossible, dtype=torch.float32)
        return SpanTensors(torch.tensor(start), torch.tensor(end), given, inside | (place == 0))

    def weight(self, examples: Examples) -> float:
        """The number of windows."""
        return len(examples)

    def loss(self, outputs: Any, labels: SpanTensors) -> Tensor:
        """The sum over windows."""
        pairs = ((outputs.start_logits, labels.start), (outputs.end_logits, labels.end))
        parts = [
            F.cross_entropy(logits.float().masked_fill(~labels.allowed, -torch.inf), place, reduction="sum")
            for logits, place in pairs
        ]
        loss = (parts[0] + parts[1]) / 2
        if outputs.impossible_logits is not None:
            given, wanted = outputs.impossible_logits.float(), labels.impossible
            loss = loss + ANSWERABLE_WEIGHT * F.binary_cross_entropy_with_logits(given, wanted, reduction="sum")
        return loss

    def hits(self, outputs: Any, labels: SpanTensors) -> Tensor:
        """Windows whose start is right."""
        return (outputs.start_logits.masked_fill(~labels.allowed, -torch.inf).argmax(-1) == labels.start).sum()


class AnswerProgram(TextProgram):
    """Steps on windows, in which the model is told the right start, for the end is learned given it."""

    def micro_batches(self, step: int, *, rank: int, num_processes: int) -> Iterator[MicroBatch]:
        """As in `TextProgram`."""
        for each in super().micro_batches(step, rank=rank, num_processes=num_processes):
            yield each._replace(more=each.more | {"start_positions": each.labels.start})


class QuestionAnswering(TextTask):
    """An answer to each question, a span of its text: [CLS] question [SEP] window [SEP] for each window of the text."""

    name, settings = "question_answering", QuestionAnsweringConfig
    model_class, network, new = QuoremForQuestionAnswering, "question_answering", ("qa_outputs.", "qa_joint.")
    chosen_by, shown = "f1", ("f1", "exact_match")
    text_columns = ("question_column",)
    row_kind = "question"

    def resolve(self, config: QuestionAnsweringConfig) -> QuestionAnsweringConfig:
        """As in `TextTask`."""
        check_choice("data.answer_units", config.data.answer_units, ("auto", *ANSWER_UNITS))
        for name in ("max_question_length", "max_answer_length"):
            check_number(f"data.{name}", getattr(config.data, name), at_least=1)
        check_number("data.doc_stride", config.data.doc_stride, at_least=0)
        check_number("data.max_length", config.data.max_length, at_least=5)
        check_choice("classifier.head", config.classifier.head, HEADS)
        found: QuestionAnsweringConfig = super().resolve(config)
        return found

    def reading(self, data: Any) -> dict[str, Any]:
        """As in `TextTask`; answers may be lists, which further columns may hold."""
        more = [data.question_column, data.label_column, *([data.start_column] if data.start_column else [])]
        return super().reading(data) | {"label_column": None, "more_columns": tuple(more)}

    def read(
        self, config: QuestionAnsweringConfig, tokenizer: PreTrainedTokenizerFast, source: Source, counts: RowCounts
    ) -> tuple[Examples, dict[str, Any]]:
        """Questions and texts as lists of ids, with a Gold each.

        Raises:
            UserError: for answers of another form, or one that does not stand in its text (unless bad rows are
                skipped), and where no question has an answer.
        """
        documents, golds = list[Document](), list[Gold]()
        for document in source.documents(counts):
            gold = self._gold(document, config.data, str(source), counts)
            if gold is not None:
                documents.append(document)
                golds.append(gold)
        check_some_used(counts, str(source))
        logger.info("%s: %s", source, counts)
        if not any(gold.texts for gold in golds):
            raise UserError(
                f"{source}: no question has an answer in {config.data.label_column!r}: give some that have one, or "
                "set data.label_column"
            )
        unknown = Unknown()
        examples = encode_questions(
            tokenizer, [each.more[0] or "" for each in documents], [each.text for each in documents], unknown
        )
        tell_unknown(str(source), unknown)
        splits = [document.split for document in documents]
        if len(set(splits)) == 1 and config.data.split_column is None:
            splits = [None] * len(splits)  # one file, whose name is of no account
        units = answer_units(examples.origins) if config.data.answer_units == "auto" else config.data.answer_units
        facts = {"answer_units": units, "may_lack_answer": not all(gold.texts for gold in golds)}
        return replace(examples, labels=golds, splits=splits), facts

    def _gold(self, document: Document, data: Any, source: str, counts: RowCounts) -> Gold | None:
        """The answers of a row; None where it is left out, which is counted."""
        question, answers, *more = document.more
        if answers is None or not (question or "").strip():
            counts.recount_as_skipped(1)
            return None
        place = f"{source}, row {document.row}"
        try:
            try:
                found = parse_answers(answers, more[0] if more else None)
            except ValueError as error:
                raise check_row(place, data.label_column, answers, error) from error
            if not found:
                return Gold(())
            text, start = found[0]
            at = find_answer(document.text, text, start)
            if at is None:
                raise UserError(
                    f"{place}: the answer {text[:80]!r} does not stand in {data.text_column!r}: correct it, or skip "
                    "such rows with data.bad_rows=skip"
                )
        except UserError as error:
            if data.bad_rows == "error":
                raise
            counts.recount_as_bad(str(error))
            return None
        if start is not None and at != start:
            counts.count_warning("with an answer that begins elsewhere than they say")
        return Gold(tuple(each for each, _ in found), (at, at + len(text)))

    def choose(self, data: Any, examples: Examples, name: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """As in `TextTask`; without splits whole texts are held out, with all questions about them.

        Raises:
            UserError: as `choose_rows`.
        """
        place = {passage: number for number, passage in enumerate(dict.fromkeys(map(id, examples.origins)))}
        if any(part is not None for part in examples.splits) or len(place) < 2:
            return choose_rows(data, examples.splits, name)
        _, held_out = split(len(place), share=data.validation_share, seed=data.split_seed)
        held = np.isin([place[id(passage)] for passage in examples.origins], held_out)
        return np.flatnonzero(~held), np.flatnonzero(held), []

    def changes(self, config: QuestionAnsweringConfig, facts: dict[str, Any]) -> dict[str, Any]:
        """How texts are cut, and what an answer may be."""
        data = config.data
        return {
            "num_labels": 2,
            "classifier_head": config.classifier.head,
            "window_length": data.max_length,
            "window_stride": data.doc_stride,
            "question_length": data.max_question_length,
            "answer_length": data.max_answer_length,
            "answer_units": facts["answer_units"],
            "may_lack_answer": facts["may_lack_answer"],
        }

    def more_facts(self, config: Any, facts: dict[str, Any], training: Examples, held_out: Examples) -> dict[str, Any]:
        """Scores of the right spans once they begin and end where tokens do."""
        right = [
            None if gold.span is None else passage.tokens(*gold.span)
            for gold, passage in zip(held_out.labels, held_out.origins, strict=True)
        ]
        return {"ceiling": _scores_of_spans(right, held_out, units=facts["answer_units"])}

    def baselines(self, begun: Begun) -> dict[str, Any]:
        """As in `Task`, of guesses without a model."""
        held_out, units = begun.held_out, begun.facts["answer_units"]
        spans = nearest_spans(begun.training, held_out)
        found = {"nearest words": _scores_of_spans(spans, held_out, units=units)}
        if begun.facts["may_lack_answer"]:
            never: list[None] = [None] * len(held_out)
            found["never an answer"] = _scores_of_spans(never, held_out, units=units)
        return {"baselines": found}

    def objective(self, begun: Begun) -> SpanCrossEntropy:
        """As in `TextTask`."""
        return SpanCrossEntropy()

    def build(self, config: Any, source: Path, facts: dict[str, Any], *, keep: bool = False) -> Any:
        """As in `TextTask`.

        Raises:
            UserError: also for a model that cannot tell a question from its text.
        """
        model = super().build(config, source, facts, keep=keep)
        if model.config.type_vocab_size < 2:
            raise UserError(f"{source}: knows one type of tokens only, so it cannot tell a question from its text")
        return model

    def program(self, begun: Begun) -> TextProgram:
        """As in `TextTask`, on windows."""
        rows = cut(begun.training, begun.model.config)
        how: dict[str, Any] = {"pad_id": begun.tokenizer.pad_token_id, "objective": self.objective(begun)}
        paper = begun.model.config.classifier_head == "paper"
        return (AnswerProgram if paper else TextProgram)(begun.model, rows, begun.config.train, **how)

    def encode(
        self, documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast, data: Any, model: Any, unknown: Unknown
    ) -> Examples:
        """As in `TextTask`; of a row with a blank question or text nothing is read."""
        asked = [Document("") if is_blank(each) or not each.more else each for each in documents]
        questions = [each.more[0] or "" if each.more else "" for each in asked]
        return encode_questions(tokenizer, questions, [each.text for each in asked], unknown)

    def outputs(self, model: QuoremForQuestionAnswering, examples: Examples, **how: Any) -> list[Found]:
        """For each question its best answers."""
        return find_answers(model, examples, **how)

    def average(self, outputs: Sequence[list[Found]]) -> list[Found]:
        """As in `TextTask`, of probabilities."""
        return outputs[0] if len(outputs) == 1 else average(outputs)

    def scores(self, outputs: list[Found], examples: Examples, config: Any) -> dict[str, Any]:
        """Exact match and F1 as SQuAD's official evaluation has them, from 0 to 1.

        Where some texts have no answer, `no_answer_threshold` is the one with which F1 is largest on these very rows,
        and `untuned` has the scores without it, with 0.
        """
        golds = [gold.texts for gold in examples.labels]
        best = [best_answer(found, passage) for found, passage in zip(outputs, examples.origins, strict=True)]
        texts = ["" if span is None else passage.text[span[0] : span[1]]
                 for span, passage in zip(best, examples.origins, strict=True)]  # fmt: skip
        units = config.answer_units
        if not config.may_lack_answer:
            return score_answers(texts, golds, units=units)
        against = [found.no_answer for found in outputs]
        threshold = best_threshold(texts, against, golds, units=units)

        def with_threshold(threshold: float) -> dict[str, Any]:
            kept = ["" if score > threshold else text for text, score in zip(texts, against, strict=True)]
            return score_answers(kept, golds, units=units)

        return with_threshold(threshold) | {"no_answer_threshold": threshold, "untuned": with_threshold(0.0)}

    def judge(self, begun: Begun) -> dict[str, Any]:
        """As in `TextTask`; the model keeps the threshold."""
        found = super().judge(begun)
        begun.model.config.no_answer_threshold = found.get("no_answer_threshold", 0.0)
        return found

    def settle(self, config: Any, ensemble: Mapping[str, Any]) -> None:
        """As in `TextTask`: the threshold."""
        config.no_answer_threshold = ensemble.get("no_answer_threshold", config.no_answer_threshold)

    def columns(self, config: Any) -> tuple[Column, ...]:
        """The answer, empty for none, its probability, and where it begins and ends in the text, in characters."""
        places = (Column("prediction_start", "integer"), Column("prediction_end", "integer"))
        return Column("prediction"), Column("probability", "number"), *places

    def decode(self, outputs: list[Found], examples: Examples, documents: Sequence[Document], config: Any) -> list[Any]:
        """As in `TextTask`."""
        found = list[Any]()
        for each, passage in zip(outputs, examples.origins, strict=True):
            best = best_answer(each, passage)
            if best is None or (config.may_lack_answer and each.no_answer > config.no_answer_threshold):
                found.append(("", None, None, None))
            else:
                start, end, share = best
                found.append((passage.text[start:end], Number(f"{share:.6f}"), start, end))
        return found

    def document(self, value: Any) -> Document:
        """A mapping with `question` and `context`, or a pair of them in this order.

        Raises:
            UserError: for anything else.
        """
        pair = (value.get("question"), value.get("context")) if isinstance(value, Mapping) else value
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise UserError(f"{value!r}: a question and the text that has its answer are needed for each row")
        question, context = pair
        if not (isinstance(question, str) and isinstance(context, str)):
            raise UserError(f"{value!r}: `question` and `context` are needed for each row, both texts")
        return Document(context, more=(question,))

    def said(self, result: dict[str, Any]) -> str:
        """The scores, beside those of guesses without a model."""
        found = ", ".join(f"{name} {result[name]:.4f}" for name in self.shown)
        line = f"held out, {result['held_out']['rows']:,} questions: {found} ({self.said_of_epoch(result)})"
        line += f" (f1 of {result['answer_units']}"
        if "no_answer_threshold" in result:
            line += f"; no answer above {result['no_answer_threshold']:.4g}"
        return "\n".join([f"{line})", *self.said_of_baselines(result)])


def _scores_of_spans(spans: Sequence[tuple[int, int] | None], held_out: Examples, *, units: str) -> dict[str, Any]:
    """Scores of an answer for each question, given as tokens of its text; None for no answer."""
    texts = []
    for passage, span in zip(held_out.origins, spans, strict=True):
        place = None if span is None else passage.characters(*span)
        texts.append("" if place is None else passage.text[slice(*place)])
    return score_answers(texts, [gold.texts for gold in held_out.labels], units=units)
