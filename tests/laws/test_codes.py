"""Hashes, digits and remainders: exact integers, whatever the size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quorem.embeddings import EMBEDDINGS, Assignment
from quorem.embeddings.chinese_remainder import check_moduli, coprime_moduli
from quorem.embeddings.hashing import hashed
from quorem.embeddings.mixed_radix import even_moduli


@given(numbers=st.lists(st.integers(0, 2**40), min_size=1, max_size=50), buckets=st.integers(1, 2**31))
def test_hashes_are_those_of_exact_integer_arithmetic(numbers, buckets):
    mask = 2**64 - 1

    def by_hand(number, seed):
        mixed = ((number + 1 + seed * 2**48) * 0x9E3779B97F4A7C15) & mask
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        return ((mixed ^ (mixed >> 31)) & (2**63 - 1)) % buckets

    for seed in (0, 1, 5):
        assert hashed(torch.tensor(numbers), buckets, seed=seed).tolist() == [by_hand(n, seed) for n in numbers]


def test_two_hash_functions_are_not_one():
    """Linear hashes with a common modulus are functions of each other (CANINE's): these must not be."""
    ids = torch.arange(100_000)
    pairs = torch.stack([hashed(ids, 300, seed=0), hashed(ids, 300, seed=1)], dim=-1)
    expected = 300**2 * (1 - (1 - 300**-2) ** 100_000)  # distinct pairs of independent draws
    assert len(pairs.unique(dim=0)) == pytest.approx(expected, rel=0.02)
    assert torch.bincount(pairs[:, 0], minlength=300).double().std() == pytest.approx((100_000 / 300) ** 0.5, rel=0.2)


@settings(max_examples=100, deadline=None)
@given(tail=st.integers(1, 2**40), digits=st.integers(2, 5))
def test_planned_moduli_tell_all_ids_apart(tail, digits):
    moduli = even_moduli(tail, digits)
    last = -(-tail // math.prod(moduli))
    assert len(moduli) == digits - 1
    assert last <= moduli[0] or tail <= 2
    assert (moduli[0] - 1) ** digits < tail or moduli[0] == 1
    check_moduli(coprime_moduli(tail, digits), tail)
    assert sum(coprime_moduli(tail, digits)) < 1.2 * digits * (tail ** (1 / digits) + 10)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_digits_and_remainders_are_exact_beyond_2_31(data):
    tail = data.draw(st.integers(2**24, 2**40))
    ids = torch.tensor(sorted({*data.draw(st.lists(st.integers(0, tail - 1), max_size=20)), 0, tail - 1}))
    for kind, moduli in (("mixed_radix", even_moduli(tail, 4)), ("chinese_remainder", coprime_moduli(tail, 4))):
        with torch.device("meta"):
            embedding = EMBEDDINGS[kind](Assignment(tail, own_rows=0, divisor=1000), 4, moduli=moduli)
        codes = [tuple(code) for code in torch.stack(embedding.codes(ids), dim=-1).tolist()]
        assert len(set(codes)) == len(ids)
        assert all(digit < len(table) for code in codes for digit, table in zip(code, embedding.tables, strict=True))
        for number, code in zip(ids.tolist(), codes, strict=True):
            if kind == "chinese_remainder":
                assert code == tuple(number % modulus for modulus in moduli)
            else:
                places = [math.prod(moduli[:place]) for place in range(4)]
                assert sum(digit * place for digit, place in zip(code, places, strict=True)) == number
