/* cc:
 * process_madvise(2) and process_mrelease(2).
 */
#include "../check.h"
#include <sys/uio.h>

static long advise(int pidfd, struct iovec *ranges, size_t count, int advice, unsigned flags)
{
    return syscall(SYS_process_madvise, pidfd, ranges, count, advice, flags);
}

static long release(int pidfd, unsigned flags)
{
    return syscall(SYS_process_mrelease, pidfd, flags);
}

int main(void)
{
    char *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(memory, "kept");
    struct iovec ranges[] = {{memory, PAGE}, {memory + 2 * PAGE, 2 * PAGE}}, gap[] = {{memory, PAGE}, {(void *)PAGE, PAGE}};
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (IS_ROOT) {
        CHECK_EQ("cold", advise(self, ranges, 2, MADV_COLD, 0), 3 * PAGE);
        CHECK_EQ("up to a gap", advise(self, gap, 2, MADV_COLD, 0), PAGE);
        CHECK_ERRNO("only a gap", advise(self, gap + 1, 1, MADV_COLD, 0), ENOMEM);
    }
    CHECK_ERRNO("flags", advise(self, ranges, 2, MADV_COLD, 1), EINVAL);
    CHECK_ERRNO("not a pidfd", advise(1, ranges, 2, MADV_COLD, 0), EBADF);
    CHECK_ERRNO("bad ranges", advise(self, (void *)8, 1, MADV_COLD, 0), EFAULT);
    CHECK_ERRNO("too many ranges", advise(self, ranges, 2000, MADV_COLD, 0), EINVAL);
    CHECK("content", strcmp(memory, "kept") == 0);
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    int child = (int)syscall(SYS_pidfd_open, pid, 0);
    if (IS_ROOT)
        CHECK_EQ("another's", advise(child, ranges, 2, MADV_COLD, 0), 3 * PAGE);
    else
        CHECK_ERRNO("another's", advise(child, ranges, 2, MADV_COLD, 0), EPERM);
    CHECK_ERRNO("not for others", advise(child, ranges, 2, MADV_FREE, 0), EINVAL);
    CHECK_ERRNO("it is not dying", release(child, 0), EINVAL);
    CHECK_ERRNO("release: flags", release(child, 1), EINVAL);
    CHECK_ERRNO("release: not a pidfd", release(1, 0), EBADF);
    kill(pid, SIGKILL);
    siginfo_t info;
    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
    CHECK_ERRNO("its memory is gone", release(child, 0), ESRCH);
    CHECK_ERRNO("nothing to advise", advise(child, ranges, 2, MADV_COLD, 0), ESRCH);
    waitpid(pid, NULL, 0);
    CHECK_ERRNO("and it is", release(child, 0), ESRCH);
    return finish();
}
