/* cc: 
 * The initial stack and auxiliary vector of a dynamic program the interpreter, AT_BASE. */
#include "auxv.h"

int main(int argc, char **argv)
{
    CHECK_EQ("an interpreter's base", getauxval(AT_BASE) != 0, 1);
    return check_image(argc, argv, true);
}
