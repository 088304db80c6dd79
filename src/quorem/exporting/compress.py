"""Compressing what has been trained: the token table becomes one of codes, and everything else stays as it is."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from quorem.embeddings.assignment import square_divisor
from quorem.errors import UserError
from quorem.exporting.networks import KINDS, Network, read_network
from quorem.files import new_folder
from quorem.finetuning.checkpoint import model_folder
from quorem.heads import HEADS
from quorem.models.checkpoint_files import TABLE
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremPreTrainedModel
from quorem.plan.layout import BYTES, parse_bytes, parse_ratio, size_of
from quorem.silence import silence_transformers
from quorem.tokenization.files import save_tokenizer
from quorem.tokenization.special import SPECIAL_IDS
from quorem.training.card import made_by, write_new_cards
from quorem.training.run_folder import COMPRESSED, NETWORKS

logger = logging.getLogger(__name__)

WITH_SOFTMAX = ("generator", "next_item")
COPIED = ("config.yaml", "environment.json")  # columns and formats of its data, for predict and finetune; versions


def compress(
    run: str | Path, out: str | Path, *, compression: str | None = None, budget: str | None = None
) -> list[str]:
    """Write a run with smaller token tables, by product quantization of the vectors that it has learned.

    A token keeps a byte for each part of its vector (`ProductQuantizationEmbedding`), as many as fit. The tokens that a
    softmax has as classes of their own keep their rows; without one, bytes that are left over go to rows for the lowest
    ids. Of a pre-training run both networks are written; the generator stays as it is where it cannot be made smaller.
    k-means starts at random, always with the same seed.

    Args:
        run: of pre-training or fine-tuning, or a model folder.
        out: the folder to write, which must not exist; it appears when it is complete. It holds the models, config.yaml
            and environment.json of the run, and compressed.json, which says what was done.
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
    if budget is not None:
        asked, size = f"--budget {budget}", parse_bytes(budget, "--budget ")
    else:
        asked, ratio = f"--compression {compression}", parse_ratio(str(compression), "--compression ")

    def limit(dense: int) -> int:
        return size if budget is not None else int(dense / ratio)

    place, source = Path(out), Path(run)
    with new_folder(place) as partial:
        lines, networks = _fill(source, partial, limit)
        done = {"from": source.resolve().name, "asked": asked, "networks": networks}
        (partial / COMPRESSED).write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")
        # Without the run's scores, which are those of the whole table.
        made = replace(made_by(source), name=place.resolve().name, result={}, compressed=done)
        write_new_cards(partial, made)
    return lines


def _fill(run: Path, folder: Path, limit: Callable[[int], int]) -> tuple[list[str], dict[str, Any]]:
    """Write the networks and what goes with them; a line for each, and its bytes and share of variance by its name."""
    found = [run / name for name in NETWORKS if (run / name / "config.json").is_file()] or [model_folder(run)]
    lines, networks = list[str](), dict[str, Any]()
    for source in found:
        network = read_network(source)
        config, name = network.config, source.name if source != run else "model"
        dense = config.vocab_size * config.embedding_size * BYTES
        try:
            model, kept = compressed(network, limit(dense))
        except UserError as error:
            if name != "generator":  # without which a run can be fine-tuned
                raise
            logger.warning("%s: it stays as it is", error)
            model, kept = network.model, 1.0
        target = folder / source.name if source != run else folder
        with silence_transformers():
            model.save_pretrained(target)
        save_tokenizer(network.tokenizer, target)
        size = model.get_input_embeddings().nbytes
        networks[name] = {"bytes": size, "explained": kept}
        lines.append(
            f"{name}: a table of {size / 1e6:,.3f} MB, {dense / size:,.1f} times smaller than a row for each of "
            f"{config.vocab_size:,} tokens, keeps {100 * kept:.1f} % of the variance of their vectors"
        )
    for name in COPIED:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    return lines, networks


@torch.no_grad()
def compressed(network: Network, limit: int) -> tuple[QuoremPreTrainedModel, float]:
    """The same network with another token table of at most `limit` bytes, and the share of variance that it keeps.

    Raises:
        UserError: if the smallest one is larger, the present one as small, or its softmax reads rows of it.
    """
    old = network.model.get_input_embeddings()
    if (now := old.nbytes) <= limit:
        raise UserError(
            f"{network.folder}: its token table takes {now:,} bytes, and {limit:,} are allowed: give a smaller "
            "--budget or a larger --compression"
        )
    config = QuoremConfig.from_dict(network.config.to_dict())
    config.embedding = _entry(network, limit)
    kind, build = KINDS[str((config.architectures or [""])[0])]
    model = build(config)
    weights = {name: value for name, value in network.model.state_dict().items() if not name.startswith(TABLE)}
    lacking = [name for name in model.load_state_dict(weights, strict=False)[0] if not name.startswith(TABLE)]
    if lacking:
        raise UserError(
            f"{network.folder}: the {kind}'s {(config.head or {}).get('kind')} softmax reads rows of its "
            f"{(network.config.embedding or {}).get('kind')} table ({lacking[0]}), so that this cannot be compressed: "
            "train with model.embedding.kind=dense, and compress that"
        )
    table = model.get_input_embeddings()
    if table.assignment.rank is not None:
        table.assignment.rank.copy_(old.assignment.rank)
    kept = table.from_dense(old.to_dense())
    return model.eval(), kept


def _entry(network: Network, limit: int) -> dict[str, Any]:
    """What config.json says of the new table: the most parts that fit, then rows for the lowest ids."""
    config = network.config
    vocab_size, width, old = config.vocab_size, config.embedding_size, dict(config.embedding or {})
    head = (config.head or {}).get("kind", "full")
    free = network.kind not in WITH_SOFTMAX or HEADS[head].reads_all  # no softmax has tokens as classes of their own
    grid: dict[str, Any] = {key: old[key] for key in ("own_rows", "divisor", "permuted") if key in old}
    if free:
        own_rows = min(SPECIAL_IDS, vocab_size - 2)
        grid = {"own_rows": own_rows, "divisor": square_divisor(vocab_size - own_rows), "permuted": False}
    tail = vocab_size - grid["own_rows"]
    least = size_of({"kind": "pq", **grid, "parts": 1}, vocab_size, width) if tail > 0 else limit + 1
    if least > limit:
        raise UserError(
            f"{network.folder}: {limit:,} bytes are too few for its token table: {grid['own_rows']:,} rows of their "
            f"own, codewords and a byte for each of {vocab_size:,} tokens take {least:,}: give a larger --budget or a "
            "smaller --compression"
        )
    parts = min(width, 1 + (limit - least) // tail)
    if free:
        left = limit - least - (parts - 1) * tail
        grid["own_rows"] = min(vocab_size - 2, grid["own_rows"] + max(0, left // (width * BYTES - parts)))
    return {"kind": "pq", **grid, "parts": parts}
