"""ONNX: onnxruntime's outputs are torch's, for any number of rows of any length, and a small table stays small."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from export_cases import LABELS, QR, VOCAB_SIZE, make_batch, save_network
from test_export_electra import TABLES
from transformers import AutoTokenizer

import quorem as package
from quorem.exporting import onnx
from quorem.exporting.electra import ARCHITECTURES
from quorem.exporting.export import export
from quorem.exporting.graph import GRAPHS, Graph, build_graph
from quorem.exporting.networks import KINDS, read_network
from quorem.exporting.onnx import NEEDED, open_session, run_onnx
from quorem.exporting.remote_code import OWN

for needed in NEEDED:
    pytest.importorskip(needed)

SHAPES = [(1, 1), (3, 17), (4, 40), (2, 3)]
MANY = 2**24 + 2**20  # ids, more than float32 counts
OVERHEAD = 60_000  # bytes of a graph of few layers, however large its tables


def exported(quorem, run, out, *words):
    outcome = quorem("export", run, "--format", "onnx", "--out", out, *words)
    assert outcome.code == 0, outcome
    assert len(outcome.err.splitlines()) <= 1, outcome.err
    return outcome.out


def outputs(folder, ids, mask, **more):
    session = open_session(folder / "model.onnx")
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)} | more
    found = run_onnx(session, {each.name: given[each.name] for each in session.get_inputs()})
    return [torch.from_numpy(each) for each in found]


def run_card(folder, monkeypatch):
    """Run the code that the folder's card shows, from beside the folder."""
    monkeypatch.chdir(folder.parent)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(compile(code.replace('"FOLDER', f'"{folder.name}'), "card", "exec"), names)
    assert len(names["outputs"][0]) == 1


def close(found, expected, atol=1e-4):
    torch.testing.assert_close(found, expected, atol=atol, rtol=1e-4)


def size_of_tensors(model):
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


@pytest.fixture(scope="module")
def discriminator(tmp_path_factory):
    """A run with a discriminator of very many ids, beside its export, out/; and the network."""
    folder = tmp_path_factory.mktemp("discriminator")
    table = {"kind": "qr", "own_rows": 7, "divisor": 4099, "operation": "add"}
    changes = {"vocab_size": MANY, "embedding": table, "embedding_size": 16}
    model = save_network("discriminator", folder / "run" / "discriminator", **changes)
    said = "\n".join(export(folder / "run", folder / "out", format="onnx"))
    assert "logits, last_hidden_state" in said
    assert "largest difference from torch on random ids" in said
    return folder, model


@pytest.fixture
def traced(monkeypatch, discriminator):
    """Tracing takes seconds: commands that export the discriminator again are given its graph."""

    class Traced:
        def save(self, path, external_data):
            shutil.copyfile(discriminator[0] / "out" / "model.onnx", path)

    monkeypatch.setattr(onnx, "trace", lambda graph, longest: Traced())
    return discriminator


@torch.no_grad()
def test_a_discriminator_gives_the_same_for_any_shape(discriminator):
    folder, model = discriminator
    for shape in SHAPES:
        ids, mask = make_batch(*shape)
        real, (logits, hidden) = mask.bool(), outputs(folder / "out", ids, mask)
        close(logits[real], model(ids, mask).logits[real])
        close(hidden[real], model.electra(ids, mask).last_hidden_state[real])
    content = (folder / "out" / "model.onnx").read_bytes()
    assert str(Path(package.__file__).parent).encode() not in content, "names of this machine's files are in it"
    assert AutoTokenizer.from_pretrained(folder / "out")("w7 w9")["input_ids"] == [2, 7, 9, 3]


@torch.no_grad()
def test_a_classifier_copied_away_from_its_run_gives_the_same_and_names_its_labels(tmp_path, quorem, monkeypatch):
    changes = {"positions": "rotary", "classifier_pooling": "mean", "classifier_layers": "all", "num_hidden_layers": 2}
    model = save_network("classifier", tmp_path / "copied", embedding=QR, **changes)
    exported(quorem, tmp_path / "copied", tmp_path / "out")
    for shape in SHAPES:
        ids, mask = make_batch(*shape)
        types = (torch.arange(shape[1]) >= 6).long() * mask  # of a pair
        expected = model(ids, mask, types).logits
        close(outputs(tmp_path / "out", ids, mask, token_type_ids=types)[0], expected)
        if shape[1] > 6:
            assert (expected - model(ids, mask).logits).abs().max() > 0.01  # types count
    labels = json.loads((tmp_path / "out" / "config.json").read_text())["id2label"]
    assert {int(number): name for number, name in labels.items()} == LABELS
    run_card(tmp_path / "out", monkeypatch)


@torch.no_grad()
def test_a_recommender_gives_vectors_and_exact_probabilities(tmp_path, quorem, monkeypatch):
    captures, capture = [], torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *of, **by: captures.append(by["strict"]) or capture(*of, **by))
    more = {"causal": True, "never_targets": [0, 2, 3, 4], "head": {"kind": "cosine"}}
    more |= {"vocab_size": 3_000, "embedding": TABLES["dense"] | {"own_rows": 3_000}}
    model = save_network("next_item", tmp_path / "run" / "model", **more)
    exported(quorem, tmp_path / "run", tmp_path / "out")
    assert captures == [False]  # where that fails, torch tries a second way, which takes longer
    histories = [[7, 9, 200], [5], [11, 12, 13, 14, 15, 16]]
    ids, _, _ = model.inputs(histories, max_items=20)
    mask = (torch.arange(ids.shape[1]) < torch.tensor([[4], [2], [7]])).long()
    hidden, log_probs = outputs(tmp_path / "out", ids, mask)
    close(hidden, model.vectors(histories, max_items=20))
    close(log_probs, model.scores(histories, max_items=20))
    assert (tmp_path / "out" / "model.onnx").stat().st_size < size_of_tensors(model) + OVERHEAD  # the table once


@torch.no_grad()
def test_a_tagger_gives_the_same_for_each_token(tmp_path, quorem, monkeypatch):
    model = save_network("token_classifier", tmp_path / "run" / "model", embedding=QR, positions="alibi")
    exported(quorem, tmp_path / "run", tmp_path / "out")
    for shape in SHAPES:
        ids, mask = make_batch(*shape)
        close(outputs(tmp_path / "out", ids, mask)[0][mask.bool()], model(ids, mask).logits[mask.bool()])
    run_card(tmp_path / "out", monkeypatch)


@torch.no_grad()
def test_any_number_of_choices_get_the_same_scores(tmp_path, quorem, monkeypatch):
    model = save_network("multiple_choice", tmp_path / "run" / "model", embedding=QR)
    exported(quorem, tmp_path / "run", tmp_path / "out")
    for rows, choices, time in ((1, 1, 3), (2, 2, 17), (2, 1, 40), (1, 4, 7)):
        ids, mask = (each.view(rows, choices, time) for each in make_batch(rows * choices, time))
        types = (torch.arange(time) >= 2).long() * mask
        close(outputs(tmp_path / "out", ids, mask, token_type_ids=types)[0], model(ids, mask, types).logits)
    run_card(tmp_path / "out", monkeypatch)


def test_every_head_has_a_graph_and_code():
    heads = {name for name in dir(package) if name.startswith("QuoremFor")}
    assert heads == KINDS.keys()
    kinds = {kind for kind, _ in KINDS.values()}
    assert kinds == GRAPHS.keys() == OWN.keys() == ARCHITECTURES.keys()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """A folder with a model that answers questions as the paper's does, and its export, out/."""
    folder = tmp_path_factory.mktemp("answers")
    model = save_network("question_answering", folder / "model", embedding=QR, classifier_head="paper")
    export(folder / "model", folder / "out", format="onnx")
    return folder, model


@torch.no_grad()
def test_what_answers_questions_gives_the_same_scores_of_spans(answers, monkeypatch):
    """Of the paper's head: the graph of the other is this one's first part."""
    folder, model = answers
    for shape in SHAPES:  # rows with fewer tokens than the head has starts, and with more
        ids, mask = make_batch(*shape)
        types = (torch.arange(shape[1]) >= shape[1] // 2).long() * mask
        found = outputs(folder / "out", ids, mask, token_type_ids=types)
        expected = model(ids, mask, types)
        close(found[0], expected.start_logits)
        close(found[1], expected.end_logits)
        allowed = types.bool() | (torch.arange(shape[1]) == 0)
        close(found[2], expected.impossible_logits)
        spans_of_each_start(found[3], found[4], expected, allowed)
    run_card(folder / "out", monkeypatch)


def spans_of_each_start(starts, scores, expected, allowed):
    """The graph's joint scores are log p(start) + log p(end | start), and nothing stands where no answer can be."""
    of_starts, of_ends = expected.start_logits.log_softmax(-1), expected.end_top_logits.log_softmax(-1)
    for row, may in enumerate(allowed):
        number = min(20, int(may.sum()))
        assert torch.equal(starts[row, :number], expected.start_top_index[row, :number])
        joint = of_starts[row, starts[row, :number]].unsqueeze(-1) + of_ends[row, :number]
        close(scores[row, :number, may], joint[:, may])
        assert (scores[row, number:] < -1e30).all()
        assert (scores[row][:, ~may] < -1e30).all()
        assert not starts[row, number:].any()


@torch.no_grad()
def test_starts_that_are_all_but_equal_may_change_places_with_their_scores(answers, monkeypatch):
    folder, _ = answers
    graph = build_graph(read_network(folder / "model"))
    for moved, most in ((("starts", "span_scores"), 1e-3), (("starts",), None), (("span_scores",), None)):

        def swapped(session, inputs, moved=moved):
            found = dict(zip(graph.names, run_onnx(session, inputs), strict=True))
            return [each[:, [1, 0, *range(2, 20)]] if name in moved else each for name, each in found.items()]

        monkeypatch.setattr(onnx, "run_onnx", swapped)
        found = onnx.differences(folder / "out" / "model.onnx", graph)
        assert "starts" not in found
        difference, largest = found.pop("span_scores")
        assert 1 < largest < 100
        assert difference < most if most else difference > 0.01
        assert all(other < 1e-3 for other, _ in found.values())


def test_what_gives_no_number_is_refused(tmp_path, traced, refused, monkeypatch):
    def broken(session, inputs):
        return [each * number for each, number in zip(run_onnx(session, inputs), (torch.nan, torch.inf), strict=True)]

    monkeypatch.setattr(onnx, "run_onnx", broken)
    line = refused("export", traced[0] / "run", "--format", "onnx", "--out", tmp_path / "out")
    assert re.search(
        r"its outputs have NaN or infinite numbers, in torch or onnxruntime \(logits.*last_hidden_state", line
    )
    assert not (tmp_path / "out").exists()


@torch.no_grad()
def test_ids_beyond_what_float32_counts_read_their_rows_and_the_file_is_as_large_as_the_tables(discriminator):
    """The exporter makes float32 of torch.div: token 2^24 + 1 would read the row of another (trap 31)."""
    folder, model = discriminator
    row = (MANY - 7) // 4099 * 4099 + 7  # the first of a bucket, and the last of the one before
    ids = torch.tensor([[2, row, row - 1, row - 4099, row - 4100, MANY - 1, 2**24 + 1, 3]])
    close(outputs(folder / "out", ids, torch.ones_like(ids))[0], model(ids).logits)
    written = (folder / "out" / "model.onnx").stat().st_size
    assert size_of_tensors(model) <= written < size_of_tensors(model) + OVERHEAD
    assert written < MANY * 16 * 4 / 1000


@torch.no_grad()
def test_int8_is_smaller_and_says_how_far_it_is(tmp_path, traced, quorem):
    folder, model = traced
    said = exported(quorem, folder / "run", tmp_path / "out", "--int8")
    assert re.search(
        r"int8: model\.onnx, [\d.]+ MB\nlargest difference from torch on random ids: logits [\d.e-]+", said
    )
    assert sorted(path.name for path in (tmp_path / "out").glob("model*")) == ["model.onnx"]
    whole, small = (place / "out" / "model.onnx" for place in (folder, tmp_path))
    assert small.stat().st_size < whole.stat().st_size
    ids, mask = make_batch()
    close(outputs(tmp_path / "out", ids, mask)[0][mask.bool()], model(ids, mask).logits[mask.bool()], atol=0.2)


class Tables(Graph):
    """The token tables of several networks, by name."""

    inputs = ("input_ids",)

    def __init__(self, networks):
        super().__init__(next(iter(networks.values())))
        graphs = {name: Graph(network) for name, network in networks.items()}
        self.names = tuple(graphs)
        self.tables = torch.nn.ModuleList(each.model.electra.embeddings.word_embeddings for each in graphs.values())

    def forward(self, input_ids):
        return tuple(table(input_ids) for table in self.tables)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")  # torch's own, which the command does not show
def test_every_other_kind_of_table_gives_the_same(tmp_path):
    kinds = [kind for kind in TABLES if kind not in ("path", "qr", "dense")]  # those of the tests above
    for kind in kinds:
        save_network("discriminator", tmp_path / kind, embedding=TABLES[kind])
    tables = Tables({kind: read_network(tmp_path / kind) for kind in kinds})
    ids = torch.arange(VOCAB_SIZE).view(1, -1)
    expected = tables(ids)
    onnx.trace(tables, 40).save(tmp_path / "model.onnx")
    for rows in (1, 3):
        found = outputs(tmp_path, ids.expand(rows, -1), None)
        for kind, one, other in zip(kinds, found, expected, strict=True):
            assert one.shape == (rows, *other.shape[1:]), kind
            assert (one - other).abs().max() < 1e-4, kind


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("discriminator", {"embedding": TABLES["path"]}, r"kind=path.*--format electra or remote-code"),
        ("classifier", {"classifier_length": 20}, r"data\.truncation=windows.*data\.truncation=head.*remote-code"),
        ("classifier", {"classifier_ngrams": 2, "classifier_ngram_rows": 50}, r"ngrams=2.*ngrams=0.*remote-code"),
        ("classifier", {"classifier_sif": True}, r"classifier\.sif=true.*classifier\.sif=false.*remote-code"),
    ],
)
def test_what_has_no_graph_is_refused_by_its_setting(kind, changes, said, tmp_path, refused, half_written):
    save_network(kind, tmp_path / "model", **changes)
    line = refused("export", tmp_path / "model", "--format", "onnx", "--out", tmp_path / "out")
    assert re.search(said, line), line
    assert not (tmp_path / "out").exists()
    assert not half_written(tmp_path / "out")


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_package_is_named_with_the_line_for_pip(name, tmp_path, refused, monkeypatch):
    save_network("discriminator", tmp_path / "model")
    monkeypatch.setitem(sys.modules, name, None)
    line = refused("export", tmp_path / "model", "--format", "onnx", "--out", tmp_path / "out")
    assert f"needs {name}: pip install 'quorem[export]'" in line


def test_int8_belongs_to_onnx(tmp_path, refused):
    line = refused("export", tmp_path, "--format", "electra", "--int8", "--out", tmp_path / "out")
    assert "--int8: only --format onnx" in line
