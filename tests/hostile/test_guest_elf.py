"""Mutations of a small static ELF, with fixed seeds: execve(2) fails or the program dies; the kernel lives on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from attack import reachable, unharmed

import support

pytestmark = pytest.mark.usefixtures("no_process_left")
SOURCE = 'void _start(void) { __asm__ volatile("mov $60, %eax; mov $7, %edi; syscall"); }\n'
PER_RUN = 40


def mutate(image: bytes, rng: random.Random) -> bytes:
    """A few changes, most of them where the loader looks: the header and the program headers."""
    data = bytearray(image)
    for _ in range(rng.randint(1, 4)):
        where = rng.randrange(min(len(data), rng.choice([64, 64 + 56 * 4, len(data)])))
        kind = rng.randrange(5)
        if kind == 0:
            data[where] = rng.randrange(256)
        elif kind == 1:
            data[where] ^= 1 << rng.randrange(8)
        elif kind == 2:
            value = rng.choice([0, 1, 0x1000, 0x7FFFFFFFFFFF, 2**63, 2**64 - 1, 2**64 - 0x1000, 2**32, 2**47])
            at = where & ~7
            data[at : at + 8] = value.to_bytes(8, "little")
        elif kind == 3:
            del data[where:]
        else:
            data[where:where] = bytes(rng.randrange(1, 64))
        if not data:
            break
    return bytes(data)


@pytest.mark.parametrize("seed", range(5))
def test_mutations(seed: int, tmp_path: Path) -> None:
    source = reachable(tmp_path) / "s.c"
    source.write_text(SOURCE)
    image = support.compile_c(source, ["-static", "-nostdlib", "-Wl,-z,noseparate-code"]).read_bytes()
    corpus = tmp_path / "corpus"
    corpus.mkdir(mode=0o755)
    rng = random.Random(seed)
    for number in range(PER_RUN):
        path = corpus / f"{number:03}"
        path.write_bytes(mutate(image, rng))
        path.chmod(0o755)
    (corpus / "good").write_bytes(image)
    (corpus / "good").chmod(0o755)
    script = "for f in /corpus/0*; do timeout -s KILL 2 $f </dev/null >/dev/null 2>&1; done; /corpus/good; echo alive $?"
    got = support.trapline(["sh", "-c", script], ["--bind", f"{corpus}:/corpus:ro"], uid=support.users()[-1], timeout_s=240)
    assert got.text == "alive 7\n" and unharmed(got.stderr), got.tail()
