"""What pre-training gives to question answering, beside the same network from new weights and a guess without one.

    python benchmarks/questions.py runs/pre train.json dev.json --seeds 0 1 --out results.json train.epochs=2

The files are SQuAD's JSON, one to train on and one to judge, named train and dev. Every arm is a run folder
beside OUT, and what is finished is not done again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from quorem.config.loading import override
from quorem.config.tasks import QuestionAnsweringConfig
from quorem.tasks import finetune

ARMS = {
    "pre-trained": [],
    "new weights": ["classifier.from_scratch=true"],
    "pre-trained, hf head": ["classifier.head=hf"],
}
SCORES = ("f1", "exact_match", "epoch", "last", "answer_units", "baselines", "ceiling", "held_out")


def main() -> None:
    """Run what is not done yet and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("train")
    parser.add_argument("dev")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_intermixed_args()
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for seed in options.seeds:
        for arm in options.arms:
            name, began = f"{arm}, seed {seed}", time.process_time()
            if name in results:
                continue
            config = override(QuestionAnsweringConfig(), [f"pretrained={options.run}", *options.settings, *ARMS[arm]])
            config = override(config, [f"data.path=[{options.train}, {options.dev}]", f"train.seed={seed}"])
            found = finetune(config, options.out.with_suffix("") / name.replace(", ", "-").replace(" ", "-"))
            results[name] = {key: found[key] for key in SCORES}
            results[name]["processor_seconds"] = round(time.process_time() - began)
            print(f"{name}: F1 {found['f1']:.4f}, exact match {found['exact_match']:.4f}", flush=True)
            options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
