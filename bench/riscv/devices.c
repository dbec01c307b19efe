/* What devices are for: init reads and writes a disk, prints, or talks TCP to another machine, and says when each job has ended.
 *
 * The kernel's command line says which: job=disk (/dev/vda, whose contents are lost), job=console (device=PATH: what to print
 * to), job=serve and job=talk (own=ADDRESS for eth0; peer=ADDRESS and port=N: who serves).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

enum { DISK = 64 << 20, STREAM = 16 << 20, TRIPS = 1000, TEXT = 256 << 10 };

static char block[1 << 20] __attribute__((aligned(4096)));

static void done(const char *job)
{
	printf("done %s\n", job);
	fflush(stdout);
}

static void fail(const char *what)
{
	perror(what);
	fflush(stdout);
	reboot(RB_POWER_OFF);
}

/* DISK bytes, or `many` pieces from all over the disk */
static void move(int writes, int flags, size_t size, size_t many)
{
	int fd = open("/dev/vda", (writes ? O_WRONLY : O_RDONLY) | flags);
	unsigned where = 1;
	if (fd < 0)
		fail("/dev/vda");
	for (size_t at = 0; at < (many ? many * size : DISK); at += size) {
		off_t offset = (off_t)at;
		if (many) {
			where = where * 1664525 + 1013904223;
			offset = (off_t)(where % (DISK / size) * size);
		}
		ssize_t moved = writes ? pwrite(fd, block, size, offset) : pread(fd, block, size, offset);
		if (moved != (ssize_t)size)
			fail("moving data");
	}
	if (writes && fsync(fd))
		fail("fsync");
	close(fd);
}

static void forget(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	if (fd < 0 || write(fd, "3", 1) != 1)
		fail("drop_caches");
	close(fd);
}

static void disk(void)
{
	memset(block, 0x5a, sizeof block);
	done("boot");
	move(1, O_DIRECT, sizeof block, 0);
	done("write");
	move(0, O_DIRECT, sizeof block, 0);
	done("read");
	move(1, 0, 65536, 0);
	done("fill");
	forget();
	done("forget");
	move(0, 0, 65536, 0);
	done("scan");
	move(0, O_DIRECT, 4096, 2000);
	done("pick");
	move(1, O_DIRECT, 4096, 2000);
	done("poke");
}

static void console(const char *path)
{
	int fd = open(path, O_WRONLY);
	if (fd < 0)
		fail(path);
	for (size_t at = 0; at < sizeof block; at++)
		block[at] = at % 64 == 63 ? '\n' : "0123456789abcdef"[at % 16];
	done("boot");
	for (size_t at = 0; at < TEXT; at += 1024)
		if (write(fd, block, 1024) != 1024)
			fail("writing text");
	if (tcdrain(fd))
		fail("waiting for text");
	done("text");
}

static void up(const char *name, const char *address)
{
	struct ifreq request;
	struct sockaddr_in *field = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	memset(&request, 0, sizeof request);
	strcpy(request.ifr_name, name);
	field->sin_family = AF_INET;
	inet_aton(address, &field->sin_addr);
	if (ioctl(fd, SIOCSIFADDR, &request))
		fail(name);
	inet_aton("255.255.255.0", &field->sin_addr);
	if (ioctl(fd, SIOCSIFNETMASK, &request))
		fail(name);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &request))
		fail(name);
	close(fd);
}

static void receive(int fd, size_t left)
{
	while (left) {
		ssize_t got = recv(fd, block, left < sizeof block ? left : sizeof block, 0);
		if (got <= 0)
			fail("recv");
		left -= (size_t)got;
	}
}

static void transmit(int fd, size_t left)
{
	while (left) {
		ssize_t put = send(fd, block, left < 65536 ? left : 65536, 0);
		if (put <= 0)
			fail("send");
		left -= (size_t)put;
	}
}

static void network(int talks)
{
	const char *own = getenv("own"), *peer = getenv("peer"), *port = getenv("port");
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)(port ? atoi(port) : 7)) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	up("lo", "127.0.0.1");
	up("eth0", own ? own : "10.0.0.1");
	inet_aton(peer ? peer : "10.0.0.1", &address.sin_addr);
	if (talks) {
		while (connect(fd, (struct sockaddr *)&address, sizeof address))
			sleep(1);
	} else {
		if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1))
			fail("listen");
		done("listen");
		fd = accept(fd, 0, 0);
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	transmit(fd, 1);
	receive(fd, 1);
	if (talks) {
		done("boot");
		transmit(fd, STREAM);
		receive(fd, 1);
		done("send");
		transmit(fd, 1);
		receive(fd, STREAM);
		done("receive");
		for (int n = 0; n < TRIPS; n++)
			transmit(fd, 1), receive(fd, 1);
		done("trips");
	} else {
		receive(fd, STREAM);
		transmit(fd, 1);
		receive(fd, 1);
		transmit(fd, STREAM);
		for (int n = 0; n < TRIPS; n++)
			receive(fd, 1), transmit(fd, 1);
		pause(); /* to be switched off: what was sent last may still be on its way */
	}
}

int main(void)
{
	const char *job = getenv("job"), *device = getenv("device");
	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, "");
	mount("devtmpfs", "/dev", "devtmpfs", 0, "");
	if (job && !strcmp(job, "disk"))
		disk();
	else if (job && !strcmp(job, "console") && device)
		console(device);
	else if (job)
		network(!strcmp(job, "talk"));
	reboot(RB_POWER_OFF);
	return 0;
}
