"""How a vocabulary is laid out: settings, or a budget in bytes, -> the embedding and head of a config.

What a layout fixes (tier, divisor, moduli, rows) is stored in the model's config and never computed again, so that a
vocabulary can grow without moving a code. Bytes are those of float32 weights and of int32 indices (of a permuted
assignment, of attributes); training takes four times the weights (gradient and Adam's two moments).
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from quorem.arrangement.token_order import ORDERS
from quorem.config.loading import check_bounds
from quorem.config.settings import EmbeddingSettings, ModelSettings
from quorem.embeddings import EMBEDDINGS, build_table
from quorem.embeddings.assignment import square_divisor
from quorem.embeddings.mixed_radix import even_moduli
from quorem.embeddings.partition import OPERATIONS
from quorem.embeddings.product_quantization import MOST
from quorem.errors import UserError, check_choice
from quorem.heads import HEADS
from quorem.heads.condition import CONDITIONS
from quorem.heads.full import FACTORISES
from quorem.tokenization.special import SPECIAL_IDS

BYTES = 4  # of a float32 and of an int32
DENSE = "dense"  # kind of a table that sharing would not make smaller
AUTO, AUTO_BUDGET = "auto", "512MB"  # bytes of a dense table of a million rows of 128
AUTO_OWN_RANK = 8  # of qr: numbers of a token's own, where the budget has room for them: docs/results.md
AUTO_WIDTH = 16  # of pq: the widest part; with wider ones many tokens would share all their codes
STARTS = ("cooccurrence", "random")
LEVELS = 3  # of a head of digits, unless the table has its own
FULL_UP_TO = 20_000  # tokens; above it levels are faster (docs/results.md)
TWO_LEVELS_UP_TO = 100_000  # tokens; above it a tree has three
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
STARTED_UP_TO = 2_000_000  # tokens; more than that start at random
CLUSTERED_UP_TO = 20_000_000  # tokens; clustering a million takes 16 s and 1.2 GB, ten million 62 s and 2.3 GB


def lay_out(
    model: ModelSettings, *, vocab_size: int, width: int, attributes: Sequence[int] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `embedding` and `head` entries of a config.

    The grid is made as small as possible; the rest of the budget goes to tokens with their own row. If `tier` is set (0
    counts), or the kind has no grid, the shared part gets the rest. A table that would not be smaller than the dense
    one stays dense (the paper's thresholding, arXiv:1909.02107, sec. 5.4).

    Args:
        model: the settings.
        vocab_size: V, special tokens included.
        width: D.
        attributes: kind attributes: how many values each attribute has. While they are not known (None), the entry has
            no `sizes`: enough to arrange the tokens, not to build a table.

    Raises:
        UserError: for settings that cannot be used, or a budget that is too small.
    """
    model = with_kind(model, vocab_size=vocab_size, width=width)
    _check(model)
    model = with_table_defaults(model)
    table = model.embedding
    limit = _limit(table, vocab_size, width)
    entry = _dense(vocab_size) if table.kind == DENSE else _fit(table, vocab_size, width, limit)
    if _reads_file(table):
        if attributes is None:
            return _with_head(model, entry, vocab_size)
        entry["sizes"] = [min(size, vocab_size - entry["own_rows"]) for size in attributes]
    if entry["kind"] != DENSE and size_of(entry, vocab_size, width) >= vocab_size * width * BYTES:
        entry = _dense(vocab_size)
    entry, head = _with_head(model, entry, vocab_size)
    if limit is not None and size_of(entry, vocab_size, width) > limit:
        least = _fit(table, vocab_size, width, 0) if table.kind != DENSE else None
        raise UserError(_too_small(table, limit, least, vocab_size, width))
    return entry, head


def size_of(entry: dict[str, Any], vocab_size: int, width: int) -> int:
    """Bytes of the table that an `embedding` entry describes: weights and index, nothing allocated.

    Raises:
        UserError: if the entry describes no table, for example because moduli are not coprime.
    """
    try:
        with torch.device("meta"):
            return build_table(entry, vocab_size, width).nbytes
    except ValueError as error:
        raise UserError(f"model.embedding.kind={entry['kind']}: {error}") from error


def parse_bytes(text: str, name: str = "model.embedding.budget=") -> int:
    """Bytes of "2MB", "512 KiB", "1.5GB" or a plain number.

    Args:
        text: what was given.
        name: what stands before it, for the message.

    Raises:
        UserError: for anything else.
    """
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([KMG]i?B|B)?\s*", text, re.IGNORECASE)
    if not found:
        raise UserError(f"{name}{text}: bytes needed, for example 20MB or 512KiB")
    return round(float(found[1]) * UNITS[(found[2] or "B").upper()])


def parse_ratio(text: str, name: str = "model.embedding.compression=") -> float:
    """20.0 of "20x" or "20".

    Args:
        text: what was given.
        name: what stands before it, for the message.

    Raises:
        UserError: for anything else, or a ratio below 1.
    """
    try:
        ratio = float(text.strip().lower().removesuffix("x"))
    except ValueError:
        ratio = math.nan
    if not 1 <= ratio < math.inf:
        raise UserError(f"{name}{text}: a ratio of 1 or more needed, for example 20x")
    return ratio


def _check(model: ModelSettings) -> None:
    table, head = model.embedding, model.head
    check_bounds(model, "model.")
    check_choice("model.embedding.kind", table.kind, (AUTO, *EMBEDDINGS))
    if table.operation is not None:
        check_choice("model.embedding.operation", table.operation, OPERATIONS)
    if table.assignment is not None:
        check_choice("model.embedding.assignment", table.assignment, ORDERS)
    if table.start is not None:
        check_choice("model.embedding.start", table.start, STARTS)
    if table.start == "cooccurrence" and model.init_from is not None:
        raise UserError(
            f"model.embedding.start=cooccurrence: --init-from {model.init_from} already gives the token vectors: leave "
            "one of the two out"
        )
    if (table.assignment == "file") != (table.assignment_file is not None):
        raise UserError(
            "model.embedding.assignment=file and model.embedding.assignment_file=PATH go together: set both or neither"
        )
    if _reads_file(table) != (table.attributes_file is not None):
        readers = " or ".join(_kinds_with("attributes_file"))
        raise UserError(
            f"model.embedding.kind={readers} and model.embedding.attributes_file=PATH go together: set both or neither"
        )
    for name in ("budget", "compression"):
        if _reads_file(table) and getattr(table, name) is not None:
            raise UserError(
                f"model.embedding.{name}={getattr(table, name)}: kind {table.kind} takes its rows from the attributes "
                "file: set model.embedding.tier instead, or remove columns from the file"
            )
    check_choice("model.head.kind", head.kind, ("auto", *HEADS))
    check_choice("model.head.condition", head.condition, CONDITIONS)
    if head.digits is not None and head.kind not in ("digits", "tree"):
        raise UserError(
            f"model.head.digits={head.digits}: kind {head.kind} does not use it, only digits and tree do: leave it out"
        )
    defaults = EmbeddingSettings()
    for name in dict.fromkeys(name for kind in EMBEDDINGS.values() for name in kind.settings):
        value, kinds = getattr(table, name), _kinds_with(name)
        if value != getattr(defaults, name) and table.kind not in kinds:
            raise UserError(
                f"model.embedding.{name}={value}: kind {table.kind} does not use it, only {', '.join(kinds)}: leave "
                "it out"
            )
    if table.moduli is not None and table.digits != defaults.digits:
        raise UserError("model.embedding.digits and model.embedding.moduli both set the partitions: give one of them")
    if table.rank not in (None, 1) and table.kind in _kinds_with("operation") and table.operation in ("add", "concat"):
        raise UserError(f"model.embedding.rank={table.rank}: only products can be summed: set operation=multiply")
    if table.budget is not None and table.compression is not None:
        raise UserError("model.embedding.budget and model.embedding.compression both set the size: give one of them")


def with_kind(model: ModelSettings, *, vocab_size: int, width: int) -> ModelSettings:
    """Resolve kind=auto from the settings alone, so that every machine decides the same.

    A dense table if it fits, because a step pays nothing for rows it does not touch. Otherwise a pq table, which at a
    tenth of the bytes learns nearly what a dense one does, and at a twentieth more than qr (docs/results.md), if the
    vectors that choose its codes are counted and parts of at most AUTO_WIDTH numbers fit into three quarters of the
    budget. Otherwise, or if a setting of qr is given, a qr table. Its tokens get a few numbers of their own if these
    fit into three quarters: they are worth more than further shared rows.

    Args:
        model: the settings.
        vocab_size: V, special tokens included.
        width: D.

    Raises:
        UserError: for a budget that cannot be read.
    """
    table = model.embedding
    if table.kind != AUTO:
        return model
    given = table.budget is not None or table.compression is not None
    limit = _limit(table if given else replace(table, budget=AUTO_BUDGET), vocab_size, width) or 0
    if vocab_size * width * BYTES <= limit:
        return replace(model, embedding=replace(table, kind=DENSE, budget=None, compression=None))
    if _suits_pq(model, vocab_size) and _pq_bytes(vocab_size, width) <= 0.75 * limit:
        chosen = replace(table, kind="pq")
    else:
        needed = vocab_size * (AUTO_OWN_RANK + 1) * BYTES  # with the index
        room = needed <= 0.75 * limit and width > AUTO_OWN_RANK
        chosen = replace(table, kind="qr", own_rank=table.own_rank or (AUTO_OWN_RANK if room else 0))
    return replace(model, embedding=chosen if given else replace(chosen, budget=AUTO_BUDGET))


def _suits_pq(model: ModelSettings, vocab_size: int) -> bool:
    """Whether token vectors start from counts, and no setting or softmax asks for qr."""
    table, defaults = model.embedding, EmbeddingSettings()
    settings = set(EMBEDDINGS["qr"].settings) - set(EMBEDDINGS["pq"].settings)
    asks = any(getattr(table, name) != getattr(defaults, name) for name in settings)
    started = model.init_from is None and table.start != "random" and vocab_size <= STARTED_UP_TO
    return started and not asks and model.head.kind in ("auto", "tree", "full", "cosine")


def _pq_bytes(vocab_size: int, width: int) -> int:
    """Of a pq table with parts of AUTO_WIDTH, index included, without rows of their own."""
    return vocab_size * (-(-width // AUTO_WIDTH) + BYTES) + (MOST + width) * width * BYTES


def with_table_defaults(model: ModelSettings) -> ModelSettings:
    """The settings with the table's operation, assignment and start filled in: the best of docs/results.md."""
    table = model.embedding
    check_choice("model.embedding.kind", table.kind, (AUTO, *EMBEDDINGS))
    check_choice("model.head.kind", model.head.kind, ("auto", *HEADS))
    operation, assignment = table.operation, table.assignment
    if operation is None and table.kind in _kinds_with("operation"):
        operation = "multiply" if model.head.kind == "full" or table.rank not in (None, 1) else "add"
    if assignment is None:
        head = head_kind(model.head.kind, table.kind, model.vocab_size, own_rank=table.own_rank)
        alike = (
            EMBEDDINGS[table.kind].neighbours_share
            or head == "tree"
            or (table.kind == DENSE and not HEADS[head].reads_all)
        )
        assignment = "cluster" if alike and model.vocab_size <= CLUSTERED_UP_TO else "frequency"
    start = table.start or ("random" if model.init_from is not None else "cooccurrence")
    return replace(model, embedding=replace(table, operation=operation, assignment=assignment, start=start))


def _limit(table: EmbeddingSettings, vocab_size: int, width: int) -> int | None:
    if table.budget is not None:
        return parse_bytes(table.budget)
    if table.compression is not None:
        return int(vocab_size * width * BYTES / parse_ratio(table.compression))
    return None


def _too_small(table: EmbeddingSettings, limit: int, least: dict[str, Any] | None, vocab_size: int, width: int) -> str:
    """The error message; `least` is the smallest possible entry, or None if the kind cannot be made smaller."""
    asked = (
        f"budget={table.budget}" if table.budget is not None else f"compression={table.compression} ({limit:,} bytes)"
    )
    if least is None:
        return f"model.embedding.{asked}: a dense table cannot be made smaller: choose another kind, for example qr"
    bytes_needed, index = size_of(least, vocab_size, width), vocab_size * BYTES * least["permuted"]
    ways = ["allow more"]
    if index:
        ways.append(f"set model.embedding.assignment=identity, which has no index ({index:,} of these bytes)")
    if index < limit and not _reads_file(table):
        ways.append("choose mixed_radix with more digits")
        ways += ["a smaller tier"] if table.tier else []
    return (
        f"model.embedding.{asked}: {table.kind} with these settings takes at least {bytes_needed:,} bytes: "
        f"{', or '.join(ways)}"
    )


def _dense(vocab_size: int) -> dict[str, Any]:
    return {"kind": DENSE, "own_rows": vocab_size, "divisor": 1}


def _fit(table: EmbeddingSettings, vocab_size: int, width: int, limit: int | None) -> dict[str, Any]:
    """The entry of that kind: the largest within the limit, or the smallest possible one."""
    ordinary = min(round(8 * vocab_size**0.5), vocab_size - SPECIAL_IDS)
    if limit is None:
        return _entry(table, vocab_size, width, ordinary if table.tier is None else table.tier, None)

    def smallest(tier: int) -> dict[str, Any]:
        return _entry(table, vocab_size, width, tier, _sizes(table, vocab_size, width, tier)[0])

    def bytes_of(entry: dict[str, Any]) -> int:
        return size_of(entry, vocab_size, width)

    kind, most = EMBEDDINGS[table.kind], vocab_size - SPECIAL_IDS - 1
    least = kind.least_tier(table, most + 1)
    if table.tier is not None:
        tier = table.tier
    elif kind.is_grid:  # sizes rise almost monotonically with the tier; the grid shrinks meanwhile
        tier = _largest(least, most, lambda number: bytes_of(smallest(number)) <= limit)
    else:
        half = (bytes_of(smallest(least)) + limit) / 2
        tier = _largest(least, max(least, ordinary), lambda number: bytes_of(smallest(number)) <= half)
    if table.tier is None and kind.is_grid:
        return smallest(tier)
    first, last = _sizes(table, vocab_size, width, tier)
    size = _largest(first, last, lambda number: bytes_of(_entry(table, vocab_size, width, tier, number)) <= limit)
    return _entry(table, vocab_size, width, tier, size)


def _sizes(table: EmbeddingSettings, vocab_size: int, width: int, tier: int) -> tuple[int, int]:
    """The smallest and the largest `size` of `_entry`; memory rises from one to the other."""
    return EMBEDDINGS[table.kind].size_range(table, max(1, vocab_size - SPECIAL_IDS - tier), width)


def _entry(table: EmbeddingSettings, vocab_size: int, width: int, tier: int, size: int | None) -> dict[str, Any]:
    """The entry with that tier; `size` scales the shared part: divisor, first modulus, rows or rank."""
    own_rows = min(vocab_size, SPECIAL_IDS + tier)
    tail = max(1, vocab_size - own_rows)
    try:
        options = EMBEDDINGS[table.kind].plan(table, tail, width, size)
    except ValueError as error:
        raise UserError(f"model.embedding.{error}") from None
    divisor = options.pop("divisor", table.divisor or square_divisor(tail))
    grid = {"own_rows": own_rows, "divisor": divisor, "permuted": table.assignment != "identity"}
    return {"kind": table.kind, **grid, **options}


def _kinds_with(setting: str) -> list[str]:
    """The kinds of tables that take a setting."""
    return [name for name, kind in EMBEDDINGS.items() if setting in kind.settings]


def _reads_file(table: EmbeddingSettings) -> bool:
    """Whether an attributes file decides the number of rows."""
    return table.kind in _kinds_with("attributes_file")


def _largest(least: int, most: int, holds: Callable[[int], bool]) -> int:
    """The largest number between the two that holds, by bisection; least if none does."""
    if holds(most):
        return most
    low, high = least, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def head_kind(asked: str, table: str, vocab_size: int, *, own_rank: int) -> str:
    """The default head of a kind of table: a tree if tokens have numbers or codes of their own."""
    if asked != "auto":
        return asked
    if table == DENSE and vocab_size <= FULL_UP_TO:
        return "full"
    return "tree" if EMBEDDINGS[table].knows_each or own_rank else "two_level"


def _with_head(model: ModelSettings, entry: dict[str, Any], vocab_size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The entry and its head; a table without a grid gets the grid that a head of several levels needs."""
    kind = head_kind(model.head.kind, entry["kind"], vocab_size, own_rank=entry.get("own_rank", 0))
    if HEADS[kind].reads_all:
        if kind == "full" and entry.get("operation") in ("add", "concat"):
            raise UserError(f"model.head.kind=full, model.embedding.operation={entry['operation']}: {FACTORISES}")
        table = model.embedding
        if model.head.kind == kind and table.kind == DENSE and table.assignment not in ("frequency", "identity"):
            raise UserError(
                f"model.embedding.assignment={table.assignment}: a dense table with a {kind} softmax does not use it: "
                "leave it out"
            )
        return entry, {"kind": kind} | ({"scale": model.head.scale} if kind == "cosine" else {})
    if entry["kind"] == DENSE:
        tier = round(8 * vocab_size**0.5) if model.embedding.tier is None else model.embedding.tier
        own_rows = min(vocab_size, SPECIAL_IDS + tier)
        if vocab_size - own_rows < 2:
            return _dense(vocab_size), {"kind": "full"}
        divisor = model.embedding.divisor or square_divisor(vocab_size - own_rows)
        grid = {"own_rows": own_rows, "divisor": divisor, "permuted": model.embedding.assignment != "identity"}
        entry = {"kind": DENSE, **grid}
    tail = vocab_size - entry["own_rows"]
    if kind == "tree":
        levels = model.head.digits or (2 if vocab_size <= TWO_LEVELS_UP_TO else 3)
        if levels == 2:
            return entry, {"kind": kind}
        moduli = even_moduli(tail, levels)
        if model.embedding.divisor is None and not EMBEDDINGS[entry["kind"]].is_grid:
            entry = {**entry, "divisor": moduli[0]}  # the leaves of a node are a cluster
        return entry, {"kind": kind, "moduli": moduli}
    options: dict[str, Any] = {"condition": model.head.condition}
    if kind == "digits":  # the table's, so that their rows are shared
        shared = entry.get("moduli") if EMBEDDINGS[entry["kind"]].shares_digits else None
        if shared and model.head.digits not in (None, len(shared) + 1):
            raise UserError(
                f"model.head.digits={model.head.digits}: the head uses the table's {len(shared) + 1} digits: leave it "
                "out, or set model.embedding.digits"
            )
        options["moduli"] = shared or even_moduli(tail, model.head.digits or LEVELS)
    return entry, {"kind": kind, **options}
