"""The native part of the build: the stub (a freestanding executable), the vDSO, and the `_ring` extension.

All other metadata is in pyproject.toml. Both images are compiled by gcc and land beside their sources, as package data; an
editable install leaves them in the source tree. On machines other than x86-64 Linux nothing native is built, and
only the emulated machines work.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HOST = Path("src/trapline/machine/host")
VDSO = Path("src/trapline/user/vdso")
FREESTANDING = [
    "-O2", "-Wall", "-std=gnu11", "-ffreestanding", "-fno-builtin", "-nostdlib", "-fPIC", "-fno-stack-protector",
    "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-Wl,--build-id=none", "-Wl,-z,noexecstack",
    "-Wl,-z,max-page-size=4096",
]  # fmt: skip
STUB_FLAGS = [
    "-static", "-fno-plt", "-fomit-frame-pointer", "-mgeneral-regs-only", "-mfsgsbase",
    "-fno-tree-loop-distribute-patterns", f"-Wl,-T,{HOST}/stub.ld",
]  # fmt: skip
VDSO_FLAGS = ["-shared", "-Wl,-soname,linux-vdso.so.1", "-Wl,--hash-style=both", "-Wl,-Bsymbolic"]
HERE = sys.platform == "linux" and platform.machine() == "x86_64"


class BuildNative(build_ext):
    """build_ext that also compiles the images."""

    def run(self) -> None:
        if HERE:
            self.image(HOST / "stub.c", HOST / "stub", STUB_FLAGS, [HOST / "stub.ld", HOST / "layout.h"])
            if (VDSO / "vdso.c").exists():
                script = VDSO / "vdso.ld"
                flags = [*VDSO_FLAGS, f"-Wl,-T,{script}"] if script.exists() else VDSO_FLAGS
                self.image(VDSO / "vdso.c", VDSO / "vdso-x86_64.so", flags, [script] if script.exists() else [])
        super().run()

    def image(self, source: Path, target: Path, flags: list[str], also: list[Path]) -> None:
        """Compile `source` to `target` in the source tree and, unless in place, copy it into the build tree."""
        newest = max(path.stat().st_mtime for path in [source, *also, Path(__file__)])
        if not target.exists() or target.stat().st_mtime < newest:
            compiler = os.environ.get("CC", "gcc")
            subprocess.run([compiler, *FREESTANDING, *flags, "-o", str(target), str(source)], check=True)
        if not self.inplace and not getattr(self, "editable_mode", False):
            built = Path(self.build_lib) / target.relative_to("src")
            self.mkpath(str(built.parent))
            self.copy_file(str(target), str(built))

    def get_outputs(self) -> list[str]:
        images = [HOST / "stub", VDSO / "vdso-x86_64.so"]
        built = [Path(self.build_lib) / image.relative_to("src") for image in images if image.exists()]
        return [*super().get_outputs(), *map(str, built)]


RING = Extension(
    "trapline.machine.host._ring",
    [str(HOST / "_ring.c")],
    depends=[str(HOST / "layout.h")],
    extra_compile_args=["-O2", "-std=gnu11"],
)

setup(ext_modules=[RING] if HERE else [], cmdclass={"build_ext": BuildNative})
