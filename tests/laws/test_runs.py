"""The run folder: whatever a kill or a power cut leaves of it, the same command goes on as if nothing had been."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quorem.config.finetuning import FinetuneConfig
from quorem.config.settings import PrepareConfig, TextDataSettings
from quorem.data.prepare import prepare
from quorem.errors import UserError
from quorem.training.run_folder import Run, read_records, read_settings, run_of

CONFIG = {"data": {"path": "a.csv"}, "train": {"seed": 0}}
STEPS = 7
LOGGED_FROM = 3  # when there is a checkpoint already


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("quorem.training.run_folder.version", lambda name: "1.0")  # looking it up is slow
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def state_of(step):
    return {"weights": torch.full((3,), float(step))}


def go_on(folder, *, every=2, keep=2, stop=None, saves=None, may_resume_from=None):
    """What a command does with its run folder, but for learning; `saves` tells of the checkpoints it may go on from."""
    saves = [0] if saves is None else saves
    run = Run(folder, CONFIG)
    run.write_environment(inputs={"data": "0"})
    if run.result is not None:
        run.clean({})
        return
    saved = run.load_state() or {"step": 0, **state_of(0)}
    assert torch.equal(saved["weights"], state_of(saved["step"])["weights"])
    assert may_resume_from is None or saved["step"] in may_resume_from
    run.drop_records_after(saved["step"])
    for step in range(saved["step"] + 1, STEPS + 1):
        if step >= LOGGED_FROM:
            run.log({"step": step, "loss": 1 / step})
        if step == stop:
            return
        if step % every == 0 and step < STEPS:
            saves.append(step)
            run.save_state(step, state_of(step), keep=keep, best=2)
            del saves[:-1]
    run.save_model("model", lambda place: (place / "weights").write_text(str(STEPS)))
    run.finish({"steps": STEPS})


def contents(folder):
    """Of every file its bytes, of every folder None, by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def states(folder):
    return sorted(path.name for path in (folder / "state").iterdir())


def damage(state):
    content = bytearray((state / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (state / "state.pt").write_bytes(content)


class Moments:
    """Stands in for os.fsync, os.replace and shutil.rmtree, and notes what would be left just before each call.

    After a kill that is what is there. After a power cut it is the worst: the contents and names that were synced, less
    what was removed since. Files that are held open keep the system from giving their numbers to others.
    """

    def __init__(self, monkeypatch, root, saves):
        self.root, self.saves, self.left = root, saves, {"kill": set(), "power cut": set()}
        self.names, self.bytes, self.held = {}, {}, []
        for path in (root, *root.rglob("*")):  # what is there at the beginning is safe
            self._note(path, os.open(path, os.O_RDONLY))
        self.replaced = os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)
        monkeypatch.setattr(shutil, "rmtree", self.rmtree)

    def fsync(self, handle):
        self.note()
        self._note(Path(os.readlink(f"/proc/self/fd/{handle}")), os.dup(handle))

    def replace(self, source, target):
        self.note()
        self.replaced(source, target)

    def rmtree(self, folder, ignore_errors=False):
        if ignore_errors and not folder.exists():
            return
        for path in (*sorted(folder.rglob("*"), reverse=True), folder):
            self.note()
            self.names.get(path.parent.stat().st_ino, {}).pop(path.name, None)
            path.rmdir() if path.is_dir() else path.unlink()

    def note(self):
        found = {}
        self._survivors(self.root.stat().st_ino, "", found)
        for how, left in (("kill", contents(self.root)), ("power cut", found)):
            self.left[how].add((tuple(sorted(left.items())), tuple(self.saves)))

    def close(self):
        self.note()
        for handle in self.held:
            os.close(handle)

    def _note(self, path, handle):
        self.held.append(handle)
        number = os.fstat(handle).st_ino
        if path.is_dir():
            self.names[number] = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(path)}
        else:
            self.bytes[number] = path.read_bytes()

    def _survivors(self, number, prefix, found):
        for name, (inside, is_folder) in self.names.get(number, {}).items():
            found[prefix + name] = None if is_folder else self.bytes.get(inside, b"")
            if is_folder:
                self._survivors(inside, f"{prefix}{name}/", found)


def assert_nothing_is_half_there(folder):
    for name in ("environment.json", "result.json"):
        assert not (folder / name).exists() or json.loads((folder / name).read_text())
    if (folder / "model").exists():
        assert (folder / "model" / "weights").read_text() == str(STEPS)
    if (folder / "result.json").exists():
        assert (folder / "model").exists()
        assert [record["step"] for record in read_records(folder)] == list(range(LOGGED_FROM, STEPS + 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keep", "begun"),
    [(1, "new"), (2, "new"), (2, "the last checkpoint is damaged"), (1, "an earlier one is written")],
)
def test_after_a_kill_or_a_power_cut_at_any_moment_the_same_command_goes_on(tmp_path, monkeypatch, keep, begun):
    go_on(tmp_path / "whole" / "run")
    disc, saves = tmp_path / "disc", [0]
    disc.mkdir()
    if begun != "new":
        go_on(disc / "run", stop=STEPS)
        damage(disc / "run" / "state" / "step-000006")
        saves[0] = 4
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 4242)  # those who go on are other processes
        moments = Moments(patch, disc, saves)
        go_on(disc / "run", keep=keep, saves=saves, every=1 if begun == "an earlier one is written" else 2)
        moments.close()
    expected = contents(tmp_path / "whole")
    assert contents(disc) == expected
    for how, found in moments.left.items():
        assert len(found) > 15
        for number, (left, known) in enumerate(found):
            place = tmp_path / how / str(number)
            place.mkdir(parents=True)
            for name, content in left:
                (place / name).mkdir() if content is None else (place / name).write_bytes(content)
            assert_nothing_is_half_there(place / "run")
            go_on(place / "run", keep=keep, may_resume_from=known)
            assert contents(place) == expected, (how, left)


class Interrupted(BaseException):
    """As KeyboardInterrupt: what is to be tidied up is."""


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True])
def test_after_an_interrupt_at_any_moment_the_same_command_goes_on(tmp_path, monkeypatch, begun):
    go_on(tmp_path / "whole")
    if begun:
        go_on(tmp_path / "begun", stop=STEPS)
        damage(tmp_path / "begun" / "state" / "step-000006")
    number, calls = 0, [0]
    while calls[0] >= number:
        number, calls, saves = number + 1, [0], [4 if begun else 0]
        folder = tmp_path / str(number)
        if begun:
            shutil.copytree(tmp_path / "begun", folder)

        def stopping(call, calls=calls, stop=number):
            def counted(*args, **more):
                calls[0] += 1
                if calls[0] == stop:
                    raise Interrupted
                return call(*args, **more)

            return counted

        with monkeypatch.context() as patch, suppress(Interrupted):
            for module, name in ((os, "fsync"), (os, "replace"), (shutil, "rmtree")):
                patch.setattr(module, name, stopping(getattr(module, name)))
            go_on(folder, saves=saves)
        go_on(folder, may_resume_from=saves)
        assert contents(folder) == contents(tmp_path / "whole"), number
    assert number > 30


def test_a_kill_while_the_first_settings_are_written_does_not_make_the_folder_foreign(tmp_path):
    (tmp_path / "config.yaml.partial").write_text("data: {pa")
    Run(tmp_path, CONFIG)
    assert contents(tmp_path).keys() == {"config.yaml"}


def test_a_kill_while_the_environment_is_first_written_leaves_a_run_that_made_nothing(tmp_path):
    Run(tmp_path, CONFIG)
    (tmp_path / "environment.json.partial").write_text("{")
    other = {**CONFIG, "train": {"seed": 1}}
    Run(tmp_path, other).write_environment(inputs={})
    assert read_settings(tmp_path / "config.yaml") == other
    assert contents(tmp_path).keys() == {"config.yaml", "environment.json"}


def test_a_kill_while_the_tokenizer_is_saved_does_not_make_a_prepared_folder_foreign(tmp_path):
    (tmp_path / "a.csv").write_text("text\na film\nanother film\n")
    out = tmp_path / "out"
    (out / "tokenizer.partial").mkdir(parents=True)
    (out / "tokenizer.partial" / "vocab.txt").write_text("[PA")
    assert prepare(PrepareConfig(data=TextDataSettings(path=str(tmp_path / "a.csv"))), out).num_documents == 2
    assert {path.name for path in out.iterdir()} == {"tokenizer", "shards"}


@pytest.mark.parametrize("mine", ["thesis.tex", "thesis.partial", "thesis.old", "config.yaml.old"])
def test_a_folder_with_files_of_the_user_is_refused_and_left_as_it_is(tmp_path, mine):
    (tmp_path / "a.csv").write_text("text\na film\n")
    out = tmp_path / "out"
    (out / "tokenizer.partial").mkdir(parents=True)
    for name in ("config.yaml.partial", mine):
        (out / name).write_text("three years of work")
    before = contents(out)
    with pytest.raises(UserError, match=f"{mine}.*holds no run"):
        Run(out, CONFIG)
    (out / "config.yaml.partial").unlink()
    with pytest.raises(UserError, match="holds no prepared data"):
        prepare(PrepareConfig(data=TextDataSettings(path=str(tmp_path / "a.csv"))), out)
    (out / "config.yaml.partial").write_text("three years of work")
    assert contents(out) == before


def test_leftovers_of_checkpoints_are_passed_over_and_go_with_the_next_one(tmp_path):
    go_on(tmp_path, stop=STEPS)
    place = tmp_path / "state"
    os.replace(place / "step-000006", place / "step-000006.old")
    (place / "step-000008.partial").mkdir()
    (place / "step-000004.mine").mkdir()
    run = Run(tmp_path, CONFIG)
    assert run.load_state()["step"] == 4
    run.save_state(5, state_of(5), keep=1)
    assert states(tmp_path) == ["step-000004.mine", "step-000005"]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_checkpoints_of_a_course_that_was_given_up_make_room_for_the_new_one(tmp_path, keep):
    run = Run(tmp_path, CONFIG)
    for step in (2, 4, 6, 8):
        run.save_state(step, state_of(step), keep=4)
    damage(tmp_path / "state" / "step-000008")
    assert run.load_state()["step"] == 6
    run.save_state(7, state_of(7), keep=keep, best=2)
    assert states(tmp_path) == sorted({"step-000002", *["step-000004", "step-000006", "step-000007"][-keep:]})
    assert run.load_state()["step"] == 7
    run.save_state(9, state_of(9), keep=keep)
    assert states(tmp_path)[-1] == "step-000009"
    assert len(states(tmp_path)) == keep


def written(folder, *lines):
    run = Run(folder, CONFIG)
    (folder / "metrics.jsonl").write_bytes(b"".join(lines))
    return run


BAD = (b'{"step": 2, "note": "\xff"}\n', b'{"step": 2, "lo\n', b"[2]\n", b'{"step": null}\n', b"\0\0\n")


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("after", [[], [b'{"step": 3}\n']])
def test_a_damaged_line_of_the_curve_is_an_error_that_names_it(tmp_path, bad, after):
    run = written(tmp_path, b'{"step": 1}\n', bad, *after)
    before = contents(tmp_path)
    for read in (run.records, lambda: read_records(tmp_path), lambda: run.drop_records_after(3)):
        with pytest.raises(UserError, match=r"metrics\.jsonl, line 2: .*: restore or delete that line"):
            read()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("cut", [b"", b'{"step": 3, "lo', b'{"step": 3, "note": "\xc3', b"\0\0\0"])
def test_a_last_line_that_a_crash_cut_short_is_forgotten(tmp_path, cut):
    run = written(tmp_path, b'{"step": 1}\n', b"\n", b'{"step": 2}\n', cut)
    assert run.records() == [{"step": 1}, {"step": 2}]
    run.drop_records_after(2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_what_a_power_cut_made_of_lines_beyond_the_checkpoint_is_forgotten(tmp_path):
    run = written(tmp_path, b'{"step": 1}\n', b'{"step": 2}\n', *BAD, b'{"step": 4}\n')
    run.drop_records_after(1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"step": 1}\n'


@pytest.mark.parametrize("place", [".", "discriminator", "model", "best", "best/discriminator"])
def test_the_run_of_a_folder_is_found(tmp_path, place):
    run = tmp_path / "run"
    (run / place).mkdir(parents=True)
    assert run_of(run / place) is None
    (run / "config.yaml").write_text("model: {}\n")  # another program's
    assert run_of(run / place) is None
    (run / "config.yaml").write_text("data: {}\ntrain: {}\n")
    assert run_of(run / place) == run.resolve()
    (run / "other").mkdir()
    assert run_of(run / "other") is None
    (run / "config.yaml").write_text("data: [\n")
    with pytest.raises(UserError, match=r"config\.yaml: cannot be read"):
        run_of(run / place)


def test_a_run_that_was_refused_after_its_bad_rows_were_listed_begins_anew(tmp_path):
    Run(tmp_path / "run", {"data": {"path": "a"}, "train": {}})
    for name in ("environment.json", "bad_rows.txt"):
        (tmp_path / "run" / name).write_text("{}")
    Run(tmp_path / "run", {"data": {"path": "b"}, "train": {}})
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_a_setting_that_an_earlier_version_did_not_have_has_its_usual_value(tmp_path):
    run = tmp_path / "run"
    Run(run, FinetuneConfig())
    (run / "metrics.jsonl").write_text("")  # it has begun
    written = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(written.replace("  sif: false\n", ""))
    assert (run / "config.yaml").read_text() != written
    other = replace(FinetuneConfig(), classifier=replace(FinetuneConfig().classifier, sif=True))
    with pytest.raises(UserError, match=r"another run \(classifier\.sif: False there, True here\)"):
        Run(run, other)
    Run(run, FinetuneConfig())
    assert (run / "config.yaml").read_text() == written
