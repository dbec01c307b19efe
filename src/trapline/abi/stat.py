"""File types, mode bits and the structures of stat(2), statx(2), statfs(2), getdents(2) and utimensat(2)."""

from __future__ import annotations

from struct import Struct

S_IFMT = 0o170000
S_IFSOCK = 0o140000
S_IFLNK = 0o120000
S_IFREG = 0o100000
S_IFBLK = 0o060000
S_IFDIR = 0o040000
S_IFCHR = 0o020000
S_IFIFO = 0o010000
S_ISUID = 0o4000
S_ISGID = 0o2000
S_ISVTX = 0o1000
S_IALLUGO = 0o7777
S_IXGRP = 0o010

DT_UNKNOWN = 0
DT_FIFO = 1
DT_CHR = 2
DT_DIR = 4
DT_BLK = 6
DT_REG = 8
DT_LNK = 10
DT_SOCK = 12

#: struct stat: dev ino nlink mode uid gid (pad) rdev size blksize blocks atime(s,ns) mtime ctime
STAT = Struct("<QQQIII4xQqqqqqqqqq24x")
#: struct stat of asm-generic/stat.h: dev ino mode nlink uid gid rdev (pad) size blksize (pad) blocks, times as above
STAT_GENERIC = Struct("<QQIIIIQ8xqi4xqqqqqqq8x")
#: struct statx: mask blksize attributes nlink uid gid mode (pad) ino size blocks attributes_mask,
#: atime btime ctime mtime (s, ns, pad each), rdev major minor, dev major minor, mnt_id, dio alignments
STATX = Struct("<IIQIIIHxxQQQQ qI4x qI4x qI4x qI4x IIII QII 96x")
STATX_BASIC_STATS = 0x7FF
STATX_BTIME = 0x800
STATX_MNT_ID = 0x1000
STATX_RESERVED = 0x80000000
STATX_ATTR_IMMUTABLE = 0x10
STATX_ATTR_APPEND = 0x20
STATX_ATTR_MOUNT_ROOT = 0x2000
#: struct statfs: type bsize blocks bfree bavail files ffree fsid[2] namelen frsize flags
STATFS = Struct("<qqqqqqqiiqqq32x")
USTAT = Struct("<ixxxxQ12x4x")  #: struct ustat: tfree tinode fname fpack
TIMESPEC = Struct("<qq")
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
DIRENT_HEAD = Struct("<QQH")  #: struct linux_dirent: ino off reclen, then the name, NUL, and the type in the last byte
DIRENT64_HEAD = Struct("<QqHB")  #: struct linux_dirent64: ino off reclen type, then the name and NUL

XATTR_CREATE = 1
XATTR_REPLACE = 2
XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 65536
XATTR_LIST_MAX = 65536


def pack_stat_generic(dev: int, ino: int, nlink: int, mode: int, *rest: int) -> bytes:
    """STAT_GENERIC from values in the order of STAT."""
    return STAT_GENERIC.pack(dev, ino, mode, nlink, *rest)


def makedev(major: int, minor: int) -> int:
    """A device number as stat(2) shows it; see makedev(3)."""
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


def major(dev: int) -> int:
    return (dev >> 8) & 0xFFF | (dev >> 32) & ~0xFFF


def minor(dev: int) -> int:
    return dev & 0xFF | (dev >> 12) & 0xFFFFFF00
