/* cc: -static
 * Pseudo-terminals: pty(7), the line discipline of termios(3), job control of credentials(7), ioctl_tty(2). */
#include "../check.h"
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;
static char text[4096];
static volatile int got[65];

static void note(int signo, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    got[signo]++;
}

/* Everything that can be read now, with the wait that takes, as a string. */
static const char *screen(void)
{
    size_t length = 0;
    struct pollfd one = {master, POLLIN, 0};
    while (poll(&one, 1, length ? 50 : 1000) == 1 && (one.revents & POLLIN)) {
        ssize_t count = read(master, text + length, sizeof text - 1 - length);
        if (count <= 0)
            break;
        length += count;
    }
    text[length] = 0;
    return text;
}

static void type(const char *keys)
{
    write(master, keys, strlen(keys));
}

static ssize_t line(void)
{
    ssize_t length = read(slave, text, sizeof text - 1);
    text[length < 0 ? 0 : length] = 0;
    return length;
}

static bool line_is(const char *want)
{
    return line() == (ssize_t)strlen(want) && strcmp(text, want) == 0;
}

static void pair(void)
{
    master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK("ptmx", master >= 0);
    int number = -1, locked = -1;
    CHECK("TIOCGPTN", ioctl(master, TIOCGPTN, &number) == 0 && number >= 0);
    char name[64];
    snprintf(name, sizeof name, "/dev/pts/%d", number);
    CHECK("its name", strcmp(ptsname(master), name) == 0);
    CHECK("locked at first", ioctl(master, TIOCGPTLCK, &locked) == 0 && locked == 1);
    CHECK_ERRNO("so it cannot be opened", open(name, O_RDWR | O_NOCTTY), EIO);
    CHECK_EQ("unlock", unlockpt(master), 0);
    slave = open(name, O_RDWR | O_NOCTTY);
    CHECK("the other side", slave >= 0 && isatty(slave) && isatty(master));
    struct stat st;
    CHECK("a character device", fstat(slave, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == ((136ull << 8) | number));
    CHECK("TIOCGPTPEER", close(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY)) == 0);
}

static void canonical(void)
{
    struct termios modes;
    tcgetattr(slave, &modes);
    CHECK("canonical, echo, signals", (modes.c_lflag & (ICANON | ECHO | ISIG)) == (ICANON | ECHO | ISIG) && (modes.c_oflag & ONLCR));
    write(slave, "out\n", 4);
    CHECK("ONLCR", strcmp(screen(), "out\r\n") == 0);
    type("hello");
    CHECK("echo", strcmp(screen(), "hello") == 0);
    struct pollfd one = {slave, POLLIN, 0};
    CHECK_EQ("no line yet", poll(&one, 1, 0), 0);
    type("\n");
    CHECK("a line", line_is("hello\n"));
    screen();
    type("abx\177c\n");
    CHECK("erase", line_is("abc\n"));
    CHECK("and what it shows", strcmp(screen(), "abx\b \bc\r\n") == 0);
    type("forget\025kept\n");
    CHECK("kill", line_is("kept\n"));
    type("two words\027one\n");
    CHECK("word erase", line_is("two one\n"));
    type("\026\003\n");
    CHECK("literal", line_is("\003\n"));
    type("cr\r");
    CHECK("ICRNL", line_is("cr\n"));
    type("part\004");
    CHECK("end of file ends a line", line_is("part"));
    type("\004");
    CHECK_EQ("or a file", line(), 0);
    type("first\nsecond\n");
    int waiting = 0;
    for (int i = 0; i < 100 && waiting != 13; i++, sleep_ms(2))
        ioctl(slave, FIONREAD, &waiting);
    CHECK_EQ("FIONREAD", waiting, 13);
    CHECK("a line at a time", line_is("first\n") && line_is("second\n"));
    type("long\n");
    CHECK("in parts", read(slave, text, 2) == 2 && line_is("ng\n"));
    screen();
    tcflush(slave, TCIFLUSH);
}

static void raw(void)
{
    struct termios modes, old;
    tcgetattr(slave, &old);
    modes = old;
    cfmakeraw(&modes);
    modes.c_cc[VMIN] = 1, modes.c_cc[VTIME] = 0;
    CHECK_EQ("raw", tcsetattr(slave, TCSANOW, &modes), 0);
    type("a\003\r");
    CHECK("as typed", line_is("a\003\r"));
    write(slave, "x\n", 2);
    CHECK("no output processing", strcmp(screen(), "x\n") == 0);
    modes.c_cc[VMIN] = 0, modes.c_cc[VTIME] = 1;
    tcsetattr(slave, TCSANOW, &modes);
    CHECK_EQ("VTIME runs out", line(), 0);
    modes.c_cc[VMIN] = 3;
    modes.c_cc[VTIME] = 0;
    tcsetattr(slave, TCSANOW, &modes);
    type("ab");
    struct pollfd one = {slave, POLLIN, 0};
    CHECK_EQ("VMIN not reached", poll(&one, 1, 20), 0);
    type("c");
    CHECK("VMIN reached", line_is("abc"));
    tcsetattr(slave, TCSAFLUSH, &old);
    struct termios again;
    tcgetattr(slave, &again);
    CHECK("modes come back", again.c_lflag == old.c_lflag && again.c_iflag == old.c_iflag);
}

static void session(void)
{
    catch_with(SIGINT, note, 0), catch_with(SIGTSTP, note, 0), catch_with(SIGWINCH, note, 0), catch_with(SIGQUIT, note, 0);
    setsid();
    CHECK_ERRNO("no terminal yet", open("/dev/tty", O_RDWR), ENXIO);
    CHECK_EQ("TIOCSCTTY", ioctl(slave, TIOCSCTTY, 0), 0);
    CHECK("foreground", tcgetpgrp(slave) == getpid() && tcgetsid(slave) == getpid());
    int tty = open("/dev/tty", O_RDWR);
    CHECK("/dev/tty", tty >= 0 && isatty(tty));
    close(tty);
    type("lost\003");
    for (int i = 0; i < 100 && !got[SIGINT]; i++)
        sleep_ms(5);
    CHECK_EQ("^C", got[SIGINT], 1);
    CHECK("is shown", strstr(screen(), "^C") != NULL);
    type("\034\032");
    for (int i = 0; i < 100 && !(got[SIGQUIT] && got[SIGTSTP]); i++)
        sleep_ms(5);
    CHECK("^\\ and ^Z", got[SIGQUIT] == 1 && got[SIGTSTP] == 1);
    type("kept\n");
    CHECK("what was typed before is gone", line_is("kept\n"));
    screen();
    struct winsize size = {.ws_row = 33, .ws_col = 99}, seen;
    CHECK_EQ("a new size", ioctl(master, TIOCSWINSZ, &size), 0);
    CHECK("seen on both sides", ioctl(slave, TIOCGWINSZ, &seen) == 0 && seen.ws_row == 33 && seen.ws_col == 99);
    for (int i = 0; i < 100 && !got[SIGWINCH]; i++)
        sleep_ms(5);
    CHECK_EQ("SIGWINCH", got[SIGWINCH], 1);
    ioctl(master, TIOCSWINSZ, &size);
    CHECK_EQ("not for the same size", got[SIGWINCH], 1);
}

static void background(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        read(slave, text, 1);
        _exit(7);
    }
    int status = 0;
    waitpid(pid, &status, WUNTRACED);
    CHECK("a background read stops", WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
    setpgid(pid, pid);
    signal(SIGTTOU, SIG_IGN);
    CHECK_EQ("to the foreground", tcsetpgrp(slave, pid), 0);
    kill(pid, SIGCONT);
    type("x\n");
    waitpid(pid, &status, 0);
    CHECK("and it reads", exited(status, 7));
    CHECK_EQ("back", tcsetpgrp(slave, getpid()), 0);
    line();
    pid = fork();
    if (pid == 0) {
        signal(SIGTTOU, SIG_DFL);
        setpgid(0, 0);
        tcsetpgrp(slave, getpid());
        _exit(7);
    }
    waitpid(pid, &status, WUNTRACED);
    CHECK("a background process may not take it", WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    CHECK_ERRNO("no such group", tcsetpgrp(slave, 999999), ESRCH);
    pid = fork();
    if (pid == 0) {
        setsid();
        _exit(tcsetpgrp(slave, getpid()) == -1 && errno == ENOTTY ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    CHECK("nor one of another session", exited(status, 0));
    screen();
}

static void flow(void)
{
    type("\023");
    sleep_ms(20);
    fcntl(slave, F_SETFL, O_RDWR | O_NONBLOCK);
    write(slave, "held", 4);
    struct pollfd one = {master, POLLIN, 0};
    CHECK_EQ("^S holds output", poll(&one, 1, 50), 0);
    type("\021");
    sleep_ms(20);
    write(slave, "on", 2);
    CHECK("^Q lets it go on", strstr(screen(), "on") != NULL);
    fcntl(slave, F_SETFL, O_RDWR);
}

static void hang_up(void)
{
    catch_with(SIGHUP, note, 0);
    close(master);
    for (int i = 0; i < 100 && !got[SIGHUP]; i++)
        sleep_ms(5);
    CHECK_EQ("SIGHUP", got[SIGHUP], 1);
    CHECK_EQ("end of file", read(slave, text, 1), 0);
    CHECK_ERRNO("no output", write(slave, "x", 1), EIO);
    CHECK_ERRNO("no terminal any more", open("/dev/tty", O_RDWR), ENXIO);
    struct pollfd one = {slave, POLLIN, 0};
    CHECK("poll says so", poll(&one, 1, 0) == 1 && (one.revents & POLLHUP));
}

static void whole(void)
{
    pair();
    canonical();
    raw();
    session();
    background();
    flow();
    hang_up();
}

/* Modes that are locked keep the value they have; TIOCSLCKTRMIOS is for who may administer the system. */
static void locks(void)
{
    pair();
    struct termios lock, modes;
    memset(&lock, 0xff, sizeof lock);
    CHECK_EQ("nothing is locked", ioctl(slave, TIOCGLCKTRMIOS, &lock), 0);
    CHECK("at first", !lock.c_lflag && !lock.c_iflag && !lock.c_cc[VINTR]);
    CHECK_ERRNO("locks nowhere", ioctl(slave, TIOCGLCKTRMIOS, (void *)8), EFAULT);
    lock.c_lflag = ECHO;
    lock.c_cc[VINTR] = 1;
    if (!IS_ROOT) {
        CHECK_ERRNO("lock", ioctl(slave, TIOCSLCKTRMIOS, &lock), EPERM);
        return;
    }
    tcgetattr(slave, &modes);
    tcflag_t before = modes.c_lflag;
    cc_t interrupt = modes.c_cc[VINTR];
    CHECK_EQ("lock", ioctl(slave, TIOCSLCKTRMIOS, &lock), 0);
    modes.c_lflag ^= ECHO | ISIG;
    modes.c_cc[VINTR]++;
    modes.c_cc[VQUIT] = 7;
    CHECK_EQ("change", tcsetattr(slave, TCSANOW, &modes), 0);
    tcgetattr(slave, &modes);
    CHECK_EQ("but not these bits", modes.c_lflag, before ^ ISIG);
    CHECK("nor this character", modes.c_cc[VINTR] == interrupt && modes.c_cc[VQUIT] == 7);
    CHECK_EQ("asked on the other side", ioctl(master, TIOCGLCKTRMIOS, &lock), 0);
    CHECK("it is the same", lock.c_lflag == ECHO && lock.c_cc[VINTR] == 1);
}

int main(void)
{
    CHECK("all of it", exited(in_child(whole), 0));
    CHECK("locks", exited(in_child(locks), 0));
    return finish();
}
