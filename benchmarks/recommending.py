"""Next-item models of up to ten million items: training steps in turn, then the exact top 20 of 1,000 sessions.

    python benchmarks/recommending.py --out results.json

Sessions are synthetic (quorem.samples.sessions), so that the best entropy is known. Arms are a catalogue's size, a
table, a softmax and a way of updating, each in a process and a thread of its own. They take turns, a step each, round
after round, so that they see the same machine; times are of the process. Positions are targets. Then all train on, side
by side, and rank. The last part compares two ways of search where every node of the tree can win: items in random
order, all as frequent.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from memory import peak_mb
from torch import Tensor

from quorem.config.loading import from_mapping
from quorem.config.settings import PretrainConfig, TrainSettings
from quorem.data.sessions import Sessions
from quorem.heads import levels
from quorem.models.configuration import QuoremConfig
from quorem.models.next_item import QuoremForNextItem
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.recommending.program import NextItemProgram
from quorem.samples.sessions import entropies, sessions
from quorem.tokenization.special import SPECIAL_IDS
from quorem.training import gradients
from quorem.training.device import autocast_dtype
from quorem.training.optim import build_optimizer, parameter_groups
from quorem.training.row_adam import row_tables

ARMS: dict[str, tuple[int, dict[str, Any], str, str]] = {
    "43,000, dense, tree, whole": (43_000, {"kind": "dense"}, "tree", "whole"),
    "43,000, dense, tree, rows": (43_000, {"kind": "dense"}, "tree", "rows"),
    "100,000, dense, tree, rows": (100_000, {"kind": "dense"}, "tree", "rows"),
    "1,000,000, dense, tree, whole": (1_000_000, {"kind": "dense"}, "tree", "whole"),
    "1,000,000, dense, tree, rows": (1_000_000, {"kind": "dense"}, "tree", "rows"),
    "1,000,000, qr, two_level": (1_000_000, {"kind": "qr"}, "two_level", "whole"),
    "10,000,000, qr, two_level": (10_000_000, {"kind": "qr"}, "two_level", "whole"),
}
TRAINING, RANKED, TOP, BATCH, WARM_UP, MAX_ITEMS = 20_000, 1_000, 20, 64, 3, 50
CHECKED = 1.1e8  # scores that are computed to check the ranking


def build(items: int, table: dict[str, Any], head: str) -> QuoremForNextItem:
    """A tiny model with new weights."""
    torch.manual_seed(0)
    model = {"size": "tiny", "vocab_size": items + SPECIAL_IDS, "embedding": table, "head": {"kind": head}}
    plan = Plan.of(resolve(from_mapping(PretrainConfig, {"model": model})))
    changes = {"causal": True, "head": plan.generator.head, "never_targets": list(range(SPECIAL_IDS))}
    return QuoremForNextItem(QuoremConfig(**{**plan.discriminator.to_dict(), **changes}))


def sample(items: int, rows: int, seed: int) -> Sessions:
    """Sessions as ids."""
    lines = sessions(rows, vocab_size=items, seed=seed)
    return Sessions.of([[SPECIAL_IDS + int(name) for name in line.split()] for line in lines])


def order(model: QuoremForNextItem, counts: np.ndarray) -> None:
    """Rank items by how often they occur; special tokens stay first."""
    ranked = np.argsort(-counts[SPECIAL_IDS:], kind="stable") + SPECIAL_IDS
    ids = torch.from_numpy(np.concatenate([np.arange(SPECIAL_IDS), ranked]))
    model.get_input_embeddings().assignment.set_order(ids)
    model.generator_lm_head.start_at_unigram(torch.from_numpy(counts))


class Visits:
    """Counts what a softmax reads while it searches."""

    def __init__(self, head: Any) -> None:
        self.calls, self.pairs = 0, 0
        for name in ("_scores", "_scores_of_one"):
            setattr(head, name, self._counted(getattr(head, name)))

    def _counted(self, scores: Any) -> Any:
        def counted(state: Tensor, level: int, prefix: Any) -> Any:
            self.calls, self.pairs = self.calls + 1, self.pairs + len(state)
            return scores(state, level, prefix)

        return counted


class Arm:
    """A model, its sessions and its optimizer."""

    def __init__(self, name: str) -> None:
        self.items, table, kind, updates = ARMS[name]
        self.model = build(self.items, table, kind)
        training = sample(self.items, TRAINING, 0)
        order(self.model, training.counts(self.model.config.vocab_size))
        train = TrainSettings(batch_size=BATCH, epochs=100.0)
        self.program = NextItemProgram(self.model.train(), training, train, max_items=MAX_ITEMS)
        tables = row_tables(self.model, updates)
        groups = parameter_groups(
            self.model.named_parameters(), lr=2e-3, weight_decay=0.01, decay_embeddings=False, row_tables=tables
        )
        self.optimizer = build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-6)
        self.dtype = autocast_dtype("auto", torch.device("cpu"))
        self.done = 0

    def step(self) -> dict[str, float]:
        """One step: seconds of the process and positions."""
        (part,) = self.program.micro_batches(self.done, rank=0, num_processes=1)
        began = time.process_time()
        with torch.autocast("cpu", dtype=self.dtype, enabled=self.dtype is not None):
            loss = self.program.loss(self.model, part)
        loss.backward()
        gradients.clip(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1
        return {"seconds": time.process_time() - began, "positions": len(part.targets)}

    @torch.no_grad()
    def rank(self) -> dict[str, Any]:
        """The top 20 of other sessions, checked against all scores of as many rows as CHECKED allows."""
        cases = sample(self.items, RANKED, 1)
        histories, _ = cases.cases(0, RANKED)
        head = self.model.eval().generator_lm_head
        began = time.process_time()
        hidden = torch.cat(
            [self.model.vectors(histories[at : at + 256], max_items=MAX_ITEMS) for at in range(0, RANKED, 256)]
        )
        encoded = time.process_time()
        visits = Visits(head)
        again = time.process_time()
        values, ids = head.topk(hidden, TOP)
        searched = time.process_time() - again
        some = max(1, min(RANKED, int(CHECKED // self.items)))
        best, there = torch.full((some, TOP), -torch.inf), torch.zeros(some, TOP, dtype=torch.int64)
        whole = time.process_time()
        for found, log_probs in head.full_log_prob(hidden[:some]):
            best, place = torch.cat([best, log_probs], 1).topk(TOP, dim=1)
            there = torch.cat([there, found.expand(some, -1)], 1).gather(1, place)
        whole = time.process_time() - whole
        judged = NextItemProgram(self.model, cases, TrainSettings(batch_size=BATCH), max_items=MAX_ITEMS)
        for number in range(4):
            for part in judged.micro_batches(number, rank=0, num_processes=1):
                judged.loss(self.model, part)
        known = entropies(self.items)
        return {
            "encode_seconds": encoded - began, "top_seconds": searched, "calls": visits.calls,
            "node_visits": visits.pairs,
            "checked_rows": some, "all_scores_seconds": whole,
            "largest_difference": float((best - values[:some]).abs().max()),
            "same_ids": float((there == ids[:some]).float().mean()),
            "bf16": self.dtype is not None,
            "nll": judged.record()["nll"], "best_nll": known.item_given_cluster, "unigram_nll": known.item,
            "steps": self.done, **self.sizes(),
        }  # fmt: skip

    def sizes(self) -> dict[str, float]:
        """Megabytes of weights and of the optimizer's state, and the process's peak."""
        state = sum(value.nbytes for each in self.optimizer.state.values() for value in each.values())
        weights = sum(each.nbytes for each in (*self.model.parameters(), *self.model.buffers()))
        return {"weights_mb": weights / 2**20, "state_mb": state / 2**20, "peak_mb": peak_mb()}


def be(name: str) -> None:
    """Answer each line of input: a number of steps to take, or rank."""
    torch.set_num_threads(1)
    arm = Arm(name)
    for line in sys.stdin:
        found: Any = arm.rank() if line.strip() == "rank" else [arm.step() for _ in range(int(line))]
        print(json.dumps(found), flush=True)


@torch.no_grad()
def flat(items: int) -> dict[str, float]:
    """Seconds of the search where all items are as frequent, in random order: row by row, and node by node."""
    torch.set_num_threads(1)
    model = build(items, {"kind": "dense"}, "tree").eval()
    order(model, np.ones(items + SPECIAL_IDS, np.int64))
    hidden = 2 * torch.randn(RANKED, model.config.embedding_size)
    found, values = {}, []
    for name, shared_by in (("by_row", math.inf), ("by_node", levels.SHARED_BY)):
        levels.SHARED_BY = shared_by  # type: ignore[assignment]
        began = time.process_time()
        values.append(model.generator_lm_head.topk(hidden, TOP)[0])
        found[f"{name}_seconds"] = time.process_time() - began
    return found | {"items": items, "largest_difference": float((values[0] - values[1]).abs().max())}


def main() -> None:
    """Let the arms take turns, train on and rank; write it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60, help="further steps before ranking")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--flat", type=int, default=100_000, help="items of the last part")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=list(ARMS), help="be an arm")
    options = parser.parse_args()
    if options.one:
        be(options.one)
        return
    running = {
        arm: subprocess.Popen(
            [sys.executable, __file__, "--one", arm], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for arm in options.arms
    }

    def ask(arm: str, what: str) -> None:
        stream = running[arm].stdin
        assert stream
        stream.write(f"{what}\n")
        stream.flush()

    def answer(arm: str) -> Any:
        stream = running[arm].stdout
        assert stream
        return json.loads(stream.readline())

    steps: dict[str, list[dict[str, float]]] = {arm: [] for arm in running}
    for _ in range(WARM_UP + options.rounds):
        for arm in running:
            ask(arm, "1")
            steps[arm] += answer(arm)
    for arm in running:
        ask(arm, str(options.steps))
    for arm in running:
        answer(arm)
    rows = []
    for arm, process in running.items():
        ask(arm, "rank")
        found = answer(arm)
        process.communicate()
        pace = {
            each: [step["positions"] / step["seconds"] for step in steps[each][WARM_UP:]]
            for each in (arm, options.arms[0])
        }
        ratios = [one / other for one, other in zip(*pace.values(), strict=True)] if len(pace) > 1 else [1.0]
        said = {"arm": arm, "positions_per_second": statistics.median(pace[arm]), "to_first": statistics.median(ratios)}
        rows.append({**said, **found, "rounds": pace[arm]})
        print({key: value for key, value in rows[-1].items() if key != "rounds"}, flush=True)
    last = flat(options.flat)
    print(last)
    facts = {"command": sys.argv, "torch": torch.__version__, "threads": 1, "batch": BATCH, "clock": "process"}
    if options.out:
        options.out.write_text(json.dumps(facts | {"rows": rows, "flat": last}, indent=1) + "\n")


if __name__ == "__main__":
    main()
