"""The command line: one sub-command is one public function; only this file prints."""

import argparse
import errno
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from quorem import __version__, memory, processes, recommend_commands
from quorem.config import leaves, load, override
from quorem.confusions import table
from quorem.data.writers import WRITERS
from quorem.describe import describe, described
from quorem.errors import UserError
from quorem.finetune import dry_run as dry_run_of_finetuning
from quorem.finetune import finetune
from quorem.init_from import settings_of, with_another_table
from quorem.interrupt import Stopped, terminations_as_interrupts
from quorem.origin import finetune_original, pretrain_original
from quorem.predict import predict
from quorem.prepare import load_prepared, merge, prepare, summary
from quorem.pretrain import dry_run, pretrain
from quorem.recipes import resolve
from quorem.report import report
from quorem.samples import entropies, write_reviews, write_sessions
from quorem.settings import FinetuneConfig, PrepareConfig, PretrainConfig

CATALOGUE_SIZE = 100_000  # of `quorem sample items`
SETTING = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")  # section.key=value, anywhere on the line
DISC_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL = re.compile(rf"No space left|os error ({'|'.join(map(str, DISC_IS_FULL))})\b|requested and \d+ written")
DRY_RUN = "prepare, build, take a few steps and say what the run will take; keep nothing"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; sys.argv if None.

    Returns:
        The exit code: 0, or 2 for something the user can fix, 130 for an interrupt.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for word in words:  # a file's name can be bytes; what a run keeps of it is text
        if (name := word.encode(errors="replace").decode()) != word:
            print(f"quorem: {name}: is not valid UTF-8 where the question marks are: rename it", file=sys.stderr)
            return 2
    settings = [word for word in words if SETTING.match(word)]
    parser = build_parser()
    options, unknown = parser.parse_known_args([word for word in words if word not in settings])
    if unknown:  # with the usage of the command, not that of quorem
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)} (settings are written section.key=value)")
    if settings and not hasattr(options, "config"):
        parser.error(f"this command takes no settings such as {settings[0]}")
    options.settings = settings
    return guarded(lambda: options.run(options), again=["quorem", *words])


def guarded(command: Callable[[], None], *, again: Sequence[str]) -> int:
    """Run a command with its log on standard error, and turn errors a user can fix into one line and exit code 2.

    Args:
        command: what to run.
        again: the words that run it again, for one who stopped it.
    """
    rank = os.environ.get("RANK", "0")
    others = rank != "0"  # of a launcher's processes, the first one speaks for all
    speaker = f"quorem, process {rank}" if others else "quorem"
    level = logging.ERROR if others else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    for name in ("transformers", "accelerate", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with redirect_stdout(io.StringIO()) if others else nullcontext(), terminations_as_interrupts():
            command()
    except UserError as error:
        line = " ".join(str(error).split())  # a parser's message may have several
        print(f"{speaker}: {line}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if not others:
            launched = "RANK" in os.environ  # by torchrun or accelerate, whose own words are not known here
            print(
                f"{stopped}; " + ("start the same again to go on" if launched else f"go on with: {shlex.join(again)}")
            )
    except KeyboardInterrupt:
        if not others:
            advice = "the same command goes on from the last checkpoint, if there was one"
            print(f"quorem: interrupted; {advice}", file=sys.stderr)
        return 130
    except Exception as error:
        if _is_disc_full(error):
            advice = "make room or choose another --out, then run the same command again"
            print(f"{speaker}: the disc is full: nothing unfinished has a final name; {advice}", file=sys.stderr)
        elif isinstance(error, OSError) and error.strerror and error.filename:
            told = UserError(f"{error.filename}: {error.strerror}: check the path and its permissions")
            print(f"{speaker}: {told}", file=sys.stderr)
        elif memory.has_run_out(error):
            print(f"{speaker}: no memory is left: to train with less, use {memory.LESS}", file=sys.stderr)
        elif processes.is_loss_of_another(error):
            print(f"{speaker}: another process has ended, and says why if it could", file=sys.stderr)
        else:
            raise
        return 2
    finally:
        processes.leave()
    return 0


def _is_disc_full(error: BaseException | None) -> bool:
    """Whether a full disc is behind an error: OSError says so, native libraries in words, torch.save in the context."""
    while error is not None:
        if getattr(error, "errno", None) in DISC_IS_FULL or FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def build_parser() -> argparse.ArgumentParser:
    """The parser of every sub-command."""
    parser = argparse.ArgumentParser(prog="quorem", description="ELECTRA pre-training for data with huge vocabularies.")
    parser.add_argument("--version", action="version", version=f"quorem {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _add(
        commands, "pretrain", "pre-train on a CSV's column, JSON Lines or lines of text", _pretrain, PretrainConfig()
    )
    command.add_argument(
        "data",
        nargs="*",
        help="files, folders or quoted patterns: CSV, .parquet, .jsonl, MIDI, .txt (a document a line); or data.path",
    )
    command.add_argument("--text-column", help="the CSV's column, or the key, of text (data.text_column)")
    command.add_argument(
        "--tokenizer",
        metavar="KIND",
        help="words, wordpiece, bpe, unigram, characters, items or item_bpe (tokenizer.kind)",
    )
    command.add_argument("--out", required=True, type=Path, help="the run folder to write")
    command.add_argument(
        "--init-from", metavar="RUN", help="go on from its networks, with its sizes and tokenizer (model.init_from)"
    )
    command.add_argument("--dry-run", action="store_true", help=DRY_RUN)

    command = _add(commands, "prepare", "make a tokenizer and token shards, to pre-train on", _prepare, PrepareConfig())
    command.add_argument("data", nargs="*", help="as for pretrain")
    command.add_argument("--text-column", help="the CSV's column, or the key, of text (data.text_column)")
    command.add_argument(
        "--tokenizer",
        metavar="KIND",
        help="words, wordpiece, bpe, unigram, characters, items or item_bpe (tokenizer.kind)",
    )
    command.add_argument("--out", required=True, type=Path, help="the folder to write; pretrain takes it as its data")
    command.add_argument(
        "--processes", type=int, default=1, metavar="N", help="that write shards, each of some of the files (default 1)"
    )

    command = _add(commands, "merge", "join folders that quorem prepare made with one tokenizer", _merge)
    command.add_argument("parts", nargs="+", type=Path, metavar="PART", help="a folder of quorem prepare")
    command.add_argument("--out", required=True, type=Path, help="the folder to write")

    command = _add(commands, "finetune", "fine-tune a pre-trained run to classify texts", _finetune, FinetuneConfig())
    command.add_argument("run_folder", metavar="RUN", help="a run of quorem pretrain")
    command.add_argument(
        "data",
        nargs="*",
        help="the labelled data: CSV, .parquet, .jsonl, or a folder of .txt or MIDI files; data.path if not given",
    )
    command.add_argument("--text-column", help="its column of text (data.text_column)")
    command.add_argument("--label-column", help="its column of classes (data.label_column)")
    command.add_argument("--from-scratch", action="store_true", help="the control: the same network from new weights")
    recommend_commands.add_task(command)
    command.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    command.add_argument("--out", required=True, type=Path, help="the run folder to write")

    command = _add(commands, "predict", "classify the rows of data files with a fine-tuned run", _predict)
    command.add_argument("run_folder", metavar="RUN", help="a run of quorem finetune")
    command.add_argument(
        "data", nargs="+", help="files, folders or quoted patterns, of all formats that finetune reads"
    )
    command.add_argument("--text-column", help="its column or key of text (default: the run's, or text)")
    command.add_argument("--format", default="auto", help="data.format (default: by the names, or the run's)")
    command.add_argument("--bad-rows", default="error", help="error, or skip: left out and listed beside the output")
    command.add_argument("--encoding", help="of the data (default: the run's data.encoding, or UTF-8 if it is that)")
    command.add_argument("--delimiter", help="of a CSV (default: the run's data.delimiter)")
    command.add_argument(
        "--quoting", help="of a CSV: auto, standard, none or backslash (default: the run's data.quoting)"
    )
    command.add_argument(
        "--header", action=argparse.BooleanOptionalAction, help="whether a CSV has one (default: the run's data.header)"
    )
    endings = ", ".join(ending for writer in WRITERS.values() for ending in writer.endings)
    command.add_argument("--out", required=True, type=Path, help=f"the file to write, by its ending: {endings}")

    recommend_commands.add_commands(partial(_add, commands), print)
    command = _add(
        commands, "describe", "parameters and bytes, table by table, before building", _describe, PretrainConfig()
    )

    command = _add(commands, "report", "write a page about one run or several: curves, sizes, examples", _report)
    command.add_argument("run_folders", nargs="+", type=Path, metavar="RUN", help="a run, finished or not")
    command.add_argument("--out", type=Path, help="the HTML file to write (default: report.html in the first run)")

    command = _add(commands, "sample", "write a built-in synthetic sample", _sample)
    command.add_argument(
        "kind", choices=["reviews", "items"], help="reviews: columns review,sentiment; items: sessions, one a line"
    )
    command.add_argument("--rows", type=int, default=20_000, help="how many (default: 20000)")
    command.add_argument("--vocab-size", type=int, help=f"items: how many there are (default: {CATALOGUE_SIZE})")
    command.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    command.add_argument("--out", required=True, type=Path, help="the file to write: CSV for reviews, text for items")
    return parser


def pretraining_script(arguments: Sequence[str] | None = None) -> int:
    """`pretraining.py`, with the original repository's arguments."""
    parser = _original_parser("Pre-train an ELECTRA model on a column of a CSV.")
    parser.add_argument("--col_name", help="name of the text column (default: review)")
    options = parser.parse_args(arguments)
    return guarded(
        lambda: _show_verdict(pretrain_original(**vars(options))), again=_script("pretraining.py", arguments)
    )


def finetuning_script(arguments: Sequence[str] | None = None) -> int:
    """`FineTuning.py`, with the original repository's arguments."""
    options = _original_parser("Fine-tune the pre-trained model for sentiment classification.").parse_args(arguments)
    return guarded(lambda: _show_scores(finetune_original(**vars(options))), again=_script("FineTuning.py", arguments))


def _script(name: str, arguments: Sequence[str] | None) -> list[str]:
    return ["python", name, *(sys.argv[1:] if arguments is None else arguments)]


def _original_parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--raw_data_loc", help="the CSV (default: the built-in synthetic sample)")
    parser.add_argument("--working_dir", help="folder of weights, configs and vocabulary (default: working_dir)")
    parser.add_argument(
        "--hparams", nargs="*", default=[], help="a dict such as '{\"VOCAB_SIZE\": 60000}', or a JSON or YAML file"
    )
    return parser


def _add(
    commands: Any, name: str, what: str, run: Callable[[argparse.Namespace], None], config: Any = None
) -> argparse.ArgumentParser:
    """A sub-command; with a config, any of its settings may be given as section.key=value."""
    epilog = None
    if config is not None:
        lines = [f"  {key}={'' if value is None else value}\n      {text}" for key, value, text in leaves(config)]
        epilog = "settings (section.key=value):\n" + "\n".join(lines)
    parser = commands.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + ".", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run, parser=parser)
    if config is not None:
        parser.add_argument("--config", metavar="FILE", help="a YAML file of settings")
    return parser


def _configured(options: argparse.Namespace, base: Any) -> Any:
    """Settings from --config, then the command's own options, then section.key=value."""
    if getattr(options, "init_from", None) is not None:
        base = settings_of(options.init_from)
    config = load(type(base), options.config, base=base) if options.config else base
    given = {
        "path": options.data[0] if len(options.data) == 1 else options.data or None,
        "text_column": options.text_column,
        "label_column": getattr(options, "label_column", None),
    }
    data = replace(config.data, **{key: value for key, value in given.items() if value is not None})
    config = replace(config, data=data)
    if getattr(options, "tokenizer", None) is not None:
        config = replace(config, tokenizer=replace(config.tokenizer, kind=options.tokenizer))
    config = override(config, options.settings)
    if getattr(options, "init_from", None) is not None:
        config = with_another_table(config, base)
    if not config.data.path:
        raise UserError("no data: name a file after the command, or set data.path")
    return config


def _pretrain(options: argparse.Namespace) -> None:
    config = _configured(options, PretrainConfig())
    if options.dry_run:
        print(dry_run(config))
    else:
        _show_verdict(pretrain(config, options.out))


def _prepare(options: argparse.Namespace) -> None:
    if options.processes < 1:
        raise UserError(f"--processes {options.processes}: 1 or more is needed")
    prepare(_configured(options, PrepareConfig()), options.out, processes=options.processes)
    print(f"{options.out}: {summary(load_prepared(options.out)[1])}")


def _merge(options: argparse.Namespace) -> None:
    merge(options.parts, options.out)
    print(f"{options.out}: {summary(load_prepared(options.out)[1])}")


def _finetune(options: argparse.Namespace) -> None:
    if options.task == "next_item":
        return print(recommend_commands.next_item(options, _configured))
    config = _configured(options, FinetuneConfig())
    config = replace(config, pretrained=options.run_folder)
    if options.from_scratch:
        config = replace(config, classifier=replace(config.classifier, from_scratch=True))
    if options.dry_run:
        print(dry_run_of_finetuning(config))
    else:
        _show_scores(finetune(config, options.out))


def _predict(options: argparse.Namespace) -> None:
    names = ("text_column", "out", "format", "bad_rows", "encoding", "delimiter", "quoting", "header")
    counts = predict(options.run_folder, options.data, **{name: getattr(options, name) for name in names})
    found = f"{counts['read']} rows, {counts['predicted']} predicted, {counts['empty']} left blank (empty text)"
    print(f"{options.out}: {found}" + (f", {counts['bad']} bad and left out" if counts["bad"] else ""))


def _report(options: argparse.Namespace) -> None:
    print(report(options.run_folders, options.out))


def _describe(options: argparse.Namespace) -> None:
    config = override(load(PretrainConfig, options.config) if options.config else PretrainConfig(), options.settings)
    found = describe(config)
    print(f"{'part':<62}{'shape':>18}{'parameters':>16}{'MB':>12}")
    for part in found["parts"]:
        shape = " x ".join(f"{size:,}" for size in part.shape) if part.shape is not None else ""
        note = "" if part.trained else "  (not trained)"
        print(f"{part.name:<62}{shape:>18}{part.parameters:>16,}{part.parameters * 4 / 1e6:>12,.3f}{note}")
    trained = found["parameters"] * 4 / 1e6
    print(f"{'in all, trained':<80}{found['parameters']:>16,}{trained:>12,.3f}")
    print(f"{'with what is not trained':<96}{found['weight_bytes'] / 1e6:>12,.3f}")
    print(f"{'in training: gradients and the optimizer too':<96}{found['training_bytes'] / 1e6:>12,.3f}")
    config = resolve(config)
    rows, length = config.train.micro_batch_size or config.train.batch_size, config.data.max_length
    activations = f"kept for the backward pass of {rows} x {length} tokens, about (train.micro_batch_size)"
    print(f"{activations:<96}{found['activation_bytes'] / 1e6:>12,.3f}")
    if (steps := config.train.max_steps) is not None:
        whole = f"{steps:,} steps of {config.train.batch_size} x {length} tokens (train.max_steps)"
        print(f"{whole:<80}{steps * config.train.batch_size * (length or 0):>16,}")
    vocab_size = found["discriminator"].vocab_size
    table = found["table"]
    if found["generator"]:
        print(f"softmax of the generator: {described(found['generator'].head)}")
    print(f"rows of their own: {table['own_rows']:,} tokens; others to a row: about {table['ids_per_row']:,}")
    print(f"room for {table['room']:,} more tokens without another row")
    print(f"no two tokens share all they read: {table['uniqueness'] or 'NOT SO, hashed ids can meet'}")
    print(f"token table: {found['table_ratio']:,.1f} times smaller than a row for each of {vocab_size:,} tokens")


def _sample(options: argparse.Namespace) -> None:
    if options.kind == "items":
        vocab_size = CATALOGUE_SIZE if options.vocab_size is None else options.vocab_size
        write_sessions(options.out, rows=options.rows, vocab_size=vocab_size, seed=options.seed)
        known = entropies(vocab_size)
        print(f"{options.out}: {options.rows} synthetic sessions of items from a catalogue of {vocab_size:,}")
        print(
            f"to be learned: an item costs {known.item:.3f} nats by frequency alone and "
            f"{known.item_given_cluster:.3f} given its session's cluster, the least any model can reach"
        )
        return
    if options.vocab_size is not None:
        raise UserError(f"--vocab-size {options.vocab_size}: only sample items has it: leave it out for reviews")
    write_reviews(options.out, rows=options.rows, seed=options.seed)
    print(f"{options.out}: {options.rows} synthetic reviews, columns review,sentiment")


def _show_verdict(result: dict[str, Any]) -> None:
    print(result["verdict"])


def _show_scores(result: dict[str, Any]) -> None:
    print(
        f"held-out accuracy {result['accuracy']:.4f}, macro f1 {result['macro_f1']:.4f} "
        f"(best of the epochs; last: {result['last']['accuracy']:.4f})"
    )
    if "frozen_accuracy" in result:
        print(f"with the encoder frozen: {result['frozen_accuracy']:.4f}")
    print(table(result))
