"""Recommending from the command line: pretrain, finetune --task next_item, recommend, similar; kills and errors."""

import csv
import json
import shutil

import pytest
import torch

import quorem as package
from quorem.cli import main
from quorem.errors import UserError
from quorem.models.next_item import load_next_item
from quorem.recommending.baselines import BASELINES
from quorem.recommending.recommend import recommend
from quorem.recommending.start import PRE_TRAINED
from quorem.samples import write_sessions
from quorem.training.run_folder import Run

SETTINGS = ["train.epochs=2", "train.batch_size=32", "train.precision=fp32", "train.log_every=2", "data.max_items=12"]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    path = tmp_path_factory.mktemp("sessions") / "items.txt"
    write_sessions(path, rows=150, vocab_size=200, seed=0)
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory, sessions, pretrain_settings):
    """A pre-training run of six steps on items, with a dense table and the full softmax."""
    out = tmp_path_factory.mktemp("runs") / "shop"
    words = ["pretrain", str(sessions), "--tokenizer", "items", "--out", str(out), *pretrain_settings]
    assert main([*words, "model.embedding.kind=dense", "data.rows=isolated"]) == 0
    return out


@pytest.fixture(scope="module")
def grid_shop(tmp_path_factory, sessions, pretrain_settings):
    """The same with a tree over the table."""
    out = tmp_path_factory.mktemp("runs") / "grid-shop"
    words = ["pretrain", str(sessions), "--tokenizer", "items", "--out", str(out), *pretrain_settings]
    words += ["model.embedding.kind=dense", "model.embedding.tier=20", "model.head.kind=tree"]
    assert main([*words, "data.rows=isolated"]) == 0
    return out


@pytest.fixture(scope="module")
def recommender(tmp_path_factory, sessions, shop):
    out = tmp_path_factory.mktemp("runs") / "next"
    assert main(["finetune", str(shop), str(sessions), "--task", "next_item", "--out", str(out), *SETTINGS]) == 0
    return out


def recommended(path):
    """Items and probabilities of each row of a file of recommendations, in their order."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [dict(zip(json.loads(row["items"]), json.loads(row["probabilities"]), strict=True)) for row in rows]


def weights(run):
    return load_next_item(run).state_dict()


def test_a_run_says_what_it_reaches_beside_the_baselines(quorem, sessions, shop, recommender):
    result = json.loads((recommender / "result.json").read_text())
    assert set(result["baselines"]) == set(BASELINES)
    for found in (result["test"], *result["baselines"].values()):
        assert found["rows"] == 150
        assert 0 <= found["mrr@20"] <= found["ndcg@20"] <= found["hr@20"] <= 1
    assert result["unknown_targets"] == 0
    assert not [name for name in result["loaded"] if not name.endswith("rank")], "auto starts from co-occurrence"
    again = quorem("finetune", shop, sessions, "--task", "next_item", "--out", recommender, *SETTINGS)
    assert again.code == 0
    assert all(name in again.out for name in ("this model", "V-SKNN", "popularity", "hr@20"))


def test_recommendations_are_the_models_own(sessions, recommender, tmp_path):
    out = tmp_path / "found.csv"
    counts = recommend(recommender, sessions, top=5, out=out, precision="fp32")
    assert counts == {"read": 150, "recommended": 150, "empty": 0, "bad": 0, "unknown_items": 0}
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = sessions.read_text().splitlines()
    assert [row["text"] for row in rows] == lines
    model, vocabulary = load_next_item(recommender), (recommender / "model" / "vocab.txt").read_text().splitlines()
    number = {token: place for place, token in enumerate(vocabulary)}
    for row, line in list(zip(rows, lines, strict=True))[:20]:
        items, shares = json.loads(row["items"]), json.loads(row["probabilities"])
        scores = model.scores([[number[word] for word in line.split()]], max_items=12)[0]
        assert items == [vocabulary[place] for place in scores.topk(5).indices.tolist()]
        assert shares == pytest.approx(scores.topk(5).values.exp().tolist(), rel=1e-3)


def test_from_python_a_session_gets_what_the_command_writes(sessions, recommender, tmp_path):
    out = tmp_path / "found.jsonl"
    recommend(recommender, sessions, top=4, out=out, precision="fp32", exclude_seen=True)
    written = [json.loads(line) for line in out.read_text().splitlines()]
    model = package.load(recommender)
    assert "NextItem(" in repr(model)
    histories = [line.split() for line in sessions.read_text().splitlines()]
    found = model.recommend([*histories, ["no such item"], []], top=4, exclude_seen=True)
    for row, said, history in zip(written, found, histories, strict=False):
        assert [each["item"] for each in said] == row["items"]
        assert [each["score"] for each in said] == pytest.approx(row["probabilities"], rel=1e-4)
        assert not {each["item"] for each in said} & set(history)
    assert found[-2:] == [[], []]
    with pytest.raises(UserError, match="a list of sessions is needed, each a list of items"):
        model.recommend(["one session"])
    with pytest.raises(UserError, match="top=0: 1 or more needed"):
        model.recommend(histories[:1], top=0)


def test_from_python_items_are_read_as_the_command_reads_them(quorem, tmp_path, pretrain_settings):
    """Where the tokenizer lowers case, in Python too."""
    (tmp_path / "carts.txt").write_text("Milk Bread Eggs Jam\n" * 30 + "Bread Eggs Jam Milk\n" * 30)
    more = ["model.embedding.kind=dense", "data.rows=isolated"]
    words = ["pretrain", tmp_path / "carts.txt", "--tokenizer", "words", "--out", tmp_path / "run"]
    assert quorem(*words, *pretrain_settings, *more).code == 0
    words = ["finetune", tmp_path / "run", tmp_path / "carts.txt", "--task", "next_item", "--out", tmp_path / "next"]
    assert quorem(*words, "train.max_steps=2", "train.precision=fp32").code == 0
    words = ["recommend", tmp_path / "next", tmp_path / "carts.txt", "--top", "2", "--out", tmp_path / "found.jsonl"]
    assert quorem(*words).code == 0
    written = json.loads((tmp_path / "found.jsonl").read_text().splitlines()[0])
    (found,) = package.load(tmp_path / "next").recommend([["Milk", "Bread", "Eggs", "Jam"]], top=2)
    assert [each["item"] for each in found] == written["items"]
    assert len(found) == 2


def test_a_report_has_the_ranking_beside_the_baselines(quorem, recommender, tmp_path):
    assert quorem("report", recommender, "--out", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    found = json.loads((recommender / "result.json").read_text())
    for text in ("Ranking of held-out items", "this model", "V-SKNN", "mrr@20", f"{found['test']['hr@20']:.4f}"):
        assert text in page, text


def test_seen_items_and_candidates(quorem, recommender, tmp_path):
    """A CSV with a column of its own; unknown items are passed over, and a row of nothing else stays empty."""
    data, among = tmp_path / "new.csv", tmp_path / "among.txt"
    vocabulary = (recommender / "model" / "vocab.txt").read_text().splitlines()[5:]
    first, second, third = vocabulary[:3]
    data.write_text(f"user,text\nann,{first} {second} nothing\nbob,nobody knows\ncat,{second}\n")
    among.write_text(f"{first}\n{second}\n{third}\nnothing\n")
    outcome = quorem("recommend", recommender, data, "--exclude-seen", "--out", tmp_path / "unseen.jsonl")
    assert outcome.code == 0, outcome
    assert "2 with recommendations, 1 left blank (no item the model knows), 3 unknown items" in outcome.out
    ann, bob, cat = map(json.loads, (tmp_path / "unseen.jsonl").read_text().splitlines())
    assert (ann["user"], bob["items"], bob["probabilities"]) == ("ann", None, None)
    assert len(ann["items"]) == len(cat["items"]) == 10
    assert not {first, second} & set(ann["items"])
    assert second not in cat["items"]
    words = ["recommend", recommender, data, "--exclude-seen", "--among", among, "--out", tmp_path / "few.jsonl"]
    assert quorem(*words).code == 0
    ann, _, cat = map(json.loads, (tmp_path / "few.jsonl").read_text().splitlines())
    assert ann["items"] == [third]
    assert set(cat["items"]) == {first, third}
    assert quorem("recommend", recommender, data, "--out", tmp_path / "all.parquet").code == 0


def test_neighbours_by_exact_search(quorem, recommender, tmp_path):
    vocabulary = (recommender / "model" / "vocab.txt").read_text().splitlines()
    table = load_next_item(recommender).get_input_embeddings().to_dense()
    cosines = torch.nn.functional.cosine_similarity(table[10:11], table)
    cosines[[0, 1, 2, 3, 4, 10]] = -torch.inf
    best = cosines.topk(3)
    outcome = quorem("similar", recommender, "--item", vocabulary[10], "--top", 3)
    assert outcome.code == 0
    expected = [f"{vocabulary[i]}\t{value:.4f}" for value, i in zip(*(each.tolist() for each in best), strict=True)]
    assert outcome.out.splitlines() == expected
    assert quorem("similar", recommender, "--all", "--top", 3, "--out", tmp_path / "all.csv").code == 0
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = {row["item"]: json.loads(row["neighbours"]) for row in csv.DictReader(file)}
    assert list(rows) == vocabulary[5:]
    assert rows[vocabulary[10]] == [vocabulary[i] for i in best.indices.tolist()]


@pytest.mark.parametrize(
    ("base", "more"),
    [
        ("shop", ["next_item.attention=causal"]),
        ("shop", ["next_item.attention=masked"]),
        ("grid_shop", ["train.table_updates=rows", "next_item.head=tree"]),
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(request, sessions, tmp_path, monkeypatch, base, more):
    words = ["finetune", str(request.getfixturevalue(base)), str(sessions), "--task", "next_item", *SETTINGS]
    words += [*more, "train.max_steps=7", "train.checkpoint_every=3", "next_item.baselines=false"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    save = Run.save_state

    def die_after(self, step, state, **more):
        save(self, step, state, **more)
        if step == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "save_state", die_after)
    assert main([*words, "--out", str(tmp_path / "killed")]) == 130
    monkeypatch.undo()
    assert main([*words, "--out", str(tmp_path / "killed")]) == 0
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "killed")]
    assert results[0] == results[1]


@pytest.mark.parametrize("start", ["discriminator", "generator", "cooccurrence", "random"])
def test_every_start_and_a_test_file(quorem, sessions, shop, tmp_path, start):
    test = tmp_path / "test.txt"
    known = sessions.read_text().split()[:2]
    test.write_text(f"{known[0]} {known[1]}\n{known[0]} unheard-of\n{known[1]}\n")
    control = ["--from-scratch"] if start == "random" else [f"next_item.start={start}"]
    words = ["finetune", shop, sessions, "--task", "next_item", *control, *SETTINGS, f"data.test={test}"]
    assert quorem(*words, "next_item.baselines=false", "--out", tmp_path / "run").code == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test"]["rows"] == 2, "a row of one item has nothing to predict from"
    assert result["unknown_targets"] == 1
    assert result["test"]["hr@20"] <= 0.5
    assert bool([name for name in result["loaded"] if not name.endswith("rank")]) == (start in PRE_TRAINED)


def test_rows_of_a_split_column_are_held_out(quorem, sessions, shop, tmp_path):
    data = tmp_path / "rows.csv"
    lines = sessions.read_text().splitlines()
    data.write_text(
        "text,split\n" + "".join(f"{line},{'test' if i % 5 == 0 else 'train'}\n" for i, line in enumerate(lines))
    )
    words = [
        "finetune",
        shop,
        data,
        "--task",
        "next_item",
        *SETTINGS,
        "data.split_column=split",
        "--out",
        tmp_path / "run",
    ]
    assert quorem(*words, "next_item.baselines=false").code == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["test"]["rows"], result["baselines"]) == (30, {})


def test_a_dry_run_keeps_nothing(quorem, sessions, shop, tmp_path):
    words = ["finetune", shop, sessions, "--task", "next_item", "--dry-run", "--out", tmp_path / "run", *SETTINGS]
    assert quorem(*words).out.startswith("dry run: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["next_item.attention=casual"], "next_item.attention=casual: unknown. Did you mean causal?"),
        (["next_item.head=two_levels"], "next_item.head=two_levels: unknown."),
        (["next_item.head=tree"], "next_item.head=tree"),
        (["next_item.dropout=1"], "next_item.dropout=1.0: a number"),
        (["data.max_items=0"], "data.max_items=0: a number at least 1 needed"),
        (["data.test=nowhere.txt"], "nowhere.txt"),
        (["data.split_column=part"], "data.split_column=part has no meaning for data.format=text"),
        (["train.shard_layers=true"], "train.shard_layers=true: is for pre-training"),
        (["train.table_updates=rows"], "train.table_updates=rows: this softmax reads every row in each step"),
        (["--label-column", "label"], "--label-column label: --task next_item has no use for it"),
        (["classifier.head=hf"], "unknown setting classifier.head"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing(refused, sessions, shop, tmp_path, more, said):
    words = ["finetune", shop, sessions, "--task", "next_item", "--out", tmp_path / "run", *SETTINGS, *more]
    assert said in refused(*words, after_log=True)
    assert not (tmp_path / "run").exists()


def test_what_recommend_and_similar_cannot_use(refused, sessions, shop, recommender, tmp_path):
    out = tmp_path / "found.csv"
    assert "run quorem finetune --task next_item on it first" in refused("recommend", shop, sessions, "--out", out)
    assert "--top 0: 1 or more needed" in refused("recommend", recommender, sessions, "--top", 0, "--out", out)
    among = tmp_path / "among.txt"
    among.write_text("unheard-of\n")
    assert "none of its 1 lines is an item" in refused(
        "recommend", recommender, sessions, "--among", among, "--out", out
    )
    assert "cannot be read" in refused("recommend", recommender, sessions, "--among", tmp_path / "no", "--out", out)
    assert not out.exists()
    assert "--item unheard-of: is no item" in refused("similar", recommender, "--item", "unheard-of")
    assert "--item ITEM or --all is needed" in refused("similar", recommender)
    assert "--out FILE goes with --all" in refused("similar", recommender, "--all")
    damaged = tmp_path / "damaged"
    shutil.copytree(recommender, damaged)
    (damaged / "model" / "model.safetensors").write_bytes(b"nothing")
    assert "cannot be read" in refused("recommend", damaged, sessions, "--out", out)


def test_several_seeds_are_counted_once_and_recommend_as_one(quorem, sessions, shop, tmp_path, monkeypatch):
    made, kinds = [], list(BASELINES.values())
    for name, kind in BASELINES.items():
        monkeypatch.setitem(BASELINES, name, lambda rows, size, kind=kind: made.append(kind) or kind(rows, size))
    words = ["finetune", str(shop), str(sessions), "--task", "next_item", "--out", str(tmp_path / "next"), *SETTINGS]
    outcome = quorem(*words, "--seeds", "2")
    assert outcome.code == 0
    assert made == kinds
    assert "V-SKNN, on the same rows: hr@20" in outcome.out
    result = json.loads((tmp_path / "next" / "result.json").read_text())
    assert set(result["baselines"]) == set(BASELINES)
    assert set(result["ensemble"]) <= set(result["mean"])
    assert result["ensemble"]["test.popularity@20"] != result["mean"]["test.popularity@20"]

    recommend(tmp_path / "next", sessions, out=tmp_path / "all.csv", top=200)
    recommend(tmp_path / "next", sessions, out=tmp_path / "few.csv", top=2, exclude_seen=True)
    for seed in ("seed-0", "seed-1"):
        recommend(tmp_path / "next" / seed, sessions, out=tmp_path / f"{seed}.csv", top=200)
    both, few, *each = (recommended(tmp_path / f"{name}.csv") for name in ("all", "few", "seed-0", "seed-1"))
    histories = [line.split() for line in sessions.read_text().splitlines()]
    for found, best, history, *alone in zip(both, few, histories, *each, strict=True):
        assert found == pytest.approx({item: (alone[0][item] + alone[1][item]) / 2 for item in alone[0]}, rel=1e-4)
        assert list(best) == [item for item in found if item not in history][:2]
