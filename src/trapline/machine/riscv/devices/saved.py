"""State: what a device is, as plain JSON: how checkpoints save and restore it.

A device that can be saved has two methods: `state()` gives a dictionary of numbers, texts, lists and dictionaries that is all
of its state, `load(state)` takes one back, whatever it held before, and raises BadState if no device could be in that state:
what is loaded may come from anybody. Most name their attributes and what each may hold:

    SAVED = {"_lit": whole(1), "_buffer": octets(16)}

    def state(self) -> State: return pack(self, SAVED)
    def load(self, state: State) -> None: unpack(self, SAVED, state)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

State = dict[str, Any]
MOST = 64 << 20  #: bytes of one attribute


class BadState(ValueError):
    """Nothing can be in this state; the text says what is wrong with it."""


class Saveable(Protocol):
    def state(self) -> State: ...

    def load(self, state: State) -> None:
        """Raises BadState."""


class Kind(NamedTuple):
    """How an attribute is written, and read back: `read` raises BadState."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _whole(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise BadState(f"{str(value)[:40]} is no number from {low} to {high:#x}")
    return value


def whole(high: int = (1 << 64) - 1, low: int = 0) -> Kind:
    """An integer from `low` to `high`."""
    return Kind(int, lambda value: _whole(value, low, high))


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise BadState(f"{str(value)[:40]} is neither true nor false")
    return value


flag = Kind(bool, _flag)


def _list(value: Any, length: int, most: int) -> list[Any]:
    if type(value) is not list or (length >= 0 and len(value) != length) or len(value) > most:
        raise BadState(f"not a list of {length if length >= 0 else f'at most {most}'} elements")
    return value


def wholes(count: int, high: int = (1 << 64) - 1) -> Kind:
    """A list of so many integers."""
    return Kind(list, lambda value: [_whole(each, 0, high) for each in _list(value, count, count)])


def some(high: int, most: int) -> Kind:
    """A set of at most so many integers."""
    return Kind(sorted, lambda value: {_whole(each, 0, high) for each in _list(value, -1, most)})


def text_of(value: Any, most: int = MOST) -> bytes:
    """The bytes that a text in hexadecimal stands for."""
    if type(value) is not str or len(value) > 2 * most:
        raise BadState(f"not the hexadecimal text of at most {most} bytes")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise BadState("not a hexadecimal text") from None


def octets(most: int) -> Kind:
    """A queue (deque) of bytes."""
    return Kind(lambda value: bytes(value).hex(), lambda value: deque(text_of(value, most)))


def entry(state: Any, name: str) -> Any:
    """One value of a dictionary."""
    if type(state) is not dict or name not in state:
        raise BadState(f"{name} is missing")
    return state[name]


def pack(thing: object, saved: Mapping[str, Kind]) -> State:
    """The named attributes of `thing`."""
    return {name.lstrip("_"): kind.write(getattr(thing, name)) for name, kind in saved.items()}


def unpack(thing: object, saved: Mapping[str, Kind], state: State) -> None:
    """Take them back, all or none."""
    found = {}
    for name, kind in saved.items():
        try:
            found[name] = kind.read(entry(state, name.lstrip("_")))
        except BadState as error:
            raise BadState(f"{name.lstrip('_')}: {error}") from None
    for name, value in found.items():
        setattr(thing, name, value)
