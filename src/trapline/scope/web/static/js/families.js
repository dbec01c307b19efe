// What a call is about, for its colour, and for %names in the filter.

const MEMBERS = {
  file: "access chdir chmod chown close copy_file_range creat dup dup2 dup3 execveat faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fsetxattr fstat fstatfs fsync ftruncate getcwd getdents getdents64 getxattr inotify_add_watch inotify_init1 ioctl lchown lgetxattr link linkat listxattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat mount newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statx symlink symlinkat tee truncate umask umount2 unlink unlinkat utimensat vmsplice write writev",
  memory: "brk madvise mbind membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap pkey_mprotect process_madvise process_vm_readv process_vm_writev remap_file_pages shmat shmctl shmdt shmget",
  process: "arch_prctl capget capset clone clone3 execve exit exit_group fork futex get_robust_list getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid kcmp pidfd_open prctl prlimit64 rseq sched_getaffinity sched_setaffinity sched_setscheduler sched_yield seccomp set_robust_list set_tid_address setgid setgroups setpgid setpriority setresgid setresuid setrlimit setsid setuid unshare vfork wait4 waitid",
  signal: "kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4 tgkill tkill",
  network: "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt shutdown socket socketpair",
  time: "adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep clock_settime epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 getitimer gettimeofday nanosleep poll ppoll pselect6 select setitimer time timer_create timer_delete timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times",
};

export const FAMILIES = [...Object.keys(MEMBERS), "other"];
const OF = new Map(Object.entries(MEMBERS).flatMap(([family, names]) => names.split(" ").map((name) => [name, family])));

export const family = (call) => OF.get(call) ?? "other";

// How an event is coloured: a name of a variable of the style sheet.
export function hue(event) {
  if (event.event === "call") return `c-${family(event.call)}`;
  return { run: "user", fault: "fault", interrupt: "fault", signal: "signal", stop: "signal" }[event.event] ?? "faint";
}
