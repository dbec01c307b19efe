"""LLVM, through llvmlite: from text to code at an address, with objects cached on disk.

Translated code obeys W^X: LLVM's loader writes sections while they are writable, then makes them executable, never both.
What is cached: the interpreter; the key is a hash of the source that its text comes from, the LLVM version and this CPU's
features. The cache directory is $XDG_CACHE_HOME/trapline (or ~/.cache/trapline); a file that
cannot be read, written or loaded is compiled anew, and one that others can write is not trusted.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import llvmlite.binding as llvm

_MAGIC = b"trapline object 1\n"


class Compiler:
    """One execution engine. Its code lives as long as it does."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._cpu = llvm.get_host_cpu_name()
        self._features = llvm.get_host_cpu_features().flatten()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), self._machine(2), use_lmm=True)
        self._lock = threading.Lock()  # the engine's; compiling itself needs none
        self._count = 0

    def _machine(self, level: int) -> Any:
        target = llvm.Target.from_default_triple()
        return target.create_target_machine(
            cpu=self._cpu, features=self._features, opt=level, codemodel="default", reloc="pic", jit=True
        )

    # ---- from text to an object

    def interpreter(self, make: Callable[[int], str], hot: int) -> bytes:
        """The object of the module `make(hot)`, which depends on nothing but our own source."""
        what = f"{llvm.llvm_version_info} {self._cpu} {self._features} {hot} {_sources()}"
        key = hashlib.sha256(what.encode()).hexdigest()
        return _cached(key) or _keep(key, self._object(make(hot), 2, passes=False))

    def region(self, text: str) -> bytes:
        """The object of a region: SSA form, fewer blocks, code generation. (Combining instructions gains nothing.)"""
        return self._object(text, 1, passes=True)

    def _object(self, text: str, level: int, *, passes: bool) -> bytes:
        machine = self._machine(level)
        module = llvm.parse_assembly(text)
        if passes:
            builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
            manager = llvm.create_new_function_pass_manager()
            manager.add_sroa_pass()
            manager.add_simplify_cfg_pass()
            for function in module.functions:
                if not function.is_declaration:
                    manager.run(function, builder)
        found: bytes = machine.emit_object(module)
        return found

    # ---- from an object to addresses

    def load(self, data: bytes, *names: str) -> list[int]:
        """Load an object; the addresses of its functions."""
        with self._lock:
            self._engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(data))
            self._engine.finalize_object()
            return [self._engine.get_function_address(name) for name in names]


def _sources() -> str:
    """A digest of the instruction definitions, of what lowers them, and of the layouts."""
    here = os.path.dirname(__file__)
    above = os.path.dirname(here)
    digest = hashlib.sha256()
    for directory, names in ((here, os.listdir(here)), (os.path.join(above, "isa"), None), (above, ["layout.py"])):
        for name in sorted(os.listdir(directory) if names is None else names):
            if name.endswith(".py"):
                with open(os.path.join(directory, name), "rb") as file:
                    digest.update(file.read())
    return digest.hexdigest()


def _directory() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "trapline")


def _cached(key: str) -> bytes | None:
    try:
        fd = os.open(os.path.join(_directory(), key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        about = os.fstat(fd)
        if about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        head, digest, data = file.read(len(_MAGIC)), file.read(32), file.read()
    return data if head == _MAGIC and hashlib.sha256(data).digest() == digest else None


def _keep(key: str, data: bytes) -> bytes:
    """Write a cache file, whole or not at all."""
    directory = _directory()
    scratch = os.path.join(directory, f".{key}.{os.getpid()}")
    with suppress(OSError):
        os.makedirs(directory, 0o700, exist_ok=True)
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(data).digest() + data)
            os.replace(scratch, os.path.join(directory, key))
        except OSError:
            with suppress(OSError):
                os.unlink(scratch)
    return data
