"""A log of events from the command line and from Python: pretrain, finetune --task next_item, recommend; kill -9."""

import csv
import json
import logging
import os
import random
import time

import forked
import pytest

import quorem as package
from quorem.cli import main
from quorem.config.next_item import SessionDataSettings
from quorem.recommending.parts import held_out_source

pytest.importorskip("duckdb", reason="logs of events need duckdb: pip install 'quorem[events]'")

COLUMNS = ["data.user_column=shopper", "data.item_column=sku", "data.time_column=when", "data.session_gap=30min"]
SETTINGS = ["train.epochs=1", "train.batch_size=32", "train.precision=fp32"]
USERS = 60


def events(number=USERS):
    """Every user has at least one session of three; rows are in no order, ids as a spreadsheet has them."""
    draw, rows = random.Random(0), []
    for user in range(number):
        now = 1_700_000_000 + draw.randrange(500_000)
        for _ in range(draw.randint(3, 12)):
            rows.append({"shopper": f"{user}.0", "sku": f"i{draw.randrange(40)}", "when": now, "kind": "view"})
            now += draw.choice([30, 600, 5_000]) if len(rows) % 9 else 90_000
    draw.shuffle(rows)
    return rows


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("log"), events()
    for name, some in (("a.csv", rows[::2]), ("b.csv", rows[1::2])):  # users are spread over files
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(some)
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory, log, pretrain_settings):
    out = tmp_path_factory.mktemp("runs") / "shop"
    words = ["pretrain", str(log), "--tokenizer", "items", "--out", str(out), *COLUMNS, *pretrain_settings]
    assert main([*words, "model.embedding.kind=dense", "data.rows=isolated"]) == 0
    return out


@pytest.fixture(scope="module")
def recommender(tmp_path_factory, log, shop):
    out = tmp_path_factory.mktemp("runs") / "next"
    assert main(["finetune", str(shop), str(log), "--task", "next_item", "--out", str(out), *COLUMNS, *SETTINGS]) == 0
    return out


def test_a_log_becomes_a_recommender(log, shop, recommender, quorem, tmp_path):
    rows = json.loads((shop / "data" / "shards" / "meta.json").read_text())["rows"]
    assert rows == {"read": len(events()), "used": len(events()), "skipped": 0, "bad": 0}
    assert not (shop / "data" / "events").exists()
    assert json.loads((recommender / "result.json").read_text())["test"]["rows"] > 10
    for name in ("found.csv", "found.jsonl", "found.parquet"):
        outcome = quorem("recommend", recommender, log, "--top", 3, "--out", tmp_path / name)
        assert outcome.code == 0, outcome
        assert f"{USERS} rows, {USERS} with recommendations" in outcome.out
    with (tmp_path / "found.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["shopper", "items", "probabilities"]
    assert sorted(row["shopper"] for row in found) == sorted(str(user) for user in range(USERS))
    assert all(len(json.loads(row["items"])) == 3 for row in found)
    line = json.loads((tmp_path / "found.jsonl").read_text().splitlines()[0])
    assert line == {
        "shopper": found[0]["shopper"],
        **{key: json.loads(found[0][key]) for key in ("items", "probabilities")},
    }


def test_a_users_recommendations_follow_the_last_session(recommender, log, tmp_path, quorem):
    """They are those of the session's items, given as a row of items."""
    last = {}
    for row in sorted(events(), key=lambda row: row["when"]):
        user = row["shopper"].removesuffix(".0")
        if user in last and row["when"] - last[user][1] <= 1_800:
            last[user][0].append(row["sku"])
        else:
            last[user] = [[row["sku"]], 0]
        last[user][1] = row["when"]
    path = tmp_path / "rows.csv"
    path.write_text("user,text\n" + "".join(f"{user},{' '.join(items)}\n" for user, (items, _) in last.items()))
    words = ("recommend", recommender, "--top", 4, "--exclude-seen")
    assert quorem(*words, log, "--out", tmp_path / "log.jsonl").code == 0
    assert quorem(*words, path, "--text-column", "text", "--out", tmp_path / "rows.jsonl").code == 0
    by_user = {}
    for name, key in (("log.jsonl", "shopper"), ("rows.jsonl", "user")):
        lines = map(json.loads, (tmp_path / name).read_text().splitlines())
        by_user[name] = {line[key]: line["items"] for line in lines}
    assert by_user["log.jsonl"] == by_user["rows.jsonl"]


def test_bad_events_are_listed_beside_the_recommendations(recommender, refused, quorem, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("shopper,sku,when\nann,i3,1700000000\nbob,i4,soon\nann,i5,1700000100\n")
    assert "new.csv, row 2: data.time_column=when is 'soon'" in refused(
        "recommend", recommender, path, "--out", tmp_path / "out.csv", after_log=True
    )
    assert not (tmp_path / "out.csv").exists()
    outcome = quorem("recommend", recommender, path, "--bad-rows", "skip", "--out", tmp_path / "out.csv")
    assert outcome.code == 0, outcome
    assert "1 bad and left out" in outcome.out
    assert "row 2" in (tmp_path / "out.bad_rows.txt").read_text()
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("ann,")
    path.write_text("items,sku,when\nann,i3,1700000000\n")
    assert "data.user_column=shopper: no such column" in refused(
        "recommend", recommender, path, "--out", tmp_path / "no.csv", after_log=True
    )


def test_the_last_period_is_judged_and_pre_training_does_not_read_it(log, shop, tmp_path, pretrain_settings, caplog):
    words = ["finetune", str(shop), str(log), "--task", "next_item", *COLUMNS, *SETTINGS]
    assert main([*words, "--out", str(tmp_path / "days"), "data.test_period=2d", "data.validation_share=0.3"]) == 0
    whole = {}
    last = max(row["when"] for row in events())
    for row in sorted(events(), key=lambda row: row["when"]):  # sessions by their first events
        sessions = whole.setdefault(row["shopper"], [])
        if not sessions or row["when"] - sessions[-1][-1] > 1_800:
            sessions.append([])
        sessions[-1].append(row["when"])
    late = [session for each in whole.values() for session in each if session[0] > last - 2 * 86_400]
    result = json.loads((tmp_path / "days" / "result.json").read_text())
    assert result["test"]["rows"] == sum(len(session) > 1 for session in late)
    words = [
        "pretrain",
        str(log),
        "--tokenizer",
        "items",
        "--out",
        str(tmp_path / "shop"),
        *COLUMNS,
        *pretrain_settings,
    ]
    assert main([*words, "data.test_period=2d"]) == 0
    rows = json.loads((tmp_path / "shop" / "data" / "shards" / "meta.json").read_text())["rows"]
    assert rows["skipped"] == rows["read"] - rows["used"] == sum(map(len, late))


def test_settings_that_contradict_each_other(log, shop, refused, tmp_path):
    words = ["finetune", shop, log, "--task", "next_item", *COLUMNS, *SETTINGS, "--out", tmp_path / "run"]
    both = refused(*words, "data.test_period=1d", f"data.test={log}")
    assert "data.test and data.test_period both say which rows are held out" in both
    assert "data.user_column=shopper data.item_column=sku" not in both
    assert "add data.user_column=user_id data.item_column=item_id" not in refused(
        "pretrain", log, "--tokenizer", "words", "--out", tmp_path / "run", *COLUMNS
    )
    assert not (tmp_path / "run").exists()


def test_from_python(log, tmp_path):
    columns = {"user_column": "shopper", "item_column": "sku", "time_column": "when", "session_gap": "30min"}
    small = {"train.precision": "fp32", "data.max_length": 32}
    given = dict(tokenizer="items", size="tiny", steps=2, batch_size=4, settings=small, **columns)
    of_files = package.pretrain(str(log), tmp_path / "files", **given)
    of_rows = package.pretrain(sorted(events(), key=lambda row: row["when"]), tmp_path / "rows", **given)
    vocabularies = [encoder.tokenizer.get_vocab() for encoder in (of_files, of_rows)]
    assert vocabularies[0] == vocabularies[1]
    assert {f"i{number}" for number in range(40)} < set(vocabularies[0])


@pytest.mark.slow
def test_kill_9_at_any_moment_and_the_same_command_ends_as_if_nothing_had_been(tmp_path):
    path = tmp_path / "log.csv"
    draw = random.Random(1)
    with path.open("w") as file:
        file.write("shopper,sku,when\n")
        for number in range(10_000):
            file.write(f"u{draw.randrange(2_000)},i{draw.randrange(1_000)},{1_700_000_000 + number}\n")

    def start(out):
        words = ("prepare", path, "--tokenizer", "items", "--out", out, *COLUMNS)
        return forked.start(*words, out=os.devnull, err=os.devnull)

    def finish(out):
        process = start(out)
        process.join()
        assert process.exitcode == 0

    forked.warm()
    began = time.monotonic()
    finish(tmp_path / "whole")
    seconds = time.monotonic() - began
    out, kills = tmp_path / "killed", 0
    for share in (0.3, 0.5, 0.7):
        process = start(out)
        process.join(share * seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
    assert kills
    finish(out)
    for name in ("tokens.bin", "ends.bin", "counts.bin", "meta.json"):
        assert (out / "shards" / name).read_bytes() == (tmp_path / "whole" / "shards" / name).read_bytes()
    assert sorted(each.name for each in out.iterdir()) == sorted(each.name for each in (tmp_path / "whole").iterdir())


def test_the_log_says_what_was_read(log, tmp_path, caplog):
    from quorem.config.settings import PrepareConfig, TextDataSettings, TokenizerSettings, VocabularySettings
    from quorem.data.prepare import prepare

    data = TextDataSettings(
        path=str(log), user_column="shopper", item_column="sku", time_column="when", session_gap="30min", min_events=2
    )
    config = PrepareConfig(data=data, tokenizer=TokenizerSettings(kind="items"), model=VocabularySettings(100))
    with caplog.at_level(logging.INFO):
        meta = prepare(config, tmp_path / "out")
    number, short = len(events()), meta.rows["skipped"]
    assert short > 0
    said = f"{number:,} rows read, {number - short:,} used, {short:,} skipped (0 empty, {short:,} of short sequences)"
    assert f"{said}, {meta.num_documents:,} sequences" in caplog.text


def test_rare_items_of_a_test_log_stay_targets(tmp_path, quorem, pretrain_settings):
    head, often = "user,item,time\n", "".join(f"u{n},{item},{t}\n" for n in range(4) for t, item in enumerate("abc"))
    (tmp_path / "log.csv").write_text(head + often)
    (tmp_path / "late.csv").write_text(head + "v1,a,1\nv1,b,2\nv1,c,3\nv2,a,1\nv2,b,2\n")  # c is rare here alone
    columns = ["data.events=auto", "data.min_item_events=2"]
    words = ["pretrain", tmp_path / "log.csv", "--tokenizer", "items", "--out", tmp_path / "run", *columns]
    assert quorem(*words, *pretrain_settings).code == 0
    data = SessionDataSettings(path=str(tmp_path / "log.csv"), test=str(tmp_path / "late.csv"), events="auto",
                               min_item_events=2)  # fmt: skip
    assert [document.text for document in held_out_source(data).documents()] == ["a\tb\tc", "a\tb"]
