"""The riscv64 vDSO that is assembled here: its symbols, its code, and what the C library's own loader makes of it."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from test_vdso import symbols

from trapline.abi.syscalls import RISCV64
from trapline.user.vdso import riscv64 as vdso

LIBRARIES = "/usr/riscv64-linux-gnu"
PROGRAM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

int main(int argc, char **argv)
{
	void *image = dlopen(argv[1], RTLD_NOW);
	int (*gettime)(int, struct timespec *);
	struct timespec now = {0};

	if (!image)
		return puts(dlerror()), 1;
	for (int i = 2; i < argc; i++)
		if (!dlvsym(image, argv[i], "LINUX_4.15"))
			return puts(dlerror()), 2;
	if (dlsym(image, "no_such_function"))
		return 3;
	gettime = (int (*)(int, struct timespec *))dlvsym(image, "__vdso_clock_gettime", "LINUX_4.15");
	if (gettime(CLOCK_MONOTONIC, &now) || !now.tv_sec)
		return 4;
	return gettime(99, &now) != -22;
}
"""


def test_each_function_makes_its_call_in_three_instructions() -> None:
    image, at = vdso.build()
    assert symbols(image) == at and len(image) < 4096
    for name, call in vdso.FUNCTIONS.items():
        li, ecall, ret = struct.unpack_from("<III", image, at[name])
        assert (li >> 20, li & 0xFFFFF) == (RISCV64[call], 17 << 7 | 0x13), name
        assert (ecall, ret) == (0x73, 0x8067)


def test_unwinders_know_where_handlers_return_to() -> None:
    """libgcc takes a frame for a signal frame if its return address points to `li a7, 139; ecall` (its linux-unwind.h)."""
    image, at = vdso.build()
    assert struct.unpack_from("<II", image, at[vdso.SIGRETURN]) == (0x08B00893, 0x00000073)


def test_numbers_that_do_not_fit_are_refused() -> None:
    assert vdso.li(1, -1) == 0xFFF0_0093
    with pytest.raises(ValueError, match="does not fit"):
        vdso.li(1, 2048)


def test_glibc_loads_it_and_finds_every_symbol(tmp_path: Path) -> None:
    for each in ("riscv64-linux-gnu-gcc", "qemu-riscv64"):
        if not shutil.which(each):
            pytest.skip(f"not installed: {each}")
    source, program, image = tmp_path / "load.c", tmp_path / "load", tmp_path / "vdso.so"
    source.write_text(PROGRAM)
    image.write_bytes(vdso.build()[0])
    subprocess.run(["riscv64-linux-gnu-gcc", "-o", program, source], check=True)
    command = ["qemu-riscv64", "-L", LIBRARIES, program, image, *vdso.FUNCTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stdout + done.stderr
