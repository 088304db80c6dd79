"""Pre-training, from a data file to a run folder."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from quorem.arrangement.attribute_file import read_attributes
from quorem.arrangement.token_order import check_order
from quorem.config.loading import leaves
from quorem.config.settings import PretrainConfig
from quorem.data.events.source import EventSource, check_items, refuse_events_as_text, source_of
from quorem.data.prepare import check_unknown, description_files, is_prepared, load_prepared, prepare_data
from quorem.data.shards import Shards
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.files import fingerprint_files
from quorem.lock import locked
from quorem.models.checkpoint_files import weight_files
from quorem.models.electra import Electra
from quorem.plan.budget import choose_size, events_of_files, steps_that_fit, steps_within, tokens_of_files, tokens_seen
from quorem.plan.dry_run import DryRun, measure_steps
from quorem.plan.memory import MEMORY, check_memory
from quorem.plan.plan import Plan
from quorem.plan.presets import PRESETS
from quorem.plan.recipes import AUTO, resolve
from quorem.plan.sizes import head_text
from quorem.pretraining.arrangement import ATTRIBUTES, ORDER, START, arrange, is_outdated
from quorem.pretraining.held_out import HeldOut
from quorem.pretraining.init_from import network_folders, with_implied_settings
from quorem.pretraining.program import PretrainProgram, build_pretraining_optimizer
from quorem.pretraining.verdict import NO_STEP, Watch, verdict
from quorem.silence import silence, silence_transformers
from quorem.tokenization import fingerprint, save_tokenizer
from quorem.training import processes, sharding
from quorem.training.card import write_cards_of
from quorem.training.device import hardware
from quorem.training.longer import finished_result, lengthen
from quorem.training.loop import fit
from quorem.training.optimizer_state import load_optimizer_of_run
from quorem.training.run_folder import Run, has_trained, read_settings
from quorem.training.schedule import warmup_steps
from quorem.training.timing import duration

logger = logging.getLogger(__name__)

TOKENS_OF_ROWS = 1e7  # assumed of rows from Python, which have no bytes to judge by
ROW_SETTINGS = ("data.max_length", "data.rows", "data.held_out", "data.max_unknown")  # of shards, not shards themselves
FIXED = (
    *(
        name
        for name, *_ in leaves(PretrainConfig())
        if name.startswith(("data.", "tokenizer.")) and name not in ROW_SETTINGS
    ),
    "model.vocab_size",
)
"""Settings that shards are made with; others may be mended until a run has trained."""
LOOP_METRICS = (
    "step",
    "loss",
    "gradient_norm",
    "learning_rate_scale",
    "tokens_per_second",
    "seconds_left",
    "skipped_steps",
)


def pretrain(config: PretrainConfig, out: Path, *, source: Source | None = None) -> dict[str, Any]:
    """Pre-train generator and discriminator on the texts of files, into the run folder `out`.

    Started again with the same settings it resumes from the last checkpoint; a finished run is left as it is.

    Args:
        config: the settings; what they leave open is resolved and stored.
        out: the run folder.
        source: what to read instead of data.path, such as quorem.data.dataset.DatasetSource.

    Returns:
        What result.json holds: the last metrics, sizes, and `verdict`, whether each network learned more than word
        frequencies.

    Raises:
        UserError: for settings, data or a folder that cannot be used, or a model that does not fit in memory.
    """
    config, source = _resolve_inputs(config, source, out)
    with locked(out, mine=processes.rank() == 0):
        with processes.main_process_first():
            stale = is_outdated(config, out)
            run = Run(out, config, fixed=FIXED)
            for name in (ORDER, ATTRIBUTES, START) if stale else ():
                (out / name).unlink(missing_ok=True)
        return _train(config, run, source)


def dry_run(config: PretrainConfig, *, source: Source | None = None) -> DryRun:
    """Do all that `pretrain` does up to a few steps in a folder that is thrown away, and say what the run would take.

    Raises:
        UserError: what `pretrain` would raise.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps shards that are still mapped
        config, source = _resolve_inputs(config, source, Path(folder))
        run = Run(Path(folder) / "run", config)
        program, optimizer, _, _ = _build(config, run, source, _record_inputs(config, run, source))
        found = measure_steps(program, optimizer, config.train, total_steps=program.total_steps, run=run)
    minutes, train = config.train.minutes, config.train
    if minutes is None or train.max_steps is not None:
        return found
    return replace(found, total_steps=steps_that_fit(minutes, found, epochs=train.epochs))


def _resolve_inputs(config: PretrainConfig, source: Source | None, out: Path) -> tuple[PretrainConfig, Source | None]:
    """Settings and data of a run, checked; no source for data that is prepared."""
    config = with_implied_settings(config)
    if source is None and is_prepared(config.data.path):
        check_prepared_settings(config)
    elif source is None:
        source = source_of(config.data, text_column=config.data.text_column)
    asked = _with_size_of_run(config, out)
    config = resolve(asked)  # wrong settings are found before data is read
    if source:
        refuse_events_as_text(source, config.tokenizer.kind)
        check_items(source, config.tokenizer)
        source.documents()  # missing files and columns are found before anything is made
    if asked.model.size == AUTO:
        config = resolve(_with_size_for_data(asked, source))
    if source:
        config = replace(config, data=replace(config.data, format=source.format, text_column=source.text_column))
    table = config.model.embedding
    check_order(str(table.assignment), table.assignment_file)
    if table.attributes_file and not (out / ATTRIBUTES).exists():
        read_attributes(table.attributes_file)
    return config, source


def _with_size_of_run(config: PretrainConfig, out: Path) -> PretrainConfig:
    """Settings with the size and number of steps of the existing run, if it was started with the same time limit."""
    if not has_trained(out) or not (out / "config.yaml").exists():
        return config
    there = read_settings(out / "config.yaml")
    model, train = there.get("model") or {}, there.get("train") or {}
    if config.model.size == AUTO and model.get("size") in PRESETS:
        config = replace(config, model=replace(config.model, size=model["size"]))
    asked = config.train
    if asked.max_steps is None and asked.minutes is not None and asked.minutes == train.get("minutes"):
        config = replace(config, train=replace(config.train, max_steps=train.get("max_steps")))
    return config


def _with_size_for_data(config: PretrainConfig, source: Source | None) -> PretrainConfig:
    """Settings with the model size that suits the data, for model.size=auto; the smallest where no step is taken."""
    if config.train.max_steps == 0:
        logger.info("model.size=auto: tiny, for no step is taken (set model.size for another)")
        return replace(config, model=replace(config.model, size="tiny"))
    if source is None:
        tokens = float(Shards(Path(str(config.data.path)) / "shards").meta.num_tokens)
    elif isinstance(source, EventSource):
        tokens = events_of_files(source.files, source.format)
    else:
        tokens = tokens_of_files(source.files) if source.files else TOKENS_OF_ROWS
    seen = tokens_seen(config, tokens)
    size = choose_size(seen, config.train.minutes, config.train.precision)
    return replace(config, model=replace(config.model, size=size))


def _with_steps_in_time(
    config: PretrainConfig, run: Run, source: Source | None, inputs: dict[str, str]
) -> PretrainConfig:
    """Settings with the number of steps that fit into train.minutes, if set and not known yet."""
    minutes, train = config.train.minutes, config.train
    if minutes is None or train.max_steps is not None:
        return config
    program, optimizer, _, _ = _build(config, run, source, inputs)
    steps = steps_within(minutes, program, optimizer, train, total_steps=program.total_steps)
    return replace(config, train=replace(train, max_steps=-processes.all_reduce_max(-steps)))


def _record_inputs(config: PretrainConfig, run: Run, source: Source | None) -> dict[str, str]:
    """Note the fingerprints of the run's input in its folder; refuse input that differs from the note."""
    table = config.model.embedding
    files = {"assignment_file": table.assignment_file, "attributes_file": table.attributes_file}
    networks = network_folders(config.model.init_from) if config.model.init_from is not None else {}
    made = {"assignment_file": ORDER, "attributes_file": ATTRIBUTES}
    inputs = {"data": source.fingerprint() if source else fingerprint_files(*description_files(str(config.data.path)))}
    inputs |= {name: fingerprint_files(Path(file)) for name, file in files.items() if file}
    inputs |= {f"init_from {name}": fingerprint_files(*weight_files(place)) for name, place in networks.items()}

    def is_used(name: str) -> bool:
        """Whether the run has used the input. A refused file may still be corrected, and the run continues."""
        return (run.folder / made[name]).exists() if name in made else name == "data" or has_trained(run.folder)

    unread = [name for name in inputs if not is_used(name)]
    run.write_environment(inputs=inputs, may_differ=unread, seed=config.train.seed, **hardware(config.train.precision))
    return inputs


def _build(
    config: PretrainConfig, run: Run, source: Source | None, inputs: dict[str, str]
) -> tuple[PretrainProgram, torch.optim.Optimizer, PreTrainedTokenizerFast, dict[str, int]]:
    """Build what trains: program, optimizer, tokenizer and parameters by network."""
    with processes.main_process_first():
        if source:
            tokenizer, shards = prepare_data(
                run.folder / "data", source, inputs=inputs["data"], settings=config.tokenizer,
                vocab_size=config.model.vocab_size,
            )  # fmt: skip
        else:
            tokenizer, shards = load_prepared(str(config.data.path))
        check_unknown(shards, config.data.max_unknown)
        plan = Plan.of(config, len(tokenizer))
        arrangement = arrange(plan, run, tokenizer, shards)
    plan = plan.with_attributes(arrangement.attribute_sizes)
    needed = check_memory(plan)
    program = PretrainProgram(plan, tokenizer, shards, arrangement)
    if config.train.shard_layers or sharding.asked_by_launcher():
        sharding.shard(program.module)
    optimizer = build_pretraining_optimizer(program.module, config)
    if config.model.init_optimizer == "kept":
        load_optimizer_of_run(optimizer, program.module, str(config.model.init_from))
    kind = program.module.discriminator.config.embedding["kind"]
    if kind != config.model.embedding.kind:
        logger.info("the token table stays %s: with %s tokens, shared rows would not save memory", kind, len(tokenizer))
    vocab_size, trained = config.model.vocab_size, source is not None and config.tokenizer.path is None
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in program.module.named_children()}
    logger.info(
        "%s tokens (%s) in %s rows, vocabulary %s; %s parameters in the generator, %s in the discriminator; "
        "%s of %s x %s; token table %s, softmax %s",
        f"{shards.meta.num_tokens:,}", shards.unknown, f"{len(program.rows):,}",
        f"{len(tokenizer):,}{f' of at most {vocab_size:,}' if trained else ''}", *(f"{n:,}" for n in sizes.values()),
        _length(config, program.total_steps), config.train.batch_size, config.data.max_length, kind,
        head_text(program.module.generator.config.head),
    )  # fmt: skip
    logger.info(MEMORY, f"{needed / 1e6:,.0f}")
    return program, optimizer, tokenizer, sizes


def _length(config: PretrainConfig, steps: int) -> str:
    """How long a run is, in steps, or in the minutes that its steps are to fit into."""
    minutes = config.train.minutes
    if minutes is None or config.train.max_steps is not None:
        return f"{steps:,} steps"
    return f"{duration(60 * minutes)} of steps"


def _train(config: PretrainConfig, run: Run, source: Source | None) -> dict[str, Any]:
    inputs = _record_inputs(config, run, source)
    otherwise = f"start a new run from it, with --init-from {run.folder} and another --out"
    if (finished := finished_result(run, otherwise=otherwise)) is not None:
        return finished
    with_steps = _with_steps_in_time(config, run, source, inputs)
    measured = with_steps != config
    if measured:
        config, run = with_steps, Run(run.folder, with_steps, fixed=FIXED)
    with silence() if measured else nullcontext():  # what was built to be measured has been told of
        program, optimizer, tokenizer, sizes = _build(config, run, source, inputs)
    falls = config.objective.mask_rate_end is not None
    lengthen(run, config.train, program.order, others_follow_steps=falls)
    judge = HeldOut(program, config, run) if program.held_out else None
    watch = Watch(program.total_steps, warmup_steps(config.train, program.total_steps), run.training_records())
    fit(
        program,
        optimizer,
        settings=config.train,
        total_steps=program.total_steps,
        schedule=str(config.train.schedule),
        run=run,
        after_step=judge.after_step if judge else None,
        state=judge.state if judge else None,
        restore=judge.restore if judge else None,
        on_record=watch.look,
    )
    if judge and not program.total_steps:
        judge.after_step(0)
    records = run.training_records()
    if program.total_steps and not any("mlm_loss" in record for record in records):
        raise UserError(f"{run.folder}: {verdict(records)}: lower train.learning_rate, with another --out")
    _save_networks(program.module, run, tokenizer)
    if judge and judge.best_step not in (0, program.total_steps) and (best := run.load_best(judge.best_step)):
        sharding.put(program.module, best["model"])
        _save_networks(program.module, run, tokenizer, "best/")
        logger.info(
            "%s: step %s was best on held-out rows: best/ holds its networks", run.folder, f"{judge.best_step:,}"
        )
    used: dict[str, Any] = next((record for record in reversed(records) if "mlm_loss" in record), {})
    last = program.last or {key: value for key, value in used.items() if key not in LOOP_METRICS}
    said = verdict(records) if program.total_steps else NO_STEP
    result = {**last, "parameters": sizes, "vocab_size": len(tokenizer), "verdict": said}
    if judge:
        result |= {"held_out": judge.last, "best_step": judge.best_step}
    result |= {"keep_state": True} if config.train.keep_state else {}
    if run.writes:
        (run.folder / START).unlink(missing_ok=True)
    write_cards_of(run, result)
    run.finish(result)
    return result


def _save_networks(module: Electra, run: Run, tokenizer: PreTrainedTokenizerFast, place: str = "") -> None:
    """Write the networks into folders of the run."""
    with module.merged_embeddings():
        for name in ("discriminator", "generator"):
            model: PreTrainedModel = getattr(module, name)
            tokenizer.model_max_length = model.config.max_position_embeddings
            model.config.tokenizer_fingerprint = fingerprint(tokenizer)

            def save(folder: Path, model: PreTrainedModel = model) -> None:
                with silence_transformers():
                    model.save_pretrained(folder)
                save_tokenizer(tokenizer, folder)

            run.save_model(place + name, save)


def check_prepared_settings(config: PretrainConfig) -> None:
    """Refuse settings that have no effect on prepared data, instead of ignoring them silently.

    Raises:
        UserError: naming the first.
    """
    used = ("data.path", *ROW_SETTINGS)
    default = {name: value for name, value, _ in leaves(PretrainConfig())}
    for name, value, _ in leaves(config):
        if name.startswith(("data.", "tokenizer.")) and name not in used and value != default[name]:
            raise UserError(
                f"{name}={value}: {config.data.path} is already prepared, with its own tokenizer: leave the setting "
                "out, or give the original data"
            )
