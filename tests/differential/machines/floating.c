/* cc: -static -frounding-math -lm
 * IEEE 754 operations whose results are fixed, in four rounding modes, with their flags; and how they are printed and read. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static volatile double doubles[] = {0.0, -0.0, 1.0, -1.5, 0.1, 3.0, 1e300, -1e-300, DBL_MIN, DBL_TRUE_MIN, DBL_MAX, INFINITY, 1e16 + 2};
static volatile float floats[] = {0.0f, 1.0f, -0.1f, 16777217.0f, FLT_MIN, FLT_MAX, 1e-40f};
enum { DOUBLES = sizeof doubles / sizeof *doubles, FLOATS = sizeof floats / sizeof *floats };

static void show(const char *name, double value)
{
    int flags = fetestexcept(FE_INEXACT | FE_OVERFLOW | FE_UNDERFLOW | FE_DIVBYZERO | FE_INVALID);
    int known = (flags & FE_INEXACT ? 1 : 0) + (flags & FE_OVERFLOW ? 2 : 0) + (flags & FE_DIVBYZERO ? 4 : 0) + (flags & FE_INVALID ? 8 : 0);
    if (isnan(value))
        printf("%s nan %d\n", name, known); /* its sign and payload are the architecture's choice */
    else
        printf("%s %a %d\n", name, value, known);
    feclearexcept(FE_ALL_EXCEPT);
}

static void wide(int mode)
{
    for (int i = 0; i < DOUBLES; i++) {
        double a = doubles[i], b = doubles[(i * 5 + mode + 1) % DOUBLES];
        feclearexcept(FE_ALL_EXCEPT);
        show("add", a + b);
        show("mul", a * b);
        show("div", a / b);
        show("sqrt", sqrt(fabs(a)));
        show("fma", fma(a, b, doubles[(i + 3) % DOUBLES]));
        show("float", (double)(float)a);
        if (fabs(a) < 1e18)
            show("rint", rint(a) + (double)(long)a);
    }
}

static void narrow(void)
{
    for (int i = 0; i < FLOATS; i++) {
        float a = floats[i], b = floats[(i * 3 + 2) % FLOATS];
        feclearexcept(FE_ALL_EXCEPT);
        show("addf", a + b);
        show("mulf", a * b);
        show("divf", a / b);
        show("sqrtf", sqrtf(fabsf(a)));
        show("fmaf", fmaf(a, b, 1.0f));
    }
}

int main(void)
{
    static const int modes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD};
    for (int mode = 0; mode < 4; mode++) {
        fesetround(modes[mode]);
        wide(mode);
        narrow();
    }
    fesetround(FE_TONEAREST);
    printf("%.17g %g %.3f %e %Lg\n", 0.1, 1e100, 2.0005, DBL_TRUE_MIN, 1.5L);
    printf("%a %a %a\n", strtod("3.141592653589793238", NULL), strtod("1e-320", NULL), strtod("0x1.8p3", NULL));
    printf("%.12f %.12f %.12f\n", sin(1.0), exp(1.5), pow(2.5, 3.5));
    return 0;
}
