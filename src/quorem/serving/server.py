"""The server: a run at an address, until it is told to stop."""

import errno
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from quorem.errors import UserError
from quorem.serving.app import make_app
from quorem.serving.operations import load_served
from quorem.serving.settings import ServeSettings

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 1_000  # at once; further ones get 503
IDLE = 15  # seconds until a connection that asks nothing is closed


class Server:
    """A run at an address. Making it takes the address first, then loads the run.

    Args:
        run: its folder.
        settings: see there.

    Raises:
        UserError: for settings, an address or a run that cannot be used.
    """

    def __init__(self, run: str | Path, settings: ServeSettings) -> None:
        settings.check()
        self._socket = bind(settings.host, settings.port)
        try:
            self.served = load_served(run)
        except BaseException:
            self._socket.close()
            raise
        config = uvicorn.Config(
            make_app(self.served, settings), log_config=None, log_level="warning", access_log=False, ws="none",
            lifespan="on", server_header=False, limit_concurrency=MOST_CONNECTIONS, timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=int(settings.timeout) + 1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    @property
    def address(self) -> str:
        """Where it answers, for a browser on this machine."""
        host, port = self._socket.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Answer until SIGINT, SIGTERM or `stop`; requests that have begun are answered.

        Args:
            ready: called before the first request is.
        """
        ready()
        try:
            self._server.run(sockets=[self._socket])
        except KeyboardInterrupt:  # uvicorn raises the signal that it has obeyed once more
            if not self._server.should_exit:
                raise
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Ask it to stop, from any thread."""
        self._server.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at an address: nobody else can take it from now on.

    Raises:
        UserError: if the address is in use, not this machine's or not allowed.
    """
    place = f"--host {host} --port {port}"
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"{place}: another program listens there: choose another --port, such as {port + 1}"
            ) from error
        if error.errno == errno.EACCES:
            raise UserError(f"{place}: not allowed for this user: choose a --port of 1024 or more") from error
        why = error.strerror or str(error)
        raise UserError(f"{place}: cannot listen there ({why}): --host must be an address of this machine") from error
    except UnicodeError as error:
        raise UserError(f"{place}: is not an address: give one such as 127.0.0.1") from error
