/* Bare metal: what the workloads need of a C library, and the serial port. */
typedef unsigned long u64;

void *memcpy(void *to, const void *from, u64 n)
{
	char *a = to;
	const char *b = from;

	while (n--)
		*a++ = *b++;
	return to;
}

void *memset(void *to, int c, u64 n)
{
	char *a = to;

	while (n--)
		*a++ = c;
	return to;
}

static void put_char(char c)
{
	*(volatile char *)0x10000000 = c;
}

void put(const char *text, u64 value)
{
	while (*text)
		put_char(*text++);
	put_char(' ');
	for (int shift = 60; shift >= 0; shift -= 4)
		put_char("0123456789abcdef"[value >> shift & 15]);
	put_char('\n');
}
