"""quorem from Python: the functions, what they give, and what importing it costs."""

import json
import shutil
import subprocess
import sys
from functools import partial

import forked
import numpy as np
import pytest
import torch

import quorem as package
from quorem.errors import UserError

TEXTS = ["The film was good.", "", "A bad plot, and a house."]


@pytest.fixture(scope="module")
def small(pretrain_settings):
    """Settings by their dotted names."""
    return dict(each.split("=", 1) for each in pretrain_settings)


def test_pretrain_finetune_predict_as_the_first_page_says(tmp_path, few_reviews, small, finetune_settings):
    encoder = package.pretrain(
        str(few_reviews), out=str(tmp_path / "run"), text_column="review", steps=4, seed=1,
        settings={name: value for name, value in small.items() if name != "train.max_steps"},
    )  # fmt: skip
    assert "qr table of" in repr(encoder)
    fine = dict(each.split("=", 1) for each in finetune_settings)
    classifier = package.finetune(
        encoder, str(few_reviews), str(tmp_path / "fine"), text_column="review", label_column="sentiment", settings=fine
    )
    assert "negative, positive" in repr(classifier)
    assert 0 <= classifier.result["accuracy"] <= 1
    assert "tf-idf" in str(classifier.result["baselines"]).lower()
    assert encoder.result["mlm_loss"] > 0
    assert package.load(tmp_path / "fine" / "model").result == classifier.result
    shutil.copytree(tmp_path / "fine" / "model", tmp_path / "alone" / "model")
    assert package.load(tmp_path / "alone").result == {}
    found = classifier.predict(TEXTS)
    assert [set(each) for each in found] == [{"label", "score"}] * 3
    assert all(each["label"] in classifier.labels and 0.5 <= each["score"] <= 1 for each in found)
    again = package.load(tmp_path / "fine")
    assert again.predict(TEXTS) == found
    assert torch.equal(again.probabilities(TEXTS).sum(-1).round(decimals=4), torch.ones(3))
    assert isinstance(package.load(str(tmp_path / "run")), package.Encoder)


def finetune_in_python(*of, **by):
    """Instead of a command."""
    package.finetune(*of, **by)
    raise SystemExit(0)


def test_python_is_not_shown_what_transformers_misses_or_loads(tmp_path, few_reviews, pretrained):
    """In a process of its own: the command line of another test has silenced transformers in this one."""
    settings = {"train.max_steps": 1, "train.precision": "fp32", "classifier.baseline": False}
    columns = {"text_column": "review", "label_column": "sentiment"}
    out = str(tmp_path / "out")
    done = forked.run(
        first=partial(finetune_in_python, str(pretrained), few_reviews, out, settings=settings, **columns)
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model").is_dir()
    assert "LOAD REPORT" not in done.stderr
    assert "Loading weights" not in done.stderr


def test_seeds_are_averaged_and_a_run_is_exported(tmp_path, few_reviews, pretrained, finetune_settings):
    fine = dict(each.split("=", 1) for each in finetune_settings) | {"train.epochs": 1}
    columns = {"text_column": "review", "label_column": "sentiment"}
    both = package.finetune(pretrained, few_reviews, tmp_path / "two", seeds=2, settings=fine, **columns)
    each = [package.load(tmp_path / "two" / f"seed-{seed}").probabilities(TEXTS) for seed in (0, 1)]
    torch.testing.assert_close(both.probabilities(TEXTS), torch.stack(each).mean(0))
    assert not torch.equal(*each)
    lines = package.export(package.load(pretrained), tmp_path / "code", format="remote-code")
    assert any("discriminator" in line for line in lines)
    assert (tmp_path / "code" / "README.md").exists()
    with pytest.raises(UserError, match="--format=tflite: unknown"):
        package.export(pretrained, tmp_path / "other", format="tflite")


def test_several_next_item_models_recommend_by_their_mean(tmp_path):
    rows = [{"text": " ".join(f"i{(start + step) % 7}" for step in range(5))} for start in range(60)]
    small = {"data.max_length": 16, "train.precision": "fp32", "model.size": "tiny", "data.rows": "isolated"}
    run = package.pretrain(rows, tmp_path / "run", tokenizer="items", steps=2, batch_size=8, settings=small)
    found = package.finetune(
        run, rows, tmp_path / "next", task="next_item", seeds=2, steps=2, settings={"train.precision": "fp32"}
    )
    said = found.recommend([["i1", "i2"]], top=3)[0]
    each = [package.load(tmp_path / "next" / f"seed-{seed}").recommend([["i1", "i2"]], top=7)[0] for seed in (0, 1)]
    shares = [{best["item"]: best["score"] for best in one} for one in each]
    assert shares[0] != shares[1]
    means = {item: (shares[0][item] + shares[1][item]) / 2 for item in shares[0]}
    best = sorted(means, key=means.__getitem__, reverse=True)[:3]
    assert [one["item"] for one in said] == best
    assert [one["score"] for one in said] == pytest.approx([means[item] for item in best], rel=1e-5)


def test_encode_gives_a_vector_for_each_text_whatever_stands_beside_it(pretrained):
    encoder = package.load(pretrained)
    found = encoder.encode(TEXTS)
    assert found.shape == (3, 16)
    assert found.dtype == torch.float32
    for number, text in enumerate(TEXTS):
        torch.testing.assert_close(encoder.encode([text])[0], found[number], atol=1e-5, rtol=1e-4)
    assert encoder.encode([]).shape == (0, 16)
    assert encoder.encode(TEXTS, pooling="mean").shape == encoder.encode(TEXTS, pooling="first").shape == (3, 32)
    assert encoder.encode(TEXTS, pooling="max").isfinite().all()
    with pytest.raises(UserError, match="pooling=min: unknown"):
        encoder.encode(TEXTS, pooling="min")
    with pytest.raises(UserError, match="a list is needed, not one text"):
        encoder.encode("one text")


def test_detect_says_of_each_token_how_likely_it_was_replaced(pretrained):
    encoder = package.load(pretrained)
    found = encoder.detect(TEXTS)
    assert [token for token, _ in found[0]] == encoder.tokenizer.tokenize(TEXTS[0])
    assert len(found[0]) == 5
    assert found[1] == []
    assert all(0 < share < 1 for text in found for _, share in text)


def test_settings_that_are_not_known_are_named(tmp_path, sample_csv):
    with pytest.raises(UserError, match=r"argument=sise: unknown. Did you mean size\?"):
        package.pretrain(str(sample_csv), tmp_path / "x", sise="tiny")
    with pytest.raises(UserError, match=r"unknown setting train.warmups. Did you mean train.warmup\?"):
        package.pretrain(str(sample_csv), tmp_path / "x", settings={"train.warmups": 1})
    with pytest.raises(UserError, match="no pre-trained model there"):
        package.load(tmp_path)


def test_a_fine_tuned_model_is_fine_tuned_again(tmp_path, classifier, few_reviews, finetune_settings):
    fine = dict(each.split("=", 1) for each in finetune_settings) | {"train.epochs": 1}
    columns = {"text_column": "review", "label_column": "sentiment"}
    found = package.finetune(package.load(classifier), few_reviews, tmp_path / "again", settings=fine, **columns)
    assert found.labels == ["negative", "positive"]


def test_arrays_are_lists(classifier):
    model = package.load(classifier)
    assert model.predict([np.array(["good", "film"])]) == model.predict([("good", "film")])


@pytest.mark.parametrize("row", [None, float("nan"), 3, ("a", None), {"good": 1}])
def test_what_is_no_text_is_named(classifier, row):
    with pytest.raises(UserError, match="a text, or a pair of two texts, is needed for each row"):
        package.load(classifier).predict(["good", row])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: package.softmax(torch.nn.Embedding(9, 4)), "Embedding: a table that quorem.embedding has made"),
        (lambda: package.softmax(package.embedding(900, 4, kind="dense"), kind="tree", digit=3), "digit"),
        (lambda: package.softmax(package.embedding(900, 4), never=[900]), "never=900: an id from 0 to 899 needed"),
        (lambda: package.softmax(package.embedding(900, 4), kind="full"), "a full softmax of a qr table: "),
        (
            lambda: package.softmax(package.embedding(900, 4), kind="digits", digits=0),
            "digits=0: a whole number from 2",
        ),
        (
            lambda: package.softmax(package.embedding(900, 4), kind="two_level", digits=3),
            "digits=3: .*kind is two_level",
        ),
        (lambda: package.embedding(9, 4, kind="attributes", attributes_file="x.csv"), "is for pre-training"),
    ],
)
def test_tables_and_softmaxes_that_do_not_fit_are_named(make, said):
    with pytest.raises(UserError, match=said):
        make()


@pytest.mark.parametrize(("kind", "options"), [("tree", {"digits": 3}), ("tree", {"digits": 2}), ("digits", {}),
                                                ("digits", {"digits": 2})])  # fmt: skip
def test_a_softmax_has_the_levels_that_are_asked_for(kind, options):
    head = package.softmax(package.embedding(30_000, 8, own_rank=4), kind=kind, **options)
    hidden = torch.randn(2, 8)
    total = torch.cat([log_prob for _, log_prob in head.full_log_prob(hidden)], dim=-1).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(2), atol=1e-4, rtol=0)


def test_a_dataset_is_data_too(tmp_path, small):
    rows = [{"text": f"a good film of {number} minutes"} for number in range(60)]
    encoder = package.pretrain(rows, tmp_path / "run", settings=small)
    assert encoder.encode(["a good film"]).shape == (1, 16)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("qr", {"budget": "1MB"}), ("qr", {"own_rank": 4}), ("dense", {}), ("low_rank", {"rank": 4}),
     ("hash_embedding", {"compression": "5x"}), ("mixed_radix", {"digits": 3, "operation": "multiply"})],
)  # fmt: skip
def test_a_table_stands_where_an_embedding_does_and_its_softmax_is_exact(kind, options):
    torch.manual_seed(0)
    table = package.embedding(30_000, 16, kind=kind, **options)
    assert (table.num_embeddings, table.embedding_dim) == (30_000, 16)
    assert "30,000 x 16: " in repr(table)
    vectors = table(torch.tensor([[0, 7], [29_999, 12_345]]))
    assert vectors.shape == (2, 2, 16)
    assert vectors.std() > 0.05
    with pytest.raises(IndexError):
        table(torch.tensor([30_000]))
    model = torch.nn.Sequential(table, torch.nn.Flatten(), torch.nn.Linear(32, 1))
    model(torch.tensor([[1, 2]])).sum().backward()
    head = package.softmax(table, never=[0])
    hidden = torch.randn(3, 16)
    total = sum(piece.exp().sum(-1) for _, piece in head.full_log_prob(hidden))
    torch.testing.assert_close(total, torch.ones(3), atol=1e-4, rtol=1e-4)
    values, ids = head.topk(hidden, 5)
    torch.testing.assert_close(-head.nll(hidden, ids[:, 0]), values[:, 0], atol=1e-4, rtol=1e-4)
    assert head.sample(hidden, torch.rand(3, dtype=torch.float64)).shape == (3,)


def test_a_budget_is_kept():
    table = package.embedding(1_000_000, 128, kind="qr", budget="20MB")
    assert sum(tensor.nbytes for tensor in (*table.parameters(), *table.buffers())) <= 20_000_000


def run(code):
    """Of a fresh interpreter."""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_importing_it_loads_neither_torch_nor_transformers():
    heavy = "[name for name in ('torch', 'transformers', 'sklearn', 'accelerate') if name in sys.modules]"
    assert run(f"import sys, quorem; dir(quorem); print({heavy})") == "[]"


IMPORT_EACH_OTHER = package.IMPORT_EACH_OTHER  # and so must be imported after the fork
ORDERS = (
    "import quorem; from transformers import AutoModel",
    "from transformers import AutoModel; import quorem",
    "import quorem; import transformers.modeling_layers; from transformers import AutoModel",
    "import quorem; from transformers import BertModel, Trainer, pipeline, AutoModel",
    "import quorem.commands.predict; from transformers import AutoModel",
)


def test_auto_classes_know_its_models_whichever_is_imported_first(pretrained):
    """Each in a process of its own, forked from one that has imported much of what transformers imports."""
    code = f"""
import os, sys, traceback
import accelerate, scipy.optimize, torch._dynamo, torch.distributed.checkpoint.hf_storage, torch.distributed.fsdp
import transformers.modeling_outputs
early = {{"quorem", "transformers.models.auto.configuration_auto", *{IMPORT_EACH_OTHER!r}}} & set(sys.modules)
assert not early, early
for order in {ORDERS!r}:
    child = os.fork()
    if not child:
        try:
            exec(order)
            print(type(AutoModel.from_pretrained({str(pretrained / "discriminator")!r})).__name__, flush=True)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        os._exit(0)
    os.waitpid(child, 0)
"""
    assert run(code).split() == ["QuoremModel"] * len(ORDERS)


def test_every_public_name_is_there():
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


COMMANDS = (
    "pretrain",
    "prepare",
    "merge",
    "finetune",
    "predict",
    "serve",
    "describe",
    "report",
    "sample",
    "config",
    "export",
    "compress",
)
ASKED = (
    ["--version"],
    ["--help"],
    [],
    ["pretrain", "--help-all"],
    ["pretrain", "x.csv"],
    ["pretrian"],
    ["config", "finetune"],
    ["pretrain", "none.csv", "--text-column", "text", "--out", "none"],
    ["finetune", "none", "--out", "other"],
    ["predict", "none", "none.csv", "--out", "none.csv"],
)


WORDS = [*ASKED, *([name, "--help"] for name in COMMANDS)]
IN_CHILDREN = """
import json, os, sys
reply = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what commands print is no reply
from quorem.cli import main
for words in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        try:
            main(words)
        except SystemExit:
            pass
        finally:
            heavy = ("torch", "transformers", "sklearn", "accelerate", "numpy")
            failed = sys.exc_info()[0] is not None  # what is raised on
            print(json.dumps("it failed" if failed else [name for name in heavy if name in sys.modules]), file=reply)
            reply.flush()
            os._exit(0)
    os.waitpid(child, 0)
"""
"""Says of each command what it imported, in a process of its own, forked from one that has imported the parser."""


@pytest.fixture(scope="module")
def imported():
    """What each of the commands has imported of what takes seconds."""
    found = subprocess.run([sys.executable, "-c", IN_CHILDREN, json.dumps(WORDS)], capture_output=True, check=True)
    said = map(json.loads, found.stdout.splitlines())
    return dict(zip(map(tuple, WORDS), said, strict=True))


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_help_and_wrong_usage_import_nothing_heavy(words, imported):
    assert imported[tuple(words)] == []
