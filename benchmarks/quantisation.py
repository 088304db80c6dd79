r"""What eight-bit linear layers cost a fine-tuned classifier in accuracy, and what they gain in time, on one thread.

    python benchmarks/quantisation.py runs/demo/finetuned-0 runs/demo/labelled.csv --text review --label sentiment \
        --split split=test --out results.json

The folder and the file above are those that examples/demo.py makes. Arms are the model as it is, torch.ao's
quantize_dynamic and torchao's Int8DynamicActivationInt8WeightConfig (`pip install torchao`); all read the same rows, in
batches of 32 of like length, and take turns over them. Seconds are of the process.
"""

import argparse
import csv
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import quorem  # noqa: F401 - the Auto classes know its models then

BATCH = 32


def arms(folder: Path) -> dict[str, Any]:
    """The model, by how its linear layers compute."""
    auto = AutoModelForSequenceClassification
    found = {name: auto.from_pretrained(folder).eval() for name in ("float32", "torch.ao", "torchao")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantise = torch.ao.quantization.quantize_dynamic
        found["torch.ao"] = quantise(found["torch.ao"], {torch.nn.Linear}, dtype=torch.qint8)
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(found["torchao"], Int8DynamicActivationInt8WeightConfig())
    return found


def read(path: Path, text: str, label: str, split: str | None) -> tuple[list[str], list[str]]:
    """Texts and labels of the rows that are judged."""
    column, _, value = (split or "").partition("=")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not split or row[column] == value]
    return [row[text] for row in rows], [row[label] for row in rows]


@torch.inference_mode()
def measure(folder: Path, texts: list[str], labels: list[str]) -> dict[str, Any]:
    """Of each arm: accuracy, predictions and probabilities unlike float32's, and seconds."""
    tokenizer, models = AutoTokenizer.from_pretrained(folder), arms(folder)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    shares: dict[str, list[torch.Tensor]] = {name: [] for name in models}
    seconds = dict.fromkeys(models, 0.0)
    for start in range(0, len(order), BATCH):
        some = [texts[number] for number in order[start : start + BATCH]]
        batch = tokenizer(some, padding=True, truncation=True, return_tensors="pt")
        given = {name: batch[name] for name in ("input_ids", "attention_mask")}
        for name, model in models.items():
            began = time.process_time()
            shares[name].append(model(**given).logits.softmax(-1))
            seconds[name] += time.process_time() - began
    numbers = models["float32"].config.label2id
    wanted = torch.tensor([numbers[labels[number]] for number in order])
    plain = torch.cat(shares["float32"])
    found = {}
    for name, each in shares.items():
        joined = torch.cat(each)
        found[name] = {
            "accuracy": float((joined.argmax(-1) == wanted).double().mean()),
            "predictions_changed": int((joined.argmax(-1) != plain.argmax(-1)).sum()),
            "largest_change_of_a_probability": float((joined - plain).abs().max()),
            "seconds": seconds[name],
        }
    return found


def main() -> None:
    """Measure, and print a line for each arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--split", help="COLUMN=VALUE of the rows that are judged")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts, labels = read(options.data, options.text, options.label, options.split)
    found = measure(options.run / "model", texts, labels)
    for name, each in found.items():
        print(f"{name:<10}" + "  ".join(f"{key} {value:.4f}" for key, value in each.items()))
    if options.out:
        facts = {"rows": len(texts), "torch": torch.__version__, "results": found}
        options.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
