"""The next item of a session: a recommender, exact softmax over all items, ranked beside what counting reaches."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quorem.config.loading import check_bounds
from quorem.config.next_item import NextItemConfig
from quorem.data.documents import RowCounts
from quorem.data.sessions import Sessions, SessionSplits
from quorem.data.source import Source
from quorem.errors import UserError, check_choice
from quorem.files import fingerprint_files
from quorem.finetuning.checkpoint import size_of
from quorem.finetuning.task import Begun, Task, check_train_of_finetuning
from quorem.models.checkpoint_files import read_weights, weight_files
from quorem.plan.presets import preset
from quorem.plan.recipes import check_train
from quorem.recommending.average import load_average
from quorem.recommending.baselines import BASELINES, FLOOR, NEAREST, SessionNeighbours
from quorem.recommending.parts import (
    held_out_source,
    leaves_one_out,
    read_parts,
    session_source,
    start_anew,
    with_events_of_run,
)
from quorem.recommending.program import NextItemProgram
from quorem.recommending.ranking import Scorer, judge
from quorem.recommending.start import ATTENTIONS, build_next_item, network_folder, resolve_start
from quorem.silence import silence_transformers
from quorem.tokenization import load_tokenizer, save_tokenizer, tokenizer_files
from quorem.training.device import autocast_dtype
from quorem.training.optim import build_optimizer, parameter_groups
from quorem.training.row_adam import row_tables
from quorem.training.run_folder import Run

logger = logging.getLogger(__name__)

HOLD_OUT = ("test", "split_column", "test_period")
MEASURES = ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@10", "ndcg@20", "mrr@20", "coverage@20", "popularity@20")
ROWS_TO_CHOOSE = 1_000  # validation rows that choose V-SKNN's number of neighbours
NOTHING = Sessions(np.empty(0, np.int32), np.empty(0, np.int64))


@dataclass(frozen=True)
class BegunSessions(Begun):
    """The same with all rows, by what they are for, and the names of weights that are new."""

    parts: SessionSplits = field(default_factory=lambda: SessionSplits(NOTHING, NOTHING, NOTHING, NOTHING))
    new: frozenset[str] = frozenset()


class NextItem(Task):
    """The next item.

    Epochs are judged on validation rows, and the best by NDCG@20 is kept; that one is judged on the test rows, once, at
    the end, beside what counting reaches on the same rows. Nothing is learned from a row that is judged.
    """

    name, settings = "next_item", NextItemConfig
    chosen_by, shown = "ndcg@20", ("hr@20", "ndcg@20", "mrr@20")

    def resolve(self, config: NextItemConfig) -> NextItemConfig:
        """The settings with what they leave open filled in by the pre-trained model's size, and checked.

        Raises:
            UserError: for an unknown name or a number out of range.
        """
        config = replace(config, data=with_events_of_run(config.data, config.pretrained))
        chosen, data, train = config.next_item, config.data, config.train
        check_choice("next_item.attention", chosen.attention, ATTENTIONS)
        check_bounds(config)
        if len(given := [key for key in HOLD_OUT if getattr(data, key) is not None]) > 1:
            told = "both say which rows are held out: leave one of them out"
            raise UserError(f"data.{given[0]} and data.{given[1]} {told}")
        check_train_of_finetuning(train, updates_rows=True)
        rate = train.learning_rate or preset(size_of(config.pretrained)).finetune_learning_rate
        train = replace(
            train, learning_rate=rate, schedule=train.schedule or "linear", optimizer=train.optimizer or "adamw"
        )
        check_train(train)
        start = resolve_start(Path(config.pretrained), chosen.start)
        return replace(config, train=train, next_item=replace(chosen, start=start))

    def from_scratch(self, config: NextItemConfig) -> NextItemConfig:
        """As in `Task`."""
        return replace(config, next_item=replace(config.next_item, start="random"))

    def without_baseline(self, config: NextItemConfig) -> NextItemConfig:
        """As in `Task`."""
        return replace(config, next_item=replace(config.next_item, baselines=False))

    def begin(self, config: NextItemConfig, source: Source | None) -> BegunSessions:
        """As in `Task`."""
        chosen, data, folder = config.next_item, config.data, Path(config.pretrained)
        network = network_folder(folder, "generator" if chosen.start == "generator" else "discriminator")
        tokenizer, counts = load_tokenizer(network), RowCounts()
        source = source or session_source(data)
        test = None if data.test is None else held_out_source(data)
        parts = read_parts(data, source, test, tokenizer, counts)
        inputs = {"data": source.fingerprint(), **({"test": test.fingerprint()} if test else {})}
        beside = network.parent / "generator"
        folders = {network, *([beside] if (beside / "config.json").exists() else [])}
        files = [file for each in sorted(folders) for file in (*weight_files(each), *tokenizer_files(each))]
        inputs["pretrained"] = fingerprint_files(*files)
        model, new = build_next_item(
            folder, start=chosen.start, attention=chosen.attention, head=chosen.head, scale=chosen.scale,
            dropout=chosen.dropout, seed=config.train.seed,
        )  # fmt: skip
        if config.train.table_updates == "rows" and model.generator_lm_head.reads_all:
            raise UserError(
                "train.table_updates=rows: this softmax reads every row in each step: choose another "
                "next_item.head, if the run's table has a grid for it (model.head.kind=tree in pre-training), or leave "
                "it out"
            )
        limit, longest = model.config.max_position_embeddings, data.max_items + 2  # [CLS] and [MASK] too
        if model.config.positions == "absolute" and longest > limit:
            raise UserError(
                f"data.max_items={data.max_items}: {network} has absolute positions up to {limit}: lower it"
            )
        start_anew(model, new, parts.training, start=chosen.start, seed=config.train.seed)
        return BegunSessions(
            config, source, inputs, counts, tokenizer, parts.training, parts.validation, model, {}, network, parts, new
        )

    def program(self, begun: Begun) -> NextItemProgram:
        """As in `Task`."""
        config = begun.config
        return NextItemProgram(begun.model, begun.training, config.train, max_items=config.data.max_items)

    def optimizer(self, begun: Begun) -> torch.optim.Optimizer:
        """As in `Task`: one rate for all layers; tables whose rows are updated by themselves have `RowAdam`."""
        train = begun.config.train
        dtype = autocast_dtype(train.precision, begun.model.device) or torch.float32
        groups = parameter_groups(
            begun.model.named_parameters(), lr=float(train.learning_rate or 0), weight_decay=train.weight_decay,
            decay_embeddings=False, matrix_lr=train.matrix_learning_rate if train.optimizer == "muon" else None,
            row_tables=row_tables(begun.model, train.table_updates),
        )  # fmt: skip
        return build_optimizer(groups, kind=str(train.optimizer), betas=(0.9, 0.98), eps=1e-6, matrix_dtype=dtype)

    def judge(self, begun: Begun) -> dict[str, Any]:
        """As in `Task`: measures of `quorem.recommending.ranking`."""
        return _judge(begun, _scorer(begun, begun.model), begun.held_out)

    def save(self, begun: Begun, folder: Path) -> None:
        """As in `Task`."""
        begun.tokenizer.model_max_length = begun.config.data.max_items + 2
        with silence_transformers():
            begun.model.save_pretrained(folder)
        save_tokenizer(begun.tokenizer, folder)

    def finish(self, begun: Begun, run: Run, best: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
        """Judge the best model, and each baseline, on the test rows.

        Returns:
            `test` (the measures and `rows`), `baselines` with the same of each, `validation` of the best epoch,
            `epoch`, `unknown_targets` and `loaded`.
        """
        assert isinstance(begun, BegunSessions)
        model, test = begun.model, begun.parts.test
        model.load_state_dict(read_weights(run.folder / "model", "next_item"))
        model.eval()
        result: dict[str, Any] = {"epoch": best["epoch"], "validation": best}
        result["test"] = {"rows": len(test)} | _judge(begun, _scorer(begun, model), test)
        logger.info("test, %s rows: %s", f"{len(test):,}", self._shown(result["test"]))
        result |= self.baselines(begun) | {"unknown_targets": int((test.tokens < 0).sum())}
        return result | {"loaded": sorted(set(model.state_dict()) - begun.new)}

    def baselines(self, begun: Begun) -> dict[str, Any]:
        """As in `Task`, of what counting reaches on the test rows."""
        assert isinstance(begun, BegunSessions)
        test, found = begun.parts.test, {}
        for name, kind in BASELINES.items() if begun.config.next_item.baselines else ():
            baseline = kind(begun.parts.counted, begun.model.config.vocab_size)
            if isinstance(baseline, SessionNeighbours):
                baseline.holds_cases = leaves_one_out(begun.config.data)
                baseline.nearest = _nearest(begun)
            found[name] = {"rows": len(test)} | _judge(begun, baseline, test, floor=FLOOR)
            logger.info("%s: %s", name, self._shown(found[name]))
        return {"baselines": found}

    def judge_average(self, begun: Begun, folders: Sequence[Path]) -> dict[str, Any]:
        """As in `Task`, of the test rows, by names as in `test.hr@20`."""
        assert isinstance(begun, BegunSessions)
        average = load_average(folders)
        average.to(begun.model.device)
        found = _judge(begun, _scorer(begun, average), begun.parts.test)
        logger.info("the models' average: %s", self._shown(found))
        return {f"test.{name}": value for name, value in found.items()}

    def said(self, result: dict[str, Any]) -> str:
        """The measures of a run beside those of the baselines on the same rows, a line each."""
        head = f"{result['test']['rows']:,} rows, among all items"
        lines = [f"{head:<36}" + "".join(f"{name:>14}" for name in MEASURES)]
        for name, found in {"this model": result["test"], **result["baselines"]}.items():
            lines.append(f"{name:<36}" + "".join(f"{found[each]:>14.4f}" for each in MEASURES))
        return "\n".join(lines)

    def describe(self, begun: Begun, program: NextItemProgram) -> str:
        """As in `Task`, with the number of targets."""
        assert isinstance(begun, BegunSessions)
        data, judges = begun.config.data, f"{len(begun.parts.test):,} other rows judge the result"
        if leaves_one_out(data):
            judges = (
                f"of the same rows {len(begun.parts.test):,} judge the result by their last items, and those held out "
                "the epochs by the items before"
            )
        more = f"{program.num_targets:,} targets in training; {judges}"
        return f"{super().describe(begun, program)}; {more}"

    def _shown(self, found: dict[str, Any]) -> str:
        return "  ".join(f"{name} {found[name]:.4f}" for name in self.shown)


def _scorer(begun: Begun, model: Any) -> Scorer:
    """The log-probabilities of a model or of an average, in the precision of training."""
    config = begun.config
    dtype = autocast_dtype(config.train.precision, begun.model.device)
    return lambda histories: model.scores(histories, max_items=config.data.max_items, dtype=dtype)


def _nearest(begun: BegunSessions) -> int:
    """How many neighbours V-SKNN keeps: what ranks validation rows best, counted without them."""
    cases = begun.parts.validation.take(np.arange(min(ROWS_TO_CHOOSE, len(begun.parts.validation))))
    neighbours = SessionNeighbours(begun.parts.training, begun.model.config.vocab_size)
    neighbours.holds_cases = leaves_one_out(begun.config.data)

    def score(nearest: int) -> float:
        neighbours.nearest = nearest
        return _judge(begun, neighbours, cases, floor=FLOOR)[NextItem.chosen_by]

    return max(NEAREST, key=score)


def _judge(begun: Begun, scorer: Scorer, cases: Sessions, *, floor: float = -torch.inf) -> dict[str, float]:
    assert isinstance(begun, BegunSessions)
    counts = begun.parts.counted.counts(begun.model.config.vocab_size)  # what the baselines may recommend
    return judge(scorer, cases, counts, exclude_seen=begun.config.next_item.exclude_seen, floor=floor)
