/* cc: -static
 * acct(2): records of ended processes, acct(5), version 3; who may ask for them. In a PID namespace of its own where there may be
 * one, so that others are not counted; records of others are passed over.
 */
#include "../check.h"
#include <sys/acct.h>

static void body(int kind)
{
    volatile unsigned work = 0;
    switch (kind) {
    case 0:
        _exit(3);
    case 1:
        raise(SIGTERM);
        _exit(1);
    case 2:
        execl("/proc/self/exe", "program", "child", NULL);
        _exit(1);
    case 3:
        setgid(1234), setuid(4321);
        for (int64_t start = now_ns(CLOCK_PROCESS_CPUTIME_ID); now_ns(CLOCK_PROCESS_CPUTIME_ID) - start < 60000000;)
            work++;
        _exit(0);
    default:
        mmap(NULL, 1ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        memset(mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 256 * PAGE);
        sleep_ms(120);
        _exit(0);
    }
}

static pid_t pids[5];

static unsigned long value(comp_t packed)
{
    return (unsigned long)(packed & 0x1fff) << (packed >> 13) * 3;
}

/* The record of child number `kind`; how many it has. */
static int record_of(int kind, struct acct_v3 *found)
{
    struct acct_v3 one;
    int count = 0, fd = open("records", O_RDONLY);
    while (read(fd, &one, sizeof one) == sizeof one)
        if (one.ac_ppid == (unsigned)getpid() && one.ac_pid == (unsigned)pids[kind])
            *found = one, count++;
    close(fd);
    return count;
}

static void records(void)
{
    struct acct_v3 got[5];
    bool once = true;
    time_t before = time(NULL);
    for (int kind = 0; kind < 5; kind++) {
        if ((pids[kind] = fork()) == 0)
            body(kind);
        waitpid(pids[kind], NULL, 0);
    }
    CHECK_EQ("off", acct(NULL), 0);
    for (int kind = 0; kind < 5; kind++)
        once &= record_of(kind, &got[kind]) == 1;
    CHECK("each has one record", once);
    bool right = true;
    for (int kind = 0; kind < 5; kind++)
        right &= got[kind].ac_version == 3 && got[kind].ac_btime + 2 >= before && got[kind].ac_btime <= time(NULL) + 1;
    CHECK("of the third kind, and of today", right);
    CHECK("who has ended", got[0].ac_exitcode == 3 << 8 && (got[0].ac_flag & ~ASU) == AFORK);
    CHECK("who was killed", got[1].ac_exitcode == SIGTERM && (got[1].ac_flag & ~ASU) == (AFORK | AXSIG));
    CHECK("who ran a program", got[2].ac_exitcode == 7 << 8 && (got[2].ac_flag & ~ASU) == 0);
    CHECK("its name", strcmp(got[2].ac_comm, "exe") == 0 && got[0].ac_comm[0]);
    CHECK("whose it was", got[3].ac_uid == 4321 && got[3].ac_gid == 1234 && got[0].ac_uid == getuid());
    CHECK("what it computed", value(got[3].ac_utime) + value(got[3].ac_stime) >= 5 && value(got[3].ac_utime) < 100);
    CHECK("how long it was there", got[4].ac_etime >= 12 && got[4].ac_etime < 3000 && value(got[4].ac_utime) < 12);
    CHECK("how large it was", value(got[4].ac_mem) >= 1 << 20 && value(got[4].ac_mem) < (1 << 20) + (1 << 17));
    CHECK("pages that it touched", value(got[4].ac_minflt) > 0 && value(got[4].ac_minflt) < 1000);
    pids[0] = fork();
    if (pids[0] == 0)
        _exit(0);
    waitpid(pids[0], NULL, 0);
    CHECK_EQ("no more records", record_of(0, got), 0);
}

static void program(void)
{
    if (IS_ROOT) {
        enter_scratch();
        chmod(".", 0755);
        CHECK_ERRNO("a file that is not there", acct("records"), ENOENT);
        CHECK_ERRNO("a directory", acct("."), EISDIR);
        CHECK_ERRNO("a device", acct("/dev/null"), EACCES);
        CHECK_ERRNO("a bad address", acct((char *)16), EFAULT);
        close(new_file("records", ""));
        CHECK_EQ("on", acct("records"), 0);
        CHECK_EQ("again", acct("records"), 0);
        records();
        CHECK_EQ("off, which it is", acct(NULL), 0);
    } else {
        CHECK_ERRNO("nobody else may", acct("/tmp/records"), EPERM);
        CHECK_ERRNO("nor end it", acct(NULL), EPERM);
    }
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return 7;
    unshare(CLONE_NEWPID);
    pid_t pid = fork();
    if (pid == 0) {
        program();
        exit(finish());
    }
    int status;
    waitpid(pid, &status, 0);
    return exited(status, 0) ? 0 : 1;
}
