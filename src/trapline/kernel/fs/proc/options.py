"""The mount options of procfs, proc(5): hidepid=, gid= and subset=."""

from __future__ import annotations

from trapline.abi.errno import EINVAL
from trapline.kernel.fs.proc.base import (
    HIDEPID_INVISIBLE,
    HIDEPID_NO_ACCESS,
    HIDEPID_NOT_PTRACEABLE,
    HIDEPID_OFF,
    ProcSuperBlock,
)

_LEVELS = {
    b"off": HIDEPID_OFF, b"noaccess": HIDEPID_NO_ACCESS, b"invisible": HIDEPID_INVISIBLE, b"ptraceable": HIDEPID_NOT_PTRACEABLE,
}  # fmt: skip
_TEXT = {level: name for name, level in _LEVELS.items()}


def apply(sb: ProcSuperBlock, options: dict[bytes, bytes]) -> None:
    """Take over what is given, for a new instance or one in use. EINVAL, having changed nothing."""
    level, gid, pid_only = sb.hidepid, sb.pid_gid, sb.pid_only
    for name, value in options.items():
        if name == b"hidepid":
            level = _level(value)
        elif name == b"gid":
            gid = _number(value)
        elif name == b"subset":
            if any(each != b"pid" for each in value.split(b"+")):
                raise EINVAL(f"proc: unsupported subset option - {value.decode(errors='replace')}")
            pid_only = True
        else:
            raise EINVAL(f"Unknown parameter '{name.decode(errors='replace')}'")
    sb.hidepid, sb.pid_gid, sb.pid_only = level, gid, pid_only
    sb.options = b"".join(
        (
            b",gid=%d" % gid if gid else b"",
            b",hidepid=" + _TEXT[level] if level else b"",
            b",subset=pid" if pid_only else b"",
        )
    )


def _level(value: bytes) -> int:
    level = _LEVELS.get(value)
    if level is None:
        level = _number(value)
        if level not in _TEXT:
            raise EINVAL("hidepid: 0, 1, 2, 4 or their names were expected")
    return level


def _number(value: bytes) -> int:
    if not value.isdigit() or len(value) > 10 or int(value) >= 1 << 32:
        raise EINVAL("a number was expected")
    return int(value)
