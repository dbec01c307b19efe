"""System V IPC and POSIX message queues: flags, commands, limits and structures; svipc(7), mq_overview(7).

Sources: linux/{ipc,shm,sem,msg,mqueue}.h and asm-generic/{ipcbuf,shmbuf,msgbuf}.h, asm/sembuf.h of x86-64.
"""

from __future__ import annotations

from struct import Struct

IPC_PRIVATE = 0
IPC_CREAT = 0o1000
IPC_EXCL = 0o2000
IPC_NOWAIT = 0o4000

IPC_RMID, IPC_SET, IPC_STAT, IPC_INFO = 0, 1, 2, 3
MSG_STAT, MSG_INFO, MSG_STAT_ANY = 11, 12, 13
SHM_LOCK, SHM_UNLOCK, SHM_STAT, SHM_INFO, SHM_STAT_ANY = 11, 12, 13, 14, 15
GETPID, GETVAL, GETALL, GETNCNT, GETZCNT, SETVAL, SETALL = 11, 12, 13, 14, 15, 16, 17
SEM_STAT, SEM_INFO, SEM_STAT_ANY = 18, 19, 20

IPC_PERM = Struct("<iIIIIIHH4xQQ")  #: key uid gid cuid cgid mode seq, padding, 2 unused
IPC_ID_BITS = 15  #: an identifier is seq << 15 | index
IPC_MNI = 1 << IPC_ID_BITS

# shared memory
SHM_R, SHM_W = 0o400, 0o200
SHM_DEST = 0o1000  #: in the mode: destroyed when the last user is gone
SHM_LOCKED = 0o2000
SHM_HUGETLB = 0o4000
SHM_NORESERVE = 0o10000
SHM_RDONLY, SHM_RND, SHM_REMAP, SHM_EXEC = 0o10000, 0o20000, 0o40000, 0o100000
SHMLBA = 4096
SHMMIN = 1
SHMMAX = SHMALL = (1 << 64) - 1 - (1 << 24)
SHMMNI = 4096
SHMID_DS = Struct("<QqqqiiQQQ")  #: after the permissions: size, atime dtime ctime, cpid lpid, nattch, 2 unused
SHMINFO = Struct("<9Q")  #: max min mni seg all, 4 unused
SHM_INFO_T = Struct("<i4x5Q")  #: used_ids, tot rss swp pages, 2 swap counters

# semaphores
SEM_UNDO = 0x1000
SEMMSL, SEMMNS, SEMOPM, SEMMNI = 32000, 1_024_000, 500, 32000
SEMVMX = SEMAEM = 32767
SEMBUF = Struct("<Hhh")  #: num op flags
SEMID_DS = Struct("<q8xq8xQ16x")  #: after the permissions, on x86-64: otime, ctime, nsems, each unused word skipped
SEMID_DS_GENERIC = Struct("<qqQ16x")  #: the same elsewhere
SEMINFO = Struct("<10i")  #: map mni mns mnu msl opm ume usz vmx aem

# message queues
MSG_NOERROR, MSG_EXCEPT, MSG_COPY = 0o10000, 0o20000, 0o40000
MSGMAX, MSGMNB, MSGMNI = 8192, 16384, 32000
MSQID_DS = Struct("<qqqQQQiiQQ")  #: after the permissions: stime rtime ctime, cbytes qnum qbytes, lspid lrpid, 2 unused
MSGINFO = Struct("<7iH2x")  #: pool map max mnb mni ssz tql seg
MSGPOOL, MSGSSZ, MSGSEG = MSGMNI * MSGMNB // 1024, 16, 0xFFFF

# POSIX message queues
MQ_PRIO_MAX = 32768
MQ_MSG_MAX, MQ_MSGSIZE_MAX, MQ_QUEUES_MAX = 10, 8192, 256
MQ_HARD_MSG_MAX, MQ_HARD_MSGSIZE_MAX = 65536, 16 << 20
MQ_NAME_MAX = 255
MQ_ATTR = Struct("<4q32x")  #: flags maxmsg msgsize curmsgs
NOTIFY_COOKIE_LEN = 32

AIO_MAX_NR = 65536  #: /proc/sys/fs/aio-max-nr
AIO_MAX_MAX = 1 << 18  #: and the most that may be written there
