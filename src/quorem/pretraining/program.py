"""Pre-training's steps: both networks, their batches, their loss and their metrics."""

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from quorem.arrangement.cooccurrence import start_table
from quorem.arrangement.token_order import frequency_order
from quorem.config.settings import PretrainConfig
from quorem.data.batches import MASKING, WEIGHTS, step_seed
from quorem.data.corpus import Corpus
from quorem.data.rows import split_rows
from quorem.data.shards import Shards
from quorem.embeddings import TokenEmbedding
from quorem.embeddings.attributes import AttributesEmbedding
from quorem.embeddings.disentangled import DisentangledEmbedding
from quorem.models.configuration import QuoremConfig
from quorem.models.electra import Electra, Outcome, total_loss
from quorem.models.masking import Inputs, Masked, mask_tokens
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining
from quorem.plan.plan import Plan
from quorem.plan.recipes import RECIPES
from quorem.pretraining.arrangement import Arrangement
from quorem.pretraining.init_from import load_networks
from quorem.pretraining.warm_start import initialise
from quorem.training import processes
from quorem.training.device import autocast_dtype
from quorem.training.metrics import BinaryMetrics, RunningMean, entropy
from quorem.training.optim import build_optimizer, parameter_groups
from quorem.training.row_adam import row_tables

logger = logging.getLogger(__name__)

NOTHING_KNOWN = Arrangement()


class MicroBatch(NamedTuple):
    """Some rows of a step.

    Args:
        inputs: of both networks.
        own_tokens: real tokens of these rows.
        num_chosen: masked positions of the whole step.
        num_tokens: real tokens of the whole step.
    """

    inputs: Inputs
    own_tokens: int
    num_chosen: int
    num_tokens: int


class PretrainProgram:
    """ELECTRA's steps, for `quorem.training.loop.fit`.

    Args:
        plan: of the run.
        tokenizer: its ids are those of the shards.
        shards: the data.
        arrangement: what is known of the tokens.
    """

    def __init__(
        self,
        plan: Plan,
        tokenizer: PreTrainedTokenizerFast,
        shards: Shards,
        arrangement: Arrangement = NOTHING_KNOWN,
    ) -> None:
        self.config = config = plan.config
        train = config.train
        self.rows, self.held_out = split_rows(config.data, shards, tokenizer, seed=train.seed)
        self.order = self.rows.order(batch_size=train.batch_size, seed=train.seed)
        self.total_steps = self.order.steps(train)
        self.special = torch.tensor([i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id])
        self.mask_id = tokenizer.mask_token_id
        corpus = Corpus(shards, self.held_out)
        counts = torch.from_numpy(corpus.counts)
        self.unigram_entropy = entropy(corpus.counts)
        self.module = build_electra(plan, counts, arrangement)
        if config.model.init_from is not None:
            initialise(self.module, load_networks(config.model.init_from, tokenizer))
        self.detected, self.mlm, self.rtd = BinaryMetrics(), RunningMean(), RunningMean()
        self.last: dict[str, Any] = {}
        self._tokens = 0
        self._outcome: Outcome | None = None

    def micro_batches(self, step: int, *, rank: int, num_processes: int) -> Iterator[MicroBatch]:
        """The step's rows, masked as one batch and then split. Splitting changes no mask and no sample."""
        train, objective = self.config.train, self.config.objective
        masked = self.masked(
            *self.rows.batch(self.order.indices(step)),
            rate=self._between(objective.mask_rate, objective.mask_rate_end, step),
            rng=torch.Generator().manual_seed(step_seed(train.seed, MASKING, step)),
        )
        num_chosen, num_tokens, num_rows = masked.num_chosen, masked.num_tokens, len(masked.input_ids)
        first, end = (num_rows * i // num_processes for i in (rank, rank + 1))
        size = train.micro_batch_size or num_rows
        for start in range(first, end, size):
            part = masked.rows(start, min(start + size, end))
            yield MicroBatch(part.inputs(), part.num_tokens, num_chosen, num_tokens)

    def masked(self, input_ids: Tensor, attention_mask: Tensor | None, *, rate: float, rng: torch.Generator) -> Masked:
        """Mask rows at this rate, as the settings say."""
        return mask_tokens(
            input_ids,
            attention_mask,
            special=self.special,
            mask_id=self.mask_id,
            rate=rate,
            keep=float(self.config.objective.keep_rate or 0),
            rng=rng,
        )

    def loss(self, module: nn.Module, micro_batch: MicroBatch) -> Tensor:
        """The micro-batch's share of mlm + rtd_weight * rtd."""
        inputs, own_tokens, num_chosen, num_tokens = micro_batch
        outcome: Outcome = module(*inputs)
        self.detected.update(outcome.scores, outcome.is_replaced, outcome.real)
        self.mlm.update(outcome.mlm_sum, len(outcome.targets))
        self.rtd.update(outcome.rtd_sum, own_tokens)
        self._tokens += own_tokens
        self._outcome = outcome
        return total_loss(
            outcome, num_chosen=num_chosen, num_tokens=num_tokens, rtd_weight=self.config.objective.rtd_weight
        )

    def record(self) -> dict[str, Any]:
        """Means since the last record; mlm_accuracy is that of the last micro-batch, of this process."""
        found = self.detected.compute()
        self.last = {
            "mlm_loss": self.mlm.compute(),
            "unigram_entropy": self.unigram_entropy,
            "mlm_accuracy": self._mlm_accuracy(),
            "share_replaced": found.pop("positive_share"),
            "rtd_loss": self.rtd.compute(),
            "base_rate_entropy": found.pop("base_rate_entropy"),
            **{f"rtd_{name}": value for name, value in found.items()},
        }
        tokens = self._tokens
        self.reset()
        return {**self.last, "tokens": tokens}

    def reset(self) -> None:
        """Reset the sums since the last record."""
        for metric in (self.detected, self.mlm, self.rtd):
            metric.reset()
        self._tokens = 0

    def state_dict(self) -> dict[str, Tensor]:
        """The sums since the last record."""
        losses = torch.stack([self.mlm.sums.cpu(), self.rtd.sums.cpu()])
        return {"detected": self.detected.counts.cpu(), "losses": losses, "tokens": torch.tensor(self._tokens)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of `state_dict`."""
        self.detected.counts, self._tokens = state["detected"], int(state["tokens"])
        self.mlm.sums, self.rtd.sums = state["losses"].clone()

    def _between(self, start: float | None, end: float | None, step: int) -> float:
        """Interpolate linearly between the first and the last step."""
        start = float(start or 0)
        return start if end is None else start + (end - start) * step / max(1, self.total_steps - 1)

    def _mlm_accuracy(self) -> float | None:
        if self._outcome is None or not len(self._outcome.targets):
            return None
        _, best = self.module.generator.generator_lm_head.topk(self._outcome.hidden, 1)
        return float((best.squeeze(-1) == self._outcome.targets).float().mean())


def build_electra(plan: Plan, counts: Tensor, arrangement: Arrangement = NOTHING_KNOWN) -> Electra:
    """Both networks, initialised from the seed, the frequencies and nothing else.

    Args:
        plan: of the run.
        counts: int64 (V,), how often each id occurs.
        arrangement: what is known of the tokens; kind attributes needs theirs.
    """
    config = plan.config
    torch.manual_seed(step_seed(config.train.seed, WEIGHTS))
    order, attributes, vectors = arrangement
    module = Electra(
        QuoremForMaskedLM(plan.generator),
        QuoremForPreTraining(plan.discriminator),
        shared_embeddings=config.model.shared_embeddings,
        disentangled=bool(config.model.disentangled_embeddings),
    )
    tables = [each for each in module.modules() if isinstance(each, TokenEmbedding)]
    assignments = {id(table.assignment): table.assignment for table in tables}
    for assignment in assignments.values():  # one, if shared
        if assignment.rank is not None:
            order = frequency_order(counts) if order is None else order
            assignment.set_order(order)
    for table in tables:
        if isinstance(table, AttributesEmbedding) and attributes is not None:
            table.set_attributes(attributes)
    if RECIPES[config.objective.recipe].start_at_unigram:
        module.generator.generator_lm_head.start_at_unigram(counts)
    if vectors is not None:
        _start_tables([table for table in tables if not isinstance(table, DisentangledEmbedding)], vectors, config)
        module.generator.generator_lm_head.start_at_vectors(counts)
    return module


def _start_tables(tables: list[TokenEmbedding], vectors: Tensor, config: PretrainConfig) -> None:
    """Fit token tables to start vectors, and log the share of variance they explain."""
    seed = step_seed(config.train.seed, WEIGHTS, 1)
    for table in tables:
        std = table.dim**-0.5 if config.model.initializer == "width" else QuoremConfig().initializer_range
        weight = start_table(vectors, std=std, width=table.dim, generator=torch.Generator().manual_seed(seed))
        explained = table.from_dense(weight)
        logger.info(
            "token vectors start from co-occurrence; the table explains %.1f %% of their variance", 100 * explained
        )


def build_pretraining_optimizer(module: Electra, config: PretrainConfig) -> torch.optim.Optimizer:
    """The optimizer: with Muon the layers' matrices have a rate of their own, and so have the generator's weights.

    Embeddings are the generator's own where they are disentangled, and not where they are shared whole. Tables whose
    rows are updated by themselves (`train.table_updates`) have `RowAdam`, at the same rates.

    Args:
        module: both networks.
        config: resolved settings.
    """
    recipe, model = RECIPES[config.objective.recipe], config.model
    kind = str(config.train.optimizer)
    shared = model.shared_embeddings and not model.disentangled_embeddings

    def lr(name: str) -> float:
        own = name.startswith("generator.") and not (shared and ".embeddings." in name)
        return float((config.train.generator_learning_rate if own else config.train.learning_rate) or 0)

    groups = parameter_groups(
        ((name, each) for name, each in module.named_parameters(remove_duplicate=False) if each.requires_grad),
        lr=lr,
        weight_decay=config.train.weight_decay,
        decay_embeddings=recipe.decay_embeddings,
        matrix_lr=config.train.matrix_learning_rate if kind == "muon" else None,
        row_tables=row_tables(module, config.train.table_updates),
    )
    dtype = autocast_dtype(config.train.precision, processes.state().device) or torch.float32
    return build_optimizer(groups, kind=kind, betas=recipe.betas, eps=1e-6, matrix_dtype=dtype)
