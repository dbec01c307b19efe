"""Which family (file of this package) declares which system calls.

Written by tools/syscall_index.py from the declarations; do not edit.
"""

from __future__ import annotations

#: Family: the names that it declares.
FAMILIES = {
    "absent": (
        "create_module get_kernel_syms query_module _sysctl getpmsg putpmsg afs_syscall tuxcall security vserver nfsservctl "
        "uselib epoll_ctl_old epoll_wait_old set_thread_area get_thread_area modify_ldt iopl ioperm init_module finit_module "
        "delete_module kexec_load kexec_file_load add_key request_key keyctl bpf perf_event_open io_uring_setup "
        "io_uring_enter io_uring_register landlock_create_ruleset landlock_add_rule landlock_restrict_self ptrace"
    ),
    "aio": "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents",
    "clone": "fork vfork clone clone3",
    "dir": "getdents getdents64 mkdir mkdirat rmdir getcwd chdir fchdir chroot",
    "epoll": "epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2",
    "eventfd": "eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime signalfd signalfd4",
    "exec": "execve execveat",
    "exit": "exit exit_group",
    "fd": "close dup dup2 dup3 close_range flock fcntl",
    "futex": "futex futex_waitv",
    "handles": "name_to_handle_at open_by_handle_at",
    "identity": (
        "getpid gettid getppid getpgid getpgrp getsid setsid setpgid getuid geteuid getgid getegid getresuid getresgid setuid "
        "setgid setreuid setregid setresuid setresgid setfsuid setfsgid getgroups setgroups capget capset"
    ),
    "inotify": "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch",
    "ioctl": "ioctl",
    "kcmp": "kcmp",
    "kill": "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo",
    "klog": "syslog",
    "limits": "getrlimit setrlimit prlimit64 getrusage",
    "link": "link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 mknod mknodat",
    "membarrier": "membarrier",
    "mman": (
        "mmap munmap mprotect pkey_mprotect pkey_alloc pkey_free mremap brk madvise msync mincore mlock mlock2 munlock "
        "mlockall munlockall memfd_create remap_file_pages mbind set_mempolicy get_mempolicy migrate_pages move_pages "
        "set_mempolicy_home_node userfaultfd memfd_secret"
    ),
    "mount": "mount umount2 pivot_root",
    "mount_fd": "open_tree move_mount fsopen fspick fsconfig fsmount mount_setattr",
    "mqueue": "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
    "msg": "msgget msgsnd msgrcv msgctl",
    "namespace": "unshare setns",
    "open": "open openat creat openat2",
    "perm": "chmod fchmod fchmodat umask chown lchown fchown fchownat utimensat utimes futimesat utime",
    "pidfd": "pidfd_open pidfd_send_signal pidfd_getfd",
    "pipe": "pipe pipe2",
    "poll": "poll ppoll select pselect6",
    "prctl": "personality prctl",
    "priority": "getpriority setpriority ioprio_set ioprio_get",
    "process_mm": "process_madvise process_mrelease",
    "process_vm": "process_vm_readv process_vm_writev",
    "reboot": "reboot",
    "riscv": "riscv_flush_icache riscv_hwprobe",
    "rw": "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2",
    "schedule": (
        "sched_yield sched_getscheduler sched_setscheduler sched_setparam sched_getparam sched_get_priority_max "
        "sched_get_priority_min sched_rr_get_interval sched_getattr sched_setattr sched_getaffinity sched_setaffinity"
    ),
    "seccomp": "seccomp",
    "sem": "semget semop semtimedop semctl",
    "sendfile": "sendfile copy_file_range",
    "settime": "clock_settime settimeofday adjtimex clock_adjtime",
    "shm": "shmget shmat shmdt shmctl",
    "signal": (
        "rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigsuspend pause sigaltstack rt_sigreturn "
        "restart_syscall"
    ),
    "socket": "socket socketpair bind listen connect accept accept4 getsockname getpeername shutdown",
    "socket_options": "setsockopt getsockopt",
    "socket_receive": "recvfrom recvmsg recvmmsg",
    "socket_send": "sendto sendmsg sendmmsg",
    "splice": "splice tee vmsplice",
    "stat": "stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat",
    "statfs": "statfs fstatfs ustat sync syncfs",
    "storage": "quotactl quotactl_fd fanotify_init fanotify_mark lookup_dcookie sysfs vhangup",
    "swap": "swapon swapoff",
    "system": "uname sethostname setdomainname sysinfo getrandom getcpu acct",
    "thread": "arch_prctl set_tid_address set_robust_list get_robust_list rseq",
    "time": "clock_gettime clock_getres gettimeofday time times nanosleep clock_nanosleep",
    "timer": "getitimer setitimer alarm timer_create timer_settime timer_gettime timer_getoverrun timer_delete",
    "truncate": "truncate ftruncate fallocate lseek fsync fdatasync sync_file_range fadvise64 readahead",
    "wait": "wait4 waitid",
    "xattr": (
        "setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr "
        "fremovexattr"
    ),
}
#: The family of each call.
FAMILY = {name: family for family, names in FAMILIES.items() for name in names.split()}
