r"""Serving under load: requests a second, latencies, memory over time, and what batches are worth.

    python benchmarks/serving.py runs/sentiment --minutes 10 --clients 8 --out results.json

It starts `quorem serve` on a free port, once with batches (the default) and once without (--max-batch 1), and asks
both in turn, round after round, from --clients threads with a connection each. Then it loads a fresh server with
batches for --minutes and notes the resident memory of its process every ten seconds. Requests are drawn from a seed:
1 to 8 texts of 5 to 60 words of the run's vocabulary. It ends by itself, after --minutes or --most requests.
"""

import argparse
import http.client
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]

JSON = {"content-type": "application/json"}
EVERY = 10.0  # seconds between looks at memory


@contextmanager
def served(run: Path, *options: str) -> Iterator[tuple[str, int, psutil.Process]]:
    """A server in a process of its own: host, port, process."""
    words = [sys.executable, "-m", "quorem", "serve", str(run), "--port", "0", *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            host, port = line.split("at http://")[1].split(": /")[0].split(":")
            yield host, int(port), psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def bodies(run: Path, number: int, field: str) -> list[bytes]:
    """Requests, drawn from a seed."""
    chance = random.Random(0)
    words = next(run.glob("*/vocab.txt")).read_text(encoding="utf-8").split("\n")[5:2000]
    found = []
    for _ in range(number):
        rows = [chance.choices(words, k=chance.randrange(5, 61)) for _ in range(chance.randrange(1, 9))]
        found.append(json.dumps({field: rows if field == "sessions" else [" ".join(row) for row in rows]}).encode())
    return found


def load(host: str, port: int, path: str, asked: list[bytes], *, clients: int, seconds: float, most: int) -> dict:
    """What clients, each with a request at a time, get within some seconds or requests."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    statuses: dict[int, int] = {}
    end, lock = time.monotonic() + seconds, threading.Lock()

    def client(place: int) -> None:
        connection, number = http.client.HTTPConnection(host, port, timeout=120), place
        while time.monotonic() < end and len(latencies[place]) < most // clients:
            begun = time.perf_counter()
            connection.request("POST", path, asked[number % len(asked)], JSON)
            answer = connection.getresponse()
            answer.read()
            latencies[place].append(time.perf_counter() - begun)
            number += clients
            with lock:
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
        connection.close()

    threads = [threading.Thread(target=client, args=(place,)) for place in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken, every = time.perf_counter() - begun, sorted(each for some in latencies for each in some)
    cuts = statistics.quantiles(every, n=100)
    return {
        "seconds": round(taken, 2), "requests": len(every), "requests_per_second": round(len(every) / taken, 2),
        "latency_ms": {f"p{place}": round(1000 * cuts[place - 1], 1) for place in (50, 95, 99)},
        "statuses": statuses,
    }  # fmt: skip


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[tuple[float, float]]]:
    """Seconds and resident MB of a process, every ten seconds while it is entered."""
    found, ended, begun = list[tuple[float, float]](), threading.Event(), time.monotonic()

    def look() -> None:
        while True:
            found.append((round(time.monotonic() - begun, 1), round(process.memory_info().rss / 1e6, 1)))
            if ended.wait(EVERY):
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def slope(memory: list[tuple[float, float]]) -> float:
    """MB a minute by least squares, over the second half."""
    later = memory[len(memory) // 2 :]
    if len(later) < 2:
        return 0.0
    return 60 * statistics.linear_regression([at for at, _ in later], [size for _, size in later]).slope


def main() -> None:
    """Compare with and without batches, then load for long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=10, help="of the long load")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--most", type=int, default=200_000, help="requests of the long load")
    parser.add_argument("--rounds", type=int, default=6, help="of the comparison")
    parser.add_argument("--round-seconds", type=float, default=8)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    arms: dict[str, tuple[str, ...]] = {"batches": (), "no batches": ("--max-batch", "1", "--max-wait-ms", "0")}
    with served(options.run, *arms["batches"]) as on, served(options.run, *arms["no batches"]) as off:
        connection = http.client.HTTPConnection(*on[:2])
        connection.request("GET", "/health")
        health = json.loads(connection.getresponse().read())
        path, field = f"/{health['operations'][0]}", "sessions" if health["task"] == "next_item" else "texts"
        asked = bodies(options.run, 1000, field)
        rounds = []
        for number in range(options.rounds):
            order = list(zip(arms, (on, off), strict=True))[:: 1 if number % 2 else -1]
            rounds.append({
                name: load(*server[:2], path, asked, clients=options.clients, seconds=options.round_seconds, most=10**6)
                for name, server in order
            })  # fmt: skip
            print({name: each["requests_per_second"] for name, each in rounds[-1].items()}, flush=True)
        ratios = [each["batches"]["requests_per_second"] / each["no batches"]["requests_per_second"] for each in rounds]
    with served(options.run) as (host, port, process), watched(process) as memory:
        how = {"clients": options.clients, "seconds": 60 * options.minutes, "most": options.most}
        long = load(host, port, path, asked, **how)
    found = {
        "command": "python " + " ".join(sys.argv), "health": health, "path": path,
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "load_average": os.getloadavg()},
        "batches_against_none": {
            "ratio_of_requests_per_second": {"median": statistics.median(ratios), "all": ratios}, "rounds": rounds,
        },
        "long": long | {"memory_mb": memory, "memory_slope_mb_per_minute": round(slope(memory), 3)},
    }  # fmt: skip
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    sizes = [size for _, size in memory]
    print(f"with batches against without: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"{long['requests']:,} requests, {long['requests_per_second']:.1f} a second; {long['statuses']}")
    print(f"latency in ms: {long['latency_ms']}")
    print(f"memory {min(sizes):.0f} to {max(sizes):.0f} MB, second half {slope(memory):+.2f} MB a minute")


if __name__ == "__main__":
    main()
