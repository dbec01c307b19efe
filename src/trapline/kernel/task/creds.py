"""Credentials: whose rights a task has; credentials(7), capabilities(7). Immutable: a change makes a new object."""

from __future__ import annotations

from trapline.typed import NamedTuple

from trapline.abi.capability import (
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_SETUID,
)

CAP_LAST = 40
ALL_CAPS = (1 << (CAP_LAST + 1)) - 1
#: the capabilities that follow the file-system user id: capabilities(7), "Effect of user ID changes on capabilities"
FS_CAPS = 1 << CAP_CHOWN | 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH | 1 << CAP_FOWNER | 1 << CAP_FSETID


class Credentials(NamedTuple):
    """User and group ids, supplementary groups, and capability sets as bit masks."""

    uid: int = 0
    gid: int = 0
    euid: int = 0
    egid: int = 0
    suid: int = 0
    sgid: int = 0
    fsuid: int = 0
    fsgid: int = 0
    groups: tuple[int, ...] = ()
    effective: int = 0
    permitted: int = 0
    inheritable: int = 0
    bounding: int = ALL_CAPS
    ambient: int = 0
    securebits: int = 0

    def has_cap(self, cap: int) -> bool:
        return bool(self.effective >> cap & 1)

    @classmethod
    def of_user(cls, uid: int, gid: int, groups: tuple[int, ...] = ()) -> Credentials:
        """What a login gives: every capability for root, none for others."""
        caps = ALL_CAPS if uid == 0 else 0
        return cls(uid, gid, uid, gid, uid, gid, uid, gid, groups, caps, caps)


def after_user_change(old: Credentials, new: Credentials) -> Credentials:
    """The capability changes that go with new user ids: capabilities(7), steps 1 to 4."""
    no_fixup, keep = 1 << 2, 1 << 4
    if old.securebits & no_fixup:
        return new
    roots_before = 0 in (old.uid, old.euid, old.suid)
    roots_after = 0 in (new.uid, new.euid, new.suid)
    effective, permitted, ambient = new.effective, new.permitted, new.ambient
    if roots_before and not roots_after:
        ambient = 0
        if not old.securebits & keep:
            permitted = effective = 0
    if old.euid == 0 and new.euid != 0:
        effective = 0
    elif old.euid != 0 and new.euid == 0:
        effective = permitted
    if old.fsuid == 0 and new.fsuid != 0:
        effective &= ~FS_CAPS
    elif old.fsuid != 0 and new.fsuid == 0:
        effective |= permitted & FS_CAPS
    return new._replace(effective=effective, permitted=permitted, ambient=ambient)


def after_exec(
    old: Credentials, uid: int | None, gid: int | None, *, no_new_privs: bool = False, shared: bool = False
) -> tuple[Credentials, bool]:
    """(credentials of a new program, AT_SECURE); `uid`, `gid`: of a set-user-id or set-group-id file without capabilities.

    capabilities(7), "Transformation of capabilities during execve()". Who may gain nothing (`no_new_privs`), or shares its
    directory with another process (`shared`, which could be led astray), keeps within what it had.
    """
    root_is_special = not old.securebits & 1
    euid, egid = old.euid if uid is None else uid, old.egid if gid is None else gid
    changes = euid != old.uid or egid != old.gid
    ambient = 0 if changes else old.ambient
    permitted = old.inheritable | old.bounding if root_is_special and 0 in (euid, old.uid) else 0
    raises_effective = root_is_special and euid == 0
    if (no_new_privs or shared) and (changes or permitted & ~old.permitted):
        if no_new_privs or not old.has_cap(CAP_SETUID):
            euid, egid = old.uid, old.gid
        permitted &= old.permitted
    permitted |= ambient
    new = old._replace(
        euid=euid, egid=egid, suid=euid, sgid=egid, fsuid=euid, fsgid=egid,
        permitted=permitted, effective=permitted if raises_effective else ambient, ambient=ambient,
        securebits=old.securebits & ~(1 << 4),
    )  # fmt: skip
    return new, changes
