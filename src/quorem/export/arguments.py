"""The arguments of `quorem export`: light, for the command line reads it."""

import argparse
from pathlib import Path

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
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
