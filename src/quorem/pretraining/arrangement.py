"""What tables need to know about the tokens: their order, attributes and start vectors.

It is computed once from the training rows and kept in a run's data/ folder. The start vectors stay there until the run
is finished, because a run killed before its first checkpoint starts again.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from quorem.arrangement.attribute_file import read_attributes, store_attributes, stored_attributes
from quorem.arrangement.cooccurrence import cooccurrence_vectors
from quorem.arrangement.token_order import frequency_order, store_order, stored_order, token_order
from quorem.config.loading import to_mapping
from quorem.config.settings import PretrainConfig
from quorem.data.corpus import Corpus
from quorem.data.rows import split_rows
from quorem.data.shards import Shards
from quorem.files import whole_file
from quorem.plan.layout import STARTED_UP_TO
from quorem.plan.plan import Plan
from quorem.training.run_folder import Run, has_trained, read_settings

ORDER, ATTRIBUTES, START = "data/order.bin", "data/attributes.npy", "data/start.npy"  # of a run, once they are known
MADE_BY = (
    *(("model", name) for name in ("size", "embedding_size", "discriminator", "embedding", "head")),
    *(("data", name) for name in ("held_out", "rows", "max_length")), ("train", "seed"),
)  # fmt: skip
COMPONENTS = 32  # of vectors that are for clusters alone


class Arrangement(NamedTuple):
    """What is known about the tokens before training.

    Args:
        order: ids int64 (V,) in the order in which tables lay them out; None for frequency.
        attributes: int32 (V - K, k) of the tokens after the tier; None for other kinds.
        vectors: float32 (V, components), what token vectors start from; None for a random start.
    """

    order: Tensor | None = None
    attributes: Tensor | None = None
    vectors: Tensor | None = None

    @property
    def attribute_sizes(self) -> list[int] | None:
        """How many values each attribute has."""
        return None if self.attributes is None else [len(column.unique()) for column in self.attributes.T]


def arrange(plan: Plan, run: Run, tokenizer: PreTrainedTokenizerFast, shards: Shards) -> Arrangement:
    """Compute what tables need to know about the tokens, once, and keep it in the run's data/ folder.

    Args:
        plan: of the run; sizes of attributes need not be known.
        run: the run.
        tokenizer: its ids are those of the shards.
        shards: the data.

    Raises:
        UserError: for a file that cannot be used.
    """
    config, grid, kept = plan.config, plan.table, run.folder / ORDER
    table = config.model.embedding
    order = stored_order(kept, len(tokenizer))
    orders = bool(grid.get("permuted")) and table.assignment != "frequency"
    starts = table.start == "cooccurrence" and len(tokenizer) <= STARTED_UP_TO
    clustered = orders and order is None and table.assignment == "cluster"
    held_out = None
    if config.data.held_out:  # planning the rows can take long, so it is skipped otherwise
        _, held_out = split_rows(config.data, shards, tokenizer, seed=config.train.seed)
    corpus = Corpus(shards, held_out)
    vectors = _stored_vectors(run.folder / START, len(tokenizer)) if starts else None
    if (starts or clustered) and vectors is None:
        vectors = cooccurrence_vectors(
            corpus,
            components=plan.discriminator.embedding_size if starts else COMPONENTS,
            window=table.start_window,
            seed=config.train.seed,
        )
        if starts:
            with whole_file(run.folder / START) as file:
                np.save(file, vectors)
    if orders and order is None:
        order = token_order(
            str(table.assignment), corpus.counts, own_rows=grid["own_rows"], divisor=grid["divisor"],
            seed=config.train.seed, vectors=vectors, tokens=tokenizer.get_vocab(), path=table.assignment_file,
        )  # fmt: skip
        store_order(kept, order)
    attributes = None
    if table.attributes_file:
        attributes = stored_attributes(run.folder / ATTRIBUTES)
        if attributes is None:
            ids = torch.arange(len(tokenizer)) if table.assignment == "identity" else order
            ids = frequency_order(torch.from_numpy(corpus.counts)) if ids is None else ids
            tail = tokenizer.convert_ids_to_tokens(ids[grid["own_rows"] :].tolist())
            attributes = read_attributes(table.attributes_file).of(tail)
            store_attributes(run.folder / ATTRIBUTES, attributes)
    return Arrangement(order if orders else None, attributes, torch.from_numpy(vectors) if starts else None)


def is_outdated(config: PretrainConfig, out: Path) -> bool:
    """Whether a run that has not trained kept results of `arrange` for other settings."""
    if has_trained(out) or not (out / "config.yaml").exists():
        return False
    here, there = to_mapping(config), read_settings(out / "config.yaml")
    parts = ((here[part], there.get(part), name) for part, name in MADE_BY)
    return any(isinstance(old, dict) and old.get(name) != new[name] for new, old, name in parts)


def _stored_vectors(path: Path, vocab_size: int) -> np.ndarray | None:
    """The stored vectors for this number of ids, or None."""
    if not path.exists():
        return None
    found = np.load(path, allow_pickle=False)
    return found if len(found) == vocab_size else None
