"""Pre-training with tokens laid out in other orders than by frequency."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file


@pytest.mark.parametrize("assignment", ["random", "cluster", "file"])
def test_a_run_keeps_its_order_of_tokens(quorem, tmp_path, sample_csv, pretrain_settings, assignment):
    out, order_file = tmp_path / "run", tmp_path / "order.txt"
    settings = [*pretrain_settings, "model.embedding.tier=20", f"model.embedding.assignment={assignment}"]
    if assignment == "file":
        order_file.write_text("film\nthe\n")
        settings.append(f"model.embedding.assignment_file={order_file}")
    command = ["pretrain", sample_csv, "--text-column", "review", "--out", out, *settings]
    assert quorem(*command).code == 0
    order = np.fromfile(out / "data" / "order.bin", np.int32)
    assert sorted(order.tolist()) == list(range(len(order)))
    for name in ("discriminator", "generator"):
        rank = load_file(out / name / "model.safetensors")["electra.embeddings.word_embeddings.assignment.rank"]
        assert torch.equal(rank[torch.from_numpy(order).long()], torch.arange(len(order), dtype=torch.int32))
    assert quorem(*command).code == 0  # finished: nothing to do
    if assignment == "file":
        order_file.write_text("the\nfilm\n")
        assert quorem(*command).code == 2
