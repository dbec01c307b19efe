/* The boundary benchmark: what it costs to cross from user space to kernel space and back, one row per kind of crossing.
 *
 * Usage: boundary ROW:ROUNDS... | NAME=SCRIPT:ROUNDS... | true | rest MILLISECONDS. Prints one line per round: "ROW NANOSECONDS", per
 * operation (per page for memory rows), or for one run of /bin/sh SCRIPT. The clock is read outside the timed loops only, and each
 * loop is sized by a first, untimed run to take about ROUND_MS. Started as init, it takes its arguments from the variable `bench`,
 * separated by commas, mounts what it needs and powers the machine off at the end.
 * Static, one file, no dependencies: gcc -O2 -static -o boundary boundary.c
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUND_MS = 60, PAGES = 4096, PAGE = 4096 };

static int fd, one[2], two[2];
static char block[PAGE], self[4096];
static const char *path = "/tmp/boundary";
static volatile long sink;
static volatile double real_sink;

static long now_ns(void)
{
    struct timespec time;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000l + time.tv_nsec;
}

static void getppid_row(long n)
{
    while (n--)
        syscall(SYS_getppid);
}

static void clock_row(long n)
{
    struct timespec time;
    while (n--)
        clock_gettime(CLOCK_MONOTONIC, &time);
}

static void pread_row(long n)
{
    while (n--)
        if (pread(fd, block, PAGE, 0) != PAGE)
            exit(1);
}

static void open_row(long n)
{
    while (n--)
        close(open(path, O_RDONLY));
}

static void stat_row(long n)
{
    struct stat st;
    while (n--)
        stat(path, &st);
}

static void pipe_row(long n)
{
    char c = 0;
    while (n--) {
        write(one[1], &c, 1);
        read(one[0], &c, 1);
    }
}

/* Two processes, one byte to and fro. */
static void pipe2_row(long n)
{
    char c = 0;
    pid_t pid = fork();
    if (pid == 0) {
        for (long i = 0; i < n; i++) {
            read(one[0], &c, 1);
            write(two[1], &c, 1);
        }
        _exit(0);
    }
    for (long i = 0; i < n; i++) {
        write(one[1], &c, 1);
        read(two[0], &c, 1);
    }
    waitpid(pid, NULL, 0);
}

static void handler(int signo)
{
    sink += signo;
}

static void signal_row(long n)
{
    pid_t me = getpid();
    signal(SIGUSR1, handler);
    while (n--)
        kill(me, SIGUSR1);
}

static void fork_row(long n)
{
    while (n--) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        waitpid(pid, NULL, 0);
    }
}

static void exec_row(long n)
{
    while (n--) {
        pid_t pid = fork();
        if (pid == 0) {
            execl(self, self, "true", NULL);
            _exit(127);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status != 0) {
            fprintf(stderr, "boundary: cannot execute %s\n", self);
            exit(1);
        }
    }
}

static void touch_row(long n)
{
    for (; n > 0; n -= PAGES) {
        long count = n < PAGES ? n : PAGES;
        char *area = mmap(NULL, (size_t)count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        madvise(area, (size_t)count * PAGE, MADV_NOHUGEPAGE);
        for (long i = 0; i < count; i++)
            area[i * PAGE] = 1;
        munmap(area, (size_t)count * PAGE);
    }
}

static long copy_ns, copy_pages;

/* The forks are not timed, only the writes: they report by shared memory. */
static void copy_row(long n)
{
    long *spent = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *area = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(area, (size_t)PAGES * PAGE, MADV_NOHUGEPAGE);
    memset(area, 1, (size_t)PAGES * PAGE);
    copy_ns = copy_pages = 0;
    for (; n > 0; n -= PAGES) {
        pid_t pid = fork();
        if (pid == 0) {
            long start = now_ns();
            for (long i = 0; i < PAGES; i++)
                area[i * PAGE] = 2;
            *spent = now_ns() - start;
            _exit(0);
        }
        waitpid(pid, NULL, 0);
        copy_ns += *spent, copy_pages += PAGES;
    }
    munmap(area, (size_t)PAGES * PAGE);
    munmap(spent, PAGE);
}

static void integer_row(long n)
{
    unsigned long x = 88172645463325252ul;
    while (n--)
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    sink = (long)x;
}

static void float_row(long n)
{
    double x = 0.5, sum = 0;
    while (n--)
        x = 3.7 * x * (1 - x), sum += x / (1 + x);
    real_sink = sum;
}

static const struct {
    const char *name;
    void (*run)(long);
    long start;
} rows[] = {
    {"getppid", getppid_row, 64}, {"clock_gettime", clock_row, 1024}, {"pread-4k", pread_row, 64},
    {"open-close", open_row, 32}, {"stat", stat_row, 32},             {"pipe", pipe_row, 32},
    {"pipe-2", pipe2_row, 32},    {"signal", signal_row, 32},         {"fork-wait", fork_row, 2},
    {"exec-wait", exec_row, 1},   {"first-touch", touch_row, PAGES},  {"copy-on-write", copy_row, PAGES},
    {"integer", integer_row, 1 << 16}, {"float", float_row, 1 << 16},
};

/* Nanoseconds of n operations. */
static long timed(void (*run)(long), long n)
{
    long start = now_ns();
    run(n);
    long spent = now_ns() - start;
    return run == copy_row ? copy_ns : spent;
}

static void measure(unsigned row, int rounds)
{
    long n = rows[row].start, spent;
    while ((spent = timed(rows[row].run, n)) < ROUND_MS * 1000000l / 4 && n < 1l << 40)
        n *= 2;
    n = spent > 0 ? (long)((double)n * ROUND_MS * 1000000.0 / (double)spent) : n;
    if (n < rows[row].start)
        n = rows[row].start;
    if (rows[row].start == PAGES)
        n = (n + PAGES - 1) / PAGES * PAGES;
    for (int i = 0; i < rounds; i++) {
        spent = timed(rows[row].run, n);
        printf("%s %.3f\n", rows[row].name, (double)spent / (double)n);
        fflush(stdout);
    }
}

static void prepare(void)
{
    memset(block, 'x', PAGE);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || write(fd, block, PAGE) != PAGE || pipe(one) || pipe(two)) {
        perror(path);
        exit(1);
    }
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
}

/* One run of a script, from fork to wait; its output goes nowhere. */
static void measure_script(const char *name, const char *script, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        long start = now_ns();
        pid_t pid = fork();
        if (pid == 0) {
            int null = open("/dev/null", O_RDWR);
            dup2(null, 0);
            dup2(null, 1);
            execl("/bin/sh", "sh", script, NULL);
            _exit(127);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status != 0) {
            fprintf(stderr, "boundary: %s: status %#x\n", name, status);
            return;
        }
        printf("%s %ld.0\n", name, now_ns() - start);
        fflush(stdout);
    }
}

/* One argument: ROW:ROUNDS or NAME=SCRIPT:ROUNDS. */
static void measure_word(char *word)
{
    char *colon = strrchr(word, ':'), *script = strchr(word, '=');
    int rounds = colon ? atoi(colon + 1) : 1;
    if (colon)
        *colon = 0;
    if (script) {
        *script = 0;
        measure_script(word, script + 1, rounds);
        return;
    }
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(word, rows[i].name) == 0)
            measure(i, rounds);
}

/* Under user-mode Linux this is init: the arguments come from the kernel's command line, as the variable `bench`. */
static void as_init(char *list)
{
    mount("proc", "/proc", "proc", 0, NULL);
    mount("tmpfs", "/tmp", "tmpfs", 0, NULL); /* neither this program nor a script may be there */
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    setenv("PATH", "/usr/bin:/bin", 1);
    prepare();
    for (char *word = strtok(list, ","); word; word = strtok(NULL, ","))
        measure_word(word);
    fflush(stdout);
    reboot(RB_POWER_OFF);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "true") == 0)
        return 0;
    if (argc > 2 && strcmp(argv[1], "rest") == 0)
        return usleep((useconds_t)atoi(argv[2]) * 1000);
    char *list = getenv("bench");
    if (getpid() == 1 && list)
        as_init(list);
    prepare();
    for (int a = 1; a < argc; a++)
        measure_word(argv[a]);
    unlink(path);
    return 0;
}
