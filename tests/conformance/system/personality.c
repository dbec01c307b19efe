/* cc: -static
 * personality(2): what the flags change in mmap(2), mprotect(2), brk(2), shmat(2), select(2), and in a new program. */
#include "../check.h"
#include <sys/personality.h>
#include <sys/select.h>
#include <sys/shm.h>

/* The permissions of the area at `address`, as /proc/self/maps has them. */
static const char *rights(const void *address)
{
    static char found[8];
    static char text[1 << 16];
    unsigned long low, high, at = (unsigned long)address;
    int fd = open("/proc/self/maps", O_RDONLY);
    ssize_t length = 0, got;
    while ((got = read(fd, text + length, sizeof text - 1 - (size_t)length)) > 0)
        length += got;
    close(fd);
    text[length] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (sscanf(line, "%lx-%lx %7s", &low, &high, found) == 3 && at >= low && at < high)
            return found;
    return "none";
}

static bool area(const char *name, const void *address, const char *want)
{
    return check_true(name, strcmp(rights(address), want) == 0, want, __LINE__);
}

static void *map(int prot, int flags, int fd)
{
    return mmap(NULL, PAGE, prot, flags, fd, 0);
}

static void implied(void)
{
    int memory = memfd_create("file", 0), id = shmget(IPC_PRIVATE, PAGE, 0600);
    ftruncate(memory, PAGE);
    void *before = map(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    CHECK_EQ("READ_IMPLIES_EXEC", personality(READ_IMPLIES_EXEC), 0);
    CHECK_EQ("is set", personality(0xffffffff), READ_IMPLIES_EXEC);
    area("what was mapped before", before, "r--p");
    char *page = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    area("fresh memory", page, "rwxp");
    area("what cannot be read", map(PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1), "-w-p");
    area("a file", map(PROT_READ, MAP_PRIVATE, memory), "r-xp");
    area("a shared file", map(PROT_READ, MAP_SHARED, memory), "r-xs");
    mprotect(page, PAGE, PROT_READ);
    area("mprotect", page, "r-xp");
    mprotect(page, PAGE, PROT_WRITE);
    area("mprotect without PROT_READ", page, "-w-p");
    char *end = sbrk(0), *next = (char *)(((unsigned long)end + PAGE - 1) & -PAGE);
    brk(next + 4 * PAGE);
    area("the heap", next + 2 * PAGE, "rwxp");
    void *shared = shmat(id, NULL, SHM_RDONLY);
    area("shared memory", shared, "r-xs");
    shmctl(id, IPC_RMID, NULL);
    ON_X86("such code runs", CHECK("such code runs", (page = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1),
                                                      *page = (char)0xc3, ((void (*)(void))page)(), true)));
    personality(0);
    area("no longer afterwards", map(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1), "r--p");
}

static void sticky(void)
{
    struct timeval time = {0, 20000};
    struct timespec precise = {0, 20000000};
    personality(STICKY_TIMEOUTS);
    CHECK("select leaves its time-out alone", select(0, NULL, NULL, NULL, &time) == 0 && time.tv_usec == 20000);
    CHECK("so does ppoll", ppoll(NULL, 0, &precise, NULL) == 0 && (syscall(SYS_ppoll, NULL, 0, &precise, NULL, 8), precise.tv_nsec == 20000000));
    personality(0);
    syscall(SYS_ppoll, NULL, 0, &precise, NULL, 8);
    CHECK("otherwise nothing is left", select(0, NULL, NULL, NULL, &time) == 0 && time.tv_usec == 0 && precise.tv_nsec == 0);
}

static int in_new_program(const char *what, unsigned long persona)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        personality(persona);
        execl("/proc/self/exe", "personality", what, NULL);
        _exit(99);
    }
    waitpid(pid, &status, 0);
    return status;
}

static void layout(bool up)
{
    char *first = mmap(NULL, 16 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *second = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(up ? "up" : "down", up ? first < second : first > second);
    CHECK("on which side", ((unsigned long)first < (unsigned long)&first / 2) == up);
    munmap(first, 16 * PAGE);
    CHECK("the next one in the gap", mmap(NULL, 16 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == first);
    pid_t pid = fork();
    if (pid == 0) {
        char *third = mmap(NULL, 16 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        _exit((up ? second < third : second > third) ? 0 : 1);
    }
    int status;
    CHECK("a child goes on so", waitpid(pid, &status, 0) == pid && exited(status, 0));
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        if (argv[1][0] == 'p')
            return personality(0xffffffff) & READ_IMPLIES_EXEC ? 7 : 8;
        layout(argv[1][0] == 'u');
        return finish();
    }
    CHECK("what may be read", exited(in_child(implied), 0));
    CHECK("sticky time-outs", exited(in_child(sticky), 0));
    ON_X86("READ_IMPLIES_EXEC ends with the program", CHECK("READ_IMPLIES_EXEC ends with the program", exited(in_new_program("p", READ_IMPLIES_EXEC), 8)));
    CHECK("ADDR_COMPAT_LAYOUT", exited(in_new_program("up", ADDR_COMPAT_LAYOUT | ADDR_NO_RANDOMIZE), 0));
    CHECK("without", exited(in_new_program("down", ADDR_NO_RANDOMIZE), 0));
    CHECK_EQ("0 again", personality(0xffffffff), 0);
    return finish();
}
