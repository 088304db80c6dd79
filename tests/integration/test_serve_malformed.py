"""A thousand malformed requests: each is refused with a 4xx of one sentence, or answered; none is a 5xx."""

import json
import random
import socket

import pytest

pytest.importorskip("fastapi", reason="needs quorem[serve]")
pytest.importorskip("uvicorn", reason="needs quorem[serve]")

from running_server import JSON, Client, running

REQUESTS = 1_000
PATHS = ("/detect", "/embed", "/embed", "/predict", "/health", "/", "/%ff%00", "/openapi.json", "//", "/detect/")
METHODS = ("POST",) * 12 + ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
TYPES = (
    "application/json", "application/json", "application/json", "application/json; charset=utf-16", "text/plain",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "\u00e9\u00ff",
    "application/json;" * 50,
)  # fmt: skip
STRANGE = (
    None, True, False, 0, -1, 1e400, float("nan"), float("-inf"), 10**30, 1.5, "", "\ud800", "\udfff\ud800",
    "\0", "\ufffe", "[MASK]", "a\u0300" * 50, "\U0001f600" * 20, " " * 500, "\u202e", [], {}, [[]], [None], {"": ""},
    {"__proto__": 1}, "x" * 5000,
)  # fmt: skip
NAMES = ("texts", "pooling", "top", "text", "rows", "", "\ud800", "__class__", "body", "x" * 3000)


def value(chance: random.Random, depth: int = 0):
    """Any JSON value, and some that are none."""
    kind = chance.randrange(5)
    if depth > 3 or kind < 3:
        return chance.choice(STRANGE)
    if kind == 3:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(NAMES): value(chance, depth + 1) for _ in range(chance.randrange(4))}


def deep(chance: random.Random) -> bytes:
    """Lists or objects in each other, closed or not."""
    number, mark = chance.choice([50, 900, 5_000, 200_000]), chance.choice([b"[", b'{"texts":'])
    inside = mark * number + (b"1" + (b"]" if mark == b"[" else b"}") * number if chance.random() < 0.5 else b"")
    return b'{"texts": ' + inside + b"}" if chance.random() < 0.5 else inside


def body(chance: random.Random) -> bytes:
    """A body of a kind that a careless or hostile client sends."""
    kind = chance.randrange(9)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        return deep(chance)
    if kind == 2:  # numbers that no float or int has room for
        return b'{"texts": [' + chance.choice([b"9" * 6000, b"1e99999", b"-0.0", b"NaN", b"1" * 400 + b".5"]) + b"]}"
    whole = json.dumps(value(chance)).encode()
    if kind == 3:
        return whole[: chance.randrange(len(whole) + 1)]
    if kind == 4:
        place = chance.randrange(len(whole) + 1)
        return whole[:place] + chance.randbytes(2) + whole[place:]
    if kind == 5:
        return json.dumps({"texts": [value(chance, 3) for _ in range(chance.randrange(5))]}).encode()
    if kind == 6:
        return json.dumps({"texts": ["a"], chance.choice(NAMES): value(chance)}).encode()
    if kind == 7:
        return '{"texts": ["\u00e9"]}'.encode(chance.choice(["latin-1", "utf-16", "utf-8-sig", "utf-32"]))
    return whole


def test_a_thousand_malformed_requests(pretrained):
    chance, seen = random.Random(20261129), dict[int, int]()
    with running(pretrained, max_request_bytes=300_000) as client:
        for _ in range(REQUESTS):
            path, kind, method = chance.choice(PATHS), chance.choice(TYPES), chance.choice(METHODS)
            sent, headers = body(chance), {"content-type": kind} if kind else {}
            found = client(method, path, sent, headers)
            seen[found.status] = seen.get(found.status, 0) + 1
            assert found.status < 500, (method, path, kind, sent[:300], found)
            if found.status >= 400 and method != "HEAD":
                error = found.body["error"]
                assert error
                assert "\n" not in error
                assert len(error) < 1_000
        assert client.post("/embed", texts=["a"])
    assert sum(seen.values()) == REQUESTS
    assert {200, 400, 404, 405, 415, 422} <= set(seen)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 100 + b"\r\n\r\n",
        b"POST /embed HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nZZZ\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_refused_and_the_next_request_answered(encoder: Client, sent: bytes):
    host, port = encoder.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=2) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            found = connection.recv(100)
        except OSError:  # it has closed the connection already
            found = b""
    assert not found or found.startswith(b"HTTP/1.1 4"), found
    assert encoder("POST", "/embed", {"texts": ["a"]}, JSON).status == 200


@pytest.fixture(scope="module")
def encoder(pretrained):
    with running(pretrained) as client:
        yield client
