"""Which size suits so many tokens and a machine, and how many steps fit into a time."""

import gzip
import random
from dataclasses import replace

import pytest

from quorem.config.settings import ModelSettings, PretrainConfig
from quorem.data.events.source import source_of
from quorem.finetuning.checkpoint import size_of
from quorem.plan import budget
from quorem.plan.budget import (
    SIZES,
    choose_size,
    events_of_files,
    operations_a_token,
    speed,
    tokens_of_files,
    tokens_seen,
)
from quorem.plan.presets import PRESETS, network_configs
from quorem.pretraining import pretrain


def test_sizes_fall_in_operations_and_in_the_tokens_they_are_worth():
    operations = [operations_a_token(PRESETS[size]) for size in SIZES]
    assert operations == sorted(operations, reverse=True)
    assert list(SIZES.values()) == sorted(SIZES.values(), reverse=True)
    assert operations_a_token(PRESETS["tiny"]) == 2 * 3 * (
        2 * (4 * 128 * 128 + 2 * 128 * 256) + 4 * 64 * 64 + 2 * 64 * 128
    )


@pytest.mark.parametrize(
    ("rate", "tokens", "minutes", "expected"),
    [
        (5e11, 1e5, None, "tiny"),  # not worth more
        (5e11, 12e6, None, "origin"),
        (5e11, 100e6, None, "tiny"),  # on a slow machine, too many for an hour
        (5e11, 100e6, 10_000, "small"),
        (5e11, 12e6, 1, "tiny"),
        (3e14, 100e6, None, "small"),  # on a fast one
        (3e14, 1e9, None, "small"),
        (3e14, 1e9, 600, "base"),
        (1e9, 1e12, None, "tiny"),
    ],
)
def test_the_largest_size_that_is_worth_it_and_in_time(monkeypatch, rate, tokens, minutes, expected):
    monkeypatch.setattr(budget, "speed", lambda precision: rate)
    assert choose_size(tokens, minutes, "auto") == expected


def lines(number, seed=0):
    chance = random.Random(seed)
    rows = (f"{chance.randrange(9_999)},{chance.randrange(20_000)},{1_500_000_000 + i}\n" for i in range(number))
    return ("user,item,time\n" + "".join(rows)).encode()


@pytest.mark.slow
def test_a_log_has_as_many_tokens_as_events(tmp_path):
    """One to its last line of a small file, and about right of a large one, packed or not."""
    small, large, packed = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv.gz"))
    small.write_bytes(lines(100))
    large.write_bytes(lines(200_000))
    packed.write_bytes(gzip.compress(lines(200_000)))
    assert events_of_files([small], "csv") == 101  # the header is one
    assert events_of_files([large], "csv") == pytest.approx(200_000, rel=0.02)
    assert events_of_files([packed], "csv") == pytest.approx(200_000, rel=0.05)
    assert events_of_files([small, small], "csv") == 202
    (tmp_path / "empty.csv").write_bytes(b"")
    assert events_of_files([tmp_path / "empty.csv"], "csv") == 0
    assert tokens_of_files([large]) > 4 * events_of_files([large], "csv")


def test_a_parquet_logs_events_are_its_rows(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"user": [1, 1, 2], "item": [3, 4, 5]}), tmp_path / "a.parquet")
    assert events_of_files([tmp_path / "a.parquet"], "parquet") == 3


def test_the_size_for_a_log_goes_by_its_events(tmp_path, monkeypatch):
    path, asked = tmp_path / "log.csv", []
    path.write_bytes(lines(1_000))
    columns = {"user_column": "user", "item_column": "item", "time_column": "time"}
    config = PretrainConfig(data=replace(PretrainConfig().data, path=str(path), **columns))
    monkeypatch.setattr(pretrain, "choose_size", lambda tokens, *_: asked.append(tokens) or "tiny")
    assert pretrain._with_size_for_data(config, source_of(config.data, text_column=None)).model.size == "tiny"
    assert asked == [1_001 * config.train.epochs]


def test_speed_is_measured():
    assert 1e8 < speed("fp32") < 1e16


def test_tokens_are_those_of_files_epochs_or_steps(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * 5_000)
    (tmp_path / "b.txt.gz").write_bytes(b"x" * 500)
    assert tokens_of_files([tmp_path / "a.txt", tmp_path / "b.txt.gz"]) == 1_300
    config = PretrainConfig()
    assert tokens_seen(config, 1_300) == 1_300
    assert tokens_seen(replace(config, train=replace(config.train, epochs=2.5)), 1_000) == 2_500
    assert tokens_seen(replace(config, train=replace(config.train, max_steps=10, batch_size=4)), 9) == 10 * 4 * 128


@pytest.mark.parametrize("size", ["tiny", "origin", "small", "base", "large"])
def test_the_size_of_a_network_alone_is_that_of_its_layers(tmp_path, size):
    _, config = network_configs(replace(ModelSettings(), size=size), vocab_size=100, max_length=16)
    config.save_pretrained(tmp_path / "network")
    assert size_of(str(tmp_path / "network")) == size
    (tmp_path / "network" / "config.json").write_text('{"hidden_size": 7}')
    assert size_of(str(tmp_path / "network")) == "small"
