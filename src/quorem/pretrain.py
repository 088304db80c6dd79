"""Pre-training, from a CSV to a run folder."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from quorem.config import PretrainConfig, to_mapping
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.csv import read_csv
from quorem.data.shards import Shards, shard_fingerprint, write_shards
from quorem.errors import UserError
from quorem.recipes import resolve
from quorem.runs import Run, fingerprint_files
from quorem.tasks.pretraining import PretrainProgram, build_pretraining_optimizer
from quorem.tokenization import load_tokenizer, save_tokenizer, train_tokenizer
from quorem.train import fit, hardware

logger = logging.getLogger(__name__)


def pretrain(config: PretrainConfig, out: Path) -> dict[str, Any]:
    """Pre-train generator and discriminator on a CSV's column, into the run folder `out`.

    Started again with the same settings it goes on from the last checkpoint; a finished run is left as it is.

    Args:
        config: the settings; what they leave open is resolved and stored.
        out: the run folder.

    Returns:
        What result.json holds: the last metrics, sizes, and `verdict`, whether each network learned more than word
        frequencies.

    Raises:
        UserError: for settings, data or a folder that cannot be used.
    """
    config = resolve(config)
    path = Path(config.data.path)
    read_csv(path, text_column=config.data.text_column)  # missing files and columns are found before anything is made
    run = Run(out, to_mapping(config))
    inputs = fingerprint_files(path)
    run.write_environment(inputs=inputs, seed=config.train.seed, **hardware(config.train.precision))
    if run.result is not None:
        logger.info("%s: this run is finished; nothing to do", out)
        return run.result
    tokenizer, shards = prepare(config, run, inputs)
    program = PretrainProgram(config, tokenizer, shards)
    optimizer = build_pretraining_optimizer(program.module, config)
    kind = program.module.discriminator.config.embedding["kind"]
    if kind != config.model.embedding.kind:
        logger.info("the table stays %s: with %s tokens, shared rows would save none", kind, len(tokenizer))
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in program.module.named_children()}
    logger.info(
        "%s tokens in %s rows, vocabulary %s; generator %s and discriminator %s parameters; %s steps of %s x %s",
        *(f"{n:,}" for n in (shards.meta.num_tokens, len(program.rows), len(tokenizer), *sizes.values())),
        program.total_steps, config.train.batch_size, config.data.max_length,
    )  # fmt: skip
    fit(
        program,
        optimizer,
        settings=config.train,
        total_steps=program.total_steps,
        schedule=str(config.train.schedule),
        run=run,
    )
    for name in ("discriminator", "generator"):
        model = getattr(program.module, name)
        tokenizer.model_max_length = model.config.max_position_embeddings

        def save(folder: Path, model: Any = model) -> None:
            model.save_pretrained(folder)
            save_tokenizer(tokenizer, folder)

        run.save_model(name, save)
    result = {**program.last, "parameters": sizes, "vocab_size": len(tokenizer), "verdict": verdict(program.last)}
    run.finish(result)
    logger.info("%s", result["verdict"])
    return result


def prepare(config: PretrainConfig, run: Run, inputs: str) -> tuple[PreTrainedTokenizerFast, Shards]:
    """Train the tokenizer and write the token shards into the run's data/ folder; use them again if they are there.

    Args:
        config: resolved settings.
        run: the run.
        inputs: fingerprint of the data.

    Raises:
        UserError: if the shards there were made from something else.
    """
    path, column = Path(config.data.path), config.data.text_column
    folder, counts = run.folder / "data", RowCounts()

    def documents(tally: RowCounts | None = None) -> Iterator[Document]:
        return read_csv(path, text_column=column, counts=tally)

    if (folder / "tokenizer").exists():
        tokenizer = load_tokenizer(folder / "tokenizer")
    else:
        texts = (document.text for document in documents())
        settings = to_mapping(config.tokenizer)
        tokenizer = train_tokenizer(texts, vocab_size=config.model.vocab_size, **settings)
        run.save_model("data/tokenizer", lambda target: save_tokenizer(tokenizer, target))
    made_from = shard_fingerprint(inputs, tokenizer, text_column=column)
    if (folder / "shards").exists():
        shards = Shards(folder / "shards")
        if shards.meta.fingerprint != made_from:
            raise UserError(f"{path}: has changed since {run.folder} was begun: choose another --out")
        return tokenizer, shards
    write_shards(folder / "shards", documents(counts), tokenizer, made_from=made_from)
    logger.info("%s: %s rows read, %s used, %s skipped (empty)", path, counts.read, counts.used, counts.skipped)
    return tokenizer, Shards(folder / "shards")


def verdict(last: dict[str, Any]) -> str:
    """Say plainly whether the networks learned more than frequencies."""
    said = []
    gain = last["unigram_entropy"] - last["mlm_loss"]
    name = f"mlm loss {last['mlm_loss']:.3f} against the unigram entropy {last['unigram_entropy']:.3f}"
    said.append(f"generator: {name}" + (": it has learned nothing beyond word frequencies" if gain < 0.05 else ""))
    gain = last["base_rate_entropy"] - last["rtd_loss"]
    name = f"rtd loss {last['rtd_loss']:.3f} against the base rate's {last['base_rate_entropy']:.3f}"
    said.append(f"discriminator: {name}" + (": it has learned nothing beyond the base rate" if gain < 0.005 else ""))
    return "; ".join(said)
