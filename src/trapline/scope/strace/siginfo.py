"""A signal as strace(1) shows it: {si_signo=SIGCHLD, si_code=CLD_EXITED, ...}."""

from __future__ import annotations

from typing import Any

from trapline.scope.strace import names
from trapline.scope.strace.constants import constant
from trapline.scope.strace.text import pointer, ticks

_FAULTS = frozenset((4, 5, 7, 8, 11))
SIGCHLD, SIGSYS, SIGIO = 17, 31, 29


def code_name(signo: int, code: int) -> str:
    if 0 < code < 0x80:
        known = names.CODES_BY_SIGNAL.get(signo, {}).get(code)
        if known:
            return known
    return names.CODES.get(code) or (f"{code:#x}" if code > 0 else str(code))


def render(info: Any) -> str:
    """The fields of a SigInfo that its kind has."""
    signo, code = info.signo, info.code
    known = constant(f"{code:#x}" if code > 0 else str(code), lambda: code_name(signo, code))
    parts = [f"si_signo={names.signal(signo)}", f"si_code={known}"]
    if 0 < code < 0x80 and signo in _FAULTS:
        parts.append(f"si_addr={pointer(info.addr)}")
    elif 0 < code < 0x80 and signo == SIGCHLD:
        status = info.status if code == 1 else names.signal(info.status)
        parts += [f"si_pid={info.pid}", f"si_uid={info.uid}", f"si_status={status}"]
        parts += [f"si_utime={ticks(info.utime)}", f"si_stime={ticks(info.stime)}"]
    elif 0 < code < 0x80 and signo == SIGIO:
        parts += [f"si_band={info.band}"]
    elif signo == SIGSYS and code == 1:
        parts += [f"si_call_addr={pointer(info.addr)}", f"si_syscall={info.syscall}"]
    elif code == -2:
        parts += [f"si_timerid={info.tid:#x}", f"si_overrun={info.overrun}"] + _value(info.value)
    elif code != 0x80:
        parts += [f"si_pid={info.pid}", f"si_uid={info.uid}"]
        if code < 0 and code != -6:
            parts += _value(info.value)
    return "{" + ", ".join(parts) + "}"


def _value(value: int) -> list[str]:
    low = value & 0xFFFFFFFF
    return [f"si_value={{int={low - (1 << 32) if low >> 31 else low}, ptr={pointer(value)}}}"] if value else []
