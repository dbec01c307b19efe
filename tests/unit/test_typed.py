"""trapline.typed: its classes behave as typing's do."""

from __future__ import annotations

import copy
import pickle
import typing
from collections.abc import Callable
from typing import Any

import pytest

from trapline import typed


def _made(base: Any) -> Any:
    body = {
        "__module__": __name__, "__qualname__": "Point", "__annotations__": {"x": "int", "y": "int", "name": "str"},
        "__doc__": "A point.", "y": 2, "name": "p", "total": lambda self: self.x + self.y,
    }  # fmt: skip
    return type(base)("Point", (base,), body) if base is typed.NamedTuple else typing.NamedTupleMeta("Point", (typing._NamedTuple,), body)  # type: ignore[attr-defined]


Point = _made(typed.NamedTuple)
Theirs = _made(typing.NamedTuple)

SAME: dict[str, Callable[[Any], Any]] = {
    "positional": lambda p: tuple(p(1, 3, "q")),
    "named": lambda p: tuple(p(y=5, x=4)),
    "defaults": lambda p: tuple(p(1)),
    "fields": lambda p: (p._fields, p._field_defaults, p.__match_args__, p.__slots__),
    "attributes": lambda p: (p(1).x, p(1).y, p(1).name),
    "methods": lambda p: p(1).total(),
    "replace": lambda p: tuple(p(1)._replace(name="r")),
    "asdict": lambda p: p(1)._asdict(),
    "make": lambda p: tuple(p._make([7, 8, 9])),
    "repr": lambda p: repr(p(1)),
    "equality": lambda p: (p(1) == (1, 2, "p"), hash(p(1)) == hash((1, 2, "p")), p(1) < p(2)),
    "copy": lambda p: copy.copy(p(1)) == p(1),
    "doc": lambda p: p.__doc__,
    "subclass": lambda p: repr(type("Sub", (p,), {})(1)),
}
WRONG: dict[str, Callable[[Any], Any]] = {
    "too few": lambda p: p(),
    "too many": lambda p: p(1, 2, 3, 4),
    "unknown": lambda p: p(1, z=3),
    "replace unknown": lambda p: p(1)._replace(z=1),
    "make too few": lambda p: p._make([1]),
    "assign": lambda p: setattr(p(1), "x", 2),
    "new attribute": lambda p: setattr(p(1), "z", 2),
}


@pytest.mark.parametrize("what", SAME)
def test_a_named_tuple_is_as_typing_makes_it(what: str) -> None:
    assert SAME[what](Point) == SAME[what](Theirs)


@pytest.mark.parametrize("what", WRONG)
def test_a_named_tuple_refuses_as_typing_does(what: str) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)) as theirs:
        WRONG[what](Theirs)
    with pytest.raises(theirs.type):
        WRONG[what](Point)


def test_the_first_instance_of_a_subclass_leaves_the_class_alone() -> None:
    base = _made(typed.NamedTuple)
    sub = type("Sub", (base,), {"__slots__": ()})
    assert (type(sub(1)), type(base(1)), type(sub(2))) == (sub, base, sub)


def test_a_named_tuple_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Point(1))) == Point(1)


def test_annotated_keeps_what_it_was_given() -> None:
    assert typed.Annotated[int, 5, 6].__metadata__ == typing.Annotated[int, 5, 6].__metadata__  # type: ignore[attr-defined]


def test_what_is_for_type_checkers_can_be_written_down() -> None:
    t = typed.TypeVar("t", bound=int)
    table = type("Table", (typed.Generic[t],), {})
    protocol = type("Protocol", (typed.Protocol,), {})
    assert table[int] is table and issubclass(protocol, typed.Protocol)  # type: ignore[misc, index]
    assert Callable[[typed.Any], int] and dict[str, typed.Any]
