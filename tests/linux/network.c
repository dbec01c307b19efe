/* init of a guest of the user-mode network: asks for its address, and tries what it can reach.
 *
 * The kernel's command line: port=N (of 10.0.2.2, where an echo server is), denied=N (a port that may not be reached), bytes=N
 * (to send there and back). A line for each thing tried; then it serves one connection on port 80, and switches off.
 *
 * Or own=ADDRESS: it is wired to another one of these. With peer=ADDRESS it sends there and back, else it is who sends back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/route.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct sockaddr_in place(const char *address, int port)
{
	struct sockaddr_in made = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
	inet_aton(address, &made.sin_addr);
	return made;
}

static int datagrams(void)
{
	struct timeval patience = {4, 0};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	return fd;
}

static void interface(const char *address)
{
	struct ifreq request = {.ifr_name = "eth0"};
	struct sockaddr_in *field = (struct sockaddr_in *)&request.ifr_addr;
	int fd = datagrams();
	if (address) {
		*field = place(address, 0);
		ioctl(fd, SIOCSIFADDR, &request);
		*field = place("255.255.255.0", 0);
		ioctl(fd, SIOCSIFNETMASK, &request);
	}
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	ioctl(fd, SIOCSIFFLAGS, &request);
	close(fd);
}

static void route(const char *gateway)
{
	struct rtentry entry = {.rt_flags = RTF_UP | RTF_GATEWAY};
	struct sockaddr_in nothing = place("0.0.0.0", 0), there = place(gateway, 0);
	int fd = datagrams();
	memcpy(&entry.rt_dst, &nothing, sizeof nothing);
	memcpy(&entry.rt_genmask, &nothing, sizeof nothing);
	memcpy(&entry.rt_gateway, &there, sizeof there);
	if (ioctl(fd, SIOCADDRT, &entry))
		perror("route");
	close(fd);
}

/* ask for an address: DISCOVER is enough to be told */
static void ask(char *address, char *gateway)
{
	unsigned char message[300] = {1, 1, 6, 0, 't', 'r', 'a', 'p'}, reply[600];
	static const unsigned char options[] = {0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255};
	struct ifreq request = {.ifr_name = "eth0"};
	struct sockaddr_in here = place("0.0.0.0", 68), all = place("255.255.255.255", 67);
	int fd = datagrams(), yes = 1;
	interface(0);
	ioctl(fd, SIOCGIFHWADDR, &request);
	memcpy(message + 28, request.ifr_hwaddr.sa_data, 6);
	memcpy(message + 236, options, sizeof options);
	setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &yes, sizeof yes);
	setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5);
	bind(fd, (struct sockaddr *)&here, sizeof here);
	sendto(fd, message, sizeof message, 0, (struct sockaddr *)&all, sizeof all);
	if (recv(fd, reply, sizeof reply, 0) < 240)
		perror("dhcp");
	close(fd);
	strcpy(address, inet_ntoa(*(struct in_addr *)(reply + 16)));
	strcpy(gateway, inet_ntoa(*(struct in_addr *)(reply + 20)));
	printf("address %s, gateway %s\n", address, gateway);
}

static void name(void)
{
	struct sockaddr_in server = place("10.0.2.3", 53);
	char answer[100] = "";
	int fd = datagrams();
	sendto(fd, "who", 3, 0, (struct sockaddr *)&server, sizeof server);
	if (recv(fd, answer, sizeof answer - 1, 0) < 0)
		perror("name");
	printf("answer: %s\n", answer);
	close(fd);
}

struct job {
	int fd;
	long bytes;
};

static unsigned char pattern(long at)
{
	return (unsigned char)(at * 7 + (at >> 8) + (at >> 16));
}

static void *transmit(void *argument)
{
	struct job *job = argument;
	static unsigned char block[1 << 16];
	for (long at = 0; at < job->bytes;) {
		long size = job->bytes - at < (long)sizeof block ? job->bytes - at : (long)sizeof block;
		for (long n = 0; n < size; n++)
			block[n] = pattern(at + n);
		ssize_t put = write(job->fd, block, (size_t)size);
		if (put <= 0)
			break;
		at += put;
	}
	shutdown(job->fd, SHUT_WR);
	return 0;
}

/* `bytes` there and back, at the same time */
static void echo(const char *address, int port, long bytes)
{
	static unsigned char block[1 << 16];
	struct sockaddr_in server = place(address, port);
	struct job job = {socket(AF_INET, SOCK_STREAM, 0), bytes};
	pthread_t thread;
	long at = 0, wrong = 0;
	ssize_t got;
	if (connect(job.fd, (struct sockaddr *)&server, sizeof server)) {
		printf("connection: %s\n", strerror(errno));
		close(job.fd);
		return;
	}
	pthread_create(&thread, 0, transmit, &job);
	while ((got = read(job.fd, block, sizeof block)) > 0)
		for (ssize_t n = 0; n < got; n++)
			wrong += block[n] != pattern(at++);
	pthread_join(thread, 0);
	printf("echo: %ld bytes, %ld wrong, %s\n", at, wrong, got < 0 ? strerror(errno) : "end");
	close(job.fd);
}

static void serve(void)
{
	struct sockaddr_in here = place("0.0.0.0", 80);
	char text[100] = "";
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bind(fd, (struct sockaddr *)&here, sizeof here);
	listen(fd, 1);
	puts("listening");
	fflush(stdout);
	fd = accept(fd, 0, 0);
	ssize_t got = read(fd, text, sizeof text - 1);
	printf("served: %s\n", text);
	if (got <= 0 || write(fd, "hello from the guest", 20) != 20)
		perror("serving");
	close(fd);
	sleep(1);
}

/* one connection: what comes goes back */
static void mirror(int port)
{
	static char block[1 << 16];
	struct sockaddr_in here = place("0.0.0.0", port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	ssize_t got;
	bind(fd, (struct sockaddr *)&here, sizeof here);
	listen(fd, 1);
	puts("listening");
	fd = accept(fd, 0, 0);
	while ((got = read(fd, block, sizeof block)) > 0)
		for (ssize_t at = 0, put = 0; at < got; at += put)
			if ((put = write(fd, block + at, (size_t)(got - at))) <= 0)
				return;
	shutdown(fd, SHUT_WR);
	pause(); /* to be switched off: what was sent last may still be on its way */
}

static long number(const char *of)
{
	return getenv(of) ? atol(getenv(of)) : 0;
}

int main(void)
{
	char address[20], gateway[20];
	setbuf(stdout, 0);
	if (getenv("own")) {
		interface(getenv("own"));
		if (getenv("peer"))
			echo(getenv("peer"), (int)number("port"), number("bytes"));
		else
			mirror((int)number("port"));
		reboot(RB_POWER_OFF);
	}
	ask(address, gateway);
	interface(address);
	route(gateway);
	name();
	echo("10.0.2.2", (int)number("port"), number("bytes"));
	echo("10.0.2.2", (int)number("denied"), 1);
	if (number("serves"))
		serve();
	reboot(RB_POWER_OFF);
	return 0;
}
