"""Under which names a server may be asked: a page of the web must not reach one that is for this machine alone.

A page whose own name is made to mean 127.0.0.1 (DNS rebinding) may send requests there and read the answers; the header
Host then has the page's name.
"""

from collections.abc import MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from quorem.serving.answers import refusal
from quorem.serving.limits import Receive, Send
from quorem.serving.settings import ServeSettings

HERE = ("localhost", "127.0.0.1", "::1")


class Hosts:
    """An application (ASGI) around another: requests under other names than the known ones do not reach it.

    Where it listens to this machine alone, these are the machine's own names; elsewhere any, unless some are given.

    Args:
        app: the other.
        settings: where it listens, and which names are let in.
    """

    def __init__(self, app: Any, settings: ServeSettings) -> None:
        given = {name_of(each.strip()) for each in settings.allow_hosts.split(",") if each.strip()}
        self.app, self.known = app, {*HERE, name_of(_bracketed(settings.host)), *given}
        self.any = not given and not _is_here(settings.host)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        asked = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if self.any or asked is None or name_of(asked) in self.known:  # browsers always say whom they ask
            await self.app(scope, receive, send)
            return
        sentence = "this server does not answer to that name: ask 127.0.0.1 or localhost, or let a proxy's name in by "
        await refusal(421, f"{sentence}quorem serve --allow-hosts NAME")(scope, receive, send)


def name_of(host: str) -> str | None:
    """A host without its port and brackets, in lower case; None where it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_here(host: str) -> bool:
    """Whether an address is this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
