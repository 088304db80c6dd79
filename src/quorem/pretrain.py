"""Pre-training, from a CSV to a run folder."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from quorem.config import PretrainConfig, TrainSettings, to_mapping
from quorem.data.batches import EpochOrder, PackedRows, step_seed
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.csv import read_csv
from quorem.data.shards import Shards, shard_fingerprint, write_shards
from quorem.errors import UserError, did_you_mean
from quorem.metrics import BinaryMetrics, entropy
from quorem.modeling import QuoremForMaskedLM, QuoremForPreTraining
from quorem.objective import Electra, Masked, Outcome, mask_tokens, total_loss
from quorem.optim import build_optimizer, parameter_groups
from quorem.presets import network_configs, preset
from quorem.runs import Run
from quorem.tokenization import load_tokenizer, save_tokenizer, train_tokenizer
from quorem.train import fit

logger = logging.getLogger(__name__)

MASKING = 2  # the place of masking's seed among a step's
WEIGHTS = 3  # of the initial weights


@dataclass(frozen=True)
class Recipe:
    """How to optimise: what settings leave open."""

    optimizer: str
    schedule: str
    betas: tuple[float, float]
    keep_rate: float
    decay_embeddings: bool
    start_at_unigram: bool


RECIPES: dict[str, Recipe] = {
    # Paper, Table 6, with every token masked (sec. 2), bias-corrected AdamW and a start at the unigram distribution.
    "modern": Recipe("adamw", "linear", (0.9, 0.98), 0.0, False, True),
    # google-research/electra: model/optimization.py and pretrain/pretrain_helpers.py.
    "google": Recipe("google", "google", (0.9, 0.999), 0.15, True, False),
}


def resolve(config: PretrainConfig) -> PretrainConfig:
    """The settings with everything left open filled in by the preset and the recipe, checked.

    Raises:
        UserError: for an unknown name or a number out of range.
    """
    named, objective = preset(config.model.size), config.objective
    if objective.recipe not in RECIPES:
        raise UserError(f"unknown objective.recipe {objective.recipe!r}.{did_you_mean(objective.recipe, RECIPES)}")
    recipe, train = RECIPES[objective.recipe], config.train
    learning_rate = train.learning_rate or named.learning_rate
    config = replace(
        config,
        data=replace(config.data, max_length=config.data.max_length or named.max_length),
        model=replace(
            config.model,
            positions=config.model.positions or named.positions,
            initializer=config.model.initializer or named.initializer,
            dropout=named.dropout if config.model.dropout is None else config.model.dropout,
            embedding_size=config.model.embedding_size or named.embedding_size,
        ),
        objective=replace(
            objective,
            mask_rate=named.mask_rate if objective.mask_rate is None else objective.mask_rate,
            keep_rate=recipe.keep_rate if objective.keep_rate is None else objective.keep_rate,
        ),
        train=replace(
            train,
            learning_rate=learning_rate,
            generator_learning_rate=train.generator_learning_rate or learning_rate,
            schedule=train.schedule or recipe.schedule,
        ),
    )
    network_configs(config.model, vocab_size=config.model.vocab_size, max_length=config.data.max_length or 2)
    check_train(config.train)
    if (config.data.max_length or 0) < 8:
        raise UserError(f"data.max_length={config.data.max_length}: 8 or more needed")
    return config


def check_train(train: TrainSettings) -> None:
    """Check that the loop's numbers make sense.

    Raises:
        UserError: naming the key.
    """
    for key in (
        "max_steps",
        "epochs",
        "batch_size",
        "micro_batch_size",
        "learning_rate",
        "checkpoint_every",
        "log_every",
    ):
        value = getattr(train, key)
        if value is not None and value <= 0:
            raise UserError(f"train.{key}={value}: more than 0 needed")
    if train.warmup < 0:
        raise UserError(f"train.warmup={train.warmup}: a share below 1 or a number of steps needed")
    if train.keep_checkpoints < 1:
        raise UserError(f"train.keep_checkpoints={train.keep_checkpoints}: 1 or more needed")


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
    if run.result is not None:
        logger.info("%s: this run is finished; nothing to do", out)
        return run.result
    tokenizer, shards = prepare(config, run)
    program = PretrainProgram(config, tokenizer, shards)
    recipe = RECIPES[config.objective.recipe]
    optimizer = build_optimizer(
        _groups(program.module, config, recipe), kind=recipe.optimizer, betas=recipe.betas, eps=1e-6
    )
    run.write_environment(
        seed=config.train.seed,
        data=shards.meta.fingerprint,
        documents=shards.meta.num_documents,
        tokens=shards.meta.num_tokens,
    )
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in program.module.named_children()}
    logger.info(
        "%s tokens in %s rows, vocabulary %s; generator %s and discriminator %s parameters; %s steps of %s x %s",
        *(f"{n:,}" for n in (shards.meta.num_tokens, len(program.rows), len(tokenizer), *sizes.values(), program.total_steps)),
        config.train.batch_size, config.data.max_length,
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

        def save(folder: Path, model: Any = model) -> None:
            model.save_pretrained(folder)
            save_tokenizer(tokenizer, folder)

        run.save_model(name, save)
    result = {**program.last, "parameters": sizes, "vocab_size": len(tokenizer), "verdict": verdict(program.last)}
    run.finish(result)
    logger.info("%s", result["verdict"])
    return result


def prepare(config: PretrainConfig, run: Run) -> tuple[PreTrainedTokenizerFast, Shards]:
    """Train the tokenizer and write the token shards into the run's data/ folder; use them again if they are there.

    Raises:
        UserError: if the file changed since the run was begun.
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
    made_from = shard_fingerprint(path, tokenizer, text_column=column)
    if (folder / "shards").exists():
        shards = Shards(folder / "shards")
        if shards.meta.fingerprint != made_from:
            raise UserError(f"{path}: has changed since {run.folder} was begun: choose another --out")
        return tokenizer, shards
    write_shards(folder / "shards", documents(counts), tokenizer, made_from=made_from)
    logger.info("%s: %s rows read, %s used, %s skipped (empty)", path, counts.read, counts.used, counts.skipped)
    return tokenizer, Shards(folder / "shards")


class PretrainProgram:
    """ELECTRA's steps, for `quorem.train.fit`.

    Args:
        config: resolved settings.
        tokenizer: its ids are those of the shards.
        shards: the data.
    """

    def __init__(self, config: PretrainConfig, tokenizer: PreTrainedTokenizerFast, shards: Shards) -> None:
        self.config = config
        max_length = config.data.max_length or 2
        self.rows = PackedRows(
            shards, max_length=max_length, cls_id=tokenizer.cls_token_id, pad_id=tokenizer.pad_token_id
        )
        train = config.train
        self.order = EpochOrder(len(self.rows), batch_size=train.batch_size, seed=train.seed)
        self.total_steps = train.max_steps or max(1, round(train.epochs * self.order.steps_per_epoch))
        self.special = torch.tensor([i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id])
        self.mask_id = tokenizer.mask_token_id
        counts = torch.from_numpy(shards.counts.copy())
        self.unigram_entropy = entropy(shards.counts)
        self.module = build_electra(config, counts)
        self.detected = BinaryMetrics()
        self.last: dict[str, Any] = {}
        self.reset()

    def micro_batches(self, step: int, *, rank: int, num_processes: int) -> Iterator[tuple[Masked, int, int]]:
        """The step's rows, masked as one batch and then cut: neither cut changes a mask or a sample."""
        train = self.config.train
        input_ids, attention_mask = self.rows.batch(self.order.indices(step))
        masked = mask_tokens(
            input_ids,
            attention_mask,
            special=self.special,
            mask_id=self.mask_id,
            rate=self.config.objective.mask_rate or 0.15,
            keep=self.config.objective.keep_rate or 0.0,
            rng=torch.Generator().manual_seed(step_seed(train.seed, MASKING, step)),
        )
        num_chosen, num_tokens, num_rows = masked.num_chosen, masked.num_tokens, len(input_ids)
        first, end = (num_rows * i // num_processes for i in (rank, rank + 1))
        size = train.micro_batch_size or train.batch_size
        for start in range(first, end, size):
            yield masked.rows(start, min(start + size, end)), num_chosen, num_tokens

    def loss(self, module: nn.Module, micro_batch: tuple[Masked, int, int], device: torch.device) -> Tensor:
        """The micro-batch's share of mlm + rtd_weight * rtd."""
        masked, num_chosen, num_tokens = micro_batch
        positions = masked.chosen.flatten().nonzero().squeeze(-1)
        mask = None if masked.attention_mask is None else masked.attention_mask.to(device)
        outcome: Outcome = module(
            masked.input_ids.to(device),
            mask,
            masked.masked_ids.to(device),
            positions.to(device),
            masked.uniforms.flatten()[positions].to(device),
        )
        self.detected.update(outcome.scores, outcome.is_replaced, outcome.real)
        sums = torch.stack([outcome.mlm_sum.detach(), outcome.rtd_sum.detach()]).double()
        self._sums = sums if self._sums is None else self._sums + sums
        self._chosen, self._tokens = self._chosen + len(positions), self._tokens + masked.num_tokens
        self._outcome = outcome
        return total_loss(
            outcome, num_chosen=num_chosen, num_tokens=num_tokens, rtd_weight=self.config.objective.rtd_weight
        )

    def record(self) -> dict[str, Any]:
        """Means since the last record; mlm_accuracy is that of the last micro-batch."""
        mlm_sum, rtd_sum = (0.0, 0.0) if self._sums is None else self._sums.tolist()
        found = self.detected.compute()
        head = self.module.generator.generator_lm_head
        _, best = head.topk(self._outcome.hidden, 1)
        self.last = {
            "mlm_loss": mlm_sum / max(1, self._chosen),
            "unigram_entropy": self.unigram_entropy,
            "mlm_accuracy": float((best.squeeze(-1) == self._outcome.targets).float().mean()) if len(best) else None,
            "share_replaced": found.pop("positive_share"),
            "rtd_loss": rtd_sum / max(1, self._tokens),
            "base_rate_entropy": found.pop("base_rate_entropy"),
            **{f"rtd_{name}": value for name, value in found.items()},
        }
        tokens = self._tokens
        self.reset()
        return {**self.last, "tokens": tokens}

    def reset(self) -> None:
        """Forget what was seen since the last record."""
        self.detected.reset()
        self._sums: Tensor | None = None  # (2,) float64, on the model's device
        self._chosen = self._tokens = 0


def build_electra(config: PretrainConfig, counts: Tensor) -> Electra:
    """Both networks, initialised from the seed, the frequencies and nothing else.

    Args:
        config: resolved settings.
        counts: int64 (V,), how often each id occurs.
    """
    torch.manual_seed(step_seed(config.train.seed, WEIGHTS))
    generator_config, discriminator_config = network_configs(
        config.model, vocab_size=len(counts), max_length=config.data.max_length or 2
    )
    generator, discriminator = QuoremForMaskedLM(generator_config), QuoremForPreTraining(discriminator_config)
    for network in (generator, discriminator):
        assignment = network.get_input_embeddings().assignment
        if assignment.rank is not None:
            assignment.set_order(counts, num_special=5)
    module = Electra(generator, discriminator, shared_embeddings=config.model.shared_embeddings)
    if RECIPES[config.objective.recipe].start_at_unigram:
        generator.generator_lm_head.start_at_unigram(counts)
    return module


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


def _groups(module: Electra, config: PretrainConfig, recipe: Recipe) -> list[dict[str, Any]]:
    """The generator's own weights at its learning rate, all else, shared embeddings included, at the discriminator's."""
    shared = config.model.shared_embeddings

    def lr(name: str) -> float:
        own = name.startswith("generator.") and not (shared and ".embeddings." in name)
        return float((config.train.generator_learning_rate if own else config.train.learning_rate) or 0)

    named = module.named_parameters(remove_duplicate=False)
    return parameter_groups(
        named, lr=lr, weight_decay=config.train.weight_decay, decay_embeddings=recipe.decay_embeddings
    )
