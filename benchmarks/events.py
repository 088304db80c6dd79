"""Preparing a log of events that is larger than memory: seconds, peak memory and counts, beside sorting in memory.

    python benchmarks/events.py --events 1e6 1e7 --repeat 3 --out benchmarks/results/DATE-events.json
    python benchmarks/events.py --events 1e8 --no-baseline --out ...
    python benchmarks/events.py --quick

A synthetic log (CSV; a row for each event in the order of time, users mixed; items by a power law) is written piece by
piece. `quorem prepare` reads it in a process of its own, whose largest resident size the kernel keeps. The baseline
reads, sorts and groups the same file with pandas in memory, writes a line for each session, and has `quorem prepare`
read these lines; the two take turns, and the ratio is of the same turn.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ITEMS = 1_000_000
OF_A_USER = 20  # events, on average
OPEN, LENGTH = 500, 8  # sessions at a time, and events of each
BASELINE = """
import sys
import pandas
events = pandas.read_csv(sys.argv[1], dtype={"user_id": str, "item_id": str})
events = events.sort_values(["user_id", "timestamp"], kind="stable")
cut = (events.user_id != events.user_id.shift()) | (events.timestamp.diff() > 1800)
with open(sys.argv[2], "w") as file:
    for items in events.item_id.groupby(cut.cumsum()).agg(" ".join):
        file.write(items + "\\n")
"""


def synthesise(path: Path, events: int) -> None:
    """Write the log; it depends on the number of events alone."""
    import duckdb

    users = max(1, events // OF_A_USER)
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '500MB'")
        connection.execute(
            f"COPY (SELECT 'u' || (hash(n // {OPEN * LENGTH} * {OPEN} + n % {OPEN}) % {users}) user_id, 'i' || "
            f"floor({ITEMS} * pow((hash(n + 7) % 1000003) / 1000003.0, 3))::BIGINT item_id, 1600000000 + n * 2592000 "
            f"// {events} AS \"timestamp\" FROM range({events}) numbers(n)) TO '{path}' (FORMAT csv, HEADER true)"
        )


def measured(words: list[str]) -> dict[str, float]:
    """Seconds and the largest resident size of a process and of those that it started, in bytes."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)}: ended with {status}")
    return {"seconds": round(time.monotonic() - began, 1), "peak_bytes": usage.ru_maxrss * 1024}


def prepare(data: Path, out: Path, *settings: str) -> list[str]:
    """The words of a preparation."""
    words = ["-m", "quorem", "prepare", str(data), "--tokenizer", "items", "--out", str(out)]
    return [*words, f"model.vocab_size={ITEMS + 5}", *settings]


def ours(log: Path, folder: Path) -> dict[str, Any]:
    """Prepare the log, and check that its counts add up."""
    out = folder / "ours"
    columns = ["data.user_column=user_id", "data.item_column=item_id", "data.time_column=timestamp"]
    found: dict[str, Any] = measured(prepare(log, out, *columns, "data.session_gap=30min"))
    meta = json.loads((out / "shards" / "meta.json").read_text())
    rows = meta["rows"]
    if rows["read"] != rows["used"] + rows["skipped"] or rows["used"] != meta["num_tokens"] - meta["num_documents"]:
        raise SystemExit(f"the counts do not add up: {meta}")
    found |= {"rows": rows, "sequences": meta["num_documents"], "vocab_size": meta["vocab_size"]}
    shutil.rmtree(out)
    return found


def baseline(log: Path, folder: Path) -> dict[str, Any]:
    """Sort in memory with pandas, and prepare the lines."""
    lines, out = folder / "lines.txt", folder / "baseline"
    sorting = measured(["-c", BASELINE, str(log), str(lines)])
    preparing = measured(prepare(lines, out))
    meta = json.loads((out / "shards" / "meta.json").read_text())
    shutil.rmtree(out)
    lines.unlink()
    return {
        "seconds": round(sorting["seconds"] + preparing["seconds"], 1), "sorting_seconds": sorting["seconds"],
        "peak_bytes": max(sorting["peak_bytes"], preparing["peak_bytes"]), "sequences": meta["num_documents"],
        "tokens": meta["num_tokens"],
    }  # fmt: skip


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", nargs="+", type=float, default=[1e6, 1e7])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--baseline", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--folder", type=Path, help="where to work: 100 bytes for each event are needed")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = [20_000] if options.quick else [int(number) for number in options.events]
    results = []
    for events in sizes:
        with TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            log = folder / "events.csv"
            writer = get_context("spawn").Process(target=synthesise, args=(log, events))  # whose memory is not ours
            writer.start()
            writer.join()
            for turn in range(options.repeat):
                result: dict[str, Any] = {"events": events, "turn": turn, "bytes": log.stat().st_size}
                both = [("quorem", ours), *([("pandas", baseline)] if options.baseline else [])]
                for name, run in both if turn % 2 else reversed(both):
                    result[name] = run(log, folder)
                if options.baseline:
                    result["ratio_of_seconds"] = round(result["quorem"]["seconds"] / result["pandas"]["seconds"], 3)
                print(json.dumps(result), flush=True)
                results.append(result)
    if options.out is not None:
        import duckdb

        facts = {
            "command": " ".join(["python", *sys.argv]), "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(), "duckdb": duckdb.__version__, "date": time.strftime("%Y-%m-%d"),
        }  # fmt: skip
        options.out.write_text(json.dumps(facts | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
