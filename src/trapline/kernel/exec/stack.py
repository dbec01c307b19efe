"""The first stack of a program: strings, argv, envp and the auxiliary vector, as execve(2) leaves them.

From the top down: the program's name, the environment's strings, the arguments' strings, the platform's name, 16
random bytes, padding, the auxiliary vector, envp, argv, argc (16-byte aligned).
"""

from __future__ import annotations

import struct
from trapline.typed import TYPE_CHECKING

from trapline.abi import elf
from trapline.abi.errno import E2BIG

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace

MAX_STRING = 131072  #: execve(2): MAX_ARG_STRLEN
MAX_TOTAL = 6 << 20  #: execve(2): three quarters of _STK_LIM
ARG_MIN = 128 << 10
MASK64 = (1 << 64) - 1


def check_size(argv: list[bytes], envp: list[bytes], name: bytes, stack_limit: int) -> None:
    """execve(2), "Limits on size of arguments and environment"; raises E2BIG."""
    limit = max(ARG_MIN, min(stack_limit // 4, MAX_TOTAL))
    strings = sum(map(len, argv)) + sum(map(len, envp)) + len(argv) + len(envp) + len(name) + 1
    if strings + 8 * (len(argv) + len(envp)) > limit:
        raise E2BIG
    if any(len(each) >= MAX_STRING for each in (*argv, *envp)):
        raise E2BIG


def build(
    mm: AddressSpace,
    top: int,
    argv: list[bytes],
    envp: list[bytes],
    name: bytes,
    platform: bytes,
    random: bytes,
    aux: list[tuple[int, int]],
) -> int:
    """Write everything below `top`; the first stack pointer. `aux` lacks AT_RANDOM, AT_EXECFN, AT_PLATFORM and AT_NULL."""
    env_block = b"".join(each + b"\0" for each in envp)
    arg_block = b"".join(each + b"\0" for each in argv)
    mm_name = top - 8 - len(name) - 1
    mm.env_end = mm_name
    mm.env_start = mm.arg_end = mm_name - len(env_block)
    mm.arg_start = mm.arg_end - len(arg_block)
    below = (mm.arg_start - len(platform) - 1) & -16
    entropy = below - 16
    vector = [*aux, (elf.AT_RANDOM, entropy), (elf.AT_EXECFN, mm_name)]
    vector += [*([(elf.AT_PLATFORM, below)] if platform else []), (elf.AT_NULL, 0)]
    words = [len(argv), *_addresses(mm.arg_start, argv), 0, *_addresses(mm.env_start, envp), 0]
    flat = [value & MASK64 for pair in vector for value in pair]  # hostile addresses wrap
    mm.saved_auxv = struct.pack(f"<{len(flat)}Q", *flat)
    sp = (entropy - 8 * (len(words) + len(flat))) & -16
    head = struct.pack(f"<{len(words)}Q", *words) + mm.saved_auxv
    middle = head.ljust(entropy - sp, b"\0") + random + platform
    mm.write(sp, middle.ljust(mm.arg_start - sp, b"\0") + arg_block + env_block + name + bytes(9))
    mm.start_stack = sp
    return sp


def _addresses(start: int, strings: list[bytes]) -> list[int]:
    found = []
    for each in strings:
        found.append(start)
        start += len(each) + 1
    return found
