"""The engine: mutate inputs, keep those that reach new edges, stop at the first that breaks something.

In a nutshell: a target is a function of bytes. Whatever it raises is a find, as is an input that takes longer than HANG_S. An
*edge* is a pair of lines of Trapline's that ran one after the other in one function, seen through sys.settrace. Runs with one
seed, one corpus and a number of inputs repeat.
"""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

HANG_S = 20.0
MAX_BYTES = 1 << 16
_WORDS = (0, 1, 2, 4, 8, 0x7F, 0x80, 0xFF, 0xFFF, 0x1000, 0x7FFF, 0x8000, 0xFFFF, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 32,
          1 << 47, (1 << 47) - 0x1000, 1 << 62, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 0x1000)  # fmt: skip

Edge = tuple[int, int, int]


class Hang(BaseException):
    """An input took longer than HANG_S."""


@dataclass
class Target:
    """`run` must return, for any bytes. `tokens` are worth inserting; `seeds` are where to start without a corpus."""

    name: str
    what: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes] = ()
    close: Callable[[], None] = lambda: None


@dataclass
class Report:
    """What a run did. `crash` is the input that broke something, `error` what it raised."""

    target: str
    seed: int
    seconds: float = 0.0
    inputs: int = 0
    edges: int = 0
    edges_at_start: int = 0
    found: list[bytes] = field(default_factory=list)  #: inputs that reached new edges
    crash: bytes | None = None
    error: BaseException | None = None

    def __str__(self) -> str:
        rate = self.inputs / self.seconds if self.seconds else 0
        end = "no crash" if self.crash is None else f"CRASH: {self.error!r}"
        return (
            f"{self.target}: seed {self.seed}, {self.seconds:.1f} s, {self.inputs} inputs ({rate:.0f}/s), {self.edges} edges "
            f"({self.edges_at_start} from the corpus), {len(self.found)} new inputs: {end}"
        )


class Coverage:
    """The edges of Trapline's own code that have run so far."""

    def __init__(self) -> None:
        self.edges: set[Edge] = set()
        self._codes: dict[CodeType, int] = {}

    def run(self, function: Callable[[bytes], object], data: bytes) -> int:
        """Call function(data); how many edges are new. What it raises goes through. No garbage is collected meanwhile: how it ends
        depends on what ran in this process before."""
        before = len(self.edges)
        gc.disable()
        sys.settrace(self._enter)
        try:
            function(data)
        finally:
            sys.settrace(None)
            gc.enable()
        return len(self.edges) - before

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        number = self._codes.get(code)
        if number is None:
            number = self._codes[code] = len(self._codes) + 1 if "/trapline/" in code.co_filename else 0
        if not number:
            return None
        edges, last = self.edges, 0

        def line(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal last
            if event == "line":
                here = frame.f_lineno
                edges.add((number, last, here))
                last = here
            return line

        return line


def fuzz(
    target: Target, corpus: Sequence[bytes], *, seed: int = 0, seconds: float = 10.0, inputs: int | None = None
) -> Report:
    """Run the corpus, then mutations of it, until a find, `seconds` or the number of `inputs`."""
    report = Report(target.name, seed)
    rng = random.Random(f"{target.name} {seed}")
    coverage = Coverage()
    start = time.monotonic()
    pool = list(dict.fromkeys((*target.seeds, *corpus)))
    for count, data in enumerate(_inputs(pool, rng, target.tokens)):
        if count == len(pool) - len(report.found):
            report.edges_at_start = len(coverage.edges)
        if count >= (inputs if inputs is not None else 1 << 62) or time.monotonic() - start > seconds:
            break
        report.inputs += 1
        try:
            with time_limit(HANG_S):
                new = coverage.run(target.run, data)
        except (Exception, Hang) as error:
            report.crash, report.error = data, error
            break
        if new and count >= len(pool) - len(report.found):
            pool.append(data)
            report.found.append(data)
    report.seconds = time.monotonic() - start
    report.edges = len(coverage.edges)
    report.edges_at_start = report.edges_at_start or report.edges
    return report


def best(target: Target, inputs: Sequence[bytes], count: int) -> list[bytes]:
    """At most `count` of the inputs: those that add most edges to what the seeds and smaller inputs reach."""
    coverage = Coverage()
    for data in target.seeds:
        coverage.run(target.run, data)
    gains = [(coverage.run(target.run, data), data) for data in sorted(inputs, key=lambda each: (len(each), each))]
    return [data for gain, data in sorted(gains, key=lambda each: -each[0])[:count] if gain]


def _inputs(pool: list[bytes], rng: random.Random, tokens: Sequence[bytes]) -> Iterator[bytes]:
    """The pool as it is, then mutations for ever; late finds are tried more often."""
    yield from tuple(pool)
    while True:
        at = max(rng.randrange(len(pool)), rng.randrange(len(pool)))
        data = bytearray(pool[at])
        for _ in range(1 << rng.randrange(5)):
            _mutate(data, rng, pool, tokens)
        yield bytes(data[:MAX_BYTES])


def _mutate(data: bytearray, rng: random.Random, pool: Sequence[bytes], tokens: Sequence[bytes]) -> None:
    where = rng.randrange(len(data) + 1)
    kind = rng.randrange(9)
    if kind == 0 and where < len(data):
        data[where] ^= 1 << rng.randrange(8)
    elif kind == 1 and where < len(data):
        data[where] = rng.randrange(256)
    elif kind in (2, 3):  # a word, most often where words are
        width = rng.choice((1, 2, 4, 8))
        where -= where % width if rng.random() < 0.8 else 0
        value = rng.choice(_WORDS) + rng.choice((0, 0, 0, -1, 1))
        data[where : where + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    elif kind == 4:
        del data[where : where + rng.randint(1, 16)]
    elif kind == 5:
        data[where:where] = data[where : where + rng.randint(1, 64)]
    elif kind == 6 and tokens:
        token = rng.choice(tokens)
        data[where : where + rng.choice((0, len(token)))] = token
    elif kind == 7:
        other = rng.choice(pool)
        start = rng.randrange(len(other) + 1)
        data[where:] = other[start:]
    elif kind == 8:
        data[where:where] = bytes((rng.choice((0, 0xFF, 0x41)),)) * rng.choice((1, 2, 4, 8, 300))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Hang in the block after `seconds`; no limit outside the main thread, where signals do not go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(signo: int, frame: object) -> None:
        raise Hang(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
