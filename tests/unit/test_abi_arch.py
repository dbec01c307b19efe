"""What differs between architectures agrees with the C headers of each, compiled and run natively or by qemu-riscv64."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trapline.abi.arch import ABIS, Abi
from trapline.abi.riscv64 import HWCAP_LETTERS, hwcap
from trapline.kernel.entry.table import Table, native_table
from trapline.kernel.syscalls import clone as _clone  # noqa: F401 - declares the call
from trapline.kernel.syscalls.declare import SYSCALLS, parameters
from trapline.machine.riscv.arch import RISCV64

COMPILERS = {"x86_64": ("gcc", []), "riscv64": ("riscv64-linux-gnu-gcc", ["qemu-riscv64"])}

PROGRAM = r"""
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	struct stat st;
	struct epoll_event event;

	memset(&st, 0, sizeof st);
	memset(&event, 0, sizeof event);
	st.st_dev = 1; st.st_ino = 2; st.st_nlink = 3; st.st_mode = 4; st.st_uid = 5; st.st_gid = 6; st.st_rdev = 7; st.st_size = 8;
	st.st_blksize = 9; st.st_blocks = 10; st.st_atim.tv_sec = 11; st.st_atim.tv_nsec = 12; st.st_mtim.tv_sec = 13;
	st.st_mtim.tv_nsec = 14; st.st_ctim.tv_sec = 15; st.st_ctim.tv_nsec = 16;
	event.events = 17;
	event.data.u64 = 18;
	write(1, &st, sizeof st);
	write(1, &event, sizeof event);
	return 0;
}
"""


def compiler(arch: str) -> tuple[str, list[str]]:
    name, runner = COMPILERS[arch]
    for each in (name, *runner):
        if not shutil.which(each):
            pytest.skip(f"not installed: {each}")
    return name, runner


@pytest.mark.parametrize("arch", sorted(ABIS))
def test_structures_are_the_compilers(arch: str, tmp_path: Path) -> None:
    cc, runner = compiler(arch)
    source, program = tmp_path / "layout.c", tmp_path / "layout"
    source.write_text(PROGRAM)
    subprocess.run([cc, "-static", "-o", program, source], check=True)
    out = subprocess.run([*runner, program], check=True, capture_output=True).stdout
    abi = ABIS[arch]
    stat = abi.pack_stat(*range(1, 17))
    assert out == stat + abi.epoll_event.pack(17, 18)


@pytest.mark.parametrize("arch", sorted(ABIS))
def test_numbers_are_the_headers(arch: str) -> None:
    cc, _ = compiler(arch)
    text = "#include <asm/unistd.h>\n" + "".join(f"nr {name} __NR_{name}\n" for name in ABIS[arch].numbers)
    out = subprocess.run([cc, "-E", "-P", "-"], input=text, check=True, capture_output=True, text=True).stdout
    found = {m[1]: eval(m[2]) for m in re.finditer(r"^nr (\w+) ([0-9()+ ]+)$", out, re.MULTILINE)}
    assert len(found) > 250
    assert {name: ABIS[arch].numbers[name] for name in found} == found


@pytest.mark.parametrize(("abi", "words"), [(ABIS["x86_64"], "handler flags restorer mask"), (ABIS["riscv64"], "handler flags mask")])
def test_sigaction_is_the_kernels(abi: Abi, words: str) -> None:
    """The kernel's own structure, which no header of the C library has: see asm/signal.h."""
    values: dict[str, int] = {"handler": 1 << 40, "flags": 4, "restorer": 1 << 41, "mask": 1 << 63}
    raw = struct.pack(f"<{len(words.split())}Q", *(values[each] for each in words.split()))
    assert abi.sigaction_size == len(raw)
    assert abi.unpack_sigaction(raw) == (1 << 40, 4, 1 << 41 if abi.restorer else 0, 1 << 63)
    assert abi.pack_sigaction(*abi.unpack_sigaction(raw)) == raw


def test_clone_takes_its_arguments_in_the_architectures_order() -> None:
    def read(table: Table, regs: Any) -> Any:
        return table.reader(lambda task, *args: args, "clone", parameters(SYSCALLS["clone"]))(None, regs)

    riscv = native_table(None, RISCV64)
    regs = [0] * RISCV64.nregs
    for place, register in enumerate(RISCV64.args):
        regs[register] = 100 + place
    assert [each.name for each in parameters(SYSCALLS["clone"])] == ["flags", "stack", "parent_tid", "child_tid", "tls"]
    assert read(riscv, regs) == (100, 101, 102, 104, 103)
    assert riscv.names[220] == "clone" and riscv.names[0] == "io_setup"


def test_hwcap_has_a_bit_per_letter() -> None:
    assert hwcap("rv64imafdc_zicsr_zba") == 0x112D
    assert hwcap("rv64ima_zfa_zicond") == 0x1101 and hwcap("") == 0
    assert hwcap(RISCV64.isa) == sum(1 << ord(each) - 65 for each in HWCAP_LETTERS)
