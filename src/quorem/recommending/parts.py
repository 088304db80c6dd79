"""The rows of a next-item run: which are learned from, which judge epochs and which the result."""

import logging
from dataclasses import replace

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from quorem.arrangement.cooccurrence import cooccurrence_vectors, start_table
from quorem.config.events import NAMES, EventSettings
from quorem.config.loading import from_mapping, to_mapping
from quorem.config.next_item import SessionDataSettings
from quorem.data.bad_rows import check_some_used
from quorem.data.documents import RowCounts
from quorem.data.events.source import check_spaces, refuse_events_as_text, source_of
from quorem.data.readers import known_format
from quorem.data.sessions import (
    SessionCorpus,
    Sessions,
    SessionSplits,
    by_split,
    leave_one_out,
    read_sessions,
    sample_evaluated,
    split_validation,
)
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.finetuning.rows import tell_unknown
from quorem.heads import CosineHead
from quorem.models.next_item import HEAD, QuoremForNextItem
from quorem.tokenization import Unknown
from quorem.tokenization.special import SPECIAL_IDS
from quorem.training.run_folder import read_settings, run_of

logger = logging.getLogger(__name__)


def with_events_of_run(data: SessionDataSettings, pretrained: str) -> SessionDataSettings:
    """The settings of a log's columns from the pre-training run, where none are given and the files may be a log.

    Args:
        data: the settings.
        pretrained: the run.
    """
    run = run_of(pretrained)
    paths = [data.path] if isinstance(data.path, str) else data.path
    given = data.text_column or any(getattr(data, name) != getattr(EventSettings(), name) for name in NAMES)
    if given or run is None or any(known_format(each) == "text" for each in paths):
        return data
    path = run / "config.yaml"
    there = read_settings(path).get("data") or {}
    columns = {name: there[name] for name in NAMES if there.get(name) is not None}
    if not (columns.get("events") or columns.get("item_column")):
        return data
    logger.info("%s: its settings of logs are used: %s", path, ", ".join(f"data.{k}={v}" for k, v in columns.items()))
    return from_mapping(SessionDataSettings, to_mapping(data) | columns, where="data.", source=str(path))


def session_source(data: SessionDataSettings) -> Source:
    """The training file's, by the settings.

    Raises:
        UserError: for files or settings that cannot be used.
    """
    return source_of(data, text_column=data.text_column, split_column=data.split_column)


def held_out_source(data: SessionDataSettings) -> Source:
    """The file's of rows whose last items are to be predicted; data.test must name one.

    Raises:
        UserError: for a file that cannot be used.
    """
    settings = replace(data, path=str(data.test), test_period=None, min_item_events=1)  # rare is what training says
    return source_of(settings, text_column=data.text_column)


def leaves_one_out(data: SessionDataSettings) -> bool:
    """Whether the last item of each row is what is judged on, for want of rows that are for it."""
    return data.test is None and data.split_column is None and data.test_period is None


def read_parts(
    data: SessionDataSettings,
    source: Source,
    test: Source | None,
    tokenizer: PreTrainedTokenizerFast,
    counts: RowCounts,
) -> SessionSplits:
    """Rows to learn from, to judge epochs on, and to judge the result on.

    Raises:
        UserError: for files that cannot be used, or if one of the three is empty.
    """
    unknown = Unknown()
    for each in filter(None, (source, test)):
        refuse_events_as_text(each, "items")
        check_spaces(each, cut="\t" not in tokenizer.decode([SPECIAL_IDS] * 2))
    keep = test is None  # a row's last item may be a target
    sessions, splits = read_sessions(source, tokenizer, counts, unknown, keep_target=keep)
    check_some_used(counts, str(source))
    logger.info("%s: %s", source, counts)
    tell_unknown(str(source), unknown)
    if test is not None:
        also, of_test = RowCounts(), Unknown()
        held_out, _ = read_sessions(test, tokenizer, also, of_test, keep_target=True)
        logger.info("%s: %s", test, also)
        tell_unknown(str(test), of_test)
    elif data.split_column is not None or data.test_period is not None:
        sessions, held_out = by_split(sessions, splits, str(source))
    if leaves_one_out(data):
        parts = leave_one_out(sessions)
    else:
        sessions = _known(sessions)
        parts = SessionSplits(
            *split_validation(sessions, share=data.validation_share, seed=data.split_seed), held_out, sessions
        )
    parts = SessionSplits(
        _known(parts.training),
        sample_evaluated(parts.validation, most=data.validation_rows, seed=data.split_seed),
        sample_evaluated(parts.test, most=data.test_rows, seed=data.split_seed),
        _known(parts.counted),
    )
    for name, part in parts._asdict().items():
        if not (part.lengths >= 2).any():
            raise UserError(f"{test or source}: no row for {name} has two items that the vocabulary knows: give more")
    return parts


def _known(sessions: Sessions) -> Sessions:
    """Rows without unknown targets at their ends."""
    last = np.maximum(sessions.ends - 1, 0)
    ends_unknown = (sessions.lengths > 0) & (sessions.tokens[last] < 0) if len(sessions.tokens) else np.zeros(0, bool)
    return sessions.cut(np.arange(len(sessions)), sessions.lengths - ends_unknown)


@torch.no_grad()
def start_anew(model: QuoremForNextItem, new: frozenset[str], training: Sessions, *, start: str, seed: int) -> None:
    """Set what is new by the training rows: the softmax's biases, and token vectors by what stands together.

    Args:
        model: as it was built.
        new: names of its new weights.
        training: rows.
        start: one of STARTS.
        seed: of vectors.
    """
    if not any(name.startswith(HEAD) for name in new):
        return
    width, table = model.config.embedding_size, model.electra.embeddings.word_embeddings
    counts = torch.from_numpy(training.counts(model.config.vocab_size))
    if start == "cooccurrence":
        corpus = SessionCorpus(training, model.config.vocab_size)
        vectors = torch.from_numpy(cooccurrence_vectors(corpus, components=width, seed=seed))
        noise = torch.Generator().manual_seed(seed)
        explained = table.from_dense(start_table(vectors, std=width**-0.5, width=width, generator=noise))
        logger.info(
            "token vectors start from co-occurrence: the table holds %.0f %% of their variance", 100 * explained
        )
    if isinstance(model.generator_lm_head, CosineHead):
        model.generator_lm_head.bias.requires_grad_(False)  # none: it would lift what is popular (NISER, section 3)
        return
    model.generator_lm_head.start_at_unigram(counts)
    if start != "random":
        model.generator_lm_head.start_at_vectors(counts)
