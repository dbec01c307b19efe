/* cc: -pthread
 * core(5): when a process leaves a core dump, what the file is like, and what is in it.
 */
#include "../check.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/procfs.h>
#include <sys/resource.h>

static char *page, *hidden, *shared; /* private; left out; what the children tell us in */
extern char __executable_start;
static int signal_to_take = SIGABRT;
static const char MARK[] = "what the dump must hold";

static void allow(rlim_t bytes)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){bytes, RLIM_INFINITY});
}

static void raise_it(void)
{
    raise(signal_to_take);
}

static char *dump;
static long size;

/* Read the file "core" and remove it; is there one, as it should be? */
static bool found(void)
{
    struct stat info;
    free(dump), dump = NULL;
    if (lstat("core", &info) != 0)
        return false;
    int fd = open("core", O_RDONLY);
    size = info.st_size;
    dump = malloc((size_t)size + 1);
    bool good = S_ISREG(info.st_mode) && read(fd, dump, (size_t)size) == size;
    close(fd);
    unlink("core");
    return good && (info.st_mode & 07777) == 0600 && info.st_uid == geteuid();
}

static bool dumps(void (*body)(void))
{
    int status = in_child(body);
    return WIFSIGNALED(status) && WTERMSIG(status) == signal_to_take && WCOREDUMP(status);
}

static bool only_dies(void (*body)(void))
{
    int status = in_child(body);
    bool dumped = WIFSIGNALED(status) && WCOREDUMP(status);
    return killed(status, signal_to_take) && !dumped && !found();
}

static Elf64_Phdr *header(int kind, const void *at)
{
    Elf64_Ehdr *head = (Elf64_Ehdr *)dump;
    for (int i = 0; i < head->e_phnum; i++) {
        Elf64_Phdr *each = (Elf64_Phdr *)(dump + head->e_phoff) + i;
        uintptr_t place = (uintptr_t)at;
        if (each->p_type == (unsigned)kind && (!at || (place >= each->p_vaddr && place < each->p_vaddr + each->p_memsz)))
            return each;
    }
    return NULL;
}

/* What the dump holds of an address of ours; NULL: nothing. */
static const char *dumped(const void *at)
{
    Elf64_Phdr *area = header(PT_LOAD, at);
    uint64_t offset = area ? (uintptr_t)at - area->p_vaddr : 0;
    if (!area || offset >= area->p_filesz || area->p_offset + offset >= (uint64_t)size)
        return NULL;
    return dump + area->p_offset + offset;
}

/* The nth note of a kind; the number of all with n < 0. */
static long note(unsigned kind, int n, const char **body)
{
    Elf64_Phdr *notes = header(PT_NOTE, NULL);
    long count = 0;
    for (uint64_t at = 0; notes && at < notes->p_filesz;) {
        Elf64_Nhdr *each = (Elf64_Nhdr *)(dump + notes->p_offset + at);
        const char *contents = (const char *)(each + 1) + ((each->n_namesz + 3u) & ~3u);
        if (each->n_type == kind && count++ == n) {
            *body = contents;
            return each->n_descsz;
        }
        at = (uint64_t)(contents - dump) - notes->p_offset + ((each->n_descsz + 3u) & ~3u);
    }
    return n < 0 ? count : -1;
}

static void when(void)
{
    allow(0);
    CHECK("not without a limit", only_dies(raise_it));
    allow(4095);
    CHECK("not below a page", only_dies(raise_it));
    allow(RLIM_INFINITY);
    static const int with[] = {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS, SIGXCPU, SIGXFSZ};
    static const int without[] = {SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGALRM, SIGUSR1, SIGPIPE, SIGVTALRM, 40};
    bool good = true;
    for (unsigned i = 0; i < sizeof with / sizeof *with; i++)
        signal_to_take = with[i], good = good && dumps(raise_it) && found();
    CHECK("signals that dump", good);
    for (unsigned i = 0; i < sizeof without / sizeof *without; i++)
        signal_to_take = without[i], good = good && only_dies(raise_it);
    CHECK("signals that do not", good);
    signal_to_take = SIGABRT;
}

static void undumpable(void)
{
    prctl(PR_SET_DUMPABLE, 0);
    raise_it();
}

static void no_room(void)
{
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, 0});
    raise_it();
}

static void strange_umask(void)
{
    umask(0277);
    raise_it();
}

static void file(void)
{
    struct stat info;
    allow(RLIM_INFINITY);
    CHECK("not if it is not dumpable", only_dies(undumpable));
    CHECK("an empty one without room for files", dumps(no_room) && found() && size == 0);
    int status = in_child(strange_umask);
    CHECK("not into a file of other permissions", killed(status, SIGABRT) && !WCOREDUMP(status) && stat("core", &info) == 0 && info.st_size == 0);
    unlink("core");
    mkdir("core", 0755);
    status = in_child(raise_it);
    CHECK("not over a directory", killed(status, SIGABRT) && !WCOREDUMP(status) && stat("core", &info) == 0 && S_ISDIR(info.st_mode));
    rmdir("core");
    close(new_file("other", "precious"));
    symlink("other", "core");
    CHECK("a link is replaced", dumps(raise_it) && found() && stat("other", &info) == 0 && info.st_size == 8);
    link("other", "core");
    CHECK("a name is replaced", dumps(raise_it) && found() && stat("other", &info) == 0 && info.st_size == 8);
    mkdir("closed", 0555);
    chdir("closed");
    if (IS_ROOT)
        CHECK("root writes anywhere", dumps(raise_it) && found());
    else
        CHECK("not where one may not write", only_dies(raise_it));
    chdir("..");
    allow(40960);
    CHECK("a dump may be cut short", dumps(raise_it));
    CHECK("at its limit", stat("core", &info) == 0 && info.st_blocks * 512 <= 40960 && info.st_blocks > 0);
    unlink("core");
}

static pthread_barrier_t ready;

static void *other_thread(void *arg)
{
    pthread_barrier_wait(&ready);
    pause();
    return arg;
}

static void *faulting_thread(void *arg)
{
    *(volatile uint32_t *)(shared + 256) = (uint32_t)syscall(SYS_gettid);
    pthread_barrier_wait(&ready);
    *(volatile int *)0x10 = 1;
    return arg;
}

static void fault_among_threads(void)
{
    pthread_t thread;
    *(pid_t *)(shared + 264) = getpid();
    pthread_barrier_init(&ready, NULL, 4);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread, NULL, other_thread, NULL);
    pthread_create(&thread, NULL, faulting_thread, NULL);
    pthread_barrier_wait(&ready);
    pause();
}

static void contents(void)
{
    const char *body;
    allow(RLIM_INFINITY);
    strcpy(page + 64, MARK), strcpy(page + PAGE, MARK), strcpy(hidden, MARK), strcpy(shared, MARK);
    madvise(hidden, PAGE, MADV_DONTDUMP);
    mprotect(page + PAGE, PAGE, PROT_NONE);
    signal_to_take = SIGSEGV;
    if (!CHECK("a fault", dumps(fault_among_threads) && found()))
        return;
    Elf64_Ehdr *head = (Elf64_Ehdr *)dump;
    CHECK("an ELF core file", memcmp(head->e_ident, ELFMAG, SELFMAG) == 0 && head->e_type == ET_CORE && head->e_machine == EM_HERE);
    CHECK("whole", (uint64_t)size >= header(PT_LOAD, page)->p_offset + 2 * PAGE);
    CHECK("memory", dumped(page + 64) && strcmp(dumped(page + 64), MARK) == 0);
    CHECK("whoever may read it", dumped(page + PAGE) && strcmp(dumped(page + PAGE), MARK) == 0);
    CHECK("shared memory", dumped(shared) && strcmp(dumped(shared), MARK) == 0);
    CHECK("not what was left out", header(PT_LOAD, hidden) && !dumped(hidden));
    CHECK("the start of the program", dumped(&__executable_start) && memcmp(dumped(&__executable_start), ELFMAG, SELFMAG) == 0);
    CHECK("not its code", header(PT_LOAD, (void *)contents) && !dumped((void *)contents));
    struct elf_prstatus status;
    CHECK_EQ("threads", note(NT_PRSTATUS, -1, &body), 4);
    CHECK_EQ("registers of each", note(NT_FPREGSET, -1, &body), 4);
    CHECK_EQ("size of a thread's note", note(NT_PRSTATUS, 0, &body), sizeof status);
    memcpy(&status, body, sizeof status);
    CHECK_EQ("the first is who took the signal", (uint32_t)status.pr_pid, *(uint32_t *)(shared + 256));
    CHECK("its signal, its parent", status.pr_cursig == SIGSEGV && status.pr_ppid == getpid() && status.pr_pgrp == getpgrp() && status.pr_sid == getsid(0));
    struct elf_prpsinfo process;
    CHECK_EQ("size of the process's note", note(NT_PRPSINFO, 0, &body), sizeof process);
    memcpy(&process, body, sizeof process);
    CHECK("the process", process.pr_pid == *(pid_t *)(shared + 264) && process.pr_sname == 'D' && process.pr_uid == getuid() && strncmp(process.pr_fname, program_invocation_short_name, 15) == 0);
    siginfo_t info;
    CHECK_EQ("the signal", note(NT_SIGINFO, 0, &body), sizeof info);
    memcpy(&info, body, sizeof info);
    CHECK("what it says", info.si_signo == SIGSEGV && info.si_code == SEGV_MAPERR && info.si_addr == (void *)0x10);
    CHECK("auxiliary vector", note(NT_AUXV, 0, &body) > 200);
    long length = note(NT_FILE, 0, &body);
    CHECK("files", length > 16 && ((const uint64_t *)body)[1] == PAGE && memmem(body, (size_t)length, "libc", 4));
    signal_to_take = SIGABRT;
}

static void filter(const char *text)
{
    int fd = open("/proc/self/coredump_filter", O_WRONLY);
    write(fd, text, strlen(text));
    close(fd);
}

static bool shows(const char *text)
{
    char now[64];
    int fd = open("/proc/self/coredump_filter", O_RDONLY);
    long length = read(fd, now, sizeof now);
    close(fd);
    return length == (long)strlen(text) && memcmp(now, text, (size_t)length) == 0;
}

static void filters(void)
{
    CHECK("what is dumped at first", shows("00000033\n"));
    strcpy(page + 64, MARK), strcpy(shared, MARK);
    filter("0x2");
    CHECK("changed", shows("00000002\n"));
    CHECK("inherited", dumps(raise_it) && found() && !dumped(page) && dumped(shared));
    filter("1\n");
    CHECK("private memory only", dumps(raise_it) && found() && dumped(page) && !dumped(shared));
    filter("4");
    CHECK("files", dumps(raise_it) && found() && dumped((void *)contents));
    int fd = open("/proc/self/coredump_filter", O_WRONLY);
    CHECK_ERRNO("not a number", write(fd, "x", 1), EINVAL);
    close(fd);
}

int main(void)
{
    char pattern[128] = "";
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY);
    read(fd, pattern, sizeof pattern - 1);
    if (strcmp(pattern, "core\n") != 0) {
        SKIP("everything", "core dumps go elsewhere on this computer");
        return 0;
    }
    page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    hidden = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    enter_scratch();
    when();
    file();
    contents();
    filters();
    return finish();
}
