/* Where things are in a stub process and in a slot. layout.py says the same to Python; the greeting compares them. */
#define LAYOUT_VERSION 4

#define STUB 0x7fffff000000UL          /* first address that is not the guest's */
#define TOP 0x7ffffffff000UL           /* end of the host's user space */
#define TEXT_SIZE 0x2000UL             /* the stub's code, mapped at STUB */
#define NURSERY (STUB + TEXT_SIZE)     /* code that only processes have in which no user code has run yet */
#define NURSERY_SIZE 0x1000UL
#define PRIVATE (STUB + 0x8000)        /* one private page: the stack of the zygote, and of a process in the nursery */
#define PRIVATE_SIZE 0x1000UL
#define SLOTS (STUB + 0x10000)         /* this process's region of the contexts file, an array of slots */
#define SLOT_SIZE 0x4000UL
#define SLOT_HEAD 0x1000UL             /* the rest of a slot is the signal stack */

#define OPS_MAX 48                     /* operations in one command */
#define OP_CHILD OPS_MAX               /* the zygote's ops[OP_CHILD]: how the next newborn maps its own slots */

enum { FD_DOORBELL = 0, FD_RAM = 1, FD_CONTEXTS = 2, FD_GREETING = 3, FD_IMAGE = 4 };

#define SIG_KICK 10
