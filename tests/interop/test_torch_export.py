"""torch.export: a graph of every head that takes any batch and length and gives what the model gives."""

import pytest
import torch
from export_cases import QR
from interop_cases import HEADS, inputs, make

WITHIN_OTHERS = ("encoder", "generator, tree")  # each head has an encoder, and that of the next item the same tree


@pytest.mark.parametrize("name", [name for name in HEADS if name not in WITHIN_OTHERS])
@torch.no_grad()
def test_the_graph_of_every_head_takes_other_sizes(name):
    few = QR | {"own_rows": 190, "divisor": 11}  # each bucket of a softmax is a part of the graph
    model, given = make(name, embedding=few, num_hidden_layers=1), inputs(name)
    model(**given)  # the order of a softmax's tokens is made at the first call, and then part of the graph
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time", max=40)
    sizes = {0: batch, 2: time} if name == "multiple choice" else {0: batch, 1: time}
    program = torch.export.export(model, (), given, dynamic_shapes=dict.fromkeys(given, sizes))
    graph = program.module()
    for shape in ((3, 17), (2, 9), (1, 33)):  # rows longer and shorter than the 20 starts of an answer
        found, expected = (each(**inputs(name, *shape)).to_tuple() for each in (graph, model))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_id_beyond_the_table_is_an_error_in_the_graph_too():
    model, given = make("classifier", num_hidden_layers=1), inputs("classifier")
    program = torch.export.export(model, (), given).module()
    with pytest.raises(RuntimeError, match="an id is not in the vocabulary of 211 tokens"):
        program(**(given | {"input_ids": given["input_ids"] + 211}))
