"""The command line: one sub-command is one public function.

What is needed to read it is light: help and wrong usage answer at once. A command's own file (quorem.commands) is
imported when it is run.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from glob import has_magic
from importlib import import_module
from pathlib import Path
from typing import Any

from quorem import __version__
from quorem.assignments import as_options, split_words
from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import leaves, load, override, read_values
from quorem.config.settings import PrepareConfig, PretrainConfig
from quorem.data.writers import WRITERS
from quorem.errors import UserError, did_you_mean
from quorem.exporting.arguments import add_card, add_compress, add_export, add_push
from quorem.folders import check_there
from quorem.guard import guarded, quiet_without_reader
from quorem.recommending.arguments import add_recommend, add_similar
from quorem.serving.arguments import add_serve
from quorem.tasks import TASKS
from quorem.tasks.arguments import add_task

DRY_RUN = "prepare, build, take a few steps and say what the run will take; keep nothing"
CONFIGS: dict[str, Any] = {
    "pretrain": PretrainConfig,
    "prepare": PrepareConfig,
    "finetune": FinetuneConfig,
    **{name: line.settings for name, line in TASKS.items()},  # finetune --task
}
HELP_WIDTH = 100


@quiet_without_reader
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; sys.argv if None.

    Returns:
        The exit code: 0, or 2 for something the user can fix, 130 for an interrupt, 141 if nobody reads the output.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for word in words:  # a file's name can be bytes; what a run keeps of it is text
        if (name := word.encode(errors="replace").decode()) != word:
            print(f"quorem: {name}: is not valid UTF-8 where the question marks are: rename it", file=sys.stderr)
            return 2
    parser = build_parser()
    if not words:
        parser.print_help()
        return 0
    command = _commands(parser).get(words[0])
    rest, assignments = split_words(words, command, CONFIGS.values())
    if command is not None and command.get_default("base") is None:
        rest, assignments = as_options(rest, assignments, command)
    if rest and not rest[0].startswith("-") and rest[0] not in (names := _commands(parser)):
        parser.error(f"{rest[0]}: no such command.{did_you_mean(rest[0], names)}")
    options, unknown = parser.parse_known_args(rest)
    if unknown:  # with the usage of the command, not that of quorem
        meant = _meant(unknown[0], options)
        options.parser.error(
            f"unrecognized arguments: {' '.join(unknown)} (settings are written section.key=value).{meant}"
        )
    if assignments and not hasattr(options, "config"):
        options.parser.error(f"this command takes no settings such as {assignments[0]}")
    options.assignments = assignments

    def run() -> None:
        if hasattr(options, "config"):
            options.settings = _configured(options)
        _check_paths(options)
        import_module(f"quorem.commands.{options.command}").run(options)

    return guarded(run, again=["quorem", *words])


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The sub-commands by their names."""
    return next(dict(action.choices) for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _check_paths(options: argparse.Namespace) -> None:
    """Check that what is named is there, before anything heavy is imported.

    Raises:
        UserError: naming what is not.
    """
    if isinstance(folder := getattr(options, "run_folder", None), str):
        check_there(Path(folder))
    for name in getattr(options, "data", None) or ():
        if not has_magic(name) and not Path(name).exists():
            raise UserError(f"{name} does not exist: check the folder and the spelling.")


def _meant(word: str, options: argparse.Namespace) -> str:
    """What somebody may have meant by an option that there is not: a setting of that name, or an option like it."""
    option = word.partition("=")[0]
    name = option.removeprefix("--").replace("-", "_")
    settings = [key for key, *_ in leaves(options.base, taken=True)] if hasattr(options, "base") else []
    named = [f"{key}=..." for key in settings if key.rpartition(".")[2] == name]
    known = [each for action in options.parser._actions for each in action.option_strings]
    close = named or get_close_matches(option, known, n=1, cutoff=0.7)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def build_parser() -> argparse.ArgumentParser:
    """The parser of every sub-command."""
    parser = argparse.ArgumentParser(prog="quorem", description="ELECTRA pre-training for data with huge vocabularies.")
    parser.add_argument("--version", action="version", version=f"quorem {__version__}")
    shells = ("bash", "zsh", "tcsh")
    parser.add_argument("--print-completion", choices=shells, action=_Completion, help="the shell's completion script")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_pretraining(commands)
    _add_finetuning(commands)
    _add_others(commands)
    return parser


def _add_pretraining(commands: Any) -> None:
    """Pretrain, prepare and merge."""
    command = _add(commands, "pretrain", "pre-train on a CSV's column, JSON Lines or lines of text", PretrainConfig())
    _add_texts(command)
    command.add_argument("--out", required=True, type=Path, help="the run folder to write")
    command.add_argument(
        "--init-from", metavar="RUN", help="start from the networks of RUN, with its sizes and tokenizer"
    )
    command.add_argument("--minutes", type=float, metavar="N", help="train for about so long here (train.minutes)")
    command.add_argument("--dry-run", action="store_true", help=DRY_RUN)

    command = _add(commands, "prepare", "make a tokenizer and token shards, to pre-train on", PrepareConfig())
    _add_texts(command)
    command.add_argument("--out", required=True, type=Path, help="the folder to write; pretrain takes it as its data")
    command.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes that share the files (default 1)"
    )

    command = _add(commands, "merge", "join folders that quorem prepare made with one tokenizer")
    command.add_argument("parts", nargs="+", type=Path, metavar="PART", help="a folder of quorem prepare")
    command.add_argument("--out", required=True, type=Path, help="the folder to write")


def _add_texts(command: argparse.ArgumentParser) -> None:
    """The texts to learn from, and how they become tokens."""
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


def _add_finetuning(commands: Any) -> None:
    """Finetune, predict, recommend, similar, serve and embed."""
    command = _add(commands, "finetune", "fine-tune a pre-trained run for a task", FinetuneConfig())
    add_task(command, _short)
    command.add_argument("run_folder", metavar="RUN", help="a run of quorem pretrain, or a model folder")
    command.add_argument(
        "data",
        nargs="*",
        help="the labelled data: CSV, .parquet, .jsonl, or a folder of .txt or MIDI files; data.path if not given",
    )
    command.add_argument("--text-column", help="column or key of the text (data.text_column)")
    command.add_argument("--label-column", help="column or key of the labels (data.label_column)")
    command.add_argument("--from-scratch", action="store_true", help="the control: the same network from new weights")
    command.add_argument("--dry-run", action="store_true", help=DRY_RUN)
    command.add_argument("--out", required=True, type=Path, help="the run folder to write")

    command = _add(commands, "predict", "predict the rows of data files with a fine-tuned run")
    command.add_argument("run_folder", metavar="RUN", help="a run of quorem finetune")
    command.add_argument(
        "data", nargs="+", help="files, folders or quoted patterns, of all formats that finetune reads"
    )
    command.add_argument("--text-column", help="column or key of the text (default: the run's, or text)")
    command.add_argument("--format", default="auto", help="data.format (default: by the names, or the run's)")
    command.add_argument("--bad-rows", default="error", help="error, or skip: left out and listed beside the output")
    command.add_argument(
        "--encoding", help="of the data (default: UTF-8; for files that are not, the run's data.encoding)"
    )
    command.add_argument("--delimiter", help="of a CSV (default: the run's data.delimiter)")
    command.add_argument(
        "--quoting", help="of a CSV: auto, standard, none or backslash (default: the run's data.quoting)"
    )
    command.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether a CSV's first row names its columns (default: the run's data.header)",
    )
    endings = ", ".join(ending for writer in WRITERS.values() for ending in writer.endings)
    command.add_argument("--out", required=True, type=Path, help=f"the file to write, by its ending: {endings}")

    add_recommend(_add(commands, "recommend", "write the likeliest next items beside rows of items"))
    add_similar(_add(commands, "similar", "find the items whose vectors are most alike"))
    add_serve(_add(commands, "serve", "answer over HTTP what a run has learned, with a page to try it"))

    command = _add(commands, "embed", "write a vector for each row of data files, or for each token")
    command.add_argument("run_folder", metavar="RUN", help="any run, or a model folder")
    command.add_argument("data", nargs="*", help="files, folders or quoted patterns; none with --tokens")
    command.add_argument("--tokens", action="store_true", help="the vectors of all tokens, such as items")
    command.add_argument("--text-column", help="the data's column or key of text (default: text)")
    command.add_argument(
        "--pooling", help="sif (tokens' vectors, rare ones weigh more: default before fine-tuning), mean, first or max"
    )
    command.add_argument("--max-length", type=int, help="tokens of a text that are read (default: the model's limit)")
    command.add_argument("--format", default="auto", help="data.format (default: by the names)")
    command.add_argument("--bad-rows", default="error", help="error, or skip: left out and listed beside the output")
    command.add_argument(
        "--out", required=True, type=Path,
        help="the file to write: .npy (vectors alone), .parquet, .jsonl, .csv, .tsv; with --tokens .vec (word2vec) too",
    )  # fmt: skip


def _add_others(commands: Any) -> None:
    """Describe, report, export, compress, card, push, config, doctor and sample."""
    _add(commands, "describe", "parameters and bytes, table by table, before building", PretrainConfig())

    command = _add(commands, "report", "write a page about one run or several: curves, sizes, examples")
    command.add_argument("run_folders", nargs="+", type=Path, metavar="RUN", help="a run, finished or not")
    command.add_argument("--out", type=Path, help="the HTML file to write (default: report.html in the first run)")

    add_export(
        _add(commands, "export", "write a run's networks for use without quorem: plain ELECTRA, ONNX or with code")
    )

    add_compress(_add(commands, "compress", "write a trained run with a smaller token table"))
    add_card(_add(commands, "card", "write a model card, README.md, beside a run's models"))
    add_push(_add(commands, "push", "upload a model folder, with its card, to the Hugging Face hub"))

    command = _add(commands, "config", "write every setting of a command with its default and what it is for")
    command.add_argument("of", choices=tuple(CONFIGS), help="the command")
    command.add_argument("--schema", action="store_true", help="a JSON Schema, for editors, instead of YAML")
    command.add_argument("--out", type=Path, help="the file to write (default: print it)")

    _add(commands, "doctor", "print versions, devices and memory, for bug reports")

    command = _add(commands, "sample", "write a built-in synthetic sample")
    command.add_argument(
        "kind", choices=["reviews", "items"], help="reviews: columns review,sentiment; items: sessions, one a line"
    )
    command.add_argument("--rows", type=int, default=20_000, help="how many (default: 20000)")
    command.add_argument("--vocab-size", type=int, help="items: how many there are (default: 100000)")
    command.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    command.add_argument("--out", required=True, type=Path, help="the file to write: CSV for reviews, text for items")


@quiet_without_reader
def pretraining_script(arguments: Sequence[str] | None = None) -> int:
    """`pretraining.py`, with the original repository's arguments."""
    parser = _original_parser("Pre-train an ELECTRA model on a column of a CSV.")
    parser.add_argument("--col_name", help="name of the text column (default: review)")
    return _run_original("pretrain", parser.parse_args(arguments), again=_script("pretraining.py", arguments))


@quiet_without_reader
def finetuning_script(arguments: Sequence[str] | None = None) -> int:
    """`FineTuning.py`, with the original repository's arguments."""
    options = _original_parser("Fine-tune the pre-trained model for sentiment classification.").parse_args(arguments)
    return _run_original("finetune", options, again=_script("FineTuning.py", arguments))


def _run_original(name: str, options: argparse.Namespace, *, again: Sequence[str]) -> int:
    return guarded(lambda: getattr(import_module("quorem.commands.original"), name)(options), again=again)


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


def _add(commands: Any, name: str, what: str, config: Any = None) -> argparse.ArgumentParser:
    """A sub-command; with a config, any of its settings may be given as section.key=value."""
    parser = commands.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + ".", epilog=config and _short(config, name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(command=name, parser=parser)
    if config is not None:
        parser.set_defaults(base=config)
        parser.add_argument("--config", metavar="FILE", help="a file of settings, YAML or JSON (quorem config)")
        parser.add_argument("--help-all", action=_HelpAll, nargs=0, help="show all settings, with what each is for")
    return parser


class _Completion(argparse.Action):
    """Print a completion script (shtab makes it)."""

    def __call__(self, parser: argparse.ArgumentParser, _: Any, shell: Any, *__: Any) -> None:
        try:
            import shtab
        except ImportError:
            parser.error("--print-completion needs shtab: pip install 'quorem[completion]'")
        print(shtab.complete(parser, shell=shell))
        parser.exit()


class _HelpAll(argparse.Action):
    """The help with every setting."""

    def __call__(self, parser: argparse.ArgumentParser, options: argparse.Namespace, *_: Any) -> None:
        settings = leaves(options.base, taken=True)
        lines = [f"  {key}={'' if value is None else value}\n      {text}" for key, value, text in settings]
        parser.epilog = "settings (section.key=value, or --section.key value):\n" + "\n".join(lines)
        parser.print_help()
        parser.exit()


def _short(config: Any, name: str) -> str:
    """The settings by their names, section by section."""
    sections: dict[str, list[str]] = {}
    for key, *_ in leaves(config, taken=True):
        section, _, rest = key.rpartition(".")
        sections.setdefault(section, []).append(rest)
    lines = [
        textwrap.fill(
            f"{section + '.' if section else ''}{{{', '.join(names)}}}", HELP_WIDTH,
            initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False,
        )
        for section, names in sections.items()
    ]  # fmt: skip
    more = "--help-all says what each is for" + (f", quorem config {name} writes a file" if name in CONFIGS else "")
    return f"settings, as section.key=value or --section.key value; {more}:\n" + "\n".join(lines)


def _check_task(file: str, task: str) -> None:
    """Accept a file of settings that is of this task, as far as it says.

    Raises:
        UserError: if it is of another one.
    """
    values = read_values(file)
    there = values.get("task", task) if isinstance(values, dict) else task
    if isinstance(there, str) and there != task and there in TASKS:
        raise UserError(f"{file}: task={there}: these are the settings of another task: give --task {there}")


def _configured(options: argparse.Namespace) -> Any:
    """Settings from --config, then the command's own options, then section.key=value."""
    base, init_from = options.base, getattr(options, "init_from", None)
    if init_from is not None:
        from quorem.pretraining.init_from import settings_of, with_another_table

        base = settings_of(init_from)
    if options.config and hasattr(options, "task"):
        _check_task(options.config, options.task)
    config = load(type(base), options.config, base=base) if options.config else base
    if hasattr(options, "data"):
        given = {
            "path": options.data[0] if len(options.data) == 1 else options.data or None,
            "text_column": options.text_column,
            "label_column": getattr(options, "label_column", None),
        }
        given = {key: value for key, value in given.items() if value is not None}
        if unused := [key for key in given if not hasattr(config.data, key)]:
            option = unused[0].replace("_", "-")
            raise UserError(f"--{option} {given[unused[0]]}: --task {options.task} has no use for it: leave it out")
        data = replace(config.data, **given)
        config = replace(config, data=data)
    if getattr(options, "tokenizer", None) is not None:
        config = replace(config, tokenizer=replace(config.tokenizer, kind=options.tokenizer))
    if getattr(options, "minutes", None) is not None:
        config = replace(config, train=replace(config.train, minutes=options.minutes))
    config = override(config, options.assignments)
    if init_from is not None:
        config = with_another_table(config, base)
    if hasattr(options, "data") and not config.data.path:
        raise UserError("no data: name a file after the command, or set data.path")
    return config
