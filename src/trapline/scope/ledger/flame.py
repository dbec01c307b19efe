"""Flame graphs: where threads spent their lives, as folded stacks and as an SVG file that needs nothing else.

A stack is the command, `user` or `kernel`, and for a crossing its kind, its name and the part: `sh;kernel;call;read;body`. A
line of folded text is a stack and its nanoseconds, as flame-graph tools read them. Names are the program's, and are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from trapline.scope.ledger.account import Account
from trapline.scope.ledger.account_text import duration, plain
from trapline.scope.ledger.costs import PARTS

WIDTH, ROW, MARGIN, LETTER = 1200, 18, 10, 7.0
_COLOURS = {
    "user": "#7fb77e", "kernel": "#d98a5b", "trap": "#b39ddb", "decode": "#f2b950", "policy": "#e57373", "copies": "#4fc3f7",
    "body": "#ef8354", "wait": "#b0bec5", "queue": "#90a4ae", "resume": "#9575cd", "probes": "#dddddd",
}  # fmt: skip
_OTHER = "#e0a96d"

Stack = tuple[str, ...]


def stacks(account: Account) -> dict[Stack, int]:
    """Nanoseconds by stack."""
    found: dict[Stack, int] = {}
    for (command, _), user in account.users.items():
        key: Stack = (command, "user")
        found[key] = found.get(key, 0) + user.ns
    for sort, cost in account.costs.items():
        for part, ns in zip(PARTS, cost.parts, strict=True):
            if ns:
                key = (sort.command, "kernel", sort.kind, *filter(None, (sort.name, sort.path)), part)
                found[key] = found.get(key, 0) + ns
    return found


def folded(account: Account) -> str:
    """One line a stack."""
    lines = (f"{';'.join(map(_frame, stack))} {ns}\n" for stack, ns in sorted(stacks(account).items()) if ns)
    return "".join(lines)


def _frame(name: str) -> str:
    """A name without what ends a frame or a line."""
    return re.sub(r"[;\s]", "_", plain(name)) or "_"


class _Node:
    __slots__ = ("children", "name", "ns")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ns = 0
        self.children: dict[str, _Node] = {}

    def add(self, stack: Stack, ns: int) -> None:
        self.ns += ns
        node = self
        for name in stack:
            node = node.children.setdefault(name, _Node(name))
            node.ns += ns

    def depth(self) -> int:
        return 1 + max((each.depth() for each in self.children.values()), default=0)


def svg(account: Account) -> str:
    """The picture. A frame says its time and share when the mouse rests on it."""
    root = _Node("all threads")
    for stack, ns in stacks(account).items():
        root.add(stack, ns)
    levels = root.depth()
    height = (levels + 1) * ROW + 3 * MARGIN
    title = f"{plain(' '.join(account.program))} on the {account.machine} machine, {duration(root.ns)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="monospace" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fffdf8"/>',
        f'<text x="{MARGIN}" y="{MARGIN + 8}" font-size="13">{escape(title)}</text>',
        *_boxes(root, root.ns, MARGIN, WIDTH - 2 * MARGIN, height - MARGIN - ROW),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _boxes(node: _Node, whole: int, x: float, width: float, y: int) -> Iterator[str]:
    """The frame and those above it, which are no wider; what is narrower than a fifth of a pixel is left out."""
    name = plain(node.name)
    share = 100 * node.ns / whole if whole else 0.0
    yield f"<g><title>{escape(name)}: {duration(node.ns)}, {share:.2f}%</title>"
    colour = quoteattr(_COLOURS.get(node.name, _OTHER))
    yield f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" rx="2" fill={colour}/>'
    room = int((width - 6) / LETTER)
    if room >= 3:
        text = name if len(name) <= room else f"{name[: room - 2]}.."
        yield f'<text x="{x + 3:.2f}" y="{y + ROW - 6}">{escape(text)}</text>'
    yield "</g>"
    left = x
    for child in sorted(node.children.values(), key=lambda each: each.name):
        wide = width * child.ns / node.ns if node.ns else 0.0
        if wide >= 0.2:
            yield from _boxes(child, whole, left, wide, y - ROW)
        left += wide
