r"""A fair judge of what models learn: equal processor time, the same held-out text and replacements for all arms.

    python benchmarks/learning.py reviews.txt --data work --out results.json --seconds 600 --seeds 0 1 2 \
        --labelled labelled.csv --columns review sentiment --reference "dense" \
        --arm "dense: model.embedding.kind=dense" --arm "qr: model.embedding.kind=qr" \
        --settings model.size=tiny model.vocab_size=60000 data.max_length=128

Every 50th document of the text is held out: neither the vocabulary nor clusters, counts or start vectors see it. Of the
labelled rows those whose `split` is test are judged on, and their texts are left out of the text before anything is
made of it. Every arm trains for the same processor seconds of one thread, its number of steps set from its own pace, so
that its learning rate runs its whole course; with --steps for as many steps as every other. Then, for each arm and
seed:

    nll             the generator's exact nll (nats) at masked positions of held-out text, the same masks for all
    auc             the discriminator's, on replacements drawn once and kept: by frequency, and by a generator that is
                    no arm's (the reference arm's settings with a seed of its own)
    probe           logistic regression on the frozen discriminator, mean of all layers, beside the same of new weights
    fine-tuned      accuracy at each number of labels, after the last epoch
    control         the same from new weights, at the numbers of labels that --control names

beside what counting gives (benchmarks/counting.py): co-occurrence in a window, TF-IDF and NB-SVM on the same rows, on
average over the seeds that draw them. What
is finished is kept in --out and not done again; a run that was stopped goes on from its checkpoint.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from counting import cooccurrence_nll, nbsvm_accuracy, tfidf_accuracy
from recipes import seconds_a_step
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

import quorem  # noqa: F401
from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import override
from quorem.config.settings import PrepareConfig, PretrainConfig
from quorem.data.prepare import load_prepared, prepare
from quorem.data.rows import ROWS
from quorem.data.shards import Shards
from quorem.errors import UserError
from quorem.files import fingerprint_files
from quorem.finetuning.rows import encode_rows
from quorem.models.electra import corrupt
from quorem.models.masking import mask_tokens, real_tokens
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining
from quorem.plan.presets import NEVER_TARGETS
from quorem.plan.recipes import resolve
from quorem.pretraining.pretrain import pretrain
from quorem.tasks import finetune
from quorem.training.device import autocast_dtype
from quorem.training.metrics import BinaryMetrics

HELD_OUT_EVERY, HELD_OUT_ROWS, AT_ONCE = 50, 256, 32
PROBED, PROBE_JUDGED, PROBE_LENGTH = 6_000, 3_000, 128
REFERENCE_SEED = 1_000_003


def split_text(path: Path, folder: Path, *, without: Iterable[str]) -> None:
    """Training and held-out documents, a line each, without those of some texts.

    Raises:
        SystemExit: if the folder holds those of another text, or without others.
    """
    left_out, number = {" ".join(text.split()) for text in without}, 0
    names = hashlib.sha256("\n".join(sorted(left_out)).encode()).hexdigest()
    facts = {"text": fingerprint_files(path), "without": names}
    if (folder / "held_out.txt").exists():
        noted = folder / "split.json"
        if noted.exists() and json.loads(noted.read_text()) != facts:
            raise SystemExit(f"{folder}: holds another text, or one without other judged rows: give another --data")
        return
    (folder / "split.json").write_text(json.dumps(facts))
    with (
        path.open(encoding="utf-8") as lines,
        (folder / "training.txt").open("w", encoding="utf-8") as training,
        (folder / "held_out.partial").open("w", encoding="utf-8") as held_out,
    ):
        for line in lines:
            if line.strip() and " ".join(line.split()) not in left_out:
                number += 1
                (training if number % HELD_OUT_EVERY else held_out).write(line)
    (folder / "held_out.partial").rename(folder / "held_out.txt")


def labelled_rows(path: Path, columns: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Text and label of the rows of split train and test."""
    found: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["split"]].append((row[columns[0]], row[columns[1]]))
    return found


def prepare_text(folder: Path, settings: list[str]) -> None:
    """A tokenizer and shards of the training documents, shards of the held-out ones."""
    kept = [each for each in settings if each.startswith(("tokenizer.", "model.vocab_size"))]
    prepare(override(PrepareConfig(), [f"data.path={folder / 'training.txt'}", *kept]), folder / "training")
    path = f"tokenizer.path={folder / 'training' / 'tokenizer'}"
    prepare(override(PrepareConfig(), [f"data.path={folder / 'held_out.txt'}", path]), folder / "held_out")


def trained(settings: list[str], out: Path, *, seconds: float, steps: int = 0) -> dict[str, Any]:
    """Pre-train for so many steps, else processor seconds, into a run folder; goes on where it was stopped."""
    if steps:
        out.mkdir(parents=True, exist_ok=True)
    elif (out / "steps.json").exists():
        steps = int(json.loads((out / "steps.json").read_text()))
    else:
        steps = round(seconds / seconds_a_step(resolve(override(PretrainConfig(), settings))))
        out.mkdir(parents=True, exist_ok=True)
        (out / "steps.json").write_text(str(steps))
    began = time.process_time()
    result = pretrain(override(PretrainConfig(), [*settings, f"train.max_steps={steps}"]), out / "run")
    return {"steps": steps, "processor_seconds": round(time.process_time() - began, 1), "mlm_loss": result["mlm_loss"]}


class Judge:
    """Held-out rows with their masks and stored replacements.

    Args:
        folder: with training/ and held_out/.
        config: resolved settings that say what a row is.
    """

    def __init__(self, folder: Path, config: PretrainConfig) -> None:
        tokenizer, self.training = load_prepared(folder / "training")
        self.tokenizer: PreTrainedTokenizerFast = tokenizer
        rows = ROWS[config.data.rows](
            Shards(folder / "held_out" / "shards"), max_length=config.data.max_length or 2,
            cls_id=tokenizer.cls_token_id, pad_id=tokenizer.pad_token_id,
        )  # fmt: skip
        special = torch.tensor([i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id])
        rng, numbers = torch.Generator().manual_seed(0), np.arange(min(HELD_OUT_ROWS, len(rows)))
        self.masked = [
            mask_tokens(
                *rows.batch(numbers[start : start + AT_ONCE]), special=special, mask_id=tokenizer.mask_token_id,
                rate=0.15, rng=rng,
            )
            for start in range(0, len(numbers), AT_ONCE)
        ]  # fmt: skip
        self.dtype = autocast_dtype(config.train.precision, torch.device("cpu"))
        self.replacements: dict[str, list[torch.Tensor]] = {}

    def draw_by_frequency(self) -> None:
        """Draw replacements by the tokens' frequencies, whatever stands around them, once."""
        shares = torch.from_numpy(self.training.counts).double()
        shares[NEVER_TARGETS] = 0
        cumulative = shares.cumsum(0) / shares.sum()
        self.replacements["unigram"] = []
        for masked in self.masked:
            inputs = masked.inputs()
            drawn = torch.searchsorted(cumulative, inputs.uniforms, right=True)
            self.replacements["unigram"].append(corrupt(inputs.input_ids, inputs.positions, drawn)[0])

    @torch.no_grad()
    def draw(self, name: str, generator: Any) -> None:
        """Draw replacements once."""
        self.replacements[name] = []
        for masked in self.masked:
            inputs = masked.inputs()
            hidden = generator.hidden_at(inputs.masked_ids, inputs.attention_mask, inputs.positions)
            drawn = generator.generator_lm_head.sample(hidden, inputs.uniforms)
            self.replacements[name].append(corrupt(inputs.input_ids, inputs.positions, drawn)[0])

    @torch.no_grad()
    def nll(self, generator: QuoremForMaskedLM) -> float:
        """Mean exact nll at masked positions."""
        found = []
        for masked in self.masked:
            inputs = masked.inputs()
            with torch.autocast("cpu", dtype=self.dtype, enabled=self.dtype is not None):
                hidden = generator.hidden_at(inputs.masked_ids, inputs.attention_mask, inputs.positions)
            targets = inputs.input_ids.flatten()[inputs.positions]
            found.append(generator.generator_lm_head.nll(hidden.float(), targets))
        return float(torch.cat(found).mean())

    @torch.no_grad()
    def auc(self, discriminator: QuoremForPreTraining, name: str) -> float:
        """Of telling which tokens were replaced."""
        detected = BinaryMetrics()
        for masked, corrupted in zip(self.masked, self.replacements[name], strict=True):
            mask = masked.attention_mask
            with torch.autocast("cpu", dtype=self.dtype, enabled=self.dtype is not None):
                scores = discriminator(corrupted, mask).logits.float()
            real = torch.ones_like(corrupted, dtype=torch.bool) if mask is None else real_tokens(mask)
            detected.update(scores, corrupted != masked.input_ids, real)
        return float(detected.compute()["auc"] or 0)


@torch.no_grad()
def probe_features(encoder: Any, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """Mean over tokens of all layers' states, float32 (texts, numbers)."""
    rows = encode_rows(tokenizer, texts, max_length=PROBE_LENGTH, truncation="head")
    found = []
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        longest = max(map(len, part))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in part])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in part])
        states = encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        weight = (mask / mask.sum(1, keepdim=True)).unsqueeze(-1)
        found.append(torch.cat([(state.float() * weight).sum(1) for state in states], dim=-1).numpy())
    return np.concatenate(found)


def probed(encoder: Any, tokenizer: PreTrainedTokenizerFast, rows: dict[str, list[tuple[str, str]]]) -> float:
    """Accuracy of a logistic regression on frozen states."""
    training, judged = drawn(rows, PROBED, 0), rows["test"][:PROBE_JUDGED]
    scaler = StandardScaler()
    features = scaler.fit_transform(probe_features(encoder, tokenizer, [text for text, _ in training]))
    model = LogisticRegression(C=0.01, max_iter=2000).fit(features, [label for _, label in training])
    features = scaler.transform(probe_features(encoder, tokenizer, [text for text, _ in judged]))
    return float(model.score(features, [label for _, label in judged]))


def drawn(rows: dict[str, list[tuple[str, str]]], number: int, seed: int) -> list[tuple[str, str]]:
    """So many labelled rows, drawn by the seed; all for 0."""
    chosen = np.random.default_rng(seed).permutation(len(rows["train"]))[: number or None]
    return [rows["train"][i] for i in np.sort(chosen)]


def some_labels(
    path: Path, rows: dict[str, list[tuple[str, str]]], columns: Sequence[str], number: int, seed: int
) -> None:
    """A CSV with so many labelled rows, drawn by the seed, and all that are judged on."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "split"])
        writer.writerows([*row, "train"] for row in drawn(rows, number, seed))
        writer.writerows([*row, "test"] for row in rows["test"])


def main() -> None:
    """Run what is not done yet, seed by seed, and write results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a document in each line")
    parser.add_argument("--settings", nargs="+", default=[], help="of every arm")
    parser.add_argument("--arm", action="append", required=True, help='"NAME: SETTING SETTING"')
    parser.add_argument("--reference", help="arm whose settings draw the stored replacements; the first if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=600.0, help="of one thread, for every arm")
    parser.add_argument("--steps", type=int, default=0, help="for every arm, instead of --seconds")
    parser.add_argument("--labelled", type=Path, help="CSV with a column split: train, test")
    parser.add_argument("--columns", nargs=2, default=["text", "label"], metavar=("TEXT", "LABEL"))
    parser.add_argument("--labels", type=int, nargs="*", default=[1_000, 10_000], help="numbers of labels; 0 is all")
    parser.add_argument("--control", type=int, nargs="*", default=[], help="those that new weights are trained on too")
    parser.add_argument("--finetune", nargs="+", default=[], metavar="SETTING", help="settings of quorem finetune")
    parser.add_argument(
        "--few", nargs="+", default=[], metavar="SETTING", help="the same, after them, but for all labels"
    )
    parser.add_argument("--data", type=Path, required=True, help="where text and runs are kept between calls")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    arms = {name.strip(): given.split() for name, _, given in (each.partition(":") for each in options.arm)}
    reference = options.reference or next(iter(arms))
    base = [f"data.path={options.data / 'training'}", *(s for s in options.settings if not s.startswith("tokenizer."))]
    labelled = options.labelled.name if options.labelled else None
    facts = {"text": options.text.name, "labelled": labelled, "columns": options.columns, "reference": reference,
             "settings": options.settings, "seconds": options.seconds, "steps": options.steps,
             "finetune": options.finetune, "few": options.few, "torch": torch.__version__,
             "bf16": bool(autocast_dtype("auto", torch.device("cpu")))}  # fmt: skip
    results: dict[str, Any] = {**facts, "counting": {}, "arms": {}}
    if options.out.exists():
        results = json.loads(options.out.read_text())
        if changed := [key for key in facts if key in results and results[key] != facts[key]]:
            parser.error(f"{options.out} holds runs with other {', '.join(changed)}: give another --out")

    def keep() -> None:
        partial = options.out.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=1))
        partial.rename(options.out)

    options.data.mkdir(parents=True, exist_ok=True)
    rows = labelled_rows(options.labelled, options.columns) if options.labelled else {"train": [], "test": []}
    split_text(options.text, options.data, without=[text for text, _ in rows["test"]])
    prepare_text(options.data, options.settings)
    config = resolve(override(PretrainConfig(), [*base, *arms[reference]]))
    judge = Judge(options.data, config)
    counting = results["counting"]
    if "nll" not in counting:
        held_out = Shards(options.data / "held_out" / "shards")
        counting["nll"] = cooccurrence_nll(judge.training, held_out)
        keep()
    numbers = options.labels if options.labelled else []
    for number in numbers:
        if str(number) not in counting:
            judged, truth = zip(*rows["test"], strict=True)
            found = counting[str(number)] = {"tfidf": 0.0, "nbsvm": 0.0}
            seeds = options.seeds if number else options.seeds[:1]  # all rows are the same for every seed
            for seed in seeds:
                texts, labels = zip(*drawn(rows, number, seed), strict=True)
                found["tfidf"] += tfidf_accuracy(texts, labels, judged, truth) / len(seeds)
                found["nbsvm"] += nbsvm_accuracy(texts, labels, judged, truth) / len(seeds)
            keep()
    given = [*base, *arms[reference], f"train.seed={REFERENCE_SEED}"]
    trained(given, options.data / "reference", seconds=options.seconds / 2, steps=options.steps // 2)
    judge.draw_by_frequency()
    judge.draw("reference", QuoremForMaskedLM.from_pretrained(options.data / "reference" / "run" / "generator").eval())
    for seed in options.seeds:
        for name, settings in arms.items():
            kept = results["arms"].setdefault(name, {"settings": settings, "seeds": {}})["seeds"]
            found = kept.setdefault(str(seed), {})
            folder = options.data / f"{name.replace(' ', '_')}-{seed}"
            run = folder / "run"
            if "steps" not in found:
                given = [*base, *settings, f"train.seed={seed}"]
                try:
                    found |= trained(given, folder, seconds=options.seconds, steps=options.steps)
                except UserError as error:  # a kind that cannot be so small; the other arms go on
                    print(f"seed {seed}, {name}: refused: {error}", flush=True)
                    kept.pop(str(seed))
                    results["arms"][name]["refused"] = str(error)
                    keep()
                    continue
                keep()
            if "nll" not in found:
                discriminator = QuoremForPreTraining.from_pretrained(run / "discriminator").eval()
                found["nll"] = judge.nll(QuoremForMaskedLM.from_pretrained(run / "generator").eval())
                found |= {f"auc_{each}": judge.auc(discriminator, each) for each in judge.replacements}
                keep()
            if rows["train"] and "probe" not in found:
                encoder = AutoModel.from_pretrained(run / "discriminator").eval()
                untrained = AutoModel.from_config(encoder.config).eval()
                found["probe"] = probed(encoder, judge.tokenizer, rows)
                found["probe_untrained"] = probed(untrained, judge.tokenizer, rows)
                keep()
            for number, control in [*((each, False) for each in numbers), *((each, True) for each in options.control)]:
                key = f"{'control' if control else 'labels'}_{number}"
                if key in found:
                    continue
                table = folder / f"labels_{number}.csv"
                some_labels(table, rows, options.columns, number or len(rows["train"]), seed)
                words = [f"pretrained={run}", f"data.path={table}", f"data.text_column={options.columns[0]}",
                         f"data.label_column={options.columns[1]}", "data.split_column=split", f"train.seed={seed}",
                         f"classifier.from_scratch={control}", *options.finetune,
                         *(options.few if number else [])]  # fmt: skip
                place = folder / f"finetuned_{key}"
                result = finetune(override(FinetuneConfig(), words), place)
                found[key] = result["last"]["accuracy"]
                keep()
                shutil.rmtree(place / "state", ignore_errors=True)
            print(f"seed {seed}, {name}: {found}", flush=True)
    print(f"counting: {counting}")
    for name, kept in results["arms"].items():
        seeds = list(kept["seeds"].values())
        if not seeds:
            print(f"{name}: refused: {kept['refused']}")
            continue
        parts = []
        for key in seeds[0]:
            values = [each[key] for each in seeds if key in each]
            parts.append(f"{key} {statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
        print(f"{name}: {', '.join(parts)}")


if __name__ == "__main__":
    main()
