"""Can this computer be a host machine? What `trapline doctor` asks, each answer in words a person can act on.

Nothing here needs the native parts except the last check, which starts a machine for a moment.
"""

from __future__ import annotations

import os
import struct
import sys
from trapline.typed import NamedTuple

_HWCAP2, _FSGSBASE = 26, 2
_MIN_KERNEL = (5, 9)


class Check(NamedTuple):
    name: str
    ok: bool
    required: bool
    detail: str


def checks() -> list[Check]:
    """Every requirement and circumstance, in the order in which they are worth reading."""
    platform = _platform()
    if not platform.ok:
        return [platform]
    return [
        platform, _kernel(), _fsgsbase(), _memfd(), _cpus(), _seccomp(), _vsyscall(), _low_addresses(), _overcommit(),
        _machine(),
    ]  # fmt: skip


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _platform() -> Check:
    uname = os.uname()
    ok = sys.platform == "linux" and uname.machine == "x86_64"
    detail = f"{uname.sysname} on {uname.machine}"
    return Check("platform", ok, True, detail if ok else f"{detail}: the host machine is for Linux on x86-64")


def _kernel() -> Check:
    release = os.uname().release
    digits = release.replace("-", ".").split(".")[:2]
    ok = tuple(int(part) for part in digits if part.isdigit()) >= _MIN_KERNEL
    return Check("kernel", ok, True, f"Linux {release}" + ("" if ok else ": 5.9 or newer is needed"))


def _fsgsbase() -> Check:
    try:
        with open("/proc/self/auxv", "rb") as file:
            auxv = dict(struct.iter_unpack("2Q", file.read()))
    except OSError:
        auxv = {}
    ok = bool(auxv.get(_HWCAP2, 0) & _FSGSBASE)
    detail = "user code may set FS and GS base" if ok else "the CPU, or the kernel's option nofsgsbase, forbids wrfsbase"
    return Check("fsgsbase", ok, True, detail)


def _memfd() -> Check:
    try:
        os.close(os.memfd_create("trapline-check", os.MFD_CLOEXEC))
    except (OSError, AttributeError) as error:
        return Check("memfd", False, True, f"memfd_create fails: {error}")
    return Check("memfd", True, True, "guest RAM can be shared with stub processes")


def _cpus() -> Check:
    count = len(os.sched_getaffinity(0))
    few = ": a trap costs two process switches; a second CPU makes it several times faster"
    return Check("cpus", count > 1, False, f"{count} usable" + (few if count < 2 else ""))


def _seccomp() -> Check:
    actions = _read("/proc/sys/kernel/seccomp/actions_avail").split()
    missing = [action for action in ("trap", "user_notif", "kill_process") if action not in actions]
    if actions and missing:
        return Check("seccomp", False, True, "the kernel lacks the seccomp actions " + ", ".join(missing))
    return Check("seccomp", True, True, "filters with traps and user notification")


def _vsyscall() -> Check:
    maps = [line for line in _read("/proc/self/maps").splitlines() if line.endswith("[vsyscall]")]
    mode = "none (calls there fault)" if not maps else "emulate" if " r-xp " in maps[0] else "xonly"
    return Check("vsyscall", True, False, f"{mode}; only programs from before 2012 call it")


def _low_addresses() -> Check:
    least = int(_read("/proc/sys/vm/mmap_min_addr") or 0)
    detail = f"guests cannot map below {least:#x}" + ("" if os.geteuid() else " (but root's can)")
    return Check("mmap_min_addr", least <= 65536, False, detail)


def _overcommit() -> Check:
    mode = _read("/proc/sys/vm/overcommit_memory")
    ok = mode != "2"
    return Check("overcommit", ok, False, "guest RAM is sparse" if ok else "vm.overcommit_memory=2: keep guest RAM small")


def _machine() -> Check:
    """Start a machine, and let it fork one stub process."""
    from trapline.machine.ram import Ram

    try:
        from trapline.machine.host.errors import StubDied
        from trapline.machine.host.machine import HostMachine
    except ImportError as error:
        return Check("machine", False, True, f"the native part is missing ({error}); reinstall where gcc is available")
    ram = Ram(4 << 20, shared=True)
    try:
        machine = HostMachine(ram, 1)
    except Exception as error:  # whatever it is, a person must read it
        return Check("machine", False, True, str(error))
    try:
        machine.crew.new_process()
    except StubDied as died:
        return Check("machine", False, True, f"it starts, but cannot make an address space: {died}")
    finally:
        machine.close()
        ram.close()
    fp = machine.template.fp
    return Check("machine", True, True, f"works; {fp.size} bytes of XSAVE, features {fp.features:#x}")
