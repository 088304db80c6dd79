"""A line of the log never stands on the line of a progress bar, on a terminal and in a notebook alike."""

import io
import logging
import sys

import pytest

from quorem.bars import bar
from quorem.data.documents import Document
from quorem.data.shards import write_shards
from quorem.errors import UserError
from quorem.tokenization.train import train_tokenizer

WARNING = "in the last 20 steps only 3.0 % of tokens were replaced"


class Terminal(io.StringIO):
    """Where a bar is shown."""

    def isatty(self):
        return True


def screen(written):
    """The lines that a person sees: a carriage return goes back to the first column, and what follows overwrites."""
    lines = []
    for line in written.split("\n"):
        cells = []
        for piece in line.split("\r"):
            cells[: len(piece)] = piece
        lines.append("".join(cells).rstrip())
    return lines


def watched(monkeypatch):
    """A terminal as standard error, made within the test: pytest puts its own back when the test begins."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


PLACES = ["no handler", "root", "quorem", "standard output"]


def log_to(place, monkeypatch):
    """A terminal, a logger of ours, and what shows its lines: Python's last resort or a handler of the user's."""
    terminal = watched(monkeypatch)
    root, own = logging.getLogger(), logging.getLogger("quorem")
    for each in (root, own):
        monkeypatch.setattr(each, "handlers", [])
    if place == "no handler":
        return terminal, logging.getLogger("quorem.pretraining.verdict"), logging.lastResort
    if place == "standard output":  # which a notebook's cell shows in the same place
        monkeypatch.setattr(sys, "stdout", terminal)
    handler = logging.StreamHandler(sys.stdout if place == "standard output" else sys.stderr)
    (own if place == "quorem" else root).addHandler(handler)
    return terminal, logging.getLogger("quorem.pretraining.verdict"), handler


@pytest.mark.parametrize("place", PLACES)
def test_a_warning_has_a_line_of_its_own_and_the_bar_goes_on_below(place, monkeypatch):
    terminal, log, _ = log_to(place, monkeypatch)
    with bar(total=2, unit="step", mininterval=0) as progress:
        progress.update()
        log.warning(WARNING)
        shown = screen(terminal.getvalue())
        assert shown[0] == WARNING
        assert shown[1].startswith(" 50%")  # at once: the next step may be minutes away
        progress.update()
    first, second, after = screen(terminal.getvalue())
    assert first == WARNING
    assert second.startswith("100%")
    assert after == ""


@pytest.mark.parametrize("place", PLACES)
def test_handlers_are_as_they_were_when_the_bars_have_ended(place, monkeypatch):
    terminal, log, handler = log_to(place, monkeypatch)
    before = vars(handler).copy()
    with bar(total=1) as outer:
        with bar(total=1):
            pass
        log.warning(WARNING)
        assert WARNING in screen(terminal.getvalue())
        outer.update()
    assert vars(handler) == before
    written = len(terminal.getvalue())
    log.warning(WARNING)
    assert terminal.getvalue()[written:] == WARNING + "\n"


def test_what_a_handler_leaves_out_stays_out(monkeypatch):
    terminal, log, handler = log_to("root", monkeypatch)
    handler.setLevel(logging.ERROR)
    with bar(total=1):
        log.warning(WARNING)
        log.error("an error")
    assert WARNING not in terminal.getvalue()
    assert "an error" in screen(terminal.getvalue())


def test_a_log_in_a_file_is_left_alone(monkeypatch, tmp_path):
    terminal, log, _ = log_to("no handler", monkeypatch)
    file = logging.FileHandler(tmp_path / "log")
    logging.getLogger().addHandler(file)
    with bar(total=1):
        shown = terminal.getvalue()
        log.warning(WARNING)
        assert terminal.getvalue() == shown
    file.close()
    assert (tmp_path / "log").read_text() == WARNING + "\n"


def fails(values):
    yield from values
    raise UserError("row 3: a mistake")


def test_an_error_ends_the_bar_of_what_it_ended(monkeypatch, tmp_path):
    terminal = watched(monkeypatch)
    tokenizer = train_tokenizer(["a b c"], vocab_size=20)
    with pytest.raises(UserError) as caught:
        write_shards(tmp_path / "shards", fails([Document("a b", row=1)] * 3), tokenizer, made_from={})
    assert "[00:0" in terminal.getvalue()  # a bar
    assert terminal.getvalue().endswith("\n"), caught  # which holds the frames, and so a bar that nobody closed
