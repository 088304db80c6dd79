"""Under which names a server may be asked: a page of the web must not reach one that is for this machine alone.

A page whose own name is made to mean 127.0.0.1 (DNS rebinding) may send requests there and read the answers; the header
Host then has the page's name.
"""

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from quorem.serving.answers import refusal
from quorem.serving.limits import Receive, Send
from quorem.serving.settings import ServeSettings

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Hosts:
    """An application (ASGI) around another: where it listens to this machine alone, other names do not reach it.

    Args:
        app: the other.
        settings: where it listens, and which names are let in.
    """

    def __init__(self, app: Any, settings: ServeSettings) -> None:
        self.app = app
        self.known = {*LOOPBACK, *settings.allow_hosts.lower().replace(" ", "").split(",")} - {""}
        self.any = settings.host.lower() not in LOOPBACK

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or self.any or _name(Headers(scope=scope).get("host", "")) in self.known:
            await self.app(scope, receive, send)
            return
        sentence = "this server answers to this machine alone, as 127.0.0.1 or localhost: a proxy's name is let in by "
        await refusal(421, f"{sentence}quorem serve --allow-hosts NAME")(scope, receive, send)


def _name(host: str) -> str | None:
    """A host without its port and brackets, in lower case; None where it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
