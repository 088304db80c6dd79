"""What tests of every kind share."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests run beside each other, one on each core."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $QUOREM_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("QUOREM_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is missing (set QUOREM_DATA to its folder)")
    return folder
