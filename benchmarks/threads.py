"""How long the UNet takes with one thread, and with more that wait in different ways: alone and beside a busy process.

    python -m benchmarks.threads [--rounds 5] [--preset mini] [--side 384]

OpenMP's threads turn in circles for a while before they sleep, each on a processor that the other may be waiting for.
How long is `GOMP_SPINCOUNT`, in rounds, read when torch is loaded: so every way has a process of its own, and all of
them take each call in turn, so that a drift of the machine's speed falls out of the ratios. A call is one of the UNet
for an image of `--side` px, with one latent and with `--batch`; busy is one other process that computes all the time.
Seconds are the least of the rounds where the machine should be quiet, and the median where it is busy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median

from fusion.cli.threads import WAITING

ONE = "1 thread"
WAYS: dict[str, dict[str, str]] = {
    ONE: {"OMP_NUM_THREADS": "1"},
    "as OpenMP waits": {},
    **{f"spin {count}": {"GOMP_SPINCOUNT": str(count)} for count in (0, 100, 3000, 10000)},
    "as the command line sets it": WAITING,
}
# What a process of one way runs: a line in is the number of latents, a line out are the seconds of a call.
SERVED = """
import sys, time, torch
from emerdiff import EmerDiff
model = EmerDiff.from_preset(sys.argv[1], device="cpu").backbone
side = int(sys.argv[2]) // 2 ** (len(model.vae.config.block_out_channels) - 1)
for line in sys.stdin:
    with torch.inference_mode():
        latents = torch.zeros(int(line), model.unet.config.in_channels, side, side)
        start = time.perf_counter()
        model.predict(latents, 1)
        print(time.perf_counter() - start, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--side", type=int, default=384, help="px")
    parser.add_argument("--batch", type=int, default=16, help="latents of the larger call")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", help="comma-separated, beside one thread; default: all")
    arguments = parser.parse_args()
    chosen = [ONE, *arguments.ways.split(",")] if arguments.ways else list(WAYS)
    with ExitStack() as stack:
        served = {way: stack.enter_context(_served(WAYS[way], arguments.preset, arguments.side)) for way in chosen}
        quiet = _seconds(served, (1, arguments.batch), arguments.rounds)
        with _busy():
            busy = _seconds(served, (1, arguments.batch), arguments.rounds)
    columns = [
        *({way: min(times) for way, times in quiet[count].items()} for count in quiet),
        *({way: median(times) for way, times in busy[count].items()} for count in busy),
    ]
    print(_table(chosen, [f"{state} x{count}" for state in ("quiet", "busy") for count in quiet], columns))


@contextmanager
def _served(settings: dict[str, str], preset: str, side: int) -> Iterator[subprocess.Popen[str]]:
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVED, preset, str(side)],
        env={**unset, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def _busy() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _seconds(
    served: dict[str, subprocess.Popen[str]], counts: Sequence[int], rounds: int
) -> dict[int, dict[str, list[float]]]:
    """By the number of latents and the way; a first round, which warms up, is left out."""
    seconds: dict[int, dict[str, list[float]]] = {count: {way: [] for way in served} for count in counts}
    for number in range(rounds + 1):
        for count in counts:
            for way, process in served.items():
                taken = _call(process, count)
                if number:
                    seconds[count][way].append(taken)
    return seconds


def _call(process: subprocess.Popen[str], count: int) -> float:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _table(ways: Sequence[str], heads: Sequence[str], columns: Sequence[dict[str, float]]) -> str:
    """Seconds, and in brackets their ratio to one thread's."""
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for way in ways:
        cells = [f"{column[way]:.2f} ({column[way] / column[ONE]:.2f})" for column in columns]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
