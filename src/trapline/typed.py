"""What this package needs of `typing` when it runs, without its price: typing, with re and enum, is 6 ms of a start.

Type checkers see typing itself. `NamedTuple` makes the same classes as typing's, ten times as fast; `Annotated` keeps the
metadata; all else only has to be there. Names, meanings and limits are those of typing.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import (
        Annotated as Annotated,
    )
    from typing import (
        Any as Any,
    )
    from typing import (
        Final as Final,
    )
    from typing import (
        Generic as Generic,
    )
    from typing import (
        NamedTuple as NamedTuple,
    )
    from typing import (
        Protocol as Protocol,
    )
    from typing import (
        TypeAlias as TypeAlias,
    )
    from typing import (
        TypeVar as TypeVar,
    )
else:
    from _collections import _tuplegetter  # makes the descriptor of one field

    class Any:
        """Anything. Never made, and never asked whether something is one."""

    class Generic:
        """A base whose parameters are for the type checker."""

        __slots__ = ()

        def __class_getitem__(cls, parameters):
            return cls

    class Protocol(Generic):
        """A base that describes classes which do not name it."""

        __slots__ = ()

    class TypeVar:
        """A parameter of a Generic, or of a function."""

        def __init__(self, name, *constraints, bound=None):
            self.__name__ = name

    class Annotated:
        """`Annotated[int, x]`: an object whose `__metadata__` is (x,)."""

        __slots__ = ("__metadata__", "__origin__")

        def __init__(self, origin, metadata):
            self.__origin__ = origin
            self.__metadata__ = metadata

        def __class_getitem__(cls, parts):
            return cls(parts[0], parts[1:])

    Final = TypeAlias = Any

    def _new(fields, defaults):
        """The `__new__` of a class with `fields`: compiled when the first one is made, as most classes never are in a run."""

        def first(cls, *args, **named):
            code = f"lambda _cls, {', '.join(fields)}: new(_cls, ({''.join(f'{each}, ' for each in fields)}))"
            made = eval(code, {"new": tuple.__new__, "__name__": f"namedtuple_{cls.__name__}"})
            made.__name__, made.__qualname__ = "__new__", f"{cls.__qualname__}.__new__"
            made.__defaults__ = defaults
            owner = next(each for each in cls.__mro__ if each.__dict__.get("_fields") is fields)
            owner.__new__ = staticmethod(made)
            return made(cls, *args, **named)

        return first

    def _make(cls, values):
        """An instance from an iterable of all its fields."""
        made = tuple.__new__(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"Expected {len(cls._fields)} arguments, got {len(made)}")
        return made

    def _replace(self, /, **changes):
        """A copy with other values for some fields."""
        made = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise ValueError(f"Got unexpected field names: {list(changes)!r}")
        return made

    def _asdict(self):
        """Values by name."""
        return dict(zip(self._fields, self, strict=True))

    def _repr(self):
        values = (f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({', '.join(values)})"

    def _getnewargs(self):
        return tuple(self)

    _SHARED = {
        "__slots__": (), "__repr__": _repr, "__getnewargs__": _getnewargs, "_make": classmethod(_make), "_replace": _replace,
        "_asdict": _asdict,
    }  # fmt: skip

    class _Maker(type):
        """Turns the body of a subclass of NamedTuple into a subclass of tuple."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = tuple(body.get("__annotations__", ()))
            values = [body.pop(each) for each in fields if each in body]
            for index, each in enumerate(fields):
                body[each] = _tuplegetter(index, "")
            defaults = dict(zip(fields[len(fields) - len(values) :], values, strict=True))
            made = {**_SHARED, "_fields": fields, "__match_args__": fields, "_field_defaults": defaults}
            return type(name, (tuple,), {**made, "__new__": _new(fields, tuple(values)), **body})

    class NamedTuple(metaclass=_Maker):
        """Subclass it: annotations are the fields, in order; those with values come last."""
