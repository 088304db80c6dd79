"""RecBole's sequential models on the rows, the protocol and the measures of `quorem finetune --task next_item`.

    python benchmarks/recommenders.py sequences.txt --models SASRec BERT4Rec GRU4Rec --seconds 1440 --out results.json

The file has a user's items in time order on each line. The last item is judged, the one before it chooses the epoch
(NDCG@10), items that a user had already are left out, and a target takes the middle place among equal scores. Every
model has its own defaults but for the batch and the length asked for here; a model stops after so many seconds of
processor time in training, or when ten epochs bring nothing better. What is finished is not done again.

It wants an environment of its own, for RecBole 1.2.1 pins what others have left behind:

    pip install -c constraints.txt . "pandas<3" setuptools
    pip install colorlog tensorboard texttable tabulate plotly psutil colorama
    pip install --no-deps recbole==1.2.1 thop
"""

import argparse
import copy
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import get_model, get_trainer, init_seed

from quorem.recommending.ranking import Ranked
from quorem.tokenization.special import SPECIAL_IDS

PATIENCE = 10  # epochs, RecBole's own default
ROWS_AT_ONCE = 512
GONE = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}  # from NumPy 2, not from RecBole 1.2.1
SETTINGS: dict[str, Any] = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "train_neg_sample_args": None,  # the loss is the softmax over all items
    "loss_type": "CE",
    "use_gpu": False,
    "show_progress": False,
    "state": "WARNING",
}


def main() -> None:
    """Train and judge each model that is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--models", nargs="+", default=["SASRec", "BERT4Rec", "GRU4Rec"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=1440, help="of processor time in training, for each model")
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--max-items", type=int, default=50, help="of a history")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name, kind in GONE.items():
        setattr(np, name, kind)
    rows = [line.split() for line in options.sequences.read_text().splitlines()]
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    out = options.out.absolute()
    with tempfile.TemporaryDirectory() as folder:
        write_atomic_file(rows, Path(folder) / "log" / "log.inter")
        os.chdir(folder)  # RecBole writes logs where it stands
        for model in options.models:
            for seed in options.seeds:
                name = f"{model}, seed {seed}"
                if name not in results:
                    results[name] = run(model, seed, rows, folder, options)
                    out.write_text(json.dumps(results, indent=1) + "\n")


def write_atomic_file(rows: list[list[str]], path: Path) -> None:
    """RecBole's format: a row for each event, its place in the user's line as its time."""
    path.parent.mkdir()
    with path.open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, items in enumerate(rows):
            file.writelines(f"{user}\t{item}\t{place}\n" for place, item in enumerate(items))


def run(name: str, seed: int, rows: list[list[str]], folder: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train until the time is over or nothing gets better; the best epoch's places of the test items."""
    own = {
        "data_path": folder,
        "seed": seed,
        "train_batch_size": options.batch_size,
        "MAX_ITEM_LIST_LENGTH": options.max_items,
    }
    config = Config(model=name, dataset="log", config_dict={**SETTINGS, **own})
    init_seed(seed, reproducibility=True)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = get_model(name)(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    users = [[int(dataset.token2id("item_id", item)) for item in items] for items in rows]
    epochs: list[dict[str, float]] = []
    seconds, best, state = 0.0, -1, copy.deepcopy(model.state_dict())
    while seconds < options.seconds and len(epochs) - best <= PATIENCE:
        began = time.process_time()
        loss = trainer._train_epoch(train, len(epochs), show_progress=False)
        seconds += time.process_time() - began
        scores = judge(model, [items[:-1] for items in users], config)
        epochs.append({"loss": float(loss), "ndcg@10": scores["ndcg@10"], "seconds": round(seconds)})
        if best < 0 or scores["ndcg@10"] > epochs[best]["ndcg@10"]:
            best, state = len(epochs) - 1, copy.deepcopy(model.state_dict())
        print(f"{name}, seed {seed}, epoch {len(epochs)}: {epochs[-1]}", flush=True)
    model.load_state_dict(state)
    test = judge(model, users, config)
    print(f"{name}, seed {seed}: {test}", flush=True)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    found = {"test": test, "best_epoch": best + 1, "training_seconds": round(seconds), "parameters": parameters}
    return {**found, "epochs": epochs, "torch": torch.__version__, "threads": torch.get_num_threads()}


@torch.no_grad()
def judge(model: Any, users: list[list[int]], config: Config) -> dict[str, float]:
    """Measures of the last item of each line, of at least 2, asked from those before it, which are left out."""
    model.eval()
    rows = [items for items in users if len(items) >= 2]
    length = config["MAX_ITEM_LIST_LENGTH"]
    ranked: Ranked | None = None
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        histories = [items[:-1][-length:] for items in some]
        sequence = torch.zeros(len(some), length, dtype=torch.int64)
        for number, history in enumerate(histories):
            sequence[number, : len(history)] = torch.tensor(history)
        lengths = torch.tensor([len(history) for history in histories])
        scores = model.full_sort_predict(Interaction({"item_id_list": sequence, "item_length": lengths}))
        scores = torch.cat([torch.full((len(some), SPECIAL_IDS), -torch.inf), scores.float()[:, 1:]], dim=1)
        targets = torch.tensor([items[-1] for items in some]) + SPECIAL_IDS - 1
        for number, items in enumerate(some):
            scores[number, torch.tensor(items[:-1]) + SPECIAL_IDS - 1] = -torch.inf
        ranked = ranked or Ranked(np.ones(scores.shape[1]))
        ranked.update(scores, targets)
    assert ranked is not None
    return {measure: round(value, 5) for measure, value in ranked.compute().items()}


if __name__ == "__main__":
    main()
