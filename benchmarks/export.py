r"""Sizes of model.onnx at growing vocabularies, and onnxruntime's time beside torch's, on one thread.

    python benchmarks/export.py --out results.json

The network is a discriminator of size tiny with random weights; its table is the default qr table, its ids ordered by a
stored index (an int32 each). A dense table is exported at the smallest vocabulary only; at the others its bytes are
V x D x 4. Arms take turns on the same batch, round after round; times are of the process, so that other jobs count
little; figures are medians over rounds, ratios are to torch in the same round.
"""

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from quorem.config.settings import EmbeddingSettings, ModelSettings
from quorem.exporting.graph import build_graph
from quorem.exporting.networks import Network
from quorem.exporting.onnx import differences, open_session, quantise, quiet, random_batch, run_onnx, trace
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremForPreTraining
from quorem.plan.layout import lay_out

TINY: dict[str, Any] = {
    "embedding_size": 128, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "attention_head_size": 64, "intermediate_size": 256, "positions": "rotary", "initializer": "width",
}  # fmt: skip
SHAPES = ((1, 32), (8, 128))
WIDTH = int(TINY["embedding_size"])


def build(kind: str, vocab_size: int) -> QuoremForPreTraining:
    """A discriminator of random weights."""
    settings = ModelSettings(embedding=EmbeddingSettings(kind=kind, assignment="frequency"))
    entry, _ = lay_out(settings, vocab_size=vocab_size, width=WIDTH)
    torch.manual_seed(0)
    return QuoremForPreTraining(QuoremConfig(vocab_size=vocab_size, embedding=entry, **TINY)).eval()


def measure(kind: str, vocab_size: int, folder: Path, *, rounds: int) -> dict[str, Any]:
    """Export one model in both precisions, and time it."""
    model = build(kind, vocab_size)
    tensors = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    table = model.electra.embeddings.word_embeddings
    in_table = sum(tensor.nbytes for tensor in (*table.parameters(), *table.buffers()))
    eager = copy.deepcopy(model)
    network = Network(folder, "discriminator", model, cast(Any, None))  # ids need no tokenizer
    graph = build_graph(network)
    files = {"fp32": folder / "fp32.onnx", "int8": folder / "int8.onnx"}
    with quiet():
        trace(graph, 128).save(files["fp32"], external_data=False)
        quantise(files["fp32"], files["int8"])
    found: dict[str, Any] = {
        "kind": kind,
        "vocab_size": vocab_size,
        "weights_and_index_bytes": tensors,
        "table_and_index_bytes": in_table,
        "dense_table_bytes": vocab_size * WIDTH * 4,
        "file_bytes": {name: path.stat().st_size for name, path in files.items()},
        "differences": {name: differences(path, graph) for name, path in files.items()},
        "seconds": {},
    }
    sessions = {name: open_session(path) for name, path in files.items()}
    for shape in SHAPES:
        batch = random_batch(graph, *shape)
        arms: dict[str, Callable[[], Any]] = {
            "torch": partial(cast(Any, eager), **batch),
            **{name: partial(run_onnx, session, batch) for name, session in sessions.items()},
        }
        found["seconds"]["x".join(map(str, shape))] = timed(arms, rounds)
    return found


@torch.inference_mode()
def timed(arms: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of a call of each arm, in turn; the first three rounds warm up."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(rounds + 3):
        for name, arm in arms.items():
            start = time.process_time()
            arm()
            if number >= 3:
                found[name].append(time.process_time() - start)
    return found


def main() -> None:
    """Measure every case and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab-sizes", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [("dense", options.vocab_sizes[0]), *(("qr", size) for size in options.vocab_sizes)]
    results = []
    for kind, size in cases:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(kind, size, Path(folder), rounds=options.rounds)
        results.append(found)
        files = found["file_bytes"]
        print(
            f"{kind:<6}{size:>12,}  weights and index {found['weights_and_index_bytes'] / 1e6:.2f} MB, file "
            f"{files['fp32'] / 1e6:.2f} MB, int8 {files['int8'] / 1e6:.2f} MB (a dense table alone "
            f"{found['dense_table_bytes'] / 1e6:,.0f} MB); differences {found['differences']}"
        )
        for shape, times in found["seconds"].items():
            ratios = {
                name: statistics.median(a / b for a, b in zip(each, times["torch"], strict=True))
                for name, each in times.items()
            }
            medians = {name: f"{statistics.median(each) * 1e3:.2f} ms" for name, each in times.items()}
            print(f"    {shape}: {medians}, to torch { ({name: round(each, 2) for name, each in ratios.items()}) }")
    if options.out:
        facts = {"command": f"python benchmarks/export.py --rounds {options.rounds}", "torch": torch.__version__}
        options.out.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
