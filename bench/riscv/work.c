/* Guest workloads for the RISC-V machine, each a function of a size that returns a checksum: the same numbers on every machine.
 *
 * As a Linux program: work NAME ROUNDS prints "NAME checksum". On bare metal (see start.S) the name and the rounds are compiled in
 * (-DWORK=NAME -DROUNDS=N), and the checksum goes to the UART before the test finisher ends the machine.
 */
#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef uint8_t u8;

static u64 mix(u64 h, u64 v)
{
	h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
	return h;
}

static u32 state;

static u32 next(void) /* xorshift32 */
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

/* ---- integer */

static u8 flags[1 << 20];

static u64 sieve(u64 rounds)
{
	u64 found = 0;

	while (rounds--) {
		for (size_t i = 2; i < sizeof flags; i++)
			flags[i] = 1;
		for (size_t i = 2; i * i < sizeof flags; i++)
			if (flags[i])
				for (size_t j = i * i; j < sizeof flags; j += i)
					flags[j] = 0;
		for (size_t i = 2; i < sizeof flags; i++)
			found += flags[i];
	}
	return found;
}

static u64 hash(u64 rounds) /* FNV-1a over a buffer, then a finaliser */
{
	u64 h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < 4096; i++)
		flags[i] = i * 7;
	while (rounds--) {
		for (size_t i = 0; i < 4096; i++)
			h = (h ^ flags[i]) * 0x100000001b3u;
		h ^= h >> 29;
	}
	return h;
}

struct node { struct node *next; u64 value; };
static struct node nodes[1 << 14];

static u64 list(u64 rounds) /* a pointer chase in a shuffled order */
{
	enum { N = 1 << 14 };
	static u32 order[N];
	u64 sum = 0;

	state = 2463534242u;
	for (u32 i = 0; i < N; i++)
		order[i] = i;
	for (u32 i = N - 1; i > 0; i--) {
		u32 j = next() % (i + 1), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (u32 i = 0; i < N; i++) {
		nodes[order[i]].next = &nodes[order[(i + 1) % N]];
		nodes[order[i]].value = i;
	}
	for (struct node *p = &nodes[0]; rounds--;)
		for (u32 i = 0; i < N; i++, p = p->next)
			sum = mix(sum, p->value);
	return sum;
}

static u64 fib(u64 n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static u64 recursion(u64 rounds)
{
	u64 sum = 0;

	while (rounds--)
		sum += fib(24);
	return sum;
}

/* A mix like an embedded benchmark's: list search, a small integer matrix, a state machine over text, and a CRC. */
static u64 blend(u64 rounds)
{
	static const char text[] = "0x1f,-12,3.5e2,+7,abc,9.,-0,12e,77,0.25,";
	static short a[16][16], b[16][16];
	u32 crc = 0;
	u64 kinds[4] = { 0, 0, 0, 0 };

	for (int i = 0; i < 256; i++)
		a[i / 16][i % 16] = i, b[i % 16][i / 16] = i ^ 0x55;
	while (rounds--) {
		int kind = 0;

		for (const char *p = text; *p; p++) {
			if (*p == ',')
				kinds[kind]++, kind = 0;
			else if (*p >= '0' && *p <= '9')
				kind = kind ? kind : 1;
			else if (*p == '.' || *p == 'e')
				kind = kind == 1 ? 2 : 3;
			else if (*p != '+' && *p != '-')
				kind = 3;
		}
		for (int i = 0; i < 16; i++)
			for (int j = 0; j < 16; j++) {
				int s = 0;

				for (int k = 0; k < 16; k++)
					s += a[i][k] * b[k][j];
				crc ^= s;
				for (int k = 0; k < 8; k++)
					crc = crc >> 1 ^ (-(crc & 1) & 0xedb88320u);
			}
	}
	return mix(mix(crc, kinds[1]), mix(kinds[2], kinds[3]));
}

/* Records copied, compared and linked, in the manner of Dhrystone. */
struct record { struct record *link; int kind, number; char name[32]; };

static __attribute__((noinline)) int compare(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a - *b;
}

static __attribute__((noinline)) void step(struct record *r, int n)
{
	struct record copy = *r;

	copy.number = n;
	copy.kind = compare(copy.name, "a record's own name, number 2") > 0;
	copy.link = r->link;
	*r = copy;
}

static u64 records(u64 rounds)
{
	static struct record pool[4] = { { .name = "a record's own name, number 1" }, { .name = "a record's own name, number 3" } };
	u64 sum = 0;

	pool[0].link = &pool[1], pool[1].link = &pool[0];
	for (struct record *r = pool; rounds--; r = r->link) {
		step(r, rounds);
		sum += r->kind + r->number % 7;
	}
	return sum;
}

/* A bytecode interpreter: one indirect jump per instruction of its own. */
static u64 bytecode(u64 rounds)
{
	static const u8 code[] = { 0, 1, 3, 1, 4, 2, 5, 0, 3, 6, 2, 1, 7 };
	static void *const labels[] = { &&push, &&add, &&swap, &&shift, &&xor, &&dup, &&drop, &&loop };
	u64 stack[16] = { 1, 2, 3, 4 };
	int sp = 4, pc = 0;

#define NEXT goto *labels[code[pc++]]
	NEXT;
push:	stack[sp++ & 15] = rounds; NEXT;
add:	sp--; stack[(sp - 1) & 15] += stack[sp & 15]; NEXT;
swap:	{ u64 t = stack[(sp - 1) & 15]; stack[(sp - 1) & 15] = stack[(sp - 2) & 15]; stack[(sp - 2) & 15] = t; } NEXT;
shift:	stack[(sp - 1) & 15] = stack[(sp - 1) & 15] << 1 | stack[(sp - 1) & 15] >> 63; NEXT;
xor:	stack[(sp - 1) & 15] ^= stack[(sp - 2) & 15]; NEXT;
dup:	stack[sp & 15] = stack[(sp - 1) & 15]; sp++; NEXT;
drop:	sp--; NEXT;
loop:	pc = 0; sp = 4 + (sp & 3); if (--rounds) NEXT;
	return mix(stack[0], stack[3]);
}

/* ---- floating point */

static u64 bits(double d)
{
	union { double d; u64 u; } both = { d };

	return both.u;
}

static u64 matmul(u64 rounds)
{
	enum { N = 64 };
	static double a[N][N], b[N][N], c[N][N];

	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			a[i][j] = (i * 3 + j) / 7.0, b[i][j] = (i - j * 2) / 5.0;
	while (rounds--)
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N; j++) {
				double s = c[i][j] * 0.5;

				for (int k = 0; k < N; k++)
					s += a[i][k] * b[k][j];
				c[i][j] = s;
			}
	return mix(bits(c[3][5]), bits(c[N - 1][N - 2]));
}

static double root(double x)
{
	double r;

#ifdef __riscv
	__asm__("fsqrt.d %0, %1" : "=f"(r) : "f"(x));
#else
	r = __builtin_sqrt(x);
#endif
	return r;
}

static u64 nbody(u64 rounds)
{
	enum { N = 5 };
	static double p[N][3] = { { 0, 0, 0 }, { 4.84, -1.16, -0.1 }, { 8.34, 4.12, -0.4 }, { 12.8, -15.1, -0.2 }, { 15.3, -25.9, 0.1 } };
	static double v[N][3] = { { 0, 0, 0 }, { 0.6, 2.8, 0 }, { -1, 1.8, 0 }, { 1, 0.8, 0 }, { 0.9, 0.5, 0 } };
	static const double m[N] = { 39.5, 0.037, 0.011, 0.0017, 0.002 };

	while (rounds--) {
		for (int i = 0; i < N; i++)
			for (int j = i + 1; j < N; j++) {
				double d[3], s = 0, f;

				for (int k = 0; k < 3; k++)
					d[k] = p[i][k] - p[j][k], s += d[k] * d[k];
				f = 0.001 / (s * root(s));
				for (int k = 0; k < 3; k++)
					v[i][k] -= d[k] * m[j] * f, v[j][k] += d[k] * m[i] * f;
			}
		for (int i = 0; i < N; i++)
			for (int k = 0; k < 3; k++)
				p[i][k] += 0.001 * v[i][k];
	}
	return mix(bits(p[0][0]), bits(p[4][2]));
}

static u64 stream(u64 rounds)
{
	enum { N = 1 << 16 };
	static double a[N], b[N], c[N];

	for (int i = 0; i < N; i++)
		a[i] = i, b[i] = N - i;
	while (rounds--) {
		for (int i = 0; i < N; i++)
			c[i] = a[i] + 0.25 * b[i];
		for (int i = 0; i < N; i++)
			b[i] = c[i] * 0.5;
	}
	return mix(bits(b[17]), bits(c[N - 1]));
}

/* ---- cold code: 600 functions, each run a few times */

#define C1(n) static __attribute__((noinline)) u64 cold##n(u64 x) { \
	x ^= x >> ((n) % 23 + 3); x *= 0x9e3779b97f4a7c15u + 2 * (n); \
	if (x & (1u << (n) % 20)) x += (n) * 77; else x = x << 3 | x >> 61; \
	for (int i = 0; i < (n) % 5; i++) x = x * 5 + i; \
	return x ^ x >> 31; }
#define C10(n) C1(n##0) C1(n##1) C1(n##2) C1(n##3) C1(n##4) C1(n##5) C1(n##6) C1(n##7) C1(n##8) C1(n##9)
#define C100(n) C10(n##0) C10(n##1) C10(n##2) C10(n##3) C10(n##4) C10(n##5) C10(n##6) C10(n##7) C10(n##8) C10(n##9)
C100(1) C100(2) C100(3) C100(4) C100(5) C100(6)
#define N1(n) cold##n,
#define N10(n) N1(n##0) N1(n##1) N1(n##2) N1(n##3) N1(n##4) N1(n##5) N1(n##6) N1(n##7) N1(n##8) N1(n##9)
#define N100(n) N10(n##0) N10(n##1) N10(n##2) N10(n##3) N10(n##4) N10(n##5) N10(n##6) N10(n##7) N10(n##8) N10(n##9)
static u64 (*const colds[])(u64) = { N100(1) N100(2) N100(3) N100(4) N100(5) N100(6) };

static u64 cold(u64 rounds)
{
	u64 x = 1;

	while (rounds--)
		for (size_t i = 0; i < sizeof colds / sizeof *colds; i++)
			x = colds[i](x);
	return x;
}

#ifdef WORK
extern void put(const char *text, u64 value);

void work(void)
{
#define NAME2(x) #x
#define NAME(x) NAME2(x)
	put(NAME(WORK), WORK(ROUNDS));
}
#else
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	static const struct { const char *name; u64 (*run)(u64); } table[] = {
		{ "sieve", sieve }, { "hash", hash }, { "list", list }, { "blend", blend }, { "records", records }, { "bytecode", bytecode },
		{ "recursion", recursion }, { "matmul", matmul }, { "nbody", nbody }, { "stream", stream }, { "cold", cold },
	};

	for (size_t i = 0; argc == 3 && i < sizeof table / sizeof *table; i++)
		if (!strcmp(argv[1], table[i].name)) {
			printf("%s %016llx\n", argv[1], (unsigned long long)table[i].run(strtoull(argv[2], 0, 0)));
			return 0;
		}
	fprintf(stderr, "usage: work NAME ROUNDS\n");
	return 2;
}
#endif
