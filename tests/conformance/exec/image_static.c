/* cc: -static
 * The initial stack and auxiliary vector of a static program. */
#include "auxv.h"

int main(int argc, char **argv)
{
    CHECK_EQ("an interpreter's base", getauxval(AT_BASE) != 0, 0);
    return check_image(argc, argv, false);
}
