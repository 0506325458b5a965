"""`emerseg serve` without sockets: what it answers is what the command line writes, whoever asks beside it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from PIL import Image
from test_cli import emerseg

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from fusion.serve import service as service_module
from fusion.serve.app import create_app
from fusion.serve.guard import Access
from fusion.serve.limits import Limits
from fusion.serve.service import Service
from ground.images import limit_pixels

LABELS = "cat, grass, sky"
HOME = "http://127.0.0.1:8000"
TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def service(tiny_preset):
    service = Service(tiny_preset, limits=Limits(queue=8, max_megabytes=0.2, max_megapixels=0.02, timeout=60))
    yield service
    service.close()
    limit_pixels()


@pytest.fixture
def client(service):
    return TestClient(create_app(service), base_url=HOME)


def png(seed=0, size_hw=(48, 64), **settings):
    """Bytes of a PNG of blurred colours."""
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), np.uint8)
    pixels = cv2.resize(pixels, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **{"format": "PNG", **settings})
    return buffer.getvalue()


def written(tmp_path, preset, image, labels=LABELS, *options, suffix="png"):
    """What `emerseg segment` writes of one image: its output folder."""
    file, output = tmp_path / f"a.{suffix}", tmp_path / "out"
    file.write_bytes(image)
    assert emerseg("segment", file, "--labels", labels, "--output", output, "--preset", preset, "-q", *options) == 0
    return output


def of_folder(output):
    return json.loads((output / "instances.json").read_text()), json.loads((output / "results.json").read_text())


def assert_same(answer, output):
    """The answer is what the folder's files say, in the same order and to the last digit."""
    instances, results = of_folder(output)
    assert {key: answer[key] for key in instances} == instances
    assert json.dumps(answer["annotations"]) == json.dumps(instances["annotations"])
    assert answer["results"] == results and instances["annotations"]


def post(client, image, labels=LABELS, path="/v1/segment", headers=None, **fields):
    data = {"labels": labels, **fields} if labels is not None else fields
    return client.post(path, files={"image": ("a.png", image)}, data=data, headers=headers)


def segment(client, image, labels=LABELS, **fields):
    response = post(client, image, labels, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def assert_refused(response, status, message, code=None):
    """A status, and one line that says what is wrong."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["success"] is False and re.search(message, body["error"]["message"]), body
    assert "\n" not in body["error"]["message"] and "Traceback" not in response.text
    assert code in (None, body["error"]["code"])


@contextmanager
def held(service, monkeypatch):
    """While this lasts, the worker does not get on with the request in hand, and notes which ones it begins."""
    entered, end, begun = threading.Event(), threading.Event(), []
    inner = service_module.decode_image

    def slow(data):
        begun.append(data)
        entered.set()
        end.wait(60)
        return inner(data)

    monkeypatch.setattr(service_module, "decode_image", slow)
    try:
        yield entered, end, begun
    finally:
        end.set()


def test_an_image_is_what_the_command_line_makes_of_it(client, tiny_preset, tmp_path):
    answer = segment(client, png())
    assert_same(answer, written(tmp_path, tiny_preset, png()))
    assert re.fullmatch("[0-9a-f]{64}", answer["mask_token"]) and answer["absent"] == []


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"masks": "naive", "seed": "3"}, ["--masks", "naive", "--seed", 3]),
        ({"masks": "none"}, ["--masks", "none"]),
        ({"masks": "slic", "clusters": "5", "min_area": "40"}, ["--masks", "slic", "--clusters", 5, "--min-area", 40]),
        ({"speed": "fast", "fuse": "embedding"}, ["--speed", "fast", "--fuse", "embedding"]),
        ({"background": "wall"}, ["--background", "wall"]),
        ({"fuse": "auto"}, ["--fuse", "auto"]),
        ({"speed": "instant", "min_score": "0.3"}, ["--speed", "instant", "--min-score", 0.3]),
    ],
)
def test_settings_are_those_of_the_command_line(client, tiny_preset, tmp_path, fields, options):
    assert_same(segment(client, png(1), **fields), written(tmp_path, tiny_preset, png(1), LABELS, *options))


def test_json_says_the_same_as_a_form(client, tiny_preset, tmp_path):
    labels = [{"name": "cat", "synonyms": ["puss"]}, "grass [stuff]", {"name": "sky", "color": "#102030"}]
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(labels))
    turned = Image.Exif()
    turned[0x0112] = 6
    image = png(2, format="JPEG", exif=turned)
    output = written(tmp_path, tiny_preset, image, file, "--min-margin", 0.01, suffix="jpg")
    body = {"labels": labels, "min_margin": 0.01, "file_name": "C:\\photos\\a.jpg", "seed": None}
    for text in (base64.b64encode(image).decode(), f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"):
        answer = client.post("/v1/segment", json={"image": text, **body}).json()
        assert_same(answer, output)
    assert (answer["images"][0]["height"], answer["images"][0]["width"]) == (64, 48)
    form = segment(client, image, json.dumps(labels), min_margin="0.01", file_name="/photos/a.jpg")
    assert form == answer


@pytest.mark.parametrize(
    ("output", "kind"), [("semantic", "semantic"), ("overlay", "overlays"), ("panoptic", "panoptic")]
)
def test_images_are_the_bytes_that_the_command_line_writes(client, tiny_preset, tmp_path, output, kind):
    response = post(client, png(), path=f"/v1/segment?output={output}")
    assert response.headers["content-type"] == "image/png" and len(response.headers["x-mask-token"]) == 64
    assert response.content == (written(tmp_path, tiny_preset, png()) / kind / "a.png").read_bytes()


@pytest.mark.parametrize("masks", ["emerdiff", "none"])
def test_relabelling_is_that_of_the_command_line_and_runs_no_diffusion(
    client, service, tiny_preset, tmp_path, masks, monkeypatch
):
    token = segment(client, png(5), masks=masks, seed="1")["mask_token"]
    output = written(tmp_path, tiny_preset, png(5), LABELS, "--masks", masks, "--seed", 1)
    assert emerseg("relabel", output, "--labels", "dog, sea, lawn", "--fuse", "embedding", "-q") == 0
    monkeypatch.setattr(type(service._emerdiff), "segment", None)
    fields = {"mask_token": token, "labels": "dog, sea, lawn", "fuse": "embedding", "file_name": "a.png"}
    answer = client.post("/v1/relabel", json=fields)
    assert_same(answer.json(), output)
    assert answer.json()["mask_token"] == token
    overlay = client.post("/v1/relabel?output=overlay", data={**fields})
    assert_refused(overlay, 415, "Content-Type is 'application/x-www-form-urlencoded'")
    overlay = client.post("/v1/relabel?output=overlay", data=fields, files={"x": ("", b"")})
    assert_refused(overlay, 422, "unknown field 'x'")
    overlay = client.post("/v1/relabel?output=overlay", json=fields)
    assert overlay.content == (output / "overlays" / "a.png").read_bytes()


def test_an_image_that_was_seen_is_not_segmented_again(client, service, monkeypatch):
    first = segment(client, png(6))
    monkeypatch.setattr(type(service._emerdiff), "segment", None)
    again = segment(client, png(6), "dog, sea")
    assert again["mask_token"] == first["mask_token"]
    assert segment(client, png(6)) == first


def test_tokens_go_with_the_image_and_with_what_decides_its_masks(client):
    tokens = {segment(client, png(7), **fields)["mask_token"] for fields in ({}, {"seed": "1"}, {"speed": "instant"})}
    tokens.add(segment(client, png(8))["mask_token"])
    assert len(tokens) == 4
    assert segment(client, png(7), "dog", fuse="embedding", seed="1")["mask_token"] in tokens


def test_masks_that_do_not_fit_have_no_token(tiny_preset):
    small = Service(tiny_preset, masks="grid", limits=Limits(cache_megabytes=0.001))
    answer = segment(TestClient(create_app(small), base_url=HOME), png())
    assert answer["mask_token"] is None and small.cached == (0, 0)
    small.close()


def test_eight_clients_at_once_get_what_is_theirs(service, tiny_preset, tmp_path):
    sources = ["emerdiff", "grid", "naive", "slic"] * 2
    cases = [(png(20 + number), f"cat, label {'abcdefgh'[number]}, sky") for number in range(8)]
    expected = []
    for number, (image, labels) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        options = ["--masks", sources[number]]
        expected.append(written(tmp_path / str(number), tiny_preset, image, labels, *options))

    def ask(number):
        client = TestClient(create_app(service), base_url=HOME)
        first = segment(client, *cases[number], masks=sources[number])
        fields = {"mask_token": first["mask_token"], "labels": cases[number][1], "file_name": "a.png"}
        return [
            first,
            client.post("/v1/relabel", json=fields).json(),
            segment(client, *cases[number], masks=sources[number]),
        ]

    with ThreadPoolExecutor(8) as pool:
        for answers, output in zip(pool.map(ask, range(8)), expected, strict=True):
            for answer in answers:
                assert_same(answer, output)
    assert service.line.state.waiting == ()


def test_a_full_queue_is_429_and_health_says_who_waits(tiny_preset, monkeypatch):
    service = Service(tiny_preset, masks="grid", limits=Limits(queue=2))
    client = TestClient(create_app(service), base_url=HOME)
    with held(service, monkeypatch) as (entered, end, _), ThreadPoolExecutor(4) as pool:
        names = [{"X-Request-Id": f"request-{number}"} for number in range(3)]
        answers = [pool.submit(post, client, png(), headers=names[0])]
        assert entered.wait(30)
        for number in (1, 2):
            answers.append(pool.submit(post, client, png(), headers=names[number]))
            while len(client.get("/health").json()["queue"]["requests"]) < number:
                pass
        queue = client.get("/health").json()["queue"]
        assert (queue["limit"], queue["busy"], queue["waiting"]) == (2, True, 2)
        places = [(request["id"], request["position"]) for request in queue["requests"]]
        assert places == [("request-1", 1), ("request-2", 2)]
        refused = post(client, png())
        assert_refused(refused, 429, r"the queue is full \(2 requests wait\)", "QUEUE_FULL")
        assert int(refused.headers["retry-after"]) >= 1
        end.set()
        assert [answer.result(30).status_code for answer in answers] == [200] * 3
        assert answers[1].result().headers["x-request-id"] == "request-1"
    assert client.get("/health").json()["queue"] == {
        "limit": 2,
        "busy": False,
        "waiting": 0,
        "done": 3,
        "requests": [],
    }
    service.close()
    assert_refused(post(client, png()), 503, "shutting down")


def body_of(image):
    return json.dumps({"image": base64.b64encode(image).decode(), "labels": "cat"}).encode()


async def ask(app, receive):
    """One request of ASGI, whose client is `receive`; what was sent."""
    sent = []
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/segment", "raw_path": b"/v1/segment", "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "server": None, "client": None}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_a_client_that_goes_leaves_the_queue(tiny_preset, monkeypatch):
    service = Service(tiny_preset, masks="grid", limits=Limits(queue=2))
    app = create_app(service)

    def leaving(image):
        messages = iter([{"type": "http.request", "body": body_of(image)}])

        async def receive():
            message = next(messages, None)
            while message is None and not service.line.state.waiting:
                await asyncio.sleep(0.01)
            return message or {"type": "http.disconnect"}

        return receive

    with held(service, monkeypatch) as (entered, end, begun), ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, TestClient(app, base_url=HOME), png(1))
        assert entered.wait(30)
        asyncio.run(ask(app, leaving(png(2))))
        assert service.line.state.waiting == ()
        end.set()
        assert first.result(30).status_code == 200
    service.close()
    assert begun == [png(1)]


def test_time_out(tiny_preset, monkeypatch):
    service = Service(tiny_preset, masks="grid", limits=Limits(timeout=0.2))
    client = TestClient(create_app(service), base_url=HOME)
    with held(service, monkeypatch) as (_, end, begun):
        assert_refused(post(client, png(1)), 504, "no answer within 0.2 s", "TIMEOUT")  # in hand
        assert_refused(post(client, png(2)), 504, "no answer within 0.2 s")  # it never began
        assert service.line.state.waiting == ()
        end.set()
        service.close()
    assert begun == [png(1)]

    async def silent():
        await asyncio.sleep(60)

    slow = Service(tiny_preset, masks="grid", limits=Limits(timeout=0.2))
    sent = asyncio.run(ask(create_app(slow), silent))
    assert sent[0]["status"] == 504
    slow.close()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"no image", "image: not an image"),
        (png()[:300], "image: cannot be decoded"),
        (png(size_hw=(200, 200)), "image: too large: .* limit_pixels"),
    ],
)
def test_images_that_cannot_be_read(client, image, message):
    assert_refused(post(client, image), 422, message, "INVALID_IMAGE")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ""}, "no labels"),
        ({"labels": "cat, cat"}, "names given more than once: 'cat'"),
        ({"labels": "[1]"}, "labels 1: name is 1, expected text"),
        ({"labels": '[{"name": "cat", "path": "x"}]'}, "labels 1: unknown key 'path'"),
        ({"labels": "[" * 5000}, "labels begins as a list of JSON and is none"),
        ({"background": "sky"}, "background label 1"),
        ({"labels": ",".join(map(str, range(501)))}, "501 names of labels"),
        ({"labels": "x" * 201}, "a name of 201 letters"),
        ({"masks": "sam"}, "masks is 'sam', expected one of emerdiff, naive"),
        ({"speed": "slow"}, "emerdiff.speed is 'slow', expected one of exact, fast, instant"),
        ({"fuse": "vote"}, "fusion.fuse is 'vote'"),
        ({"min_score": "2"}, r"fusion.min_score is 2.0, expected a number from 0 to 1"),
        ({"min_margin": "nan"}, "fusion.min_margin is nan"),
        ({"min_margin": "low"}, "min_margin is 'low', expected a number"),
        ({"seed": "-1"}, "seed is '-1', expected a whole number"),
        ({"seed": "1" * 18}, "seed is 1+, expected a whole number from 0 to"),
        ({"clusters": "101"}, "clusters is 101, expected 100 at most"),
        ({"clusters": "0"}, "emerdiff.clusters is 0"),
        ({"min_area": "1" * 18}, "min_area is more than 0.02 megapixels"),
        ({"preset": "/etc/passwd"}, "unknown field 'preset'; known: image, file_name, labels"),
        ({"set": "ovseg.templates=/etc/passwd"}, "unknown field 'set'"),
    ],
)
def test_wrong_fields_are_one_line(client, fields, message):
    assert_refused(post(client, png(), **{"labels": LABELS, **fields}), 422, message, "INVALID_REQUEST")


def test_wrong_requests(client):
    assert_refused(
        client.post("/v1/segment", data={"labels": LABELS}, files={"a": ("", b"")}), 422, "unknown field 'a'"
    )
    assert_refused(client.post("/v1/segment", json={"labels": LABELS}), 422, "no image")
    assert_refused(client.post("/v1/segment", json={"image": "§", "labels": LABELS}), 422, "image is no base64")
    assert_refused(client.post("/v1/segment", json={"image": 7, "labels": LABELS}), 422, "image is 7")
    assert_refused(client.post("/v1/segment", json=[]), 422, "the body is list, expected an object")
    for labels in (["a"] * 10_001, [{"name": 7}], 7, [[]]):
        body = {"image": base64.b64encode(png()).decode(), "labels": labels}
        assert_refused(client.post("/v1/segment", json=body), 422, "labels")
    for number in (f"1{'0' * 5000}", "1e999", "NaN", "true", '""'):
        body = f'{{"image": "", "labels": "cat", "min_score": {number}}}'.encode()
        kind = {"content-type": "application/json"}
        assert client.post("/v1/segment", content=body, headers=kind).status_code == 422
    kind = {"content-type": "application/json"}
    assert_refused(client.post("/v1/segment", content=b"{", headers=kind), 422, "the body is no JSON")
    assert_refused(client.post("/v1/segment", content=b"[" * 99999, headers=kind), 422, "the body is no JSON")
    assert_refused(client.post("/v1/segment", content=b"x"), 415, "expected multipart/form-data or application/json")
    multipart = {"content-type": "multipart/form-data"}
    assert_refused(client.post("/v1/segment", content=b"x", headers=multipart), 422, "boundary")
    assert_refused(
        client.post("/v1/segment", content=b"x", headers={"content-type": multipart["content-type"] + "; boundary=b"}),
        422,
        ".",
    )
    two = [("image", ("a.png", png())), ("image", ("b.png", png()))]
    assert_refused(client.post("/v1/segment", files=two, data={"labels": LABELS}), 422, "Too many files")
    assert_refused(post(client, png(), path="/v1/segment?output=svg"), 422, "output is 'svg', expected one of coco")
    assert_refused(client.get("/v1/segment"), 405, "Method Not Allowed")
    assert_refused(client.get("/v1/nothing"), 404, "Not Found")
    for token in ("", "0" * 64, "../../etc/passwd"):
        relabelled = client.post("/v1/relabel", json={"mask_token": token, "labels": "cat"})
        assert_refused(relabelled, 404, "no masks are kept under this mask_token", "UNKNOWN_MASK_TOKEN")
    assert_refused(
        client.post("/v1/relabel", json={"mask_token": "0", "labels": "cat", "speed": "fast"}),
        422,
        "unknown field 'speed'",
    )


def test_long_bodies_are_refused_whatever_their_header_says(client):
    large = b"x" * 200_001
    assert_refused(post(client, large), 413, r"more than 0.2 MB", "TOO_LARGE")
    assert_refused(client.post("/v1/segment", content=large), 413, "more than 0.2 MB")

    def chunks():
        for _ in range(3):
            yield b"x" * 100_000

    kind = {"content-type": "application/json"}
    assert_refused(client.post("/v1/segment", content=chunks(), headers=kind), 413, "more than 0.2 MB")


def test_no_name_of_a_request_leads_to_a_file(client, tmp_path, monkeypatch):
    secret = tmp_path / "secret.txt"
    secret.write_text("cat\ngrass\n")
    monkeypatch.chdir(tmp_path)
    for name in ("../../etc/passwd", "/etc/passwd", "..\\..\\boot.ini", "..", "", "a\0b/../c.png"):
        answer = client.post(
            "/v1/segment", json={"image": base64.b64encode(png()).decode(), "labels": "cat", "file_name": name}
        ).json()
        assert answer["images"][0]["file_name"] in ("passwd", "boot.ini", "image", "c.png")
    for labels in ("secret.txt", str(secret), "@secret.txt"):
        answer = segment(client, png(), labels)
        assert [category["name"] for category in answer["categories"]] == [labels]
    assert [path.name for path in tmp_path.iterdir()] == ["secret.txt"]


def test_what_fails_in_the_server_stays_in_its_log(client, monkeypatch, caplog):
    def broken(data):
        raise RuntimeError("/a/path/of/the/server")

    monkeypatch.setattr(service_module, "decode_image", broken)
    response = post(client, png())
    assert_refused(response, 500, "the server failed: its log says why", "INFERENCE_ERROR")
    assert "/a/path" not in response.text and "/a/path/of/the/server" in caplog.text


@pytest.fixture
def guarded(service):
    app = create_app(service, Access("0.0.0.0", TOKEN, ("https://labels.example.org",)))
    return TestClient(app, base_url="http://server.example.org")


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {TOKEN}"}, {"authorization": f"bearer {TOKEN}"}, {"Token": TOKEN}]
)
def test_with_the_token(guarded, headers):
    assert guarded.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Token": ""},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Token": TOKEN[:-1]},
        {"Token": "ü".encode()},
    ],
)
def test_without_the_token(guarded, headers):
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/segment"), ("POST", "/v1/predict"), ("GET", "/other")):
        response = guarded.request(method, path, headers=headers)
        assert_refused(response, 401, "no or wrong token", "UNAUTHORIZED")
        assert response.headers["www-authenticate"] == "Bearer"
    assert [guarded.get(path, headers=headers).status_code for path in ("/health", "/docs", "/openapi.json")] == [
        200
    ] * 3


@pytest.mark.parametrize(
    ("access", "message"),
    [
        ({"host": "0.0.0.0"}, "host is '0.0.0.0', which others can reach: give a token"),
        ({"host": "::"}, "give a token"),
        ({"host": "server.example.org"}, "give a token"),
        ({"host": "0.0.0.0", "token": ""}, "the token is empty"),
        ({"token": "two words"}, "the token is empty or has signs other"),
        ({"origins": ("*",)}, r"origin is '\*'"),
    ],
)
def test_others_need_a_token(access, message):
    with pytest.raises(ValueError, match=message):
        Access(**access)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example.org", "evil.example.org:8000", "127.0.0.1.example.org", "", "[::1", "0.0.0.0"]
)
def test_other_names_that_lead_here_are_refused(client, host):
    assert_refused(
        client.get("/health", headers={"Host": host}), 403, "expected a name of this machine", "FORBIDDEN_HOST"
    )


def test_pages_of_other_sites_may_not_ask(client, guarded):
    for origin in ("https://evil.example.org", "null", "http://127.0.0.1:9999"):
        assert_refused(post(client, png(), headers={"Origin": origin}), 403, "may not use this server")
    assert client.get("/v1/models", headers={"Origin": HOME}).status_code == 200
    assert "access-control-allow-origin" not in client.get("/health", headers={"Origin": HOME}).headers
    allowed = {"Origin": "https://labels.example.org", "Token": TOKEN}
    answer = guarded.get("/v1/models", headers=allowed)
    assert answer.headers["access-control-allow-origin"] == "https://labels.example.org"
    asked = guarded.options("/v1/segment", headers={**allowed, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 200


def test_health_and_the_shutdown(tiny_preset):
    service = Service(tiny_preset, masks="none")
    with TestClient(create_app(service), base_url=HOME) as client:
        health = client.get("/health").json()
        assert health["status"] == "healthy" and health["uptime_seconds"] >= 0
        assert health["cache"] == {"images": 0, "megabytes": 0.0, "limit": 512.0}
        assert_refused(
            post(client, png(), masks="emerdiff"), 422, "expected one of slic, grid, none: no diffusion model"
        )
        segment(client, png())
        assert client.get("/health").json()["cache"]["images"] == 1
    assert not service.line._thread.is_alive()


def test_the_page_lists_all_that_openapi_does_and_asks_no_other_server(client):
    openapi = client.get("/openapi.json").json()
    assert {"/v1/segment", "/v1/relabel", "/v1/models", "/v1/predict", "/health"} <= set(openapi["paths"])
    form = openapi["paths"]["/v1/segment"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["image"]["format"] == "binary" and form["required"] == ["image"]
    for path in ("/", "/docs"):
        text = client.get(path).text
        assert all(f"{path}</code>" in text for path in openapi["paths"])
        assert "http" not in re.sub(r"http://127\.0\.0\.1:8000", "", text) and "<script" not in text


def test_labels_of_the_server_are_those_of_requests_without(tiny_preset, tmp_path):
    service = Service(tiny_preset, ["cat", "wall"], ["sky", "dog"], masks="grid")
    client = TestClient(create_app(service), base_url=HOME)
    output = written(tmp_path, tiny_preset, png(), "cat, wall", "--background", "sky, dog", "--masks", "grid")
    assert_same(segment(client, png(), None), output)
    own = segment(client, png(), "dog, cat")
    (tmp_path / "other").mkdir()
    output = written(tmp_path / "other", tiny_preset, png(), "dog, cat", "--background", "sky", "--masks", "grid")
    assert_same(own, output)
    assert client.get("/v1/models").json()["data"]["tiny"]["background"] == ["sky", "dog"]
    assert segment(client, png(), "dog, cat", background="")["categories"] == own["categories"]
    service.close()


def test_usual_surroundings_are_those_beside_the_labels_of_the_request(tiny_preset, tmp_path):
    service = Service(tiny_preset, background=["auto", "hand"], masks="grid")
    client = TestClient(create_app(service), base_url=HOME)
    options = ["--masks", "grid", "--background"]
    for number, (labels, background) in enumerate([("cat, sky", "auto, hand"), ("hand, wet grass", "auto")]):
        (tmp_path / str(number)).mkdir()
        instances, _ = of_folder(written(tmp_path / str(number), tiny_preset, png(9), labels, *options, background))
        assert segment(client, png(9), labels)["annotations"] == instances["annotations"]
    with pytest.raises(ValueError, match="background label 1"):
        Service(tiny_preset, ["cat"], ["cat"], masks="grid")
    service.close()
