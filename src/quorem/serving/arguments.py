"""The arguments of `quorem serve`: light, for the command line reads it."""

import argparse

from quorem.serving.settings import ServeSettings


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Those of `quorem serve`."""
    usual = ServeSettings()
    parser.add_argument("run_folder", metavar="RUN", help="any finished run, or a model folder")

    def add(name: str, kind: type, metavar: str, what: str) -> None:
        default = getattr(usual, name.removeprefix("--").replace("-", "_"))
        parser.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{what} (default {default})")

    add("--host", str, "ADDRESS", "where to listen; 0.0.0.0: on all networks of this machine")
    add("--port", int, "N", "the port; 0: one that is free")
    add("--max-batch", int, "ROWS", "rows that the model reads at once; 1: no batches")
    add("--max-wait-ms", float, "MS", "how long the first row of a batch waits for others")
    add("--max-request-bytes", int, "BYTES", "the largest body of a request; a larger one gets 413")
    add("--max-texts", int, "N", "the most texts, or other rows, of one request")
    add("--max-queue", int, "ROWS", "rows that may wait in all; a request beyond them gets 503")
    what = "names under which it may be asked besides this machine's own, such as a proxy's"
    parser.add_argument("--allow-hosts", default=usual.allow_hosts, metavar="A,B", help=what)
    add("--timeout", float, "SECONDS", "a request that takes longer gets 504")
