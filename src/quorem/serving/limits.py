"""Limits of a request's body, kept before anything reads it: its bytes, and the time in which they arrive."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers

from quorem.serving.answers import refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Limits:
    """An application (ASGI) around another: a body that is too large or too slow never reaches it.

    Args:
        app: the other.
        max_bytes: of a body.
        timeout: seconds in which it arrives.
    """

    def __init__(self, app: Any, *, max_bytes: int, timeout: float) -> None:
        self.app, self.max_bytes, self.timeout = app, max_bytes, timeout

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        close = {"connection": "close"}  # the rest of the body is not read
        try:
            async with asyncio.timeout(self.timeout):
                body = await self._read(Headers(scope=scope), receive)
        except TimeoutError:
            late = refusal(408, f"the body did not arrive within {self.timeout:g} seconds", headers=close)
            await late(scope, receive, send)
            return
        except _TooLarge:
            sentence = f"the body has more than {self.max_bytes:,} bytes: send fewer or shorter rows"
            await refusal(413, sentence, headers=close)(scope, receive, send)
            return
        if body is None:  # the client has gone
            return
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return left.pop() if left else await receive()

        await self.app(scope, again, send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None if the client leaves.

        Raises:
            _TooLarge: as soon as it is known.
        """
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.max_bytes:
            raise _TooLarge
        pieces, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self.max_bytes:
                raise _TooLarge
            if not message.get("more_body", False):
                return b"".join(pieces)


class _TooLarge(Exception):
    pass
