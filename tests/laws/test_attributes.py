"""Files of attributes: what is read, and what is refused."""

import numpy as np
import pytest
import torch

from quorem.arrangement.attribute_file import read_attributes, store_attributes, stored_attributes
from quorem.errors import UserError

CARS = "car,year,make,type\na,1998,Fiat,van\nb,1998,Fiat,coupé\nc,2004,Fiat,van\nd,2004,Opel,van\ne,1998,Fiat,van\n"


@pytest.fixture
def cars(tmp_path):
    path = tmp_path / "cars.csv"
    path.write_text(CARS, encoding="utf-8")
    return path


def test_values_are_numbered_by_column(cars):
    found = read_attributes(cars)
    assert found.rows == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    assert found.values.tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert found.sizes == [2, 2, 2]


def test_tokens_get_their_values_and_no_number_is_left_over(cars):
    values = read_attributes(cars).of(["d", "c"])
    assert values.dtype == torch.int32
    assert values.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert read_attributes(cars).of([]).shape == (0, 3)


def test_two_tokens_with_the_same_attributes_are_refused_unless_one_has_a_row_of_its_own(cars):
    found = read_attributes(cars)
    assert len(found.of(["b", "c", "d", "e"]).unique(dim=0)) == 4
    with pytest.raises(UserError, match=r"cars.csv: 'e' \(row 5\) and 'a' \(row 1\) have the same") as refused:
        found.of(["d", "e", "a"])
    assert "add a column in which they differ, or enlarge model.embedding.tier" in str(refused.value)


def test_tokens_that_are_not_in_the_file_are_named(cars):
    with pytest.raises(UserError, match="5 of the 6 tokens that share rows are missing, for example 'v', 'w', 'x':"):
        read_attributes(cars).of(["a", "v", "w", "x", "y", "z"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("", "is empty"),
        ("token\na\n", "only one column, 'token'"),
        ("token,make\n", "a header but no rows"),
        ("token,make\na,Fiat\nb,Opel,van\n", r"row 2 \(line 3\): found 3 fields, expected 2"),
        ("token,make,year\na,Fiat,1998\nb, ,2004\n", r"row 2 \('b'\): column 'make' is empty: fill it in"),
        ("token,make\n,Fiat\n", r"row 1 \(''\): column 'token' is empty"),
        ("token,make\na,Fiat\nb,Opel\na,Opel\n", "row 3: token 'a' is in row 1 already"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(tmp_path, content, message):
    path = tmp_path / "cars.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as refused:
        read_attributes(path)
    assert "cars.csv" in str(refused.value)


def test_values_are_stored_whole(tmp_path):
    path = tmp_path / "attributes.npy"
    assert stored_attributes(path) is None
    values = torch.from_numpy(np.arange(12, dtype=np.int32).reshape(4, 3))
    store_attributes(path, values)
    assert torch.equal(stored_attributes(path), values)
    assert [file.name for file in tmp_path.iterdir()] == ["attributes.npy"]
