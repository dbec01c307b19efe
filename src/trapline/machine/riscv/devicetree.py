"""Device trees, as nodes and as flattened blobs (Devicetree Specification, "Flattened Devicetree (DTB) Format", version 17).

A blob is a header of ten big-endian words, a table of reserved memory that ends with a pair of zeros, a structure block of
tokens, and a block of strings in which the structure's property names are. `parse` trusts nothing of that: every
offset, length and name is checked before it is used, and depth and number of nodes are limited.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from trapline.typed import NamedTuple

MAGIC, VERSION, COMPATIBLE = 0xD00D_FEED, 17, 16
_HEADER = struct.Struct(">10I")
_RESERVED = struct.Struct(">QQ")
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9
MAX_BYTES, MAX_DEPTH, MAX_NODES = 1 << 20, 32, 10_000
MAX_NAME = 255

Value = bytes | str | int | Sequence[str] | None


class BadTree(ValueError):
    """The blob is no device tree; the text says why."""


def cells(*values: int) -> bytes:
    """32-bit words."""
    return struct.pack(f">{len(values)}I", *values)


def wide(*values: int) -> bytes:
    """Addresses and sizes of two cells each."""
    return struct.pack(f">{len(values)}Q", *values)


def strings(*values: str) -> bytes:
    """A list of strings."""
    return b"".join(each.encode() + b"\0" for each in values)


class Node:
    """`name` with its unit address; "" is the root's. Properties keep their order, and hold the bytes of their values."""

    __slots__ = ("children", "name", "properties")

    def __init__(self, name: str, properties: dict[str, bytes] | None = None) -> None:
        self.name = name
        self.properties: dict[str, bytes] = properties or {}
        self.children: list[Node] = []

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        return (self.name, self.properties, self.children) == (other.name, other.properties, other.children)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def set(self, name: str, value: Value = None) -> None:
        """A property: None for one that is only there, a number for a cell, a text or texts, or bytes as they are."""
        if isinstance(value, int):
            value = cells(value)
        elif isinstance(value, str):
            value = strings(value)
        elif value is None:
            value = b""
        elif not isinstance(value, bytes):
            value = strings(*value)
        self.properties[name] = value

    def add(self, name: str, **properties: Value) -> Node:
        """A new child. In property names given this way, __ stands for a comma, _ for a hyphen, a leading n_ for #; only
        device_type is itself."""
        child = Node(name)
        for key, value in properties.items():
            if key != "device_type":
                key = "#" + key[2:] if key.startswith("n_") else key
                key = key.replace("__", ",").replace("_", "-")
            child.set(key, value)
        self.children.append(child)
        return child

    def child(self, name: str) -> Node | None:
        """The child called `name`, with or without its unit address."""
        for each in self.children:
            if name in (each.name, each.name.partition("@")[0]):
                return each
        return None

    def find(self, path: str) -> Node | None:
        """The node at an absolute path."""
        node: Node | None = self
        for part in path.strip("/").split("/"):
            if part and node is not None:
                node = node.child(part)
        return node

    def each(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for child in self.children:
            yield from child.each()


class Tree(NamedTuple):
    """`reserved`: (address, length) of memory that nobody may use. `boot_hart`: the number of the hart that boots."""

    root: Node
    reserved: Sequence[tuple[int, int]] = ()
    boot_hart: int = 0


# ---- to bytes


def flatten(tree: Tree) -> bytes:
    """The blob."""
    names: dict[str, int] = {}
    table = bytearray()
    body = bytearray()
    _flatten(tree.root, body, names, table)
    body += cells(_END)
    reserved = b"".join(_RESERVED.pack(*each) for each in (*tree.reserved, (0, 0)))
    at_reserved = _HEADER.size + -_HEADER.size % 8
    at_body = at_reserved + len(reserved)
    at_strings = at_body + len(body)
    total = at_strings + len(table)
    header = (
        MAGIC, total, at_body, at_strings, at_reserved, VERSION, COMPATIBLE, tree.boot_hart, len(table), len(body),
    )  # fmt: skip
    return _HEADER.pack(*header).ljust(at_reserved, b"\0") + reserved + body + table


def _flatten(node: Node, body: bytearray, names: dict[str, int], table: bytearray) -> None:
    body += cells(_BEGIN_NODE) + _padded(node.name.encode() + b"\0")
    for name, value in node.properties.items():
        if name not in names:
            names[name] = len(table)
            table += name.encode() + b"\0"
        body += cells(_PROP, len(value), names[name]) + _padded(value)
    for child in node.children:
        _flatten(child, body, names, table)
    body += cells(_END_NODE)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


# ---- from bytes


def parse(data: bytes) -> Tree:
    """The tree in a blob; what follows the blob's own length is ignored. Raises BadTree."""
    if len(data) < _HEADER.size:
        raise BadTree("too short for a device tree")
    magic, total, at_body, at_strings, at_reserved, version, compatible, boot_hart, string_bytes, body_bytes = (
        _HEADER.unpack_from(data)
    )
    if magic != MAGIC:
        raise BadTree("not a flattened device tree: it does not start with d00dfeed")
    if version < COMPATIBLE or compatible > VERSION:
        raise BadTree(f"a device tree of version {version}, compatible with {compatible}: 16 and 17 are understood")
    if not _HEADER.size <= total <= min(len(data), MAX_BYTES):
        raise BadTree(f"it says that it has {total} bytes, the file has {len(data)}, and {MAX_BYTES} are the most")
    data = data[:total]
    body = _block(data, "structure", at_body, body_bytes if version >= VERSION else total - at_body)
    if at_body & 3 or at_reserved & 7:
        raise BadTree("its blocks are not aligned")
    table = _block(data, "strings", at_strings, string_bytes)
    reader = _Reader(body, table)
    return Tree(reader.tree(), _reservations(data, at_reserved), boot_hart)


def _block(data: bytes, what: str, start: int, length: int) -> bytes:
    if start < _HEADER.size or length < 0 or start + length > len(data):
        raise BadTree(f"its {what} block, [{start}, {start + length}), is outside it")
    return data[start : start + length]


def _reservations(data: bytes, start: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while start + _RESERVED.size <= len(data):
        address, length = _RESERVED.unpack_from(data, start)
        if not address and not length:
            return found
        found.append((address, length))
        start += _RESERVED.size
    raise BadTree("its table of reserved memory does not end")


class _Reader:
    """Tokens of a structure block, one after the other."""

    def __init__(self, body: bytes, table: bytes) -> None:
        self._body, self._table = body, table
        self._at = 0
        self._nodes = 0

    def tree(self) -> Node:
        if self._token() != _BEGIN_NODE:
            raise BadTree("its structure does not start with a node")
        root = self._start("")
        open_nodes = [root]
        while open_nodes:
            token = self._token()
            if token == _BEGIN_NODE:
                child = self._start(None)
                open_nodes[-1].children.append(child)
                open_nodes.append(child)
                if len(open_nodes) > MAX_DEPTH:
                    raise BadTree(f"nodes more than {MAX_DEPTH} deep")
            elif token == _END_NODE:
                open_nodes.pop()
            elif token == _PROP:
                self._property(open_nodes[-1])
            else:
                raise BadTree(f"token {token} within a node")
        if self._token() != _END:
            raise BadTree("something follows its root node")
        return root

    def _token(self) -> int:
        """The next one that says something."""
        while (token := self._word()) == _NOP:
            pass
        return token

    def _word(self) -> int:
        if self._at + 4 > len(self._body):
            raise BadTree("its structure block is cut off")
        word = int.from_bytes(self._body[self._at : self._at + 4], "big")
        self._at += 4
        return word

    def _start(self, name: str | None) -> Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise BadTree(f"more than {MAX_NODES} nodes")
        found = _text(self._body, self._at, "a node's name")
        self._at += len(found) + 1
        self._at += -self._at % 4
        if name is None and not found:
            raise BadTree("a node below the root without a name")
        return Node(found if name is None else name)

    def _property(self, node: Node) -> None:
        length, at_name = self._word(), self._word()
        if self._at + length > len(self._body):
            raise BadTree("a property's value is cut off")
        name = _text(self._table, at_name, "a property's name")
        if not name:
            raise BadTree("a property without a name")
        node.properties[name] = self._body[self._at : self._at + length]
        self._at += length + -length % 4


def _text(data: bytes, start: int, what: str) -> str:
    end = data.find(b"\0", start, start + MAX_NAME + 1) if start < len(data) else -1
    if end < 0:
        raise BadTree(f"{what} does not end")
    try:
        return data[start:end].decode("ascii")
    except UnicodeDecodeError:
        raise BadTree(f"{what} is not ASCII") from None
