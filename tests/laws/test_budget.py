"""Which size suits so many tokens and a machine, and how many steps fit into a time."""

from dataclasses import replace

import pytest

from quorem.config.settings import PretrainConfig
from quorem.plan import budget
from quorem.plan.budget import SIZES, choose_size, operations_a_token, speed, tokens_of_files, tokens_seen
from quorem.plan.presets import PRESETS


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
