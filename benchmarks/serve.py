"""`emerseg serve` under load: clients at once, every answer compared with the command line's, memory before and after.

    python -m benchmarks.serve [--preset tiny] [--seconds 60] [--clients 8] [--queue 4] [--cases 8] [--side 96]

First `emerseg segment` does toy scenes with labels that differ for each of them. Then the server, a process of its own
on 127.0.0.1, is asked by `--clients` threads, each for one case after the other: /v1/segment, /v1/relabel on the masks
of that answer, and /v1/predict now and then. A client that gets 429 waits as long as Retry-After says, a second at
most. All the while /health is asked whether more wait than may. At the end Ctrl-C is sent while requests are under
way: the one in hand must be answered. Ends with an error on an answer that differs, on another status, and on a queue
that is longer than it may be. `tiny` is the preset of random models that the tests have. Run it from the root of the
repository.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from toyworld import KINDS, scene

EMERSEG = (sys.executable, "-c", "from fusion.cli import main; main()")
FIRST_SEED = 1_000_000
LABELS_OF_A_CASE = 5
WARM_UP = 0.2  # of the time, before memory is measured for the first time
TOKEN = "of-the-benchmark"


@dataclass(frozen=True)
class Case:
    """An image with its labels, and what the command line makes of them."""

    image: bytes
    labels: str
    instances: dict[str, Any]
    results: list[Any]


@dataclass
class Tally:
    """What the clients saw; each of them has one."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of answered requests
    faults: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--queue", type=int, default=4)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--side", type=int, default=96, help="px of the square images")
    parser.add_argument("--cache-megabytes", type=float, default=0.3, help="so small that masks are forgotten, too")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        soak(Path(temporary), arguments)


def soak(folder: Path, arguments: argparse.Namespace) -> None:
    preset = tiny_preset(folder) if arguments.preset == "tiny" else arguments.preset
    threads = ("--threads", str(arguments.threads))
    cases = [case(folder / str(number), number, preset, arguments.side, threads) for number in range(arguments.cases)]
    settings = ("--queue", str(arguments.queue), "--cache-megabytes", str(arguments.cache_megabytes), "--port", "0")
    server, url = begin(preset, *settings, *threads)
    try:
        tallies, memory, longest = load(url, server.pid, cases, arguments)
        ended = interrupt(url, server, cases)
    finally:
        server.kill()
    report(tallies, memory, longest, ended, arguments)


def tiny_preset(folder: Path) -> str:
    sys.path.insert(0, "tests")
    from tiny_fusion import save_preset

    return str(save_preset(folder / "tiny"))


def case(folder: Path, number: int, preset: str, side: int, threads: tuple[str, ...]) -> Case:
    """A toy scene with labels of its own, through `emerseg segment`."""
    folder.mkdir()
    file = folder / "a.png"
    Image.fromarray(scene(FIRST_SEED + number).image).resize((side, side)).save(file)
    labels = ", ".join(random.Random(number).sample(sorted(KINDS), LABELS_OF_A_CASE))
    command = (*EMERSEG, "segment", file, "--labels", labels, "--output", folder / "out", "--preset", preset, "-q")
    subprocess.run([*command, *threads], check=True)
    instances, results = (
        json.loads((folder / "out" / name).read_text()) for name in ("instances.json", "results.json")
    )
    return Case(file.read_bytes(), labels, instances, results)


def begin(preset: str, *settings: str) -> tuple[subprocess.Popen[str], str]:
    """The server and its URL."""
    command = [*EMERSEG, "serve", "--preset", preset, "--token", TOKEN, *settings]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if match := re.search(r"at (http://\S+);", line):
            threading.Thread(target=lambda: list(server.stderr or ()), daemon=True).start()
            wait_for(match[1])
            return server, match[1]
    raise SystemExit("the server did not begin")


def wait_for(url: str) -> None:
    for _ in range(100):
        try:
            httpx.get(f"{url}/health").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise SystemExit(f"no answer from {url}")


def load(
    url: str, process: int, cases: list[Case], arguments: argparse.Namespace
) -> tuple[list[Tally], tuple[float, float, float], int]:
    """What the clients saw; memory (MB) after the warm-up, at most, and at the end; how many waited at most."""
    ends = time.monotonic() + arguments.seconds
    tallies = [Tally() for _ in range(arguments.clients)]
    clients = [
        threading.Thread(target=ask_on, args=(url, cases, number, ends, tally)) for number, tally in enumerate(tallies)
    ]
    for client in clients:
        client.start()
    warm, most, longest = 0.0, 0.0, 0
    with httpx.Client(timeout=30) as client:
        while time.monotonic() < ends:
            queue = client.get(f"{url}/health").json()["queue"]
            assert queue["waiting"] == len(queue["requests"]) <= queue["limit"] == arguments.queue, queue
            longest = max(longest, queue["waiting"])
            if ends - time.monotonic() < arguments.seconds * (1 - WARM_UP):
                warm = warm or resident(process)
                most = max(most, resident(process))
            time.sleep(0.25)
    for thread in clients:
        thread.join()
    return tallies, (warm, most, resident(process)), longest


def ask_on(url: str, cases: list[Case], number: int, ends: float, tally: Tally) -> None:
    """A client: one case after the other, beginning with its own."""
    with httpx.Client(base_url=url, timeout=120, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        for turn in range(number, sys.maxsize):
            one = cases[turn % len(cases)]
            if time.monotonic() >= ends:
                return
            form = {"files": {"image": ("a.png", one.image)}, "data": {"labels": one.labels}}
            token = check(answered(client, "/v1/segment", tally, **form), one, tally)
            if token:
                body = {"mask_token": token, "labels": one.labels, "file_name": "a.png"}
                check(answered(client, "/v1/relabel", tally, json=body), one, tally)
            if turn % 5 == 0:
                check_shapes(answered(client, "/v1/predict", tally, json=predict_body(client, one)), one, tally)


def answered(client: httpx.Client, path: str, tally: Tally, **request: Any) -> httpx.Response | None:
    """One request; None, after a pause, if the queue was full, or if masks were forgotten."""
    start = time.monotonic()
    response = client.post(path, **request)
    tally.statuses[f"{path} {response.status_code}"] += 1
    if response.status_code == 429:
        time.sleep(min(1.0, int(response.headers["retry-after"])))
        return None
    if response.status_code == 404 and path == "/v1/relabel":
        return None
    if response.status_code != 200:
        tally.faults.append(f"{path}: {response.status_code} {response.text[:200]}")
        return None
    tally.seconds.append(time.monotonic() - start)
    return response


def check(response: httpx.Response | None, one: Case, tally: Tally) -> str | None:
    """The token of an answer, which must be the command line's."""
    if response is None:
        return None
    answer = response.json()
    if {key: answer[key] for key in one.instances} != one.instances or answer["results"] != one.results:
        tally.faults.append(f"{response.url.path}: another answer for {one.labels}")
    return answer["mask_token"]


def predict_body(client: httpx.Client, one: Case) -> dict[str, Any]:
    (model,) = client.get("/v1/models").json()["data"]
    image = base64.b64encode(one.image).decode()
    return {"model": model, "image": image, "params": {"text_prompt": one.labels, "conf_threshold": 0.0}}


def check_shapes(response: httpx.Response | None, one: Case, tally: Tally) -> None:
    """Polygons have the labels and the scores of the command line's regions."""
    if response is None:
        return
    names = {category["id"]: category["name"] for category in one.instances["categories"]}
    expected = {(names[entry["category_id"]], entry["score"]) for entry in one.results}
    if not {(shape["label"], shape["score"]) for shape in response.json()["data"]["shapes"]} <= expected:
        tally.faults.append(f"/v1/predict: other shapes for {one.labels}")


def interrupt(url: str, server: subprocess.Popen[str], cases: list[Case]) -> Counter[int]:
    """Ctrl-C while requests are under way: what they were answered. The one in hand must be well."""
    statuses: Counter[int] = Counter()

    def ask() -> None:
        form = {"files": {"image": ("a.png", cases[0].image)}, "data": {"labels": cases[0].labels, "seed": "7"}}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        statuses[httpx.post(f"{url}/v1/segment", timeout=120, headers=headers, **form).status_code] += 1

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    while not httpx.get(f"{url}/health").json()["queue"]["waiting"]:
        time.sleep(0.001)
    server.send_signal(signal.SIGINT)
    for client in clients:
        client.join()
    code = server.wait(timeout=120)
    assert code == 0, f"exit code {code} after Ctrl-C"
    assert statuses[200] >= 1 and statuses.total() == statuses[200] + statuses[503] == len(clients), statuses
    return statuses


def resident(process: int) -> float:
    """MB of memory that a process has."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3  # type: ignore[index]


def report(
    tallies: list[Tally],
    memory: tuple[float, float, float],
    longest: int,
    ended: Counter[int],
    arguments: argparse.Namespace,
) -> None:
    statuses: Counter[str] = sum((tally.statuses for tally in tallies), Counter())
    seconds = sorted(second for tally in tallies for second in tally.seconds)
    faults = [fault for tally in tallies for fault in tally.faults]
    print(f"preset {arguments.preset}, {arguments.clients} clients for {arguments.seconds:g} s, {arguments.side} px")
    for status, count in sorted(statuses.items()):
        print(f"{status}: {count}")
    print(f"answered: {len(seconds)}, {len(seconds) / arguments.seconds:.2f} a second")
    print(f"seconds of an answer: median {statistics.median(seconds):.2f}, longest {seconds[-1]:.2f}")
    print(f"at most {longest} waited, of {arguments.queue} that may")
    print(
        "memory of the server after a fifth of the time, at most, at the end: {:.0f}, {:.0f}, {:.0f} MB".format(*memory)
    )
    print(f"Ctrl-C with three requests under way: {dict(ended)}")
    print(f"wrong answers and other statuses: {len(faults)}")
    if faults:
        raise SystemExit("\n".join(faults[:10]))


if __name__ == "__main__":
    main()
