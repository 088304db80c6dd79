"""ONNX: one model.onnx for onnxruntime and whatever else reads it, with any number of rows of any length.

A compositional table stays what it is: gathers from small tables and a sum or a product, so that the file is as large
as the parameters and the index of the ids. What was written is compared with torch before the folder appears.
"""

import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quorem.errors import UserError
from quorem.exporting.graph import NEVER, Graph, build_graph
from quorem.exporting.networks import Network, read_network
from quorem.tokenization.files import save_tokenizer

NEEDED = ("onnx", "onnxscript", "onnxruntime")  # extra quorem[export]
FILE, WHOLE = "model.onnx", "model.fp32.onnx"
LARGEST_FILE = 1_900_000_000  # bytes; protobuf ends at 2 GiB, beyond it weights stand in a file beside
DIFFERENCE = 1e-3  # of outputs, or of their largest number, beyond which an export is refused
CHOICES = 2  # of multiple choice, on random ids
TRIED = ((1, 1), (3, 20), (4, 7))  # rows and tokens of what outputs are compared on
CHATTY = ("", "torch.onnx", "onnxscript", "onnx_ir")


def export_onnx(run: Path, folder: Path, *, int8: bool = False) -> list[str]:
    """Fill a folder with model.onnx, the tokenizer and config.json (its id2label has the labels).

    Args:
        run: a run (its discriminator or fine-tuned model), or a model folder.
        folder: exists and is empty.
        int8: weights of products and tables in eight bits, by onnxruntime's dynamic quantisation.

    Returns:
        What was written, and how far outputs are from torch's, a line each.

    Raises:
        UserError: if a package is missing, a network has no ONNX, or its outputs differ from torch's.
    """
    check_packages()
    network = read_network(run)
    graph = build_graph(network)
    with quiet():
        try:
            program = trace(graph, network.config.max_position_embeddings)
        except Exception as error:  # the exporter raises of its own kinds
            reason = " ".join(str(error).split())[-200:]
            raise UserError(
                f"{network.folder}: torch cannot write it as ONNX ({reason}): export with --format remote-code"
            ) from error
        path = folder / (WHOLE if int8 else FILE)
        program.save(path, external_data=_bytes(graph) > LARGEST_FILE)
        lines = [_described(network, graph, path), _compared(path, graph, network, limit=DIFFERENCE)]
        if int8:
            quantise(path, folder / FILE)
            lines += [f"int8: {FILE}, {_size(folder / FILE)}", _compared(folder / FILE, graph, network, limit=None)]
            for left in folder.glob(f"{WHOLE}*"):
                left.unlink()
    network.config.save_pretrained(folder)
    save_tokenizer(network.tokenizer, folder)
    return lines


def check_packages() -> None:
    """Accept an environment that has what exporting to ONNX needs.

    Raises:
        UserError: with the line for pip, if it has not.
    """
    for name in NEEDED:
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(f"--format onnx needs {name}: pip install 'quorem[export]'") from error


def trace(graph: Graph, longest: int) -> Any:
    """The graph as torch's ONNXProgram, with dynamic batch and time, and without notes of where it was made.

    Args:
        graph: what to export.
        longest: tokens in a row; absolute positions end there.
    """
    ids = torch.full((*(2 for _ in graph.axes[1:]), min(8, longest)), 5)
    given = tuple(ids if name == "input_ids" else torch.ones_like(ids) for name in graph.inputs)
    with torch.no_grad():
        program: Any = torch.onnx.export(
            graph, given, dynamo=True, verbose=False, input_names=list(graph.inputs),
            output_names=list(graph.names), dynamic_shapes={name: dict(enumerate(graph.axes)) for name in graph.inputs},
        )  # fmt: skip
    model = program.model
    for part in (model, model.graph, *model.graph.all_nodes(), *model.graph.inputs, *model.graph.initializers.values()):
        part.metadata_props.clear()  # stack traces, which name files of this machine
        part.doc_string = None
    for node in model.graph.all_nodes():
        for output in node.outputs:
            output.metadata_props.clear()
    return program


def quantise(path: Path, out: Path) -> None:
    """Write a model whose matrices and tables are int8, by onnxruntime's dynamic quantisation."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = path.with_name(path.name + ".data").exists()
    quantize_dynamic(path, out, weight_type=QuantType.QInt8, per_channel=True, use_external_data_format=large)


def open_session(path: Path) -> Any:
    """A model in onnxruntime, on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_onnx(session: Any, inputs: Mapping[str, Tensor]) -> list[np.ndarray]:
    """A model's outputs, in the order of their names."""
    found: list[np.ndarray] = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return found


def random_batch(graph: Graph, rows: int, time: int) -> dict[str, Tensor]:
    """What a graph takes, int64 (rows, time): random ids, the same every time, of which later rows are shorter.

    Token types are 0 in a third of each row. Of multiple choice it is (rows, CHOICES, time).
    """
    config = graph.model.config
    shape = (rows, *(CHOICES for _ in graph.axes[2:]), min(time, config.max_position_embeddings))
    ids = torch.randint(config.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    places, lengths = torch.arange(shape[-1]), shape[-1] - 3 * torch.arange(rows)
    mask = (places < lengths.clamp(min=1).view(-1, *(1 for _ in graph.axes[1:]))).long().expand(shape)
    given = {
        "input_ids": ids.masked_fill(mask == 0, config.pad_token_id or 0),
        "attention_mask": mask,
        "token_type_ids": (places >= shape[-1] // 3).long() * mask,
    }
    return {name: given[name] for name in graph.inputs}


@torch.no_grad()
def differences(path: Path, graph: Graph) -> dict[str, tuple[float, float]]:
    """Of each output, on random ids: its largest difference from torch's at real tokens, and its largest number.

    A NaN on either side makes the difference NaN. Scores of spans are compared start by start, whatever the order of
    `starts`: those that are all but equal may change places.
    """
    found: dict[str, tuple[float, float]] = {}
    session = open_session(path)
    for rows, time in TRIED:
        inputs = random_batch(graph, rows, time)
        mask = inputs["attention_mask"].bool()
        theirs = _by_start(graph, map(torch.from_numpy, run_onnx(session, inputs)))
        for name, ours in _by_start(graph, graph(**inputs)).items():
            pair = torch.stack([ours, theirs[name]])
            pair = pair[:, mask] if name in graph.by_token else pair
            pair = pair.masked_fill(pair < NEVER, 0.0)
            now = torch.stack([(pair[0] - pair[1]).abs().max(), pair[0].abs().max()])
            before = torch.tensor(found.get(name, (0.0, 0.0)))
            found[name] = tuple(torch.maximum(before, now).tolist())  # which keeps a NaN, as max does not
    return found


def _by_start(graph: Graph, outputs: Iterable[Tensor]) -> dict[str, Tensor]:
    """Outputs by their names; of `starts` and `span_scores` the scores (batch, time, time) of each start's spans."""
    found = dict(zip(graph.names, outputs, strict=True))
    if "starts" in found:
        starts, scores = found.pop("starts"), found["span_scores"]
        empty = scores.new_full((len(scores), scores.shape[-1], scores.shape[-1]), -torch.inf)
        found["span_scores"] = empty.scatter_reduce(1, starts.unsqueeze(-1).expand_as(scores), scores, "amax")
    return found


def _compared(path: Path, graph: Graph, network: Network, *, limit: float | None) -> str:
    """How far outputs are from torch's, in words; an error beyond a limit."""
    found = differences(path, graph)
    said = ", ".join(f"{name} {most:.1e} (of up to {largest:.1f})" for name, (most, largest) in found.items())
    if not all(map(math.isfinite, chain.from_iterable(found.values()))):
        raise UserError(
            f"{network.folder}: its outputs have NaN or infinite numbers, in torch or onnxruntime ({said}): train "
            "again, with a smaller learning rate, or export with --format remote-code; nothing was written"
        )
    if limit is not None and any(most > limit * max(1.0, largest) for most, largest in found.values()):
        raise UserError(
            f"{network.folder}: onnxruntime's outputs differ from torch's ({said}): another version of onnxscript or "
            "onnxruntime may mend it; nothing was written"
        )
    return f"largest difference from torch on random ids: {said}"


def _described(network: Network, graph: Graph, path: Path) -> str:
    numbers = _bytes(graph) / 1e6
    return f"{network.kind}: {', '.join(graph.names)}; {_size(path)}, of which weights and index are {numbers:,.3f} MB"


def _size(path: Path) -> str:
    return f"{sum(file.stat().st_size for file in path.parent.glob(f'{path.name}*')) / 1e6:,.3f} MB"


def _bytes(graph: Graph) -> int:
    return sum(tensor.nbytes for tensor in (*graph.parameters(), *graph.buffers()))


@contextmanager
def quiet() -> Iterator[None]:
    """What torch, onnxscript and onnxruntime say about themselves is no part of what a command says."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
