"""Fine-tuning for the next item: from a pre-training run and rows of items to a run folder with a recommender."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from quorem.arrangement.cooccurrence import cooccurrence_vectors, start_table
from quorem.config.loading import to_mapping
from quorem.config.next_item import NextItemConfig, SessionDataSettings
from quorem.data.bad_rows import check_some_used, report_bad_rows
from quorem.data.documents import RowCounts
from quorem.data.events.source import check_spaces, refuse_events_as_text, source_of
from quorem.data.sessions import (
    Parted,
    SessionCorpus,
    Sessions,
    by_split,
    judged,
    leave_one_out,
    read_sessions,
    set_aside,
)
from quorem.data.source import Source
from quorem.errors import UserError, check_choice, check_number
from quorem.files import fingerprint_files
from quorem.finetuning.checkpoint import size_of
from quorem.finetuning.classification import tell_unknown
from quorem.lock import held
from quorem.models.checkpoint_files import read_weights, weight_files
from quorem.models.next_item import HEAD, QuoremForNextItem
from quorem.plan.dry_run import DryRun, measure_steps
from quorem.plan.memory import MEMORY, check_finetuning_memory
from quorem.plan.presets import preset
from quorem.plan.recipes import check_train
from quorem.recommending.baselines import BASELINES, FLOOR
from quorem.recommending.program import NextItemProgram
from quorem.recommending.ranking import Scorer, judge
from quorem.recommending.start import ATTENTIONS, STARTS, build_next_item, network_folder
from quorem.tokenization import Unknown, load_tokenizer, save_tokenizer, tokenizer_files
from quorem.tokenization.special import SPECIAL_IDS
from quorem.training import processes
from quorem.training.device import autocast_dtype, hardware
from quorem.training.longer import finished_result, lengthen
from quorem.training.loop import fit
from quorem.training.optim import build_optimizer, parameter_groups
from quorem.training.run_folder import Run

logger = logging.getLogger(__name__)

HOLD_OUT = ("test", "split_column", "test_period")
CHOSEN_BY = "ndcg@20"  # the best epoch
SHOWN = ("hr@20", "ndcg@20", "mrr@20")


def resolve(config: NextItemConfig) -> NextItemConfig:
    """The settings with what they leave open filled in by the pre-trained model's size, and checked.

    Raises:
        UserError: for an unknown name or a number out of range.
    """
    chosen, data, train = config.next_item, config.data, config.train
    check_choice("next_item.attention", chosen.attention, ATTENTIONS)
    check_choice("next_item.start", chosen.start, STARTS)
    check_number("next_item.dropout", chosen.dropout, at_least=0, below=1)
    check_number("data.max_items", data.max_items, at_least=1)
    check_number("data.validation_share", data.validation_share, above=0, below=1)
    check_number("data.validation_rows", data.validation_rows, at_least=1)
    check_number("data.test_rows", data.test_rows, at_least=1)
    check_number("data.split_seed", data.split_seed, at_least=0)
    if len(given := [key for key in HOLD_OUT if getattr(data, key) is not None]) > 1:
        raise UserError(f"data.{given[0]} and data.{given[1]} both say which rows are held out: leave one of them out")
    for key, why in (
        ("generator_learning_rate", "there is no generator"),
        ("shard_layers", "all weights are kept by each process"),
    ):
        if getattr(train, key):
            raise UserError(f"train.{key}={getattr(train, key)}: is for pre-training, here {why}: leave it out")
    if train.table_updates == "rows":
        raise UserError("train.table_updates=rows: is for pre-training; fine-tuning updates whole tables: leave it out")
    rate = train.learning_rate or preset(size_of(config.pretrained)).finetune_learning_rate
    train = replace(
        train, learning_rate=rate, schedule=train.schedule or "linear", optimizer=train.optimizer or "adamw"
    )
    check_train(train)
    return replace(config, train=train)


def finetune_next_item(config: NextItemConfig, out: Path, *, source: Source | None = None) -> dict[str, Any]:
    """Train a model of the next item, exact softmax over all items, into the run folder `out`.

    After every epoch it is judged on validation rows, and the best by NDCG@20 is kept; that one is judged on the test
    rows, once, at the end, beside what counting reaches on the same rows. Nothing is learned from a row that is judged.

    Args:
        config: the settings; what they leave open is resolved and stored.
        out: the run folder.
        source: what to read instead of data.path, such as quorem.data.dataset.DatasetSource.

    Returns:
        What result.json holds: `test` (the measures of `quorem.ranking` and `rows`), `baselines` with the same of each,
        `validation` of the best epoch, `epoch`, `unknown_targets` and `loaded`.

    Raises:
        UserError: for settings, data or folders that cannot be used.
    """
    begun = _begun(config, source)
    with held(out, mine=processes.rank() == 0):
        return _finetune(begun, out)


def dry_run_next_item(config: NextItemConfig, *, source: Source | None = None) -> DryRun:
    """Do all that `finetune_next_item` does up to a few steps, in a folder that is thrown away.

    Raises:
        UserError: what that would raise.
    """
    begun = _begun(config, source)
    program, optimizer = _program(begun)
    with TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run", to_mapping(begun.config))
        return measure_steps(program, optimizer, begun.config.train, total_steps=program.total_steps, run=run)


@dataclass(frozen=True)
class _Begun:
    """What a run is made from: resolved settings, the rows, and the model as it starts."""

    config: NextItemConfig
    inputs: dict[str, str]
    counts: RowCounts
    tokenizer: PreTrainedTokenizerFast
    parts: Parted
    model: QuoremForNextItem
    new: frozenset[str]


def _begun(config: NextItemConfig, source: Source | None) -> _Begun:
    """Read all that is needed before the folder is made: what cannot be used leaves nothing behind."""
    config = resolve(config)
    chosen, data, folder = config.next_item, config.data, Path(config.pretrained)
    network = network_folder(folder, "generator" if chosen.start == "generator" else "discriminator")
    tokenizer, counts = load_tokenizer(network), RowCounts()
    source = source or session_source(data)
    test = None if data.test is None else _test_source(data)
    parts = read_parts(data, source, test, tokenizer, counts)
    inputs = {"data": source.fingerprint(), **({"test": test.fingerprint()} if test else {})}
    beside = network.parent / "generator"
    folders = {network, *([beside] if (beside / "config.json").exists() else [])}
    files = [file for each in sorted(folders) for file in (*weight_files(each), *tokenizer_files(each))]
    inputs["pretrained"] = fingerprint_files(*files)
    model, new = build_next_item(
        folder, start=chosen.start, attention=chosen.attention, head=chosen.head, dropout=chosen.dropout,
        seed=config.train.seed,
    )  # fmt: skip
    limit, longest = model.config.max_position_embeddings, data.max_items + 2  # [CLS] and [MASK] too
    if model.config.positions == "absolute" and longest > limit:
        raise UserError(f"data.max_items={data.max_items}: {network} has absolute positions up to {limit}: lower it")
    start_anew(model, new, parts.training, start=chosen.start, seed=config.train.seed)
    return _Begun(config, inputs, counts, tokenizer, parts, model, new)


def session_source(data: SessionDataSettings) -> Source:
    """The training file's, by the settings.

    Raises:
        UserError: for files or settings that cannot be used.
    """
    return source_of(data, text_column=data.text_column, split_column=data.split_column)


def _test_source(data: SessionDataSettings) -> Source:
    return source_of(replace(data, path=str(data.test), test_period=None), text_column=data.text_column)


def read_parts(
    data: SessionDataSettings,
    source: Source,
    test: Source | None,
    tokenizer: PreTrainedTokenizerFast,
    counts: RowCounts,
) -> Parted:
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
    if test is None and data.split_column is None and data.test_period is None:
        parts = leave_one_out(sessions)
    else:
        sessions = _known(sessions)
        parts = Parted(*set_aside(sessions, share=data.validation_share, seed=data.split_seed), held_out, sessions)
    parts = Parted(
        _known(parts.training),
        judged(parts.validation, most=data.validation_rows, seed=data.split_seed),
        judged(parts.test, most=data.test_rows, seed=data.split_seed),
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
    model.generator_lm_head.start_at_unigram(counts)
    if start != "random":
        model.generator_lm_head.start_at_vectors(counts)


def _finetune(begun: _Begun, out: Path) -> dict[str, Any]:
    config = begun.config
    with processes.main_process_first():
        run = Run(out, to_mapping(config))
    if run.writes:
        report_bad_rows(begun.counts, out)
    run.write_environment(inputs=begun.inputs, seed=config.train.seed, **hardware(config.train.precision))
    if (done := finished_result(run, otherwise="choose another --out")) is not None:
        return done
    result = _train(begun, run)
    result |= {"unknown_targets": int((begun.parts.test.tokens < 0).sum())}
    result |= {"loaded": sorted(set(begun.model.state_dict()) - begun.new)}
    result |= {"keep_state": True} if config.train.keep_state else {}
    run.finish(result)
    return result


def _program(begun: _Begun) -> tuple[NextItemProgram, torch.optim.Optimizer]:
    """What trains, after a word on its size.

    Raises:
        UserError: if it does not fit in memory.
    """
    config, model, training = begun.config, begun.model, begun.parts.training
    train = config.train
    dtype = autocast_dtype(train.precision, model.device) or torch.float32
    groups = parameter_groups(
        model.named_parameters(), lr=float(train.learning_rate or 0), weight_decay=train.weight_decay,
        decay_embeddings=False, matrix_lr=train.matrix_learning_rate if train.optimizer == "muon" else None,
    )  # fmt: skip
    optimizer = build_optimizer(groups, kind=str(train.optimizer), betas=(0.9, 0.98), eps=1e-6, matrix_dtype=dtype)
    program = NextItemProgram(model, training, train, max_items=config.data.max_items)
    needed = check_finetuning_memory(model)
    logger.info(
        "%s rows to train on, %s targets; %s rows judge epochs, %s the result; %s parameters; %s steps of %s rows",
        *(f"{n:,}" for n in (len(training), program.num_targets, len(begun.parts.validation), len(begun.parts.test))),
        *(f"{n:,}" for n in (sum(p.numel() for p in model.parameters()), program.total_steps, train.batch_size)),
    )
    logger.info(MEMORY, f"{needed / 1e6:,.0f}")
    return program, optimizer


def _train(begun: _Begun, run: Run) -> dict[str, Any]:
    """Train; judge on validation rows after every epoch; keep the best; judge that one on the test rows."""
    config, model, parts = begun.config, begun.model, begun.parts
    program, optimizer = _program(begun)
    lengthen(run, config.train, program.order)
    state: dict[str, Any] = {"best": None}

    def after_step(step: int) -> None:
        if step % program.order.steps_per_epoch and step != program.total_steps:
            return
        model.eval()
        found = {"epoch": round(step / program.order.steps_per_epoch, 2)}
        found |= _judge(begun, _scorer(begun), parts.validation)
        run.log({"step": step, "held_out": found})
        logger.info("epoch %g: validation %s", found["epoch"], _shown(found))
        if state["best"] is None or found[CHOSEN_BY] > state["best"][CHOSEN_BY]:
            state["best"] = found
            run.save_model("model", lambda folder: _save(model, begun.tokenizer, config, folder))

    fit(
        program,
        optimizer,
        settings=config.train,
        total_steps=program.total_steps,
        schedule=str(config.train.schedule),
        run=run,
        after_step=after_step,
        state=lambda: dict(state),
        restore=state.update,
    )
    model.load_state_dict(read_weights(run.folder / "model", "next_item"))
    model.eval()
    return {"epoch": state["best"]["epoch"], "validation": state["best"], **_judged(begun)}


def _judged(begun: _Begun) -> dict[str, Any]:
    """Measures of the model, and of each baseline, on the test rows."""
    rows = {"rows": len(begun.parts.test)}
    result: dict[str, Any] = {"test": rows | _judge(begun, _scorer(begun), begun.parts.test), "baselines": {}}
    logger.info("test, %s rows: %s", f"{rows['rows']:,}", _shown(result["test"]))
    for name, kind in BASELINES.items() if begun.config.next_item.baselines else ():
        baseline = kind(begun.parts.counted, begun.model.config.vocab_size)
        result["baselines"][name] = rows | _judge(begun, baseline, begun.parts.test, floor=FLOOR)
        logger.info("%s: %s", name, _shown(result["baselines"][name]))
    return result


def _scorer(begun: _Begun) -> Scorer:
    """The model's log-probabilities, in the precision of training."""
    model, config = begun.model, begun.config
    dtype = autocast_dtype(config.train.precision, model.device)
    return lambda histories: model.scores(histories, max_items=config.data.max_items, dtype=dtype)


def _judge(begun: _Begun, scorer: Scorer, cases: Sessions, *, floor: float = -torch.inf) -> dict[str, float]:
    counts = begun.parts.training.counts(begun.model.config.vocab_size)
    return judge(scorer, cases, counts, exclude_seen=begun.config.next_item.exclude_seen, floor=floor)


def _shown(found: dict[str, Any]) -> str:
    return "  ".join(f"{name} {found[name]:.4f}" for name in SHOWN)


def _save(model: QuoremForNextItem, tokenizer: PreTrainedTokenizerFast, config: NextItemConfig, folder: Path) -> None:
    tokenizer.model_max_length = config.data.max_items + 2
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
