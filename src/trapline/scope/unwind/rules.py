"""Rules: how one frame finds the frame that called it: the entries of .eh_frame, executed up to an address.

A rule says where the caller's value of a register is: (SAME,), (OFFSET, n): in memory at the CFA plus n; (VALUE, n): it is that
address; (REGISTER, r); (MEMORY, expression), (EXPRESSION, expression); (UNDEFINED,). The CFA is (r, n) or an expression.
Source: DWARF 5, section 6.4, "Call Frame Information".
"""

from __future__ import annotations

from typing import NamedTuple

from trapline.scope.unwind.dwarf import Malformed, Reader

UNDEFINED, SAME, OFFSET, VALUE, REGISTER, MEMORY, EXPRESSION = range(7)
Rule = tuple[int, int | bytes]
Rules = dict[int, Rule]
MAX_INSTRUCTIONS, MAX_DEPTH, MAX_REGISTERS = 2000, 64, 64


class Common(NamedTuple):
    """A CIE: what frames of several functions have in common."""

    code: int
    data: int
    return_register: int
    encoding: int
    augmented: bool
    signal: bool  #: a frame that the kernel made: its address is that of an instruction, not behind a call
    initial: bytes


class Row(NamedTuple):
    """What holds at one address."""

    cfa: tuple[int, int] | bytes
    rules: Rules
    return_register: int
    signal: bool


def common(reader: Reader, end: int) -> Common:
    """The CIE whose version is next; it ends at offset `end`."""
    version = reader.fixed(1)
    augmentation = reader.text()
    if version not in (1, 3):
        raise Malformed
    code, data = reader.uleb(), reader.sleb()
    return_register = reader.fixed(1) if version == 1 else reader.uleb()
    encoding, signal = 0, b"S" in augmentation
    if augmentation[:1] == b"z":
        behind = reader.uleb() + reader.at
        for letter in augmentation[1:]:
            if letter == ord("R"):
                encoding = reader.fixed(1)
            elif letter == ord("L"):
                reader.fixed(1)
            elif letter == ord("P"):
                personality = reader.fixed(1)
                reader.pointer(personality & 0x0F)
            elif letter not in b"SB":
                break
        reader.at = behind
    elif augmentation:
        raise Malformed
    return Common(code, data, return_register, encoding, augmentation[:1] == b"z", signal, reader.data[reader.at : end])


class _Machine:
    """Executes instructions; `row` up to now."""

    def __init__(self, of: Common) -> None:
        self.of = of
        self.cfa: tuple[int, int] | bytes = (0, 0)
        self.rules: Rules = {}
        self.initial: Rules = {}
        self._stack: list[tuple[tuple[int, int] | bytes, Rules]] = []

    def run(self, code: bytes, at: int, until: int) -> None:
        """Execute `code`, whose first row is for address `at`, up to the row for `until`."""
        reader = Reader(code)
        for _ in range(MAX_INSTRUCTIONS):
            if not reader.more:
                return
            op = reader.fixed(1)
            high, low = op & 0xC0, op & 0x3F
            if high == 0x40 or op in (0x01, 0x02, 0x03, 0x04):
                at = self._advance(reader, op, low if high else 0, at)
                if at > until:
                    return
            elif high == 0x80:
                self.rules[low] = OFFSET, reader.uleb() * self.of.data
            elif high == 0xC0:
                self._restore(low)
            else:
                self._other(reader, op)
        raise Malformed

    def _advance(self, reader: Reader, op: int, delta: int, at: int) -> int:
        if op == 0x01:
            return reader.pointer(self.of.encoding)
        if op in (0x02, 0x03, 0x04):
            delta = reader.fixed({2: 1, 3: 2, 4: 4}[op])
        return at + delta * self.of.code

    def _restore(self, register: int) -> None:
        if register in self.initial:
            self.rules[register] = self.initial[register]
        else:
            self.rules.pop(register, None)

    def _other(self, reader: Reader, op: int) -> None:
        if op == 0x00:
            return
        if op in (0x0A, 0x0B):
            self._remember(op)
        elif op in (0x0C, 0x12):
            register = reader.uleb()
            self.cfa = register, reader.uleb() if op == 0x0C else reader.sleb() * self.of.data
        elif op in (0x0D, 0x0E, 0x13):
            register, offset = self._plain_cfa()
            value = reader.sleb() * self.of.data if op == 0x13 else reader.uleb()
            self.cfa = (value, offset) if op == 0x0D else (register, value)
        elif op == 0x0F:
            self.cfa = reader.bytes_(reader.uleb())
        elif op == 0x2E:  # GNU_args_size
            reader.uleb()
        else:
            self._rule(reader, op, reader.uleb())

    def _remember(self, op: int) -> None:
        if op == 0x0A:
            if len(self._stack) >= MAX_DEPTH:
                raise Malformed
            self._stack.append((self.cfa, dict(self.rules)))
        elif self._stack:
            self.cfa, self.rules = self._stack.pop()
        else:
            raise Malformed

    def _plain_cfa(self) -> tuple[int, int]:
        if isinstance(self.cfa, bytes):
            raise Malformed
        return self.cfa

    def _rule(self, reader: Reader, op: int, register: int) -> None:
        rules, data = self.rules, self.of.data
        if register >= MAX_REGISTERS:
            raise Malformed
        if op in (0x05, 0x11):
            rules[register] = OFFSET, (reader.uleb() if op == 0x05 else reader.sleb()) * data
        elif op == 0x06:
            self._restore(register)
        elif op in (0x07, 0x08):
            rules[register] = UNDEFINED if op == 0x07 else SAME, 0
        elif op == 0x09:
            rules[register] = REGISTER, reader.uleb()
        elif op in (0x10, 0x16):
            rules[register] = MEMORY if op == 0x10 else EXPRESSION, reader.bytes_(reader.uleb())
        elif op in (0x14, 0x15):
            rules[register] = VALUE, (reader.uleb() if op == 0x14 else reader.sleb()) * data
        else:
            raise Malformed


def row(of: Common, start: int, code: bytes, address: int) -> Row:
    """What holds at `address`, in a function that starts at `start` and has the instructions `code`."""
    machine = _Machine(of)
    machine.run(of.initial, 0, 0)
    machine.initial = dict(machine.rules)
    machine.run(code, start, address)
    return Row(machine.cfa, machine.rules, of.return_register, of.signal)


