"""Places, measures and baselines against counting by hand."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from quorem.data.sessions import Sessions, by_split, leave_one_out, sample_evaluated, split_validation
from quorem.errors import UserError
from quorem.recommending.baselines import ItemNeighbours, Popularity, SequentialRules, SessionNeighbours
from quorem.recommending.ranking import Ranked, judge, places

A, B, C, D = 5, 6, 7, 8  # items come after the special tokens
V = 9


def sessions(*rows):
    return Sessions.of(rows)


def naive_place(scores, target):
    """The mean place over all orders of a tie, by sorting."""
    order = sorted(scores, reverse=True)
    same = [place for place, score in enumerate(order, 1) if score == scores[target]]
    return sum(same) / len(same)


def test_the_target_takes_the_middle_of_a_tie():
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.integers(0, 4, (50, 12)).astype(np.float32))
    targets = torch.from_numpy(rng.integers(0, 12, 50))
    expected = [naive_place(row, target) for row, target in zip(scores.tolist(), targets.tolist(), strict=True)]
    assert places(scores, targets).tolist() == expected


def test_what_cannot_be_recommended_has_no_place():
    scores = torch.tensor([[1.0, -torch.inf, 0.0]]).repeat(3, 1)
    assert places(scores, torch.tensor([1, -1, 2])).tolist() == [math.inf, math.inf, 2.0]


def test_measures_by_hand():
    ranked = Ranked(np.array([0] * 5 + [4, 3, 2, 1]))
    scores = torch.full((3, V), -torch.inf)
    scores[:, 5:] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    ranked.update(scores, torch.tensor([A, C, -1]))  # places 1 and 3, and an unknown target
    found = ranked.compute()
    assert found["hr@1"] == pytest.approx(1 / 3)
    assert found["hr@5"] == pytest.approx(2 / 3)
    assert found["mrr@1"] == pytest.approx(1 / 3)
    assert found["mrr@5"] == pytest.approx((1 + 1 / 3) / 3)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / math.log2(4)) / 3)
    assert found["coverage@20"] == 1.0
    assert found["popularity@20"] == pytest.approx(2.5)


def test_judging_leaves_out_special_tokens_and_seen_items_if_asked():
    def scorer(histories):
        return torch.arange(V, 0, -1).float().repeat(len(histories), 1)  # special tokens first, then A, B, ...

    cases, counts = sessions([A, B], [B, B]), np.ones(V, np.int64)
    all_items = judge(scorer, cases, counts, exclude_seen=False)
    assert (all_items["hr@1"], all_items["mrr@5"]) == (0.0, 0.5)
    unseen = judge(scorer, cases, counts, exclude_seen=True)
    assert (unseen["hr@1"], unseen["mrr@20"]) == (0.5, 0.5), "B is first without A, and cannot come where it was seen"


def test_popularity_and_rules_by_hand():
    rows = sessions([A, B, C], [A, B], [C, A])
    assert Popularity(rows, V)([[A]])[0, 5:].tolist() == [3, 2, 2, 0]
    rules, root = SequentialRules(rows, V), math.sqrt(2.5)  # of what A's rules add up to
    assert rules([[A]])[0, 5:].tolist() == pytest.approx([0, 2 / root, 0.5 / root, 0])
    found = rules([[A, C]])[0, 5:].tolist()
    assert found == pytest.approx([1, 1 / root, 0.25 / root, 0]), "the last item fully, the one before it by half"


def test_item_neighbours_by_hand():
    found = ItemNeighbours(sessions([A, B, A], [A, B], [B, C], [D]), V)([[A], [C, B]])
    with_a, with_c = 2 / math.sqrt(22 * 23), 1 / math.sqrt(21 * 23)  # 20 sessions more for each
    assert found[0, 5:].tolist() == pytest.approx([0, with_a, 0, 0])
    assert found[1, 5:].tolist() == pytest.approx([with_a, 0, with_c, 0])


def test_session_neighbours_by_hand():
    """Two neighbours of [A, B]: one shares the last item, the other the first, which weighs half and is a step off."""
    found = SessionNeighbours(sessions([A, C], [B, D], [C, D]), V)([[A, B], [V - 9 + 5]])[0, 5:]
    rarity = 1 + math.log(3 / 2)
    of_first, of_last = 0.5 / 2, 1.0
    expected = [of_first * (1 + math.log(3)), of_last * (1 + math.log(3)), of_first * rarity, of_last * rarity]
    assert found.tolist() == pytest.approx(expected)


def test_a_history_is_no_neighbour_of_itself_where_it_was_counted():
    neighbours = SessionNeighbours(sessions([A, B], [A, B, C]), V)
    assert neighbours([[A, B]])[0, 5:].gt(0).tolist() == [True, True, True, False]
    alone = neighbours([[A, B]])[0, A]
    neighbours.holds_cases = True
    assert 0 < neighbours([[A, B]])[0, A] < alone


def test_what_a_diverged_model_says_is_no_hit():
    scores = torch.full((2, V), math.nan)
    scores[1, A] = 1.0
    assert places(scores, torch.tensor([B, A])).tolist() == [math.inf, 1.0]


def test_coverage_is_of_items_with_a_count():
    counts = np.zeros(V, np.int64)
    counts[[A, B]] = 3
    ranked = Ranked(counts)
    ranked.update(torch.arange(V).float().repeat(2, 1), torch.tensor([A, B]))
    assert ranked.compute()["coverage@20"] == 1.0


def test_a_history_of_unknown_company_has_no_neighbours():
    scores = SessionNeighbours(sessions([A, B]), V)([[D]])
    assert scores.abs().sum() == 0


def test_leave_one_out_holds_the_last_two_items_back():
    parts = leave_one_out(sessions([A, B, C, D], [A, B], [C, B, A], []))
    rows = {name: [part.row(i) for i in range(len(part))] for name, part in parts._asdict().items()}
    assert rows["training"] == [[A, B], [A, B], [C], []]
    assert rows["validation"] == [[A, B, C], [C, B]]
    assert rows["test"] == [[A, B, C, D], [C, B, A]]
    assert rows["counted"] == [[A, B, C], [A, B], [C, B], []]


def test_rows_are_parted_by_their_splits():
    rows = sessions([A, B], [B, C], [C, D])
    training, test = by_split(rows, ["train", "test", " train "], "x.csv")
    assert ([training.row(i) for i in range(2)], test.row(0)) == ([[A, B], [C, D]], [B, C])
    with pytest.raises(UserError, match="'held'"):
        by_split(rows, ["train", "held", "train"], "x.csv")
    with pytest.raises(UserError, match="all rows are of split train"):
        by_split(rows, ["train"] * 3, "x.csv")


def test_a_share_is_set_aside_and_a_sample_is_judged():
    rows = sessions(*([A, B] for _ in range(40)), [A])
    training, aside = split_validation(rows, share=0.1, seed=3)
    assert (len(training), len(aside)) == (37, 4)
    assert len(sample_evaluated(rows, most=None, seed=0)) == 40, "a row of one item has nothing before it"
    assert len(sample_evaluated(rows, most=7, seed=0)) == 7
    with pytest.raises(UserError, match="validation_share"):
        split_validation(sessions([A, B]), share=0.5, seed=0)


@cache
def load(path):
    """Sessions of numbers, a line each."""
    import gzip

    with gzip.open(path, "rt") as file:
        return Sessions.of([[int(word) + 5 for word in line.split()] for line in file])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "hit_rate", "reciprocal"),
    [(ItemNeighbours, 0.350, 0.110), (SequentialRules, 0.469, 0.158), (SessionNeighbours, 0.515, 0.183)],
)
def test_baselines_reach_what_others_counted_on_diginetica(shared_data, kind, hit_rate, reciprocal):
    training, test = (load(shared_data / "diginetica" / f"{name}.txt.gz") for name in ("train", "test"))
    vocab_size = 1 + int(max(training.tokens.max(), test.tokens.max()))
    cases = sample_evaluated(test, most=4_000, seed=0)
    found = judge(kind(training, vocab_size), cases, training.counts(vocab_size), exclude_seen=False, floor=0.0)
    assert found["hr@20"] > hit_rate - 0.016, "two standard errors"
    assert found["mrr@20"] > reciprocal - 0.008
