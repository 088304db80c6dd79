"""How fast and in how much memory data becomes shards.

    python benchmarks/preparation.py reviews.csv --text-column review --out results.json --rounds 3
    python benchmarks/preparation.py reviews.csv --text-column review --out results.json --memory-mb 100 2000

Speed: the same texts and tokenizer (words, 60,000), arms in turn, round after round; MB of text a second and the ratio
to the first arm in the same round.
    library     the tokenizers library alone: encode_batch_fast on texts in memory, nothing read, kept or written
    quorem      the CSV to shards: reading, encoding, counting, writing
    datasets    Hugging Face datasets: the CSV loaded and mapped with the same tokenizer, 1,000 rows at once
Memory: peak of a process of its own that makes shards of so many MB of text, the file's texts repeated.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

from memory import peak_mb

from quorem.data.documents import Document
from quorem.data.readers import READERS, choose_format
from quorem.data.shards import write_shards
from quorem.tokenization import load_tokenizer, save_tokenizer, train_tokenizer

VOCAB_SIZE, AT_ONCE = 60_000, 1_000


def documents(path: str, column: str | None) -> Iterator[Document]:
    """The documents of the file."""
    return READERS[choose_format(path)].read(path, text_column=column)


def library(path: str, column: str, tokenizer: Any, folder: Path) -> Callable[[], None]:
    """Encoding alone; reading happens before the clock starts."""
    texts, backend = [document.text for document in documents(path, column)], tokenizer.backend_tokenizer

    def run() -> None:
        for start in range(0, len(texts), AT_ONCE):
            backend.encode_batch_fast(texts[start : start + AT_ONCE], add_special_tokens=False)

    return run


def ours(path: str, column: str, tokenizer: Any, folder: Path) -> Callable[[], None]:
    """The file to shards."""

    def run() -> None:
        write_shards(folder / "shards", documents(path, column), tokenizer, made_from={})

    return run


def with_datasets(path: str, column: str, tokenizer: Any, folder: Path) -> Callable[[], None]:
    """The file to an Arrow data set of ids."""
    import datasets

    datasets.disable_progress_bars()

    def run() -> None:
        with tempfile.TemporaryDirectory() as cache:
            found = datasets.load_dataset("csv", data_files=path, split="train", cache_dir=cache)
            found.map(
                lambda rows: {"input_ids": tokenizer(rows[column], add_special_tokens=False)["input_ids"]},
                batched=True, batch_size=AT_ONCE, remove_columns=found.column_names,
            )  # fmt: skip

    return run


ARMS = {"library": library, "quorem": ours, "datasets": with_datasets}


def memory(path: str, column: str, tokenizer: Path, megabytes: int) -> dict[str, Any]:
    """Peak and time of making shards of so much text, in this process."""

    def limited() -> Iterator[Document]:
        left = megabytes * 1_000_000
        for document in chain.from_iterable(documents(path, column) for _ in repeat(None)):
            left -= len(document.text.encode())
            if left < 0:
                return
            yield document

    loaded, before, began = load_tokenizer(tokenizer), peak_mb(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        meta = write_shards(Path(folder) / "shards", limited(), loaded, made_from={})
    seconds = time.perf_counter() - began
    return {"peak_mb": peak_mb(), "before_mb": before, "tokens": meta.num_tokens, "seconds": seconds}


def main() -> None:
    """Run what is asked for, keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--memory-mb", type=int, nargs="*", default=[])
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a process of its own: the tokenizer's folder
    options = parser.parse_args()
    if options.one:
        found = memory(options.path, options.text_column, Path(options.one), options.memory_mb[0])
        options.out.write_text(json.dumps(found))
        return
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = (document.text for document in documents(options.path, options.text_column))
        tokenizer = train_tokenizer(texts, vocab_size=VOCAB_SIZE)
        save_tokenizer(tokenizer, folder / "tokenizer")
        megabytes = sum(len(d.text.encode()) for d in documents(options.path, options.text_column)) / 1e6
        if options.rounds:
            runs = {arm: ARMS[arm](options.path, options.text_column, tokenizer, folder) for arm in options.arms}
            seconds: dict[str, list[float]] = {arm: [] for arm in runs}
            for arm in islice(chain.from_iterable(repeat(options.arms)), options.rounds * len(options.arms)):
                began = time.perf_counter()
                runs[arm]()
                seconds[arm].append(time.perf_counter() - began)
                print(f"{arm}: {megabytes / seconds[arm][-1]:.2f} MB/s", flush=True)
            first = seconds[options.arms[0]]
            results["speed"] = {
                "text_mb": megabytes,
                "seconds": seconds,
                "mb_per_second": {arm: megabytes / statistics.median(values) for arm, values in seconds.items()},
                "ratio_to_first": {
                    arm: statistics.median(a / b for a, b in zip(first, values, strict=True))
                    for arm, values in seconds.items()
                },
            }
        for size in options.memory_mb:
            command = [sys.executable, __file__, options.path, "--text-column", options.text_column]
            place = folder / "memory.json"
            subprocess.run(
                [*command, "--memory-mb", str(size), "--one", str(folder / "tokenizer"), "--out", str(place)],
                check=True,
            )
            results.setdefault("memory", {})[str(size)] = json.loads(place.read_text())
            print(size, results["memory"][str(size)], flush=True)
    results["command"] = sys.argv
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results.get("speed", {}).get("ratio_to_first", {})))


if __name__ == "__main__":
    main()
