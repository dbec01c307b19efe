"""Device trees: what is written is read back, what is wrong is refused, and the board's own tells what is on the board."""

from __future__ import annotations

import random
import struct

import pytest

from trapline.machine.riscv.board import Board
from trapline.machine.riscv.devicetree import BadTree, Node, Tree, cells, flatten, parse, wide
from trapline.machine.riscv.firmware import Files


def little_tree() -> Tree:
    root = Node("")
    root.set("model", "a model")
    root.set("empty")
    child = root.add("soc@1000", n_address_cells=1, riscv__ndev=95, device_type="soc", names=("one", "two"))
    child.add("deep", reg=wide(0x1_0000_0000, 16))
    return Tree(root, [(0x8000_0000, 0x1000)], boot_hart=3)


def test_round_trip() -> None:
    tree = little_tree()
    blob = flatten(tree)
    again = parse(blob + b"what follows is ignored")
    assert again == tree and flatten(again) == blob
    soc = again.root.find("/soc")
    assert soc is not None and soc.name == "soc@1000"
    assert soc.properties == {
        "#address-cells": cells(1), "riscv,ndev": cells(95), "device_type": b"soc\0", "names": b"one\0two\0",
    }  # fmt: skip
    assert again.root.find("/soc@1000/deep") is soc.children[0] and again.root.find("/other/deep") is None


def test_header_fields() -> None:
    blob = flatten(little_tree())
    magic, total, body, strings, reserved, version, compatible, hart, string_bytes, body_bytes = struct.unpack_from(">10I", blob)
    assert (magic, total, version, compatible, hart) == (0xD00DFEED, len(blob), 17, 16, 3)
    assert reserved % 8 == 0 and body % 4 == 0 and body + body_bytes == strings and strings + string_bytes == total
    assert struct.unpack_from(">4Q", blob, reserved) == (0x8000_0000, 0x1000, 0, 0)
    assert blob[strings:].count(b"reg\0") == 1


def changed(blob: bytes, at: int, word: int) -> bytes:
    return blob[:at] + struct.pack(">I", word) + blob[at + 4 :]


@pytest.mark.parametrize(
    ("at", "word", "said"),
    [
        (0, 0, "d00dfeed"), (4, 1 << 30, "bytes"), (4, 8, "bytes"), (8, 0xFFFF_FFF0, "outside"), (8, 0, "outside"), (12, 1 << 20, "outside"),
        (16, 0xFFFF_FFF8, "does not end"), (20, 15, "version 15"), (24, 99, "version 17"), (32, 1 << 31, "outside"), (36, 1 << 31, "outside"),
    ],
)  # fmt: skip
def test_wrong_headers_are_refused(at: int, word: int, said: str) -> None:
    with pytest.raises(BadTree, match=said):
        parse(changed(flatten(little_tree()), at, word))


def test_wrong_structure_is_refused() -> None:
    blob = flatten(little_tree())
    body = struct.unpack_from(">I", blob, 8)[0]
    for word in (0, 2, 3, 4, 7, 9):  # instead of the root's start
        with pytest.raises(BadTree):
            parse(changed(blob, body, word))
    with pytest.raises(BadTree, match="deep"):
        deep = Node("")
        node = deep
        for _ in range(40):
            node = node.add("x")
        parse(flatten(Tree(deep)))


def test_fuzzed_blobs_are_read_or_refused() -> None:
    rng = random.Random(5)
    blob = flatten(little_tree())
    outcomes = set()
    for _ in range(4000):
        data = bytearray(blob)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 3, 4, 9, 0xFF, rng.randrange(256)))
        try:
            flatten(parse(bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data) + 1)))])))
            outcomes.add("read")
        except BadTree:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def board(harts: int = 1, seed: bytes = b"") -> Board:
    return Board(16 << 20, harts, send=lambda data: None, native=False, seed=seed)


def test_board_describes_itself() -> None:
    root = parse(board(3).device_tree()).root
    cpus, memory, soc = root.find("/cpus"), root.find("/memory"), root.find("/soc")
    assert cpus is not None and memory is not None and soc is not None
    assert [each.properties["reg"] for each in cpus.children if each.name.startswith("cpu@")] == [cells(0), cells(1), cells(2)]
    assert cpus.properties["timebase-frequency"] == cells(10_000_000)
    assert memory.properties["reg"] == wide(0x8000_0000, 16 << 20)
    phandles = [each.properties["phandle"] for each in root.each() if "phandle" in each.properties]
    assert len(phandles) == len(set(phandles)) == 8
    clint, plic = soc.child("clint"), soc.child("plic")
    assert clint is not None and plic is not None
    assert len(clint.properties["interrupts-extended"]) == len(plic.properties["interrupts-extended"]) == 3 * 16
    assert soc.child("virtio_mmio") is None


def test_chosen_follows_what_is_started() -> None:
    files = Files(kernel=b"\x13\0\0\0" * 4, initrd=b"disk", append="console=ttyS0")
    chosen = parse(board().device_tree(files)).root.find("/chosen")
    assert chosen is not None
    start = 0x8000_0000 + (8 << 20)
    assert chosen.properties["bootargs"] == b"console=ttyS0\0"
    assert (chosen.properties["linux,initrd-start"], chosen.properties["linux,initrd-end"]) == (wide(start), wide(start + 4))


def test_seeds_follow_the_boards() -> None:
    def seeds(seed: bytes) -> tuple[bytes, bytes]:
        chosen = parse(board(seed=seed).device_tree()).root.find("/chosen")
        assert chosen is not None
        return chosen.properties["rng-seed"], chosen.properties["kaslr-seed"]

    assert seeds(b"1") == seeds(b"1") and seeds(b"1")[0] != seeds(b"2")[0] and len(seeds(b"1")[0]) == 32


def test_given_tree_is_used_and_completed() -> None:
    tree = Tree(Node("", {"model": b"mine\0"}))
    root = parse(board().device_tree(Files(tree=flatten(tree), append="quiet"))).root
    chosen = root.find("/chosen")
    assert root.properties == {"model": b"mine\0"} and chosen is not None and chosen.properties == {"bootargs": b"quiet\0"}
