/* init and shell of the little Linux system that boots on the board: the first process, and commands enough to look around.
 *
 * As process 1 it mounts /proc, /sys and /dev, prints "init: ready", and reads commands from the console, or, if the kernel's
 * command line has run=COMMAND;COMMAND... (with + for a space), executes those and powers off. Words are separated by blanks,
 * commands by ; and "> FILE" or ">> FILE" at the end sends the output there. What is no built-in command is looked up in /bin
 * and executed.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 32, LINE = 1024 };

static int complain(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	return 1;
}

static int do_echo(int count, char **word)
{
	for (int n = 1; n < count; n++)
		printf("%s%s", word[n], n + 1 < count ? " " : "");
	putchar('\n');
	return 0;
}

static int do_cat(int count, char **word)
{
	static char block[1 << 16];
	for (int n = 1; n < count; n++) {
		int fd = open(word[n], O_RDONLY);
		ssize_t got = 0;
		if (fd < 0)
			return complain(word[n]);
		while ((got = read(fd, block, sizeof block)) > 0)
			fwrite(block, 1, got, stdout);
		close(fd);
		if (got < 0)
			return complain(word[n]);
	}
	return 0;
}

static int do_ls(int count, char **word)
{
	struct dirent **found;
	const char *where = count > 1 ? word[1] : ".";
	int many = scandir(where, &found, 0, alphasort);
	if (many < 0)
		return complain(where);
	for (int n = 0; n < many; n++)
		if (found[n]->d_name[0] != '.')
			puts(found[n]->d_name);
	return 0;
}

static int do_mount(int count, char **word)
{
	if (count < 4) {
		puts("mount TYPE SOURCE DIRECTORY [OPTIONS]");
		return 1;
	}
	mkdir(word[3], 0755);
	return mount(word[2], word[3], word[1], 0, count > 4 ? word[4] : "") ? complain(word[3]) : 0;
}

static int do_umount(int count, char **word)
{
	return count > 1 && umount(word[1]) ? complain(word[1]) : 0;
}

/* sum DEVICE: bytes and a simple checksum of what is read, through the page cache */
static int do_sum(int count, char **word)
{
	static unsigned char block[1 << 16];
	unsigned long bytes = 0, sum = 0;
	int fd = count > 1 ? open(word[1], O_RDONLY) : -1;
	ssize_t got;
	if (fd < 0)
		return complain(count > 1 ? word[1] : "sum");
	while ((got = read(fd, block, sizeof block)) > 0)
		for (ssize_t n = 0; n < got; n++, bytes++)
			sum = sum * 31 + block[n];
	close(fd);
	printf("%lu bytes, sum %lx\n", bytes, sum);
	return got < 0 ? complain(word[1]) : 0;
}

/* fill DEVICE BYTES: write a pattern, and wait until it is on the disk */
static int do_fill(int count, char **word)
{
	static unsigned char block[1 << 16];
	long left = count > 2 ? atol(word[2]) : 0;
	int fd = count > 1 ? open(word[1], O_WRONLY | O_CREAT, 0644) : -1;
	if (fd < 0)
		return complain(count > 1 ? word[1] : "fill");
	for (unsigned long n = 0; n < sizeof block; n++)
		block[n] = n * 7 + (n >> 8);
	while (left > 0) {
		ssize_t put = write(fd, block, left < (long)sizeof block ? (size_t)left : sizeof block);
		if (put <= 0)
			return complain(word[1]);
		left -= put;
	}
	if (fsync(fd) && errno != EINVAL) /* which a character device says */
		return complain(word[1]);
	close(fd);
	return 0;
}

static int do_random(int count, char **word)
{
	unsigned char bytes[16];
	int fd = open(count > 1 ? word[1] : "/dev/hwrng", O_RDONLY);
	if (fd < 0 || read(fd, bytes, sizeof bytes) != sizeof bytes)
		return complain("random");
	for (unsigned long n = 0; n < sizeof bytes; n++)
		printf("%02x", bytes[n]);
	putchar('\n');
	close(fd);
	return 0;
}

static int do_date(int count, char **word)
{
	time_t now = time(0);
	(void)count, (void)word;
	printf("%s", asctime(gmtime(&now)));
	return 0;
}

static int do_uname(int count, char **word)
{
	struct utsname name;
	(void)count, (void)word;
	uname(&name);
	printf("%s %s %s\n", name.sysname, name.release, name.machine);
	return 0;
}

static int do_sleep(int count, char **word)
{
	double seconds = count > 1 ? atof(word[1]) : 1;
	struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
	return nanosleep(&time, 0);
}

/* spin N: N million steps of a loop, for something to measure */
static int do_spin(int count, char **word)
{
	unsigned long sum = 1;
	for (long n = (count > 1 ? atol(word[1]) : 1) * 1000000; n > 0; n--)
		sum = sum * 6364136223846793005UL + (sum >> 33) + (unsigned long)n;
	printf("%lx\n", sum);
	return 0;
}

/* net ADDRESS: give eth0 this address, in a network of 24 bits, and switch it on */
static int do_net(int count, char **word)
{
	struct ifreq request;
	struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0), bad;
	memset(&request, 0, sizeof request);
	strcpy(request.ifr_name, "eth0");
	address->sin_family = AF_INET;
	bad = count < 2 || !inet_aton(word[1], &address->sin_addr) || ioctl(fd, SIOCSIFADDR, &request);
	bad = bad || !inet_aton("255.255.255.0", &address->sin_addr) || ioctl(fd, SIOCSIFNETMASK, &request);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	bad = bad || ioctl(fd, SIOCSIFFLAGS, &request);
	close(fd);
	return bad ? complain("net") : 0;
}

/* ping ADDRESS [COUNT [BYTES]]: echo requests, each until it is answered, 30 seconds at most */
static int do_ping(int count, char **word)
{
	static unsigned char packet[2048];
	struct sockaddr_in address = {.sin_family = AF_INET};
	struct timeval second = {1, 0};
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), wanted = count > 2 ? atoi(word[2]) : 1, answered = 0;
	size_t bytes = count > 3 ? (size_t)atoi(word[3]) : 64;
	if (fd < 0 || count < 2 || bytes < 8 || bytes > 1472 || !inet_aton(word[1], &address.sin_addr))
		return complain("ping");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
	for (int n = 0, tries = 0; n < wanted && tries < 30; tries++) {
		unsigned sum = 0;
		for (size_t at = 0; at < bytes; at++)
			packet[at] = at < 8 ? 0 : (unsigned char)(at + n);
		packet[0] = 8, packet[7] = (unsigned char)n;
		for (size_t at = 0; at < bytes; at++)
			sum += packet[at] << (at % 2 ? 0 : 8);
		sum = ~((sum & 0xffff) + (sum >> 16) + ((sum & 0xffff) + (sum >> 16) > 0xffff)) & 0xffff;
		packet[2] = (unsigned char)(sum >> 8), packet[3] = (unsigned char)sum;
		sendto(fd, packet, bytes, 0, (struct sockaddr *)&address, sizeof address);
		for (ssize_t got; (got = recv(fd, packet, sizeof packet, 0)) > 0;)
			if (packet[20] == 0 && packet[27] == n) {
				answered += got == (ssize_t)bytes + 20;
				n++;
				break;
			}
	}
	close(fd);
	printf("%d of %d answered\n", answered, wanted);
	return answered < wanted;
}

static int do_poweroff(int count, char **word)
{
	(void)count, (void)word;
	sync();
	return reboot(RB_POWER_OFF);
}

static int do_reboot(int count, char **word)
{
	(void)count, (void)word;
	sync();
	return reboot(RB_AUTOBOOT);
}

static int do_help(int count, char **word);

static const struct { const char *name; int (*run)(int, char **); } commands[] = {
	{"cat", do_cat}, {"date", do_date}, {"echo", do_echo}, {"fill", do_fill}, {"help", do_help}, {"ls", do_ls}, {"mount", do_mount}, {"net", do_net}, {"ping", do_ping},
	{"poweroff", do_poweroff}, {"random", do_random}, {"reboot", do_reboot}, {"sleep", do_sleep}, {"spin", do_spin}, {"sum", do_sum},
	{"umount", do_umount}, {"uname", do_uname},
};

static int do_help(int count, char **word)
{
	(void)count, (void)word;
	for (unsigned long n = 0; n < sizeof commands / sizeof *commands; n++)
		printf("%s ", commands[n].name);
	puts("cd");
	return 0;
}

static int external(char **word)
{
	char path[LINE + 8];
	int status = 0;
	pid_t child;
	snprintf(path, sizeof path, strchr(word[0], '/') ? "%s" : "/bin/%s", word[0]);
	child = fork();
	if (child == 0) {
		execv(path, word);
		complain(word[0]);
		fflush(stdout);
		_exit(127);
	}
	waitpid(child, &status, 0);
	return status;
}

static int dispatch(int count, char **word)
{
	if (!strcmp(word[0], "cd"))
		return count > 1 && chdir(word[1]) ? complain(word[1]) : 0;
	for (unsigned long n = 0; n < sizeof commands / sizeof *commands; n++)
		if (!strcmp(commands[n].name, word[0]))
			return commands[n].run(count, word);
	return external(word);
}

static void command(char *text)
{
	char *word[WORDS + 1], *rest = 0;
	int count = 0, saved = -1;
	for (char *each = strtok_r(text, " \t\r\n", &rest); each && count < WORDS; each = strtok_r(0, " \t\r\n", &rest))
		word[count++] = each;
	word[count] = 0;
	if (!count)
		return;
	if (count > 2 && (!strcmp(word[count - 2], ">") || !strcmp(word[count - 2], ">>"))) {
		int fd = open(word[count - 1], O_WRONLY | O_CREAT | (word[count - 2][1] ? O_APPEND : O_TRUNC), 0644);
		if (fd < 0) {
			complain(word[count - 1]);
			return;
		}
		fflush(stdout);
		saved = dup(1);
		dup2(fd, 1);
		close(fd);
		count -= 2;
		word[count] = 0;
	}
	if (dispatch(count, word))
		puts("failed");
	fflush(stdout);
	if (saved >= 0) {
		dup2(saved, 1);
		close(saved);
	}
}

static void line(char *text)
{
	char *rest = 0;
	for (char *each = strtok_r(text, ";", &rest); each; each = strtok_r(0, ";", &rest))
		command(each);
}

/* the kernel gives init, as an environment variable, what it does not know itself */
static void given(const char *commands_)
{
	char text[LINE];
	snprintf(text, sizeof text, "%s", commands_);
	for (char *each = text; *each; each++)
		if (*each == '+')
			*each = ' ';
	line(text);
	do_poweroff(0, 0);
}

int main(void)
{
	char text[LINE];
	if (getpid() == 1) {
		mkdir("/proc", 0755), mkdir("/sys", 0755), mkdir("/dev", 0755), mkdir("/tmp", 0755);
		mount("proc", "/proc", "proc", 0, "");
		mount("sysfs", "/sys", "sysfs", 0, "");
		mount("devtmpfs", "/dev", "devtmpfs", 0, "");
		int fd = open("/dev/console", O_RDWR);
		if (fd >= 0) {
			dup2(fd, 0), dup2(fd, 1), dup2(fd, 2);
			if (fd > 2)
				close(fd);
		}
	}
	puts("init: ready");
	if (getenv("run"))
		given(getenv("run"));
	for (;;) {
		printf("# ");
		fflush(stdout);
		if (!fgets(text, sizeof text, stdin)) {
			if (getpid() == 1)
				do_poweroff(0, 0);
			return 0;
		}
		line(text);
	}
}
