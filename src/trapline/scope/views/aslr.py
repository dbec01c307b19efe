"""How much chance there is in where things are: entropy of addresses over many starts of a program.

For each kind of place, from N addresses: the bits that changed at all; Shannon's entropy of the sample, which cannot pass
log2(N); and an estimate for the source, if it is uniform: N values spread over R give a span of R * (N-1)/(N+1) on average, so
R, in steps of the lowest bit that ever changes, follows from the span. Places whose distance never changes share one draw:
whoever learns one address knows the other.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import log2
from typing import TYPE_CHECKING, NamedTuple

from trapline.scope.strace.text import printable
from trapline.scope.views.space import LIBRARY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trapline.scope.views.space import Space

BUCKETS = 16


class Entropy(NamedTuple):
    """Of one kind of place, or of the distance between two."""

    name: str
    runs: int
    distinct: int  #: different values
    lowest: int
    highest: int
    low_bit: int  #: number of the lowest bit that changed, -1: none did
    high_bit: int  #: and of the highest
    shannon_bits: float  #: of the sample: at most log2(runs)
    bits: float  #: estimated, of a uniform source
    histogram: tuple[int, ...]  #: how many values in each of 16 equal parts of [lowest, highest]


class Randomness(NamedTuple):
    """What N runs of one program came to."""

    program: str
    runs: int
    places: tuple[Entropy, ...]
    distances: tuple[Entropy, ...]  #: between places that do vary: what one of them says about another

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from trapline.scope.views.htmlviews import randomness

        return randomness(self)


def places_of(space: Space) -> dict[str, int]:
    """Where one start of a program put what is placed by chance."""
    found = {"program": space.entry["code"], "heap": space.entry["heap"], "stack": space.entry["stack"]}
    libraries = [each.start for each in space.areas if each.kind == LIBRARY]
    found["mmap"] = min(libraries) if libraries else space.entry["mmap"]
    if space.entry["vdso"]:
        found["vdso"] = space.entry["vdso"]
    return found


def measure(program: str, runs: Sequence[dict[str, int]]) -> Randomness:
    """From what `places_of` gave for each run; at least one."""
    names = [name for name in runs[0] if all(name in each for each in runs)]
    places = tuple(entropy(name, [each[name] for each in runs]) for name in names)
    vary = [each.name for each in places if each.low_bit >= 0]
    distances = tuple(
        entropy(f"{second} - {first}", [each[second] - each[first] for each in runs]) for first, second in combinations(vary, 2)
    )
    return Randomness(program, len(runs), places, distances)


def entropy(name: str, values: Sequence[int]) -> Entropy:
    """What the values of one place tell; at least one."""
    changed = 0
    for each in values:
        changed |= each ^ values[0]
    low, high = min(values), max(values)
    low_bit = (changed & -changed).bit_length() - 1
    counts = Counter(values)
    total = len(values)
    shannon = -sum(n / total * log2(n / total) for n in counts.values())
    return Entropy(
        name, total, len(counts), low, high, low_bit, changed.bit_length() - 1, abs(shannon),
        _estimate(low, high, low_bit, total), _histogram(values, low, high),
    )  # fmt: skip


def _estimate(low: int, high: int, low_bit: int, total: int) -> float:
    if low_bit < 0 or total < 2:
        return 0.0
    return log2((high - low) / (1 << low_bit) * (total + 1) / (total - 1) + 1)


def _histogram(values: Sequence[int], low: int, high: int) -> tuple[int, ...]:
    found = [0] * BUCKETS
    for each in values:
        found[min(BUCKETS - 1, (each - low) * BUCKETS // (high - low + 1))] += 1
    return tuple(found)


# ---- as text


def render(found: Randomness) -> str:
    """A table of 80 columns: bits by place, and how the values lie between the lowest and the highest."""
    lines = [f"where {printable(found.program)} is put, over {found.runs} starts", ""]
    lines.append(f"{'place':<15}{'bits':>6} {'changing':>9} {'distinct':>9} {'lowest':>14} {'highest':>14} spread")
    lines += [_row(each, f"{each.lowest:x}", f"{each.highest:x}") for each in found.places]
    if found.distances:
        lines += ["", "distances: what one leaked address leaves unknown of another", ""]
        lines += [_row(each, _signed(each.lowest), _signed(each.highest)) for each in found.distances]
    lines += [
        "", "bits: of a uniform source with this span, in steps of its lowest changing bit;",
        "changing: which bits of the address did; spread: from lowest to highest, in 8",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _signed(value: int) -> str:
    return f"-{-value:x}" if value < 0 else f"{value:x}"


def _row(each: Entropy, low: str, high: str) -> str:
    changing = f"{each.low_bit}-{each.high_bit}" if each.low_bit >= 0 else "none"
    halves = [each.histogram[n] + each.histogram[n + 1] for n in range(0, BUCKETS, 2)]
    most = max(halves)
    spread = "".join(" .:-=+*#"[-(-7 * n // most)] for n in halves) if each.distinct > 1 else "fixed"
    return f"{each.name:<15}{each.bits:>6.1f} {changing:>9} {each.distinct:>9} {low:>14} {high:>14} {spread}"
