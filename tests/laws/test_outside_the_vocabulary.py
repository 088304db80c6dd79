"""No table reads another token's vector for an id that is no token's."""

import pytest
import torch
from test_embeddings import DIM, VOCAB, every_table, make_embedding

from quorem.embeddings.disentangled import DisentangledEmbedding


@every_table
def test_an_id_outside_the_vocabulary_is_an_error_on_the_cpu(kind, options, own_rows, permuted):
    embedding = make_embedding(kind, options, own_rows, permuted)
    for module in (embedding, DisentangledEmbedding(embedding)):
        assert module(torch.empty(2, 0, dtype=torch.int64)).shape == (2, 0, DIM)
        module(torch.tensor([0, VOCAB - 1]))
        for wrong in (-1, -100, VOCAB, VOCAB + 1, 10**6):
            for ids in ([[5, wrong]], [[wrong, 0]]):
                with pytest.raises(IndexError, match=rf"^id {wrong} is not .* {VOCAB} tokens .* 0 to {VOCAB - 1}$"):
                    module(torch.tensor(ids))
