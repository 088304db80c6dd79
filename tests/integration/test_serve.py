"""Serving: what each kind of run answers, in batches and alone, within its limits, until it is told to stop."""

import asyncio
import os
import random
import re
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import forked
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("fastapi", reason="needs quorem[serve]")
pytest.importorskip("uvicorn", reason="needs quorem[serve]")

from running_server import JSON, running
from task_cases import CASES, task_of, write

import quorem as package
from quorem.cli import main
from quorem.serving.batching import Batcher, Overloaded
from quorem.tasks import TASKS

TEXTS = ["The film was good.", "", "A bad plot, and a house.", "house " * 40, "x"]


@pytest.fixture(scope="module")
def encoder_client(pretrained):
    with running(pretrained) as client:
        yield client


@pytest.fixture(scope="module")
def classifier_client(classifier):
    with running(classifier) as client:
        yield client


@pytest.fixture(scope="module")
def recommender_client(small_recommender):
    with running(small_recommender) as client:
        yield client


def shares(tokens):
    return pytest.approx([share for _, share in tokens], abs=1e-5)


def test_a_pre_trained_run_detects_and_embeds_as_python_does(pretrained, encoder_client):
    encoder = package.load(pretrained)
    found = encoder_client.post("/detect", texts=TEXTS)
    for tokens, direct in zip(found, encoder.detect(TEXTS), strict=True):
        assert [each["token"] for each in tokens] == [token for token, _ in direct]
        assert [each["probability"] for each in tokens] == shares(direct)
        assert all(each["replaced"] == (each["probability"] > 0.5) for each in tokens)
    for pooling in ("sif", "mean", "first", "max"):
        vectors = encoder_client.post("/embed", texts=TEXTS, pooling=pooling)
        direct = encoder.encode(TEXTS, pooling=pooling).tolist()
        assert vectors == [pytest.approx(row, abs=1e-5) for row in direct]
    assert encoder_client("POST", "/predict", {"texts": ["a"]}).status == 404


def test_a_classifier_predicts_as_python_does(classifier, classifier_client):
    model = package.load(classifier)
    found = classifier_client.post("/predict", texts=TEXTS)
    direct, every = model.predict(TEXTS), model.probabilities(TEXTS).tolist()
    for place, (row, said) in enumerate(zip(found, direct, strict=True)):
        if not TEXTS[place]:
            assert row == {"prediction": None, "probability": None, "probabilities": None}
            continue
        assert (row["prediction"], row["probability"]) == (said["label"], pytest.approx(said["score"], abs=1e-5))
        named = dict(zip(model.labels, every[place], strict=True))
        assert row["probabilities"] == pytest.approx(named, abs=1e-5)
        assert list(row["probabilities"].values()) == sorted(row["probabilities"].values(), reverse=True)
    assert len(classifier_client.post("/predict", texts=["a"], top=1)[0]["probabilities"]) == 1
    assert len(classifier_client.post("/embed", texts=["a"])[0]) == 32


def test_a_recommender_recommends_as_python_does(small_recommender, recommender_client):
    model = package.load(small_recommender)
    items = recommender_client("GET", "/items?most=7").body["items"]
    assert len(items) == 7
    assert recommender_client("GET", f"/items?start={items[3]}").body["items"][0].startswith(items[3])
    sessions = [items[:3], [], ["never seen"], [items[0], "never seen", items[5]]]
    for seen in (False, True):
        found = recommender_client.post("/recommend", sessions=sessions, top=5, exclude_seen=seen)
        direct = model.recommend(sessions, top=5, exclude_seen=seen)
        for row, said in zip(found, direct, strict=True):
            assert [each["item"] for each in row["items"]] == [each["item"] for each in said]
            scores = [each["score"] for each in said]
            assert [each["probability"] for each in row["items"]] == pytest.approx(scores, abs=1e-5)
    assert [row["unknown"] for row in found] == [[], [], ["never seen"], ["never seen"]]
    vectors = recommender_client.post("/embed", sessions=sessions)
    assert len({len(vector) for vector in vectors}) == 1
    assert recommender_client.post("/recommend", sessions=[[12, 7]])[0]["unknown"] in ([], ["12"], ["7"], ["12", "7"])
    assert len(recommender_client.post("/recommend", sessions=[items], top=1000)[0]["items"]) > 100


@pytest.mark.parametrize("name", CASES)
def test_every_task_predicts_as_python_does(name, base, tmp_path):
    case = CASES[name]
    path = write(tmp_path / "rows.jsonl", case.rows(60, random.Random(0)))
    words = ["finetune", "--task", task_of(name), base, path, "--out", tmp_path / "run", *case.settings]
    assert main([str(word) for word in [*words, "train.max_steps=3", "train.precision=fp32"]]) == 0
    rows = [case.value(row) for row in case.rows(9, random.Random(1))]
    direct = package.load(tmp_path / "run").predictor
    columns, documents = [column.name for column in direct.columns], [direct.task.document(row) for row in rows]
    expected = [dict(zip(columns, said, strict=True)) for said in direct(documents)]
    with running(tmp_path / "run", max_batch=4) as client:
        operation = client.server.served.operations[0]
        assert operation.kind.name != "other", "serving.rows.kind_of has no line for this task"
        names = {"choices": ("text", "choices"), "question": ("question", "context")}.get(operation.kind.name)
        sent = [dict(zip(names, row, strict=True)) if names and isinstance(row, tuple) else row for row in rows]
        found = client.post("/predict", **{operation.kind.field: sent})
        assert client("GET", "/").status == 200
        wrong = client("POST", "/predict", {operation.kind.field: [17]})
    assert wrong.status == 422
    assert f"{operation.kind.field}[0]" in wrong.body["error"]
    for row, said in zip(found, expected, strict=True):
        assert {name: numbers(row[name]) for name in columns} == {name: numbers(said[name]) for name in columns}


def numbers(value):
    """A value whose numbers, written or not, are compared with room for another batch's rounding."""
    if isinstance(value, list | tuple):
        return [numbers(each) for each in value]
    if isinstance(value, dict):
        return {name: numbers(each) for name, each in value.items()}
    try:
        return pytest.approx(float(value), abs=1e-4) if value is not None else None
    except ValueError:
        return value


def test_every_task_has_a_kind_of_row():
    assert {task_of(name) for name in CASES} | {"next_item"} == set(TASKS)


def test_requests_at_once_get_their_own_results_in_order(pretrained):
    chance, encoder = random.Random(0), package.load(pretrained)
    words = ["the", "film", "was", "good", "bad", "plot", "house", "a", "and", "of"]
    requests = [
        [" ".join(chance.choices(words, k=chance.randrange(1, 25))) for _ in range(chance.randrange(1, 40))]
        for _ in range(40)
    ]
    with running(pretrained, max_batch=16, max_wait_ms=20) as client, ThreadPoolExecutor(12) as pool:
        paths = ["/embed" if place % 3 else "/detect" for place in range(len(requests))]
        answers = list(pool.map(lambda each: client.post(each[0], texts=each[1]), zip(paths, requests, strict=True)))
    for path, texts, found in zip(paths, requests, answers, strict=True):
        if path == "/embed":
            assert found == [pytest.approx(row, abs=1e-5) for row in encoder.encode(texts).tolist()]
        else:
            assert [[each["probability"] for each in row] for row in found] == [
                shares(row) for row in encoder.detect(texts)
            ]


def batched(jobs, **how):
    """Results of (key, rows) handed in at once, and the batches that were computed."""
    seen = []

    def compute(rows):
        seen.append(list(rows))
        time.sleep(0.01)
        if "bad" in rows:
            raise ValueError("a bad row")
        return [row * 2 for row in rows]

    async def ask():
        batcher = Batcher(**{"max_batch": 4, "max_wait": 0.05, "max_queue": 100} | how)
        batcher.start()
        try:
            calls = (batcher(key, compute, rows, timeout=5) for key, rows in jobs)
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            batcher.close()

    return asyncio.run(ask()), seen


def test_rows_of_one_key_are_gathered_and_none_overtakes():
    found, seen = batched([("a", ["1"]), ("b", ["2"]), ("a", ["3", "4"]), ("a", ["5", "6"]), ("b", ["7"])])
    assert found == [["11"], ["22"], ["33", "44"], ["55", "66"], ["77"]]
    assert seen == [["1", "3", "4"], ["2", "7"], ["5", "6"]]


def test_a_long_request_is_cut_and_no_batches_are_one_row_each():
    found, seen = batched([("a", list("123456789"))])
    assert found == [[each * 2 for each in "123456789"]]
    assert [len(each) for each in seen] == [4, 4, 1]
    assert all(len(each) == 1 for each in batched([("a", list("123")), ("a", ["4"])], max_batch=1)[1])


def test_a_bad_row_spoils_no_other_request():
    found, _ = batched([("a", ["1"]), ("a", ["bad"]), ("a", ["2"])])
    assert found[0] == ["11"]
    assert isinstance(found[1], ValueError)
    assert found[2] == ["22"]


def test_more_than_the_queue_has_room_for_is_refused():
    found, _ = batched([("a", list("1234")), ("a", list("567")), ("a", ["8"])], max_queue=5)
    assert isinstance(found[1], Overloaded)
    assert found[0] == ["11", "22", "33", "44"]
    assert found[2] == ["88"]


def test_what_nobody_waits_for_any_more_is_not_computed():
    async def ask():
        batcher, seen, gate = Batcher(max_batch=1, max_wait=0, max_queue=9), [], threading.Event()

        def compute(rows):
            gate.wait(5)
            seen.extend(rows)
            return rows

        batcher.start()
        found = await asyncio.gather(
            *(batcher("a", compute, [row], timeout=0.1) for row in "123"), return_exceptions=True
        )
        gate.set()
        batcher.close()
        return found, seen

    found, seen = asyncio.run(ask())
    assert all(isinstance(each, TimeoutError) for each in found)
    assert seen == ["1"]


def test_limits_are_kept_and_say_what_to_do(pretrained):
    with running(pretrained, max_texts=3, max_request_bytes=500, max_queue=3, timeout=0.5) as client:
        large = client("POST", "/embed", {"texts": ["x" * 600]})
        assert (large.status, "500 bytes" in large.body["error"]) == (413, True)
        many = client("POST", "/embed", {"texts": ["a"] * 4})
        assert (many.status, many.body["field"]) == (422, "texts")
        assert "at most 3" in many.body["error"]
        host, port = client.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(
                b"POST /embed HTTP/1.1\r\nhost: [::1]\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"
            )
            slow.settimeout(10)
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        with socket.create_connection((host, int(port))) as chunked:  # without a length, and without an end
            chunked.sendall(
                b"POST /embed HTTP/1.1\r\nhost: [::1]\r\ntransfer-encoding: chunked\r\n\r\n"
                + b"64\r\n"
                + b"x" * 100
                + b"\r\n"
            )
            chunked.sendall((b"64\r\n" + b"x" * 100 + b"\r\n") * 5)
            chunked.settimeout(10)
            assert chunked.recv(1000).startswith(b"HTTP/1.1 413")
        gate = threading.Event()
        detect = client.server.served.operations[0]
        object.__setattr__(detect, "run", lambda rows: gate.wait(5) and [[] for _ in rows])
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _: client("POST", "/detect", {"texts": ["a", "b"]}), range(6)))
            gate.set()
        assert {each.status for each in found} == {503, 504}
        refused = next(each for each in found if each.status == 503)
        assert refused.headers["retry-after"] == "1"
        assert client("POST", "/embed", {"texts": ["a"]}).status == 200


def test_another_name_than_this_machines_is_not_answered(pretrained):
    """A page of the web whose name is made to mean 127.0.0.1 has its own name in the header."""
    with running(pretrained, allow_hosts="models.example, other.example") as client:
        for host in ("127.0.0.1", "localhost:80", "[::1]:9", "Models.example:443", "other.example"):
            assert client("GET", "/health", headers={"host": host}).status == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "", "[", "evil.example:80"):
            found = client("GET", "/health", headers={"host": host})
            assert (found.status, "--allow-hosts" in found.body["error"]) == (421, True), host
    with running(pretrained, host="127.0.0.2", allow_hosts="models.example:8443") as client:
        for host, status in (("127.0.0.2", 200), ("models.example", 200), ("evil.example", 421)):
            assert client("GET", "/health", headers={"host": host}).status == status, host
    with running(pretrained, host="0.0.0.0") as client:
        assert client("GET", "/health", headers={"host": "anything.example"}).status == 200


def test_a_failure_inside_is_a_500_without_its_cause_and_the_server_goes_on(pretrained):
    with running(pretrained) as client:
        object.__setattr__(client.server.served.operations[0], "run", lambda rows: 1 / 0)
        found = client("POST", "/detect", {"texts": ["a"]})
        assert (found.status, "division" in str(found.body)) == (500, False)
        assert client("POST", "/embed", {"texts": ["a"]}).status == 200


def test_errors_are_one_sentence_that_names_the_field(classifier_client):
    wrong = {
        "texts: is missing": {},
        "text: is unknown. Did you mean texts? Allowed: texts, top": {"text": ["a"]},
        "texts[1]: should be a text": {"texts": ["a", 3]},
        "texts: should be a list": {"texts": "a"},
        "top: should be a whole number": {"texts": ["a"], "top": "3"},
        "texts[0]: has half a character (\\ud800), which is no text: remove it": {"texts": ["\ud800"]},
    }
    for said, body in wrong.items():
        found = classifier_client("POST", "/predict", body)
        assert found.status == 422
        assert found.body["error"].startswith(said)
        assert said.startswith(found.body["field"])
    assert classifier_client("POST", "/predict", b"{", JSON).status == 400
    assert classifier_client("POST", "/predict", b'{"texts": ["a"]}', {"content-type": "text/plain"}).status == 415
    assert "/predict" in classifier_client("GET", "/nothing").body["error"]
    assert classifier_client("GET", "/predict").status == 405


def test_health_and_pages(encoder_client, recommender_client):
    health = encoder_client("GET", "/health").body
    assert health["status"] == "ready"
    assert (health["run"], health["task"], health["operations"]) == ("pretrained", "pre-training", ["detect", "embed"])
    assert {"quorem", "torch", "python"} <= set(health["versions"])
    for client in (encoder_client, recommender_client):
        for path in ("/", "/docs"):
            page = client("GET", path)
            assert page.status == 200
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert '"FACTS"' not in page.body
            assert "http://" not in page.body
            assert "https://" not in page.body
    described = recommender_client("GET", "/openapi.json").body
    assert {"/recommend", "/embed", "/health", "/items"} == set(described["paths"])
    example = described["components"]["schemas"]["RecommendRequest"]["examples"][0]
    answer = described["components"]["schemas"]["RecommendResponse"]["examples"][0]
    assert recommender_client.post("/recommend", **example)[0]["items"] == answer["results"][0]["items"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_after_what_has_begun(tmp_path, pretrained, number):
    out, err = tmp_path / "out", tmp_path / "err"
    process = forked.start("serve", pretrained, "--port", "0", out=out, err=err)
    try:
        while not (out.exists() and "\n" in out.read_text()):
            time.sleep(0.01)
            assert process.is_alive(), err.read_text()
        port = int(re.search(r"at http://127\.0\.0\.1:(\d+): /", out.read_text())[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as begun:
            body = b'{"texts": ["a fine film"]}'
            head = "POST /detect HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            head += f"content-length: {len(body)}"
            begun.sendall(head.encode() + b"\r\n\r\n" + body[:5])
            time.sleep(0.2)
            os.kill(process.pid, number)
            time.sleep(0.2)
            begun.sendall(body[5:])
            assert begun.recv(1000).startswith(b"HTTP/1.1 200")
        process.join(20)
    finally:
        process.kill()  # a server that still runs would be waited for at the end of all tests
    assert (process.exitcode, out.read_text().splitlines()[1:]) == (0, ["stopped"])
    assert "Traceback" not in err.read_text()


def test_what_cannot_be_served_is_one_line(refused, pretrained, tmp_path):
    damaged = shutil.copytree(pretrained, tmp_path / "damaged") / "discriminator" / "model.safetensors"
    weights = load_file(damaged)
    save_file(
        {name: value * torch.nan if value.is_floating_point() else value for name, value in weights.items()}, damaged
    )
    said = refused("serve", tmp_path / "damaged", "--port", 0, after_log=True)
    assert "not finite" in said or "NaN" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}: another program listens there" in refused("serve", pretrained, "--port", port)
    assert "no pre-trained model there" in refused("serve", tmp_path, "--port", 0)
    assert "must be an address of this machine" in refused("serve", pretrained, "--host", "203.0.113.1")
    assert "--port=70000: a number" in refused("serve", pretrained, "--port", 70000)
    assert "--max-queue 5: --max-texts=256 or more" in refused("serve", pretrained, "--max-queue", 5)
