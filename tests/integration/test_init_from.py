"""Going on from trained networks, a run's or those of transformers."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    PreTrainedTokenizerFast,
)

from quorem import QuoremForMaskedLM, QuoremForPreTraining
from quorem.config.loading import load
from quorem.config.settings import PretrainConfig
from quorem.data.prepare import load_prepared
from quorem.plan.plan import Plan
from quorem.pretraining.arrangement import arrange
from quorem.pretraining.program import PretrainProgram
from quorem.training.checkpoints import read_last_checkpoint
from quorem.training.optimizer_state import parameter_names

SHARING = {
    "disentangled": ["model.disentangled_embeddings=true"],
    "shared whole": ["model.disentangled_embeddings=false"],
    "apart": ["model.shared_embeddings=false", "model.embedding.kind=dense"],
}
WORDS = [f"word{number}" for number in range(400)]


@pytest.fixture
def pretrain(quorem, sample_csv, pretrain_settings):
    """A short run; its folder is the last word."""

    def command(out, *words, settings=pretrain_settings):
        return quorem("pretrain", sample_csv, "--text-column", "review", "--out", out, *settings, *words)

    return command


@pytest.fixture
def short(pretrain_settings):
    """The settings of a run that takes its sizes from another, of four steps and two checkpoints."""
    return [*(setting for setting in pretrain_settings if not setting.startswith("model.")), "train.max_steps=4"]


def program(run):
    """A run's networks before its first step."""
    config, (tokenizer, shards) = load(PretrainConfig, run / "config.yaml"), load_prepared(run / "data")
    plan = Plan.of(config, len(tokenizer))
    arrangement = arrange(plan, SimpleNamespace(folder=run), tokenizer, shards)
    return PretrainProgram(plan, tokenizer, shards, arrangement).module.eval()


def outputs(discriminator, generator, ids):
    with torch.no_grad():
        return discriminator(ids).logits, generator(ids).logits


@pytest.fixture
def electra(tmp_path):
    """A folder with both networks of transformers and their tokenizer, whose special tokens stand where BERT's do."""
    vocabulary = {"[PAD]": 0, **{word: number + 1 for number, word in enumerate(WORDS[:99])}}
    vocabulary |= {token: 100 + number for number, token in enumerate(("[UNK]", "[CLS]", "[SEP]", "[MASK]"))}
    vocabulary |= {word: 104 + number for number, word in enumerate(WORDS[99:])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **roles)
    sizes = {"vocab_size": len(vocabulary) + 3, "embedding_size": 16, "num_hidden_layers": 2, "hidden_size": 32}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 48, "hidden_dropout_prob": 0.0}
    sizes |= {"max_position_embeddings": 600}
    torch.manual_seed(3)
    networks = {
        "discriminator": ElectraForPreTraining(ElectraConfig(**sizes)),
        "generator": ElectraForMaskedLM(ElectraConfig(**{**sizes, "hidden_size": 16, "intermediate_size": 24})),
    }
    table = networks["discriminator"].electra.embeddings
    networks["generator"].electra.embeddings.load_state_dict(table.state_dict())
    with torch.no_grad():
        networks["generator"].generator_lm_head.bias.normal_()
    for name, network in networks.items():
        network.eval().save_pretrained(tmp_path / "electra" / name)
        tokenizer.save_pretrained(tmp_path / "electra" / name)
    text = tmp_path / "words.txt"
    generator = torch.Generator().manual_seed(0)
    lines = [" ".join(WORDS[i] for i in torch.randint(0, 400, (30,), generator=generator)) for _ in range(100)]
    text.write_text("\n".join(lines))
    return networks, tokenizer, tmp_path / "electra", text


@pytest.mark.parametrize("sharing", SHARING)
def test_a_runs_networks_are_taken_over_as_they_are(tmp_path, pretrain, short, sharing):
    assert pretrain(tmp_path / "old", *SHARING[sharing]).code == 0
    outcome = pretrain(tmp_path / "new", "--init-from", tmp_path / "old", settings=short)
    assert outcome.code == 0
    module = program(tmp_path / "new")
    old = tmp_path / "old"
    expected = (
        QuoremForPreTraining.from_pretrained(old / "discriminator").eval(),
        QuoremForMaskedLM.from_pretrained(old / "generator").eval(),
    )
    ids = torch.randint(5, len(load_prepared(old / "data")[0]), (2, 20), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        outputs(module.discriminator, module.generator, ids), outputs(*expected, ids), atol=1e-5, rtol=1e-5
    )
    assert not unused(outcome, "discriminator") + unused(outcome, "generator")
    after = QuoremForPreTraining.from_pretrained(tmp_path / "new" / "discriminator").eval()
    assert not torch.equal(after(ids).logits, expected[0](ids).logits)  # and then it learns


def test_an_interrupted_run_goes_on_and_other_weights_are_another_input(tmp_path, monkeypatch, refused, pretrain, short,
                                                                       pretrained, sample_csv):  # fmt: skip
    shutil.copytree(pretrained, tmp_path / "old")
    words = ("--init-from", tmp_path / "old")
    asked = PretrainProgram.micro_batches

    def stop(self, at, **share):
        if at == 3:
            raise KeyboardInterrupt
        return asked(self, at, **share)

    assert pretrain(tmp_path / "whole", *words, settings=short).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(PretrainProgram, "micro_batches", stop)
        assert pretrain(tmp_path / "cut", *words, settings=short).code == 130
    weights = "discriminator/model.safetensors"
    shutil.copytree(tmp_path / "cut", tmp_path / "other")
    assert pretrain(tmp_path / "cut", *words, settings=short).code == 0
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    shutil.copy(tmp_path / "whole" / weights, tmp_path / "old" / weights)
    command = ("pretrain", sample_csv, "--text-column", "review", "--out", tmp_path / "other", *words, *short)
    assert "init_from discriminator" in refused(*command)


def test_networks_of_transformers_give_the_same_under_the_new_numbers(tmp_path, quorem, short, electra):
    networks, tokenizer, folder, text = electra
    assert quorem("pretrain", text, "--init-from", folder, "--out", tmp_path / "run", *short).code == 0
    module, (ours, _) = program(tmp_path / "run"), load_prepared(tmp_path / "run" / "data")
    words = "word7 word399 [MASK] word0 nothing word98 word99"
    theirs = torch.tensor([tokenizer.encode(words, add_special_tokens=False)])
    here = torch.tensor([ours.encode(words, add_special_tokens=False)])
    assert not torch.equal(theirs, here)
    expected = outputs(networks["discriminator"], networks["generator"], theirs)
    found = outputs(module.discriminator, module.generator, here)
    tokens = ours.convert_ids_to_tokens(range(len(ours)))
    order = tokenizer.convert_tokens_to_ids(tokens)
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], expected[1][..., order], atol=1e-5, rtol=1e-5)
    assert quorem("pretrain", text, "--init-from", folder / "discriminator", "--out", tmp_path / "r", *short).code == 0


def test_a_dense_table_is_compressed_and_what_is_lost_is_said(tmp_path, quorem, short, electra):
    networks, tokenizer, folder, text = electra
    given = [*short, "model.embedding.kind=qr", "model.embedding.tier=100"]
    outcome = quorem("pretrain", text, "--init-from", folder, "--out", tmp_path / "run", *given)
    assert outcome.code == 0
    module, (ours, _) = program(tmp_path / "run"), load_prepared(tmp_path / "run" / "data")
    table = module.discriminator.get_input_embeddings()
    assert type(table).__name__ == "QuotientRemainderEmbedding"
    rows = tokenizer.convert_tokens_to_ids(ours.convert_ids_to_tokens(range(len(ours))))
    dense = networks["discriminator"].electra.embeddings.word_embeddings.weight[rows].detach()
    error = (table.to_dense() - dense).square().sum() / (dense - dense.mean(0)).square().sum()
    assert 0.05 < error < 0.95
    assert f"{100 * (1 - error):.1f} % of their variance" in outcome.err
    assert "its softmax starts with new weights" in outcome.err
    state, there = module.generator.state_dict(), networks["generator"].state_dict()
    for key in ("electra.encoder.layer.0.attention.self.query.weight", "generator_predictions.dense.weight"):
        assert torch.equal(state[key], there[key])


def unused(outcome, name):
    """What is said of a network's weights that are not used."""
    return [line for line in outcome.err.splitlines() if line.startswith(f"{name}: not used")]


@pytest.mark.parametrize("positions", ["absolute", "rotary"])
def test_what_of_the_source_is_not_used_is_said(tmp_path, quorem, short, electra, positions):
    _, _, folder, text = electra
    given = [*short, f"model.positions={positions}", "model.discriminator.num_hidden_layers=1"]
    outcome = quorem("pretrain", text, "--init-from", folder, "--out", tmp_path / "run", *given)
    assert outcome.code == 0
    why = "model.positions=rotary" if positions == "rotary" else "the first 512 are enough for data.max_length"
    table = f"embeddings.position_embeddings ({why})"
    assert unused(outcome, "discriminator") == [
        f"discriminator: not used, or only in part: {table}; encoder.layer.1 (num_hidden_layers=1)"
    ]
    assert unused(outcome, "generator") == [f"generator: not used, or only in part: {table}"]


def test_tables_of_the_generators_own_that_sharing_drops_are_named(tmp_path, pretrain, short):
    assert pretrain(tmp_path / "old", *SHARING["apart"], "model.positions=absolute").code == 0
    words = ("--init-from", tmp_path / "old", "model.shared_embeddings=true", "model.disentangled_embeddings=false")
    outcome = pretrain(tmp_path / "new", *words, settings=short)
    assert outcome.code == 0
    assert unused(outcome, "discriminator") == []
    (line,) = unused(outcome, "generator")
    for table in ("position_embeddings", "token_type_embeddings", "LayerNorm"):
        assert line.count(f"embeddings.{table}") == 1
    assert line.endswith("(both networks read the discriminator's, model.shared_embeddings)")


def test_weights_of_a_softmax_that_is_not_tied_are_named(tmp_path, quorem, short, electra):
    networks, _, folder, text = electra
    config = networks["generator"].config
    config.tie_word_embeddings = False
    generator = ElectraForMaskedLM(config)
    generator.electra.embeddings.load_state_dict(networks["discriminator"].electra.embeddings.state_dict())
    generator.save_pretrained(folder / "generator")
    outcome = quorem("pretrain", text, "--init-from", folder, "--out", tmp_path / "run", *short)
    assert outcome.code == 0
    assert "its generator_lm_head.weight is not used" in outcome.err


def test_what_quorem_would_compute_otherwise_is_refused(tmp_path, refused, short, electra):
    _, _, folder, text = electra
    config = folder / "discriminator" / "config.json"
    config.write_text(config.read_text().replace('"hidden_act": "gelu"', '"hidden_act": "relu"'))
    line = refused("pretrain", text, "--init-from", folder, "--out", tmp_path / "run", *short, after_log=True)
    assert "hidden_act is relu, but quorem's networks have gelu" in line


@pytest.mark.parametrize("kind", ["dense", "hashing"])
def test_another_table_may_be_asked_for_without_undoing_what_the_first_had(tmp_path, pretrain, short, pretrained, kind):
    words = ("--init-from", pretrained, f"model.embedding.kind={kind}")
    outcome = pretrain(tmp_path / "run", *words, settings=short)
    assert outcome.code == 0
    assert "of their variance" in outcome.err
    if kind == "dense":
        module, (tokenizer, _) = program(tmp_path / "run"), load_prepared(tmp_path / "run" / "data")
        ids = torch.randint(5, len(tokenizer), (2, 20), generator=torch.Generator().manual_seed(1))
        before = QuoremForPreTraining.from_pretrained(pretrained / "discriminator").eval()
        with torch.no_grad():
            torch.testing.assert_close(module.discriminator(ids).logits, before(ids).logits, atol=1e-5, rtol=1e-5)


def test_a_kept_optimizer_goes_on(tmp_path, monkeypatch, refused, pretrain, short, pretrained, sample_csv):
    old = tmp_path / "old"
    assert pretrain(old, "train.keep_state=true").code == 0
    kept = read_last_checkpoint(old)
    assert kept["step"] == 6
    seen = []

    def look(program, optimizer, **_):
        seen.extend([program.module, optimizer])
        raise KeyboardInterrupt

    monkeypatch.setattr("quorem.pretraining.pretrain.fit", look)
    words = ("--init-from", old, "model.init_optimizer=kept", "train.learning_rate=7e-5")
    assert pretrain(tmp_path / "new", *words, settings=short).code == 130
    found, expected = seen[1].state_dict(), kept["optimizer"]
    here = parameter_names(seen[0], seen[1])
    assert len(here) == len(found["state"]) > 50
    for number, name in enumerate(here):
        there = expected["state"][kept["parameters"].index(name)]
        assert all(torch.equal(value, there[key]) for key, value in found["state"][number].items()), name
    assert {(group["kind"], group["base_lr"]) for group in found["param_groups"]} == {("adamw", 7e-5), ("muon", 0.02)}
    command = ("pretrain", sample_csv, "--text-column", "review", *short, "model.init_optimizer=kept")
    line = refused(*command, "--init-from", pretrained, "--out", tmp_path / "a", after_log=True)
    assert "kept no optimizer state: train it with train.keep_state=true" in line
    words = ("--init-from", old, "model.shared_embeddings=false", "model.disentangled_embeddings=false")
    other = refused(*command, *words, "--out", tmp_path / "b", after_log=True)
    assert "is for other parameters" in other
    for place, other in (("c", "objective.recipe=google"), ("d", "train.optimizer=adamw")):
        line = refused(*command, "--init-from", old, other, "--out", tmp_path / place, after_log=True)
        assert "is of another kind: give that run's train.optimizer, train.table_updates and" in line
    assert pretrain(old).code == 0  # finished: what it was told to keep it still has
    assert read_last_checkpoint(old)["step"] == 6


def test_what_cannot_be_gone_on_from_is_refused(tmp_path, refused, quorem, short, pretrained, classifier, sample_csv):
    command = ("pretrain", sample_csv, "--text-column", "review", *short)

    def line(start, *words, after_log=True):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        return refused(*command, "--init-from", start, "--out", out, *words, after_log=after_log)

    assert "the folder of a discriminator" in line(tmp_path / "nothing", after_log=False)
    assert "the folder of a discriminator" in line(classifier, after_log=False)
    assert "tokenizer.path" in line(pretrained, "--tokenizer", "bpe", after_log=False)
    sizes = line(pretrained, "model.discriminator.hidden_size=64")
    assert " in the given network, but (64," in sizes
    assert "leave the sizes to --init-from" in sizes
    shutil.copytree(pretrained, tmp_path / "broken")
    (tmp_path / "broken" / "discriminator" / "model.safetensors").write_bytes(b"no weights")
    assert "cannot be read" in line(tmp_path / "broken")
    assert "needs --init-from" in refused(
        *command, "--out", tmp_path / "x", "model.size=tiny", "model.init_optimizer=kept"
    )
    counted = line(pretrained, "model.embedding.start=cooccurrence", after_log=False)
    assert "already gives the token vectors" in counted


def test_prepared_data_needs_the_same_tokens(tmp_path, refused, quorem, short, pretrained, sample_csv):
    words = ("prepare", sample_csv, "--text-column", "review")
    assert quorem(*words, f"tokenizer.path={pretrained}/discriminator", "--out", tmp_path / "same").code == 0
    assert quorem(*words, "model.vocab_size=200", "--out", tmp_path / "other").code == 0
    given = ("--init-from", pretrained, *short)
    assert quorem("pretrain", tmp_path / "same", *given, "--out", tmp_path / "a").code == 0
    line = refused("pretrain", tmp_path / "other", *given, "--out", tmp_path / "b", after_log=True)
    assert "its tokenizer differs from the data's" in line
