"""Compressing what has been trained: the token table becomes one of codes, and everything else stays as it is."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from quorem.errors import UserError
from quorem.exporting.networks import KINDS, Network, read_network
from quorem.files import check_new, whole_folder
from quorem.finetuning.checkpoint import model_folder
from quorem.heads import HEADS
from quorem.lock import locked
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremPreTrainedModel
from quorem.plan.layout import BYTES, parse_bytes, parse_ratio, size_of
from quorem.tokenization.files import save_tokenizer
from quorem.tokenization.special import SPECIAL_IDS
from quorem.training.card import MODELS, README, made_by, model_card

logger = logging.getLogger(__name__)

TABLE = "electra.embeddings.word_embeddings."
SETTINGS = "config.yaml"


def compress(
    run: str | Path, out: str | Path, *, compression: str | None = None, budget: str | None = None
) -> list[str]:
    """Write a run with smaller token tables, whose vectors are as near to what was learned as the bytes allow.

    A token keeps a byte for each part of its vector (`ProductQuantizationEmbedding`), as many as fit; tokens that a
    softmax has as classes of their own keep their rows. The folder can be used, fine-tuned, exported and served as the
    run can. k-means starts at random, always with the same seed.

    Args:
        run: of pre-training or fine-tuning, or a model folder.
        out: the folder to write, which must not exist; it appears when it is complete.
        compression: bytes of a dense table over those of the new one, index included, such as 10x.
        budget: bytes of the new one, such as 20MB. One of the two is needed.

    Returns:
        What was written, a line for each network: its table's bytes, and the share of the variance of its vectors that
        it keeps.

    Raises:
        UserError: for a run that cannot be read, bytes that are too few, or a table that is as small already.
    """
    if (compression is None) == (budget is None):
        raise UserError("one of --compression 10x and --budget 20MB is needed")
    place = Path(out)
    check_new(place)
    with locked(place):
        check_new(place)  # another process may have finished it
        with whole_folder(place) as partial:
            return list(_fill(Path(run), partial, compression=compression, budget=budget))


def _fill(run: Path, folder: Path, *, compression: str | None, budget: str | None) -> Iterator[str]:
    found = [run / name for name in MODELS if (run / name / "config.json").is_file()] or [model_folder(run)]
    made = replace(made_by(run), result={})  # its scores are those of the whole table
    for source in found:
        network = read_network(source)
        dense = network.config.vocab_size * network.config.embedding_size * BYTES
        limit = parse_bytes(budget) if budget is not None else int(dense / parse_ratio(str(compression)))
        if (now := table_bytes(network.model)) <= limit:
            raise UserError(
                f"{source}: its token table takes {now:,} bytes, which {limit:,} would allow: nothing to make smaller"
            )
        small, kept = compressed(network, limit)
        target = folder / source.name if source != run else folder
        small.save_pretrained(target)
        save_tokenizer(network.tokenizer, target)
        (target / README).write_text(model_card(target, made=made), encoding="utf-8")
        size = table_bytes(small)
        yield (
            f"{target.name if source != run else run.name}: a table of {size / 1e6:,.3f} MB, {dense / size:,.1f} times "
            f"smaller than a row for each of {network.config.vocab_size:,} tokens, keeps {100 * kept:.1f} % of the "
            "variance of their vectors"
        )
    if (run / SETTINGS).is_file():  # columns and formats of its data, which predict and finetune look up
        shutil.copyfile(run / SETTINGS, folder / SETTINGS)


@torch.no_grad()
def compressed(network: Network, limit: int) -> tuple[QuoremPreTrainedModel, float]:
    """The same network with another token table of at most `limit` bytes, and the share of variance that it keeps.

    Raises:
        UserError: if the smallest one is larger.
    """
    config = QuoremConfig.from_dict(network.config.to_dict())
    config.embedding = _entry(config, limit)
    model = KINDS[str(config.architectures[0])][1](config)
    weights = {name: value for name, value in network.model.state_dict().items() if not name.startswith(TABLE)}
    table, old = model.get_input_embeddings(), network.model.get_input_embeddings()
    model.load_state_dict(weights, strict=False)
    if table.assignment.rank is not None:
        table.assignment.rank.copy_(old.assignment.rank)
    kept = table.from_dense(old.to_dense())
    return model.eval(), kept


def _entry(config: QuoremConfig, limit: int) -> dict[str, Any]:
    """What config.json says of the new table: the most parts that fit, then rows for the tokens that come first."""
    vocab_size, width, old = config.vocab_size, config.embedding_size, dict(config.embedding or {})
    grid = {key: old[key] for key in ("own_rows", "divisor", "permuted") if key in old}
    if free := not config.head or HEADS[config.head["kind"]].reads_all:  # no softmax of which these are classes
        grid = {"own_rows": min(SPECIAL_IDS, vocab_size), "divisor": 1, "permuted": False}
    entries = [{"kind": "pq", **grid, "parts": parts} for parts in range(1, width + 1)]
    fitting = [entry for entry in entries if size_of(entry, vocab_size, width) <= limit]
    if not fitting:
        least = size_of(entries[0], vocab_size, width)
        raise UserError(
            f"{limit:,} bytes are too few for the token table: {grid['own_rows']:,} rows of their own, codewords and a "
            f"byte for each of {vocab_size:,} tokens take {least:,}: allow more (--budget, --compression)"
        )
    best = fitting[-1]
    if free:
        left = limit - size_of(best, vocab_size, width)
        best["own_rows"] = min(vocab_size, best["own_rows"] + left // (width * BYTES - best["parts"]))
    return best


def table_bytes(model: QuoremPreTrainedModel) -> int:
    """Bytes of a model's token table with its index."""
    table = model.get_input_embeddings()
    return sum(tensor.nbytes for tensor in (*table.parameters(), *table.buffers()))
