"""Which labs there are. A lab's module is imported when the lab is asked for."""

from __future__ import annotations

from importlib import import_module

from trapline.labs.framework.lab import Lab, LabError

#: id -> module in trapline.labs, in the order in which they are listed
MODULES = {
    "M1": "spaces",
    "M2": "walk",
    "M3": "reach",
    "M4": "cow",
    "M5": "layout",
    "M6": "segments",
    "M7": "tlb",
    "M8": "aslr",
    "M9": "nx",
    "M10": "swap",
    "P1": "privileged",
    "P3": "popek",
    "P4": "modes",
    "S1": "anatomy",
    "S2": "table",
    "S3": "entry",
    "I1": "latency",
    "I2": "schedulers",
    "I3": "sigreturn",
    "I4": "napi",
    "Y8": "rtos",
    "Y9": "service",
    "V1": "hypercall",
    "V2": "guest",
    "V3": "nested",
    "V5": "bypass",
    "V6": "onemode",
    "C1": "filter",
    "C5": "rop",
    "C7": "meltdown",
}


def labs() -> list[Lab]:
    return [_load(each) for each in MODULES.values()]


def find(name: str) -> Lab:
    """A lab by its id or its name. Raises LabError."""
    module = MODULES.get(name.upper())
    if module is not None:
        return _load(module)
    for each in labs():
        if each.name == name.lower():
            return each
    raise LabError(f"no lab is called {name}: `trapline lab list` lists them")


def _load(module: str) -> Lab:
    found = import_module(f"trapline.labs.{module}").LAB
    assert isinstance(found, Lab)
    return found
