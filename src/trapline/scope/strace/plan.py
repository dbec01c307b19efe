"""Plans: how each argument of each call prints, made once per call from its declaration and the overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.kernel.syscalls.declare import SystemCall, parameters
from trapline.scope.listener import Args
from trapline.scope.strace.arguments import Piece, Render, hexadecimal, piece
from trapline.scope.strace.constants import printed
from trapline.scope.strace.memory import Decoder
from trapline.scope.strace.special import ORDER, OVERRIDES

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task
    from trapline.scope.strace.style import Style

Plan = list[tuple[int, Piece]]  #: (position, how it prints) of each argument, in the order shown

UNDECLARED = "undeclared"  #: the family of calls that are not implemented: six numbers
NAMES = tuple(f"arg{n}" for n in range(6))
_MASKS = {8: 0xFF, 16: 0xFFFF, 32: 0xFFFF_FFFF}


def _raw(width: int) -> Render:
    mask = _MASKS.get(abs(width), (1 << 64) - 1)
    return lambda d, value: hexadecimal(d, value & mask)


class Plans:
    """In one style."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._known: dict[str, Plan] = {}
        self._styles: dict[str, Style] = {}  #: of calls, where they differ

    def of(self, call: SystemCall) -> Plan:
        plan = self._known.get(call.name)
        if plan is None:
            plan = self._known[call.name] = self._make(call)
        return plan

    def _make(self, call: SystemCall) -> Plan:
        if call.family == UNDECLARED:
            return [(i, Piece(hexadecimal)) for i in range(len(NAMES))]
        params = parameters(call)
        if self._style.raw(call.name):
            return [(i, Piece(_raw(each.width))) for i, each in enumerate(params)]
        special: dict[int, Piece] = OVERRIDES.get(call.name, {})
        pieces = [special.get(i) or piece(each.show) for i, each in enumerate(params)]
        how = self._style.constants
        pieces = [each._replace(render=printed(how, each.render)) for each in pieces]
        order: Any = ORDER.get(call.name) or range(len(pieces))
        return [(i, pieces[i]) for i in order if i < len(pieces)]

    def style_of(self, name: str) -> Style:
        """The style of one call."""
        style = self._style
        if style.abbreviated is None and style.followed is None:
            return style
        known = self._styles.get(name)
        return known or self._styles.setdefault(name, self._own(name))

    def _own(self, name: str) -> Style:
        style = self._style
        whole = style.whole if style.abbreviated is None else not style.abbreviated(name)
        return style._replace(whole=whole, pointers=style.followed is not None and not style.followed(name))

    def decoder(self, task: Task, call: SystemCall, args: Args) -> Decoder:
        """For a call that has come in; what lies where it will write is remembered."""
        keys = NAMES if call.family == UNDECLARED else [each.name for each in parameters(call)]
        decoder = Decoder(task, dict(zip(keys, args, strict=False)), self.style_of(call.name))
        for index, each in self.of(call):
            if each.before:
                decoder.before[decoder.args[index]] = decoder.read(decoder.args[index], each.before)
        return decoder
