"""How a command is asked for: help, files of settings, settings as options, completion."""

import errno
import json
import os
import re
import subprocess
import sys
from multiprocessing.connection import wait
from pathlib import Path

import forked
import pytest
import torch

from quorem import __version__
from quorem.cli import main
from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import leaves, load
from quorem.config.settings import PrepareConfig, PretrainConfig
from quorem.data.readers import READERS
from quorem.data.rows import ROWS
from quorem.embeddings import EMBEDDINGS
from quorem.heads import HEADS
from quorem.tokenization import TOKENIZERS

ROOT = Path(__file__).parents[2]

CONFIGURED = {"pretrain": PretrainConfig(), "describe": PretrainConfig(), "finetune": FinetuneConfig(),
              "prepare": PrepareConfig()}  # fmt: skip


@pytest.mark.parametrize("command", [*CONFIGURED, "predict", "sample", "config", "export", "compress", "card", "push"])
def test_help_fits_on_a_screen_and_help_all_lists_every_setting(capsys, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) <= 60
    if command not in CONFIGURED:
        return
    with pytest.raises(SystemExit):
        main([command, "--help-all"])
    shown = capsys.readouterr().out
    taken = [name for name, _, _ in leaves(CONFIGURED[command], taken=True)]
    for name, _, _ in leaves(CONFIGURED[command]):
        assert (f"  {name}=" in shown) == (name in taken)


def test_quorem_alone_shows_its_commands(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown for name in ("pretrain", "prepare", "merge", "finetune", "predict", "config"))


@pytest.mark.parametrize(
    ("setting", "registry"),
    [
        ("model.embedding.kind", EMBEDDINGS),
        ("model.head.kind", HEADS),
        ("tokenizer.kind", TOKENIZERS),
        ("data.format", READERS),
        ("data.rows", ROWS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_help_names_all_that_a_setting_may_be(setting, registry):
    (text,) = [text for name, _, text in leaves(PretrainConfig()) if name == setting]
    assert not set(registry) - set(re.findall(r"\w+", text))


def test_the_docs_have_a_line_for_every_kind_of_table():
    text = (ROOT / "docs" / "explanation.md").read_text(encoding="utf-8")
    assert not [kind for kind in EMBEDDINGS if f"\n| {kind}" not in text]


@pytest.mark.parametrize("kind", [PretrainConfig, FinetuneConfig, PrepareConfig])
def test_quorem_config_writes_every_setting_which_is_read_again(tmp_path, quorem, kind):
    command = {PretrainConfig: "pretrain", FinetuneConfig: "finetune", PrepareConfig: "prepare"}[kind]
    written = quorem("config", command).out
    assert quorem("config", command, "--out", tmp_path / "a.yaml").code == 0
    assert (tmp_path / "a.yaml").read_text(encoding="utf-8") == written
    assert load(kind, tmp_path / "a.yaml") == kind()
    for name, _, text in leaves(kind(), taken=True):
        assert f"{name.rpartition('.')[2]}:" in written
        assert text.split()[0] in written
    schema = json.loads(quorem("config", command, "--schema").out)
    for name, value, text in leaves(kind(), taken=True):
        place = schema
        for part in name.split("."):
            assert place["additionalProperties"] is False
            place = place["properties"][part]
        assert (place["default"], place["description"]) == (value, text)


def test_settings_may_be_written_as_options(quorem, tmp_path, sample_csv):
    words = ["prepare", sample_csv, "--text-column", "review", "--tokenizer.lowercase", "false"]
    outcome = quorem(*words, "--model.vocab_size=40", "data.max_unknown=1", "--out", tmp_path / "out")
    assert "vocabulary 40" in outcome.out
    facts = json.loads((tmp_path / "out" / "tokenizer" / "made_from.json").read_text())
    assert facts["made_from"]["tokenizer"]["lowercase"] is False
    with pytest.raises(SystemExit):
        quorem(*words[:3], "review", "--out", tmp_path / "x", "--train.seed")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_written_for_a_shell(capsys, shell):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    assert ended.value.code == 0
    assert "finetune" in capsys.readouterr().out


def test_doctor_says_what_a_bug_report_needs(quorem):
    outcome = quorem("doctor")
    assert outcome.code == 0, outcome.err
    found = dict(
        line.split(None, 1) for line in outcome.out.splitlines() if line and not line.startswith(("(", "extras"))
    )
    assert found["quorem"] == __version__
    assert found["torch"] == torch.__version__
    assert "threads" in found["cores"]
    assert found["free"].startswith(("memory", "disc"))
    assert set(found) >= {"parquet", "midi", "report"}  # of the extras


STOPPED = """
import sys
from quorem import cli
from quorem.commands import config
from quorem.training.interrupt import Stopped

def run(options):
    raise Stopped("stopped after step 3")

config.run = run
sys.exit(cli.main())
"""


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        (["-m", "quorem", "config", "pretrain"], ""),
        (["-m", "quorem", "config", "pretrain"], "1"),
        (["-m", "quorem"], "1"),
        (["-m", "quorem", "pretrain", "--help"], ""),
        (["-m", "quorem", "--print-completion", "bash"], ""),
        (["-c", STOPPED, "config", "pretrain"], ""),
        (["-c", STOPPED, "config", "pretrain"], "1"),
    ],
    ids=[
        *("config", "config, unbuffered", "no command, unbuffered", "help", "completion", "stopped"),
        "stopped, unbuffered",
    ],
)
def test_a_reader_that_leaves_ends_a_command_without_a_word(words, unbuffered):
    if "--print-completion" in words:
        pytest.importorskip("shtab")
    theirs, ours = os.pipe()
    os.close(theirs)  # as head does when it has its lines
    settings = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([sys.executable, *words], stdout=ours, stderr=subprocess.PIPE, env=settings, check=False)
    os.close(ours)
    passed_over = unbuffered and words == ["-m", "quorem"]  # by argparse
    assert (done.returncode, done.stderr) == (0 if passed_over else 141, b"")  # 128 and the number of SIGPIPE


def test_another_broken_pipe_is_not_hidden(quorem, monkeypatch):
    def fails(_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("quorem.commands.config.run", fails)
    with pytest.raises(BrokenPipeError):
        quorem("config", "pretrain")


COLOUR = re.compile(rb"\x1b\[[\d;]*m")


def open_streams():
    """Python's streams are those of the server that forks, which were not opened on a terminal."""
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))


def on_a_terminal(*words):
    """Exit code and all that a command writes to a terminal."""
    pty = pytest.importorskip("pty", reason="no terminals to try on this system")
    ours, theirs = pty.openpty()
    pytest.importorskip("termios").tcsetwinsize(theirs, (24, 100))
    terminal = os.ttyname(theirs)
    process = forked.start(*words, out=terminal, err=terminal, first=open_streams, NO_COLOR="1")
    pieces = []
    while ours in wait([ours, process.sentinel]):  # what was written before it ended is read, too
        pieces.append(os.read(ours, 2**16))
    process.join()
    os.close(theirs)
    os.close(ours)
    return process.exitcode, b"".join(pieces)


def test_no_color_is_heeded_on_a_terminal(tmp_path, sample_csv, pretrain_settings):
    code, shown = on_a_terminal("pretrain", "--help")
    assert (code, COLOUR.findall(shown)) == (0, [])
    words = ["pretrain", sample_csv, "--text-column", "review", "--out", tmp_path / "run", *pretrain_settings]
    code, shown = on_a_terminal(*words)
    assert (code, COLOUR.findall(shown)) == (0, []), shown
    assert b"6/6" in shown  # the bar
    code, shown = on_a_terminal(*words[:-1], "train.no_such_setting=1")
    assert (code, COLOUR.findall(shown)) == (2, []), shown


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("pretrain a.csv --minuts 2 --out run", "--minutes"),
        ("pretrain a.csv --batch-size=8 --out run", "train.batch_size=..."),
        ("finetune run a.csv --epochs 3 --out run", "train.epochs=..."),
        ("pretrian a.csv", "pretrain"),
    ],
)
def test_what_was_probably_meant_is_said(capsys, words, meant):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err.splitlines()[-1]


def test_a_file_whose_name_has_an_equals_sign_is_a_file(quorem, tmp_path, monkeypatch, capsys):
    (tmp_path / "year=2024").mkdir()
    (tmp_path / "year=2024" / "a.csv").write_text("text\n" + "a b c\n" * 20)
    monkeypatch.chdir(tmp_path)
    for place, file in enumerate(("year=2024/a.csv", "year=*/a.csv")):
        outcome = quorem("prepare", file, "--out", f"out{place}", "model.vocab_size=50")
        assert outcome.code == 0, outcome.err
    (tmp_path / "a.b=c.txt").write_text("a b c\n" * 20)
    assert quorem("prepare", "a.b=c.txt", "--out", "lr=3", "model.vocab_size=50").code == 0
    assert "unknown setting x" in quorem("prepare", f"x={'y' * 300}", "--out", "none").err
    assert "there is no such folder" in quorem("similar", "none", "--item", "a.b=c").err
    with pytest.raises(SystemExit):
        quorem("predict", "run", "a.csv", "train.epochs=3", "--out", "none.csv")
    assert "this command takes no settings such as train.epochs=3" in capsys.readouterr().err
    assert "unknown setting month" in quorem("prepare", "month=2024/a.csv", "--out", "none").err
    assert "no pre-trained model there" in quorem("similar", "year=2024", "--item", "color=red").err


def test_a_command_without_settings_takes_those_that_are_its_options(quorem, classifier, tmp_path):
    """A message names the setting, whichever command it is about."""
    (tmp_path / "a.csv").write_text('text\n"good" film\n"bad film"\n', encoding="utf-8")
    words = ["predict", classifier, tmp_path / "a.csv", "--text-column", "text"]
    assert "set data.bad_rows=skip" in quorem(*words, "data.quoting=standard", "--out", tmp_path / "b.csv").err
    more = ["data.quoting='none'", "data.header=True", "data.format=null", "data.text_column=text"]
    outcome = quorem(*words[:2], *more, "--out", tmp_path / "b.csv", "--", tmp_path / "a.csv")
    assert outcome.code == 0, outcome.err
    assert len((tmp_path / "b.csv").read_text(encoding="utf-8").splitlines()) == 3
    with pytest.raises(SystemExit):  # its --rows is no data.rows
        quorem("sample", "reviews", "data.rows=packed", "--out", tmp_path / "c.csv")


def test_the_settings_of_another_task_are_told(quorem, refused, tmp_path):
    outcome = quorem("config", "tagging", "--out", tmp_path / "s.yaml")
    assert "every setting of quorem finetune --task tagging" in outcome.out
    line = refused("finetune", "run", "rows.csv", "--config", tmp_path / "s.yaml", "--out", tmp_path / "out")
    assert "task=tagging: these are the settings of another task: give --task tagging" in line
