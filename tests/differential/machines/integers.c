/* cc: -static
 * Integer arithmetic whose result the C standard fixes: every width, division, 128 bits, bit counts, shifts. */
#include <stdint.h>
#include <stdio.h>

static const int64_t values[] = {0, 1, -1, 2, 7, -7, 255, 256, 65535, -65536, INT32_MAX, INT32_MIN, 1ll << 40, INT64_MAX, INT64_MIN,
                                 0x123456789abcdef};
enum { COUNT = sizeof values / sizeof *values };

static uint64_t sum;

static void mix(const char *name, uint64_t value)
{
    sum = (sum ^ value) * 0x9e3779b97f4a7c15u + 1;
    if (sum % 5 == 0)
        printf("%s %llx\n", name, (unsigned long long)value);
}

static void pair(int64_t a, int64_t b)
{
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
    mix("add", ua + ub);
    mix("sub", ua - ub);
    mix("mul", ua * ub);
    mix("high", (uint64_t)((__int128)a * b >> 64));
    mix("uhigh", (uint64_t)((unsigned __int128)ua * ub >> 64));
    mix("less", (uint64_t)(a < b) | (uint64_t)(ua < ub) << 1);
    mix("mul32", (uint32_t)a * (uint32_t)b);
    mix("add16", (uint64_t)(int16_t)(a + 3) + (uint64_t)(uint8_t)b);
    if (b != 0) {
        mix("udiv", ua / ub);
        mix("urem", ua % ub);
        mix("udiv128", (uint64_t)(((unsigned __int128)ua << 32 | ub) / ub));
    }
    if (b != 0 && !(a == INT64_MIN && b == -1)) {
        mix("div", (uint64_t)(a / b));
        mix("rem", (uint64_t)(a % b));
    }
    if ((int32_t)b != 0 && !((int32_t)a == INT32_MIN && (int32_t)b == -1))
        mix("div32", (uint64_t)(int64_t)((int32_t)a / (int32_t)b) ^ (uint64_t)(int64_t)((int32_t)a % (int32_t)b));
}

static void single(uint64_t a)
{
    for (int n = 0; n < 64; n += 9) {
        mix("shl", a << n);
        mix("shr", a >> n);
        mix("sar", (uint64_t)((int64_t)a >> n));
        mix("rotate", a << n | a >> ((64 - n) & 63));
        mix("shl32", (uint32_t)a << (n & 31));
    }
    mix("bits", (uint64_t)__builtin_popcountll(a));
    mix("swap", __builtin_bswap64(a));
    if (a != 0)
        mix("zeros", (uint64_t)(__builtin_clzll(a) * 64 + __builtin_ctzll(a)));
}

int main(void)
{
    for (int i = 0; i < COUNT; i++) {
        single((uint64_t)values[i]);
        for (int j = 0; j < COUNT; j++)
            pair(values[i], values[j]);
    }
    printf("%llx\n", (unsigned long long)sum);
    return (int)(sum & 63);
}
