"""Tasks of fine-tuning, each with three seeds beside the same network from new weights and beside counting.

    python benchmarks/tasks.py DATA --work WORK --out results.json --cases melody song velocity kinds ratings answers

DATA is searched for the files of each case: nottingham.tar.gz and pop909.tar.gz (MIDI), nsmc.csv.gz (review, rating),
train.json.gz and dev.json.gz of JaQuAD. What a case reads is written to WORK/CASE: rows to learn from and to be judged,
and a text of the former (ratings: of other rows) for pre-training, so that nothing judged is seen before. Then it runs
three commands, `quorem pretrain`, `quorem finetune --seeds 3` and the same `--from-scratch`, one thread each. What is
finished is kept in --out, with its command and processor seconds, and not done again; a command that was stopped goes
on where it was.
"""

import argparse
import csv
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tarfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from symusic import Score

from quorem.data.documents import RowCounts
from quorem.data.readers.midi import MAX_SILENCE, read_score
from quorem.data.readers.midi_words import note_words, notes_of, velocity_tags
from quorem.tasks.tagging import score_tags

TICKS = 12  # of a quarter note
NOTES = 512  # of a tune that are read
SHARE = 5  # every fifth tune is judged
NEAR = 3  # words on either side that the logistic regression of tags reads
TAGGED_TUNES = 100  # whose tags are learned from; the others that are not judged are read in pre-training alone
LABELLED, JUDGED, UNLABELLED = 20_000, 5_000, 150_000  # reviews
QUESTIONS = 500  # of the dev set that are judged


@dataclass(frozen=True)
class Case:
    """Data and commands.

    Attributes:
        make: writes it: from the folder of the data into that of the case.
        pretrain: what follows `quorem pretrain`.
        finetune: what follows `quorem finetune RUN`.
        count: scores of counting, where the task itself has none.
    """

    make: Callable[[Path, Path], None]
    pretrain: str
    finetune: str
    count: Callable[[Path], dict[str, Any]] | None = None


def notes(path: Path, *, octaves: bool) -> tuple[list[str], list[str]]:
    """Every note of a MIDI file as a word, its pitch and the time since the note before, and whether it is melody.

    Melody is what a track of that name has, or else the first track, if there are several. Notes that start together
    stand from low to high. Without octaves a pitch is one of twelve.
    """
    score = Score(path)
    names = [track.name == "MELODY" for track in score.tracks]
    melody = names.index(True) if any(names) else 0
    scale = TICKS / score.ticks_per_quarter
    found = sorted(
        (round(note.time * scale), note.pitch, place == melody)
        for place, track in enumerate(score.tracks)
        for note in track.notes
    )[:NOTES]
    times = [found[0][0], *(time for time, _, _ in found)]
    gaps = [min(after - before, 8 * TICKS) for before, after in pairwise(times)]
    words = [f"{pitch if octaves else pitch % 12}+{gap}" for gap, (_, pitch, _) in zip(gaps, found, strict=True)]
    return words, ["melody" if own else "other" for _, _, own in found]


def unpacked(data: Path, name: str, folder: Path) -> list[Path]:
    """The MIDI files of an archive in DATA, in an order drawn once."""
    tunes = folder / "tunes"
    if not tunes.exists():
        with tarfile.open(found(data, name)) as archive:
            archive.extractall(folder / "unpacking", filter="data")
        (folder / "unpacking").rename(tunes)
    paths = sorted(tunes.rglob("*.mid"))
    random.Random(0).shuffle(paths)
    return paths


def found(data: Path, name: str) -> Path:
    """The file of that name in DATA."""
    return next(data.rglob(name))


def split(place: int) -> str:
    """The part of a row, by its place."""
    return "train" if place % SHARE else "test"


def make_melody(name: str, *, octaves: bool) -> Callable[[Path, Path], None]:
    """Notes and tags of the tunes in an archive, those of one track only left out."""

    def make(data: Path, folder: Path) -> None:
        rows = [notes(path, octaves=octaves) for path in unpacked(data, name, folder)]
        write_tagged(folder, [(words, tags) for words, tags in rows if len(set(tags)) == 2])

    return make


def make_velocity(data: Path, folder: Path) -> None:
    """Notes of POP909 and how loud each is, as `data.midi=notes` and `--label-column velocity` read them."""
    counts = RowCounts()
    songs = [
        notes_of(read_score(path, max_silence=MAX_SILENCE, counts=counts))[:NOTES]
        for path in unpacked(data, "pop909.tar.gz", folder)
    ]
    write_tagged(folder, [(note_words(song), velocity_tags(song)) for song in songs])


def write_tagged(folder: Path, rows: Sequence[tuple[list[str], list[str]]]) -> None:
    """The words of training rows, and the first of these and all judged ones with their tags."""
    with (folder / "rows.jsonl").open("w") as labelled, (folder / "text.txt").open("w") as text:
        seen = 0
        for place, (words, tags) in enumerate(rows):
            part = split(place)
            if part == "train":
                text.write(" ".join(words) + "\n")
                seen += 1
            if part == "test" or seen <= TAGGED_TUNES:
                labelled.write(json.dumps({"tokens": words, "tags": tags, "split": part}) + "\n")


def make_kinds(data: Path, folder: Path) -> None:
    """The tune types of Nottingham, all reels as one: their files are parted by the letter that a tune begins with."""
    rows = []
    for place, path in enumerate(unpacked(data, "nottingham.tar.gz", folder)):
        kind = path.stem.split("-")[0].rstrip("0123456789")
        rows.append((path.relative_to(folder), "reels" if kind.startswith("reels") else kind, split(place)))
    write_csv(folder / "rows.csv", ("file", "kind", "split"), rows)
    write_csv(folder / "text.csv", ("file",), [row[:1] for row in rows if row[2] == "train"])


def make_ratings(data: Path, folder: Path) -> None:
    """Reviews of NSMC with their ratings, and the texts of others."""
    with gzip.open(found(data, "nsmc.csv.gz"), "rt", encoding="utf-8", newline="") as file:
        rows = [(row["review"], row["rating"]) for row in csv.DictReader(file) if row["review"].strip()]
    parts = ["train"] * LABELLED + ["test"] * JUDGED
    labelled = [(*row, part) for row, part in zip(rows, parts, strict=False)]
    write_csv(folder / "rows.csv", ("review", "rating", "split"), labelled)
    judged = {row[0] for row in rows[: len(parts)]}
    others = [row[:1] for row in rows[len(parts) :] if row[0] not in judged]
    write_csv(folder / "text.csv", ("review",), others[:UNLABELLED])


def make_answers(data: Path, folder: Path) -> None:
    """JaQuAD: all questions to learn from, and the first of its dev set, whole articles, up to QUESTIONS."""
    (folder / "train.json").write_bytes(gzip.decompress(found(data, "train.json.gz").read_bytes()))
    dev = json.loads(gzip.decompress(found(data, "dev.json.gz").read_bytes()))
    articles, number = [], 0
    for article in dev["data"]:
        if number < QUESTIONS:
            articles.append(article)
            number += sum(len(each["qas"]) for each in article["paragraphs"])
    (folder / "dev.json").write_text(json.dumps(dev | {"data": articles}))


def write_csv(path: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A CSV of those columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def count_tags(folder: Path) -> dict[str, Any]:
    """What each word's most frequent tag reaches, and a logistic regression on the words around a note."""
    rows = [json.loads(line) for line in (folder / "rows.jsonl").open()]
    training = [row for row in rows if row["split"] == "train"]
    judged = [row for row in rows if row["split"] == "test"]
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for row in training:
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            seen[word][tag] += 1
    most = sum(seen.values(), Counter()).most_common(1)[0][0]
    best = {word: tags.most_common(1)[0][0] for word, tags in seen.items()}
    truth, names = [row["tags"] for row in judged], {tag for row in rows for tag in row["tags"]}
    usual = [[best.get(word, most) for word in row["tokens"]] for row in judged]
    scores = {"a word's most frequent tag": score_tags(truth, usual, names)}
    vectors = DictVectorizer()
    features = vectors.fit_transform([each for row in training for each in around(row["tokens"])])
    regression = LogisticRegression(max_iter=200).fit(features, [tag for row in training for tag in row["tags"]])
    guesses = [regression.predict(vectors.transform(around(row["tokens"]))).tolist() for row in judged]
    name = f"logistic regression on {NEAR} words on either side"
    return scores | {name: score_tags(truth, guesses, names)}


def around(words: Sequence[str]) -> list[dict[str, int]]:
    """Of each word the words and pitches near it, by place."""
    found = []
    for place in range(len(words)):
        near = range(max(0, place - NEAR), min(len(words), place + NEAR + 1))
        found.append(
            {f"{other - place} {name}": 1 for other in near for name in (words[other], words[other].split("+")[0])}
        )
    return found


TUNES = "--tokenizer items model.size=tiny train.log_every=50"
TAGGED = "rows.jsonl --task tagging data.split_column=split data.max_length=128 data.stride=16"
CASES = {
    "melody": Case(make_melody("nottingham.tar.gz", octaves=False), f"text.txt {TUNES} train.max_steps=300",
                   f"{TAGGED} train.epochs=4", count_tags),
    "song": Case(make_melody("pop909.tar.gz", octaves=True), f"text.txt {TUNES} train.max_steps=300",
                 f"{TAGGED} train.epochs=4", count_tags),
    "velocity": Case(make_velocity, f"text.txt {TUNES} train.max_steps=300", f"{TAGGED} train.epochs=4", count_tags),
    "kinds": Case(
        make_kinds, f"text.csv --text-column file data.paths=true data.midi=chords {TUNES} train.max_steps=300",
        "rows.csv --text-column file --label-column kind data.paths=true data.midi=chords data.split_column=split "
        "data.max_length=128 classifier.layers=all train.batch_size=16 train.epochs=5",
    ),
    "ratings": Case(
        make_ratings, "text.csv --text-column review --tokenizer characters model.size=tiny data.max_length=64 "
        "data.rows=isolated train.max_steps=500",
        "rows.csv --text-column review --label-column rating --task regression data.split_column=split "
        "data.max_length=64 train.epochs=1",
    ),
    "answers": Case(
        make_answers, "train.json --text-column context --tokenizer characters model.size=tiny train.max_steps=1000",
        "train.json dev.json --task question_answering data.max_length=256 data.max_answer_length=40 "
        "train.batch_size=16 train.max_steps=500 train.learning_rate=1e-3",
    ),
}  # fmt: skip


ARMS = {"pre-trained": "", "new weights": " --from-scratch"}


def commands(case: Case, seeds: int) -> dict[str, str]:
    """The commands of a case, to be run in its folder."""
    finetune = f"quorem finetune pre {case.finetune} --seeds {seeds} --out"
    arms = {name: f"{finetune} {name.replace(' ', '-')}{more}" for name, more in ARMS.items()}
    return {"pre-training": f"quorem pretrain {case.pretrain} --out pre", **arms}


def run(command: str, folder: Path) -> dict[str, Any]:
    """Run a command, or go on with it, and give what it found and took."""
    words = command.split()
    with (folder / "log.txt").open("a") as log:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True, stdout=log, stderr=log)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result = json.loads((folder / words[words.index("--out") + 1] / "result.json").read_text())
    kept = {name: value for name, value in result.items() if name not in ("labels", "confusion", "keep_state")}
    return {"command": command, "processor_seconds": round(seconds), "result": kept}


def main() -> None:
    """Run what is not done yet and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.cases:
        case, folder, done = CASES[name], options.work / name, results.setdefault(name, {})
        if not folder.exists():
            making = folder.with_name(f"{name}.making")
            making.mkdir(parents=True, exist_ok=True)
            case.make(options.data, making)
            making.rename(folder)
        for arm, command in commands(case, options.seeds).items():
            if arm not in done:
                done[arm] = run(command, folder)
                print(f"{name}, {arm}: {done[arm]['processor_seconds']} s", flush=True)
                options.out.write_text(json.dumps(results, indent=1) + "\n")
        if case.count is not None and "counting" not in done:
            began = time.process_time()
            done["counting"] = case.count(folder) | {"processor_seconds": round(time.process_time() - began)}
            options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
