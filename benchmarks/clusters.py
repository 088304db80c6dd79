"""What ordering tokens by context costs, and whether it finds the clusters that were planted.

    python benchmarks/clusters.py --vocab-size 1000000 --rows 1000000 --out results.json

Sessions of `quorem sample items` become shards; then the order `cluster` is made in a process of its own, with the tier
and the groups of the default qr table. Found: seconds (wall and processor), peak memory of that process, and how often
two tokens of a group are of the same planted cluster, beside the order by frequency and chance.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from memory import peak_mb

from quorem.arrangement.cooccurrence import cooccurrence_vectors
from quorem.arrangement.token_order import SEEN_OFTEN_ENOUGH, token_order
from quorem.data.corpus import Corpus
from quorem.data.shards import ShardMeta, Shards
from quorem.embeddings.assignment import square_divisor
from quorem.pretraining.arrangement import COMPONENTS
from quorem.samples.sessions import cluster_of_items, sessions
from quorem.tokenization.special import SPECIAL_IDS

SEPARATOR, PAIRS = 3, 1_000_000


def make_shards(folder: Path, *, vocab_size: int, rows: int) -> None:
    """Shards of sessions in which item i is token SPECIAL_IDS + i."""
    counts, ends, end = np.zeros(vocab_size + SPECIAL_IDS, np.int64), [], 0
    with (folder / "tokens.bin").open("wb") as file:
        for session in sessions(rows, vocab_size=vocab_size):
            ids = np.fromstring(session, np.int64, sep=" ") + SPECIAL_IDS
            np.append(ids, SEPARATOR).astype(np.uint32).tofile(file)
            end += len(ids) + 1
            ends.append(end)
    tokens = np.memmap(folder / "tokens.bin", np.uint32, "r")
    counts += np.bincount(tokens, minlength=len(counts))
    counts[SEPARATOR] = 0
    np.asarray(ends, np.int64).tofile(folder / "ends.bin")
    counts.tofile(folder / "counts.bin")
    meta = ShardMeta({}, "uint32", len(counts), len(ends), end, {})
    (folder / "meta.json").write_text(json.dumps(asdict(meta)))


def measure(folder: Path, threads: int) -> dict[str, Any]:
    """Make the order in this process."""
    torch.set_num_threads(threads)
    shards, before = Shards(folder), peak_mb()
    vocab_size = len(shards.counts)
    own_rows = SPECIAL_IDS + round(8 * vocab_size**0.5)
    divisor = square_divisor(vocab_size - own_rows)
    began, processor = time.perf_counter(), time.process_time()
    vectors = cooccurrence_vectors(Corpus(shards), components=COMPONENTS)
    order = token_order("cluster", shards.counts, own_rows=own_rows, divisor=divisor, vectors=vectors)
    found = {"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - processor}
    found |= {"peak_mb": peak_mb(), "before_mb": before, "tokens": len(shards.tokens)}
    seen = int((shards.counts[order[own_rows:].numpy()] >= SEEN_OFTEN_ENOUGH).sum()) // divisor * divisor
    truth = np.concatenate([np.full(SPECIAL_IDS, -1), cluster_of_items(vocab_size - SPECIAL_IDS)])
    by_frequency = token_order("frequency", shards.counts, own_rows=own_rows, divisor=divisor)
    found |= {"clustered_tokens": seen, "group": divisor, "clusters_planted": int(truth.max()) + 1}
    for name, ids in (("cluster", order), ("frequency", by_frequency)):
        labels = truth[ids[own_rows : own_rows + seen].numpy()]
        rng = np.random.default_rng(0)
        first = rng.integers(seen, size=PAIRS)
        second = first // divisor * divisor + rng.integers(divisor, size=PAIRS)
        apart = first != second
        found[f"same_cluster_{name}"] = float((labels[first] == labels[second])[apart].mean())
    return found | {"same_cluster_chance": 1 / found["clusters_planted"]}


def main() -> None:
    """Make the data, measure in a process of its own, write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab-size", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", type=Path, help="measure on these shards here, print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_shards(Path(folder), vocab_size=options.vocab_size, rows=options.rows)
        command = [sys.executable, __file__, "--one", folder, "--threads", str(options.threads)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    found |= {"command": sys.argv, "vocab_size": options.vocab_size, "rows": options.rows}
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
