"""quorem serve."""

import argparse
from dataclasses import fields

from quorem.errors import UserError
from quorem.serving.settings import ServeSettings


def run(options: argparse.Namespace) -> None:
    """Serve a run over HTTP until it is told to stop."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError("quorem serve needs fastapi and uvicorn: pip install 'quorem[serve]'") from error
    from quorem.serving.server import Server

    server = Server(
        options.run_folder, ServeSettings(**{each.name: getattr(options, each.name) for each in fields(ServeSettings)})
    )
    served = server.served
    asked = ", ".join(f"/{each.name}" for each in served.operations)
    said = f"{served.name} ({served.task}) at {server.address}: {asked}, /health, /docs; Ctrl-C stops it"
    server.run(lambda: print(said, flush=True))
    print("stopped")
