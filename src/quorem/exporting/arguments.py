"""The arguments of `quorem export`, `compress`, `card` and `push`: light, for the command line reads it."""

import argparse
from pathlib import Path

LICENSE = "of the weights, as the Hugging Face hub names it (apache-2.0, cc-by-4.0, other): stands in the model card"

FORMATS = {
    "electra": "a folder of transformers' ELECTRA, its token table dense",
    "onnx": "model.onnx, its token table as it is",
    "remote-code": "a folder with quorem's code, for trust_remote_code=True",
}


def add_export(parser: argparse.ArgumentParser) -> None:
    """Those of `quorem export`."""
    parser.add_argument("run_folder", metavar="RUN", help="a finished run, or a model folder")
    said = "; ".join(f"{name}: {what}" for name, what in FORMATS.items())
    parser.add_argument("--format", required=True, choices=tuple(FORMATS), help=said)
    parser.add_argument("--int8", action="store_true", help="onnx: matrices and tables in eight bits")
    parser.add_argument("--license", metavar="ID", help=LICENSE)
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")


def add_compress(parser: argparse.ArgumentParser) -> None:
    """Those of `quorem compress`."""
    parser.add_argument("run_folder", metavar="RUN", help="a finished run, or a model folder")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--compression", metavar="N", help="how many times smaller than a dense table, such as 10x")
    size.add_argument("--budget", metavar="BYTES", help="most bytes of the token table with its index, such as 20MB")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")


def add_card(parser: argparse.ArgumentParser) -> None:
    """Those of `quorem card`."""
    parser.add_argument("run_folder", metavar="RUN", help="a finished run, or a model folder")
    parser.add_argument("--license", metavar="ID", help=LICENSE)


def add_push(parser: argparse.ArgumentParser) -> None:
    """Those of `quorem push`."""
    parser.add_argument("folder", metavar="FOLDER", help="what quorem export has written, a run, or a model folder")
    parser.add_argument("name", metavar="NAME", help="of the repository: USER/NAME, or NAME")
    parser.add_argument("--public", action="store_true", help="all may read it, if it is made now (default: private)")
    parser.add_argument("--license", metavar="ID", help=LICENSE)
