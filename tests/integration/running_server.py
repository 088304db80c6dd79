"""A server of a run in a thread, and requests to it over real connections."""

import contextlib
import http.client
import json
import threading
from dataclasses import dataclass
from typing import Any

JSON = {"content-type": "application/json"}


@dataclass
class Answer:
    """A response."""

    status: int
    body: Any
    headers: dict[str, str]


class Client:
    """Requests to an address, each on a connection of its own."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """A request; a body that is no bytes is sent as JSON.

        Where the server refuses a body before all of it has come, TCP may drop its answer: then it is asked again.
        """
        for _ in range(5):
            with contextlib.suppress(ConnectionResetError):
                return self._once(method, path, body, headers)
        return self._once(method, path, body, headers)

    def _once(self, method: str, path: str, body: Any, headers: dict[str, str] | None) -> Answer:
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=30)
        try:
            if body is not None and not isinstance(body, bytes):
                body, headers = json.dumps(body).encode(), JSON if headers is None else headers
            with contextlib.suppress(BrokenPipeError):  # refused before all of it was sent: the answer says why
                connection.request(method, path, body, headers or {})
            found = connection.getresponse()
            text = found.read()
            kind = found.getheader("content-type", "")
            said = json.loads(text) if text and "json" in kind else text.decode()
            return Answer(found.status, said, dict(found.getheaders()))
        finally:
            connection.close()

    def post(self, path: str, **body: Any) -> list[Any]:
        """The results of rows."""
        found = self("POST", path, body)
        assert found.status == 200, found
        return found.body["results"]


@contextlib.contextmanager
def running(run, **settings):
    """A server of a run while it is entered, on a free port; its client."""
    from quorem.serving.server import Server
    from quorem.serving.settings import ServeSettings

    server = Server(run, ServeSettings(port=0, **settings))
    started = threading.Event()
    thread = threading.Thread(target=server.run, args=(started.set,))
    thread.start()
    assert started.wait(10)
    client = Client(server.address)
    client.server = server
    try:
        yield client
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
