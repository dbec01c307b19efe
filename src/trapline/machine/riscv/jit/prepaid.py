"""Where a region looks at its budget, and how much it takes off there.

In a nutshell: not every block needs to ask whether it is covered. A *checkpoint* takes off what the longest way to the next
checkpoint costs, all at once; whoever takes a shorter way gives the difference back. Entries, headers of loops, and where
indirect jumps lead are checkpoints.

Invariant: where a block begins, what has been taken off and not yet been used is `needs[block]`; behind its last instruction it
is that less its length. Every cycle goes through a checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from trapline.typed import NamedTuple

from trapline.machine.riscv.jit.shape import Block, successors


class Plan(NamedTuple):
    """`needs`: instructions of the longest way from a block's start to the next checkpoint, or out."""

    needs: dict[int, int]
    checkpoints: set[int]

    def due(self, start: int) -> int:
        """What must have been taken off in advance by whoever goes to a block."""
        return 0 if start in self.checkpoints else self.needs[start]


def plan(blocks: Mapping[int, Block], checkpoints: Collection[int]) -> Plan:
    """For these blocks. `checkpoints`: those that must be; more are added where there is a cycle without."""
    found = Plan({}, set(checkpoints))
    edges = {start: [to for to in successors(block) if to in blocks] for start, block in blocks.items()}
    for root in (*checkpoints, *blocks):  # the given ones first: a search that begins within their cycles would add others
        if root in blocks and root not in found.needs:
            _descend(root, blocks, edges, found)
    return found


def _descend(root: int, blocks: Mapping[int, Block], edges: Mapping[int, list[int]], found: Plan) -> None:
    """Depth first: a block's needs are known when those of all that follow are."""
    open_ = {root}
    path: list[tuple[int, Iterator[int]]] = [(root, iter(edges[root]))]
    while path:
        start, rest = path[-1]
        for to in rest:
            if to in open_:
                found.checkpoints.add(to)
            elif to not in found.needs:
                open_.add(to)
                path.append((to, iter(edges[to])))
                break
        else:
            found.needs[start] = len(blocks[start].body) + max((found.due(to) for to in edges[start]), default=0)
            open_.discard(start)
            path.pop()
