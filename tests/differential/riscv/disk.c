/* A driver for a virtio disk, with nothing below it: finds the device, sets up one queue, reads, writes, zeroes and flushes sectors, in
 * chains of several shapes, checks what comes back, and prints a line for each step. It ends through the finisher.
 *
 * Run with boot.ld and disk.S; the interrupt is looked for in the device's status, not taken.
 */
typedef unsigned long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#define UART ((volatile u8 *)0x10000000)
#define FINISHER ((volatile u32 *)0x100000)
enum { QUEUE = 8, SECTOR = 512 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };

static struct descriptor { u64 address; u32 length; u16 flags, next; } descriptors[QUEUE] __attribute__((aligned(16)));
static struct { u16 flags, idx, ring[QUEUE], used_event; } available __attribute__((aligned(16)));
static struct { u16 flags, idx; struct { u32 id, length; } ring[QUEUE]; u16 avail_event; } used __attribute__((aligned(16)));
static struct descriptor table[4] __attribute__((aligned(16)));
static struct { u32 type, reserved; u64 sector; } header;
static struct { u64 sector; u32 count, flags; } range;
static u8 status, block[8 * SECTOR] __attribute__((aligned(16))), back[8 * SECTOR] __attribute__((aligned(16)));
static volatile u32 *device;
static int failures;

static void print(const char *text)
{
	while (*text)
		*UART = *text++;
}

static void number(u64 n)
{
	if (n > 9)
		number(n / 10);
	*UART = '0' + n % 10;
}

static void say(const char *what, u64 n)
{
	print(what), print(" "), number(n), print("\n");
}

static void check(const char *what, int good)
{
	print(good ? "ok " : "FAIL "), print(what), print("\n");
	failures += !good;
}

static u32 reg(int offset) { return device[offset / 4]; }
static void set(int offset, u32 value) { device[offset / 4] = value; }

static void place(int offset, void *what)
{
	set(offset, (u64)what), set(offset + 4, (u64)what >> 32);
}

static int find(void)
{
	for (int slot = 0; slot < 8; slot++) {
		device = (volatile u32 *)(0x10001000UL + 0x1000 * slot);
		if (reg(0) == 0x74726976 && reg(4) == 2 && reg(8) == 2)
			return 1;
	}
	return 0;
}

static int start(void)
{
	set(0x70, 0);
	set(0x70, 1 | 2);
	set(0x24, 0), set(0x20, 1 << 9 | 1 << 13 | 1 << 14 | 1 << 28); /* flush, discard, write-zeroes, indirect descriptors */
	set(0x24, 1), set(0x20, 1);                                     /* not the legacy interface */
	set(0x70, 1 | 2 | 8);
	if (!(reg(0x70) & 8))
		return 0;
	set(0x30, 0);
	set(0x38, QUEUE);
	place(0x80, descriptors), place(0x90, &available), place(0xa0, &used);
	set(0x44, 1);
	set(0x70, 1 | 2 | 8 | 4);
	return reg(0x44) == 1;
}

static void describe(struct descriptor *d, void *what, u32 length, u16 flags, u16 next)
{
	d->address = (u64)what, d->length = length, d->flags = flags, d->next = next;
}

/* Offer the chain that starts at `head`, and wait; the status, or 255 if the device wants a reset. */
static int request(u16 head, u32 type, u64 sector)
{
	u16 before = *(volatile u16 *)&used.idx;
	header.type = type, header.reserved = 0, header.sector = sector, status = 77;
	available.ring[available.idx % QUEUE] = head;
	__asm__ volatile("fence" ::: "memory");
	*(volatile u16 *)&available.idx = available.idx + 1;
	__asm__ volatile("fence" ::: "memory");
	set(0x50, 0);
	while (*(volatile u16 *)&used.idx == before)
		if (reg(0x70) & 64)
			return 255;
	__asm__ volatile("fence" ::: "memory");
	if (!(reg(0x60) & 1))
		return 254;
	set(0x64, 1);
	return *(volatile u8 *)&status;
}

/* header, one buffer, status */
static int simple(u32 type, u64 sector, void *data, u32 length, u16 flags)
{
	describe(&descriptors[0], &header, sizeof header, NEXT, 1);
	describe(&descriptors[1], data, length, NEXT | flags, 2);
	describe(&descriptors[2], &status, 1, WRITE, 0);
	return request(0, type, sector);
}

static int flush(void)
{
	describe(&descriptors[0], &header, sizeof header, NEXT, 1);
	describe(&descriptors[1], &status, 1, WRITE, 0);
	return request(0, FLUSH, 0);
}

static int same(const u8 *one, const u8 *two, int count)
{
	while (count-- > 0)
		if (*one++ != *two++)
			return 0;
	return 1;
}

static void shapes(void)
{
	/* the header in two pieces, the data in three, in an order of descriptors that jumps */
	describe(&descriptors[5], &header, 4, NEXT, 1);
	describe(&descriptors[1], (u8 *)&header + 4, 12, NEXT, 7);
	describe(&descriptors[7], back, 100, NEXT | WRITE, 2);
	describe(&descriptors[2], back + 100, 412, NEXT | WRITE, 0);
	describe(&descriptors[0], back + 512, 512, NEXT | WRITE, 3);
	describe(&descriptors[3], &status, 1, WRITE, 0);
	check("read in pieces", request(5, IN, 10) == 0 && same(block, back, 2 * SECTOR));
	say("used length", used.ring[(used.idx - 1) % QUEUE].length);
	for (int n = 0; n < 8 * SECTOR; n++)
		back[n] = 0;
	describe(&table[0], &header, sizeof header, NEXT, 2);
	describe(&table[2], back, 4 * SECTOR, NEXT | WRITE, 1);
	describe(&table[1], &status, 1, WRITE, 0);
	describe(&descriptors[4], table, sizeof table, INDIRECT, 0);
	check("read through an indirect table", request(4, IN, 10) == 0 && same(block, back, 4 * SECTOR));
}

static void broken(void)
{
	describe(&descriptors[0], &header, sizeof header, NEXT, 1);
	describe(&descriptors[1], (void *)0x10UL, SECTOR, NEXT | WRITE, 0); /* in no RAM, and no end */
	check("a ring that breaks the rules stops the device", request(0, IN, 0) == 255);
	check("a reset makes it work again", (available.idx = used.idx = 0, start()) && simple(IN, 10, back, SECTOR, WRITE) == 0);
}

void disk_main(void)
{
	u64 capacity;
	int seen = 1;
	check("there is a disk", find());
	if (!start()) {
		check("it starts", 0);
		*FINISHER = 0x13333;
	}
	capacity = reg(0x100) | (u64)reg(0x104) << 32;
	say("sectors", capacity);
	check("a serial number", simple(GET_ID, 0, back, 20, WRITE) == 0);
	print((char *)back), print("\n");
	check("the first sector", simple(IN, 0, back, SECTOR, WRITE) == 0);
	for (int n = 0; n < 16; n++)
		number(back[n]), print(" ");
	print("\n");
	for (int n = 0; n < 8 * SECTOR; n++)
		block[n] = (u8)(n * 13 + n / SECTOR);
	check("write", simple(OUT, 10, block, 8 * SECTOR, 0) == 0);
	check("flush", flush() == 0);
	check("read", simple(IN, 10, back, 8 * SECTOR, WRITE) == 0 && same(block, back, 8 * SECTOR));
	shapes();
	range.sector = 12, range.count = 2, range.flags = 0;
	check("write zeroes", simple(WRITE_ZEROES, 0, &range, sizeof range, 0) == 0 && simple(IN, 10, back, 8 * SECTOR, WRITE) == 0);
	for (int n = 0; n < 2 * SECTOR; n++)
		seen &= back[2 * SECTOR + n] == 0;
	check("zeroes are there, and nowhere else", seen && same(back, block, 2 * SECTOR) && same(back + 4 * SECTOR, block + 4 * SECTOR, 4 * SECTOR));
	range.sector = 14, range.count = 1;
	check("discard", simple(DISCARD, 0, &range, sizeof range, 0) == 0);
	check("the last sector", simple(OUT, capacity - 1, block, SECTOR, 0) == 0);
	check("no sector behind it", simple(IN, capacity, back, SECTOR, WRITE) == 1 && simple(OUT, capacity - 1, block, 2 * SECTOR, 0) == 1);
	check("no part of a sector", simple(IN, 0, back, 100, WRITE) == 1);
	check("no unknown request", simple(99, 0, back, SECTOR, WRITE) == 2);
	broken();
	*FINISHER = failures ? 0x13333 : 0x5555;
	for (;;)
		;
}
