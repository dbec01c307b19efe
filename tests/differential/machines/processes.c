/* cc: -static -pthread
 * The kernel at work: files, directories, pipes, fork, exec, signals, threads, shared memory. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* In a directory of its own, which it leaves empty. */
static void files(void)
{
    char names[8][32], directory_name[PATH_MAX];
    int count = 0;
    snprintf(directory_name, sizeof directory_name, "%s/machines-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(directory_name) || chdir(directory_name) != 0)
        exit(98);
    for (int i = 0; i < 4; i++) {
        char path[32];
        snprintf(path, sizeof path, "file%d", i);
        FILE *file = fopen(path, "w");
        fprintf(file, "%*d\n", i * 10 + 1, i);
        fclose(file);
    }
    symlink("file1", "link");
    rename("file0", "renamed");
    DIR *directory = opendir(".");
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.')
            strcpy(names[count++], entry->d_name);
    closedir(directory);
    qsort(names, (size_t)count, sizeof *names, compare);
    for (int i = 0; i < count; i++) {
        struct stat st;
        lstat(names[i], &st);
        unlink(names[i]);
        printf("%s %o %ld %d\n", names[i], st.st_mode, (long)st.st_size, (int)st.st_nlink);
    }
    printf("%s\n", open("none", O_RDONLY) < 0 ? strerror(errno) : "opened");
    chdir("/");
    rmdir(directory_name);
}

static void pipes(void)
{
    int ends[2];
    pipe(ends);
    for (int i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            dprintf(ends[1], "child %d\n", i);
            if (i == 2)
                raise(SIGTERM);
            _exit(i + 5);
        }
        int status;
        waitpid(pid, &status, 0);
        printf("status %x\n", status);
    }
    char text[100];
    ssize_t length = read(ends[0], text, sizeof text);
    printf("%.*s", (int)length, text);
    struct iovec parts[] = {{"one ", 4}, {"two\n", 4}};
    writev(ends[1], parts, 2);
    struct epoll_event event = {EPOLLIN, {.u64 = 0x123456789a}};
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
    event.data.u64 = 0;
    int ready = epoll_wait(epoll, &event, 1, 0);
    printf("ready %d %llx\n", ready, (unsigned long long)event.data.u64);
}

static volatile int caught;

static void count_signal(int signo)
{
    caught += signo;
}

static void signals(void)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    raise(SIGUSR1);
    printf("blocked %d\n", caught);
    sigprocmask(SIG_SETMASK, &old, NULL);
    printf("caught %d\n", caught);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static int next_one;
static __thread int mine;

static void *in_turn(void *number)
{
    mine = (int)(long)number;
    pthread_mutex_lock(&lock);
    while (next_one != mine)
        pthread_cond_wait(&turn, &lock);
    printf("thread %d\n", mine);
    fflush(stdout);
    next_one++;
    pthread_cond_broadcast(&turn);
    pthread_mutex_unlock(&lock);
    return (void *)(long)(mine * 10);
}

static void threads(void)
{
    pthread_t all[4];
    long sum = 0;
    for (long i = 3; i >= 0; i--)
        pthread_create(&all[i], NULL, in_turn, (void *)i);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(all[i], &result);
        sum += (long)result;
    }
    printf("sum %ld\n", sum);
}

static void memory(void)
{
    int *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int *copied = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fork() == 0) {
        shared[1500] = 7;
        copied[1500] = 7;
        _exit(0);
    }
    wait(NULL);
    printf("shared %d copied %d\n", shared[1500], copied[1500]);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1) {
        printf("again: %s %s\n", argv[1], getenv("GREETING"));
        return 3;
    }
    files();
    pipes();
    signals();
    threads();
    memory();
    setenv("GREETING", "hello", 1);
    execl("/proc/self/exe", argv[0], "argument", (char *)NULL);
    return 99;
}
