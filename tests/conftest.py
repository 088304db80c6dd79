"""What tests of every kind share."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

# Tests run beside each other, one on each core, and so do the processes they start: threads of numpy and scipy would
# wait for each other, which costs more processor time than their work. Before numpy is imported, or it is not heeded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

REPOSITORY = Path(__file__).parents[1]
EXTRAS = {"unigram": "sentencepiece"}  # parameters of tests that need an extra of that name, and its package


def pytest_collection_modifyitems(items):
    """Skip what needs an extra that is not installed."""
    missing = {name for name, package in EXTRAS.items() if find_spec(package) is None}
    for item in items:
        values = getattr(item, "callspec", None)
        for name in missing.intersection(map(str, values.params.values() if values else ())):
            item.add_marker(pytest.mark.skip(reason=f"needs quorem[{name}]"))


@pytest.fixture(autouse=True)
def no_autocast_is_left_open():
    """One that is keeps casts of weights for ever, and whatever trains after it in bf16 does not learn."""
    yield
    if "torch" not in sys.modules:  # it takes seconds to import, and the process that starts the others needs none
        return
    import torch

    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    assert depth == 0, "an autocast was entered and not left"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $QUOREM_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("QUOREM_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is missing (set QUOREM_DATA to its folder)")
    return folder
