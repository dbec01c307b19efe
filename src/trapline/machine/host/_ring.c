/* What Python cannot do on words shared with other processes: barriers, exchanges, futexes, a bounded spin; and tgkill(2).
 *
 * Slots are named by address (`address` of the mapping, plus an offset): the caller vouches for them. Nothing here waits
 * longer than its bound, and what is read from a slot is only ever compared, never used as an address or a length.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "layout.h"

struct slot { /* see stub.c */
	uint32_t cmd, nops, kernel_sleeps, spin, ppid, pad[27];
	uint32_t state, stub_sleeps;
};

static inline struct slot *slot_at(PyObject *address)
{
	return (struct slot *)PyLong_AsUnsignedLongLong(address);
}

static inline int stopped(struct slot *slot)
{
	return __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) == 1;
}

static PyObject *bad(const char *usage)
{
	PyErr_SetString(PyExc_TypeError, usage);
	return NULL;
}

static PyObject *address(PyObject *self, PyObject *buffer)
{
	Py_buffer view;

	(void)self;
	if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0)
		return NULL;
	uintptr_t at = (uintptr_t)view.buf;
	PyBuffer_Release(&view);
	return PyLong_FromUnsignedLongLong(at);
}

/* Hand a command to a stub and wake it if it sleeps. */
static void order(struct slot *slot, uint32_t nops, uint32_t run)
{
	slot->nops = nops;
	__atomic_store_n(&slot->cmd, ((slot->cmd & ~1U) + 2) | run, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&slot->stub_sleeps, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &slot->cmd, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static PyObject *run(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	(void)self;
	if (nargs != 3)
		return bad("run(slot, nops, spin)");
	struct slot *slot = slot_at(args[0]);
	uint32_t nops = (uint32_t)PyLong_AsLong(args[1]), spin = (uint32_t)PyLong_AsLong(args[2]);
	if (PyErr_Occurred())
		return NULL;
	slot->kernel_sleeps = 0;
	slot->spin = spin;
	slot->state = 0;
	order(slot, nops, 1);
	Py_RETURN_NONE;
}

static PyObject *perform(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	(void)self;
	if (nargs != 2)
		return bad("perform(slot, nops)");
	struct slot *slot = slot_at(args[0]);
	uint32_t nops = (uint32_t)PyLong_AsLong(args[1]);
	if (PyErr_Occurred())
		return NULL;
	order(slot, nops, 0);
	Py_RETURN_NONE;
}

/* spin(slots, loops): the index of the first slot in the list that is stopped, looking `loops` times more; or -1. */
static PyObject *spin(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct slot *slots[16];

	(void)self;
	if (nargs != 2 || !PyList_CheckExact(args[0]))
		return bad("spin(list of slots, loops)");
	Py_ssize_t count = PyList_GET_SIZE(args[0]);
	long loops = PyLong_AsLong(args[1]);
	for (Py_ssize_t i = 0; i < count; i++) {
		struct slot *slot = slot_at(PyList_GET_ITEM(args[0], i));
		if (PyErr_Occurred())
			return NULL;
		if (stopped(slot))
			return PyLong_FromSsize_t(i);
		if (i < 16)
			slots[i] = slot;
	}
	if (count > 16)
		count = 16;
	for (; loops > 0; loops--) {
		__builtin_ia32_pause();
		for (Py_ssize_t i = 0; i < count; i++)
			if (stopped(slots[i]))
				return PyLong_FromSsize_t(i);
	}
	return PyLong_FromLong(-1);
}

/* arm(slots, sleeps): set the *kernel sleeps* flags; the index of a slot that is stopped after all, or -1. */
static PyObject *arm(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	(void)self;
	if (nargs != 2 || !PyList_CheckExact(args[0]))
		return bad("arm(list of slots, sleeps)");
	Py_ssize_t count = PyList_GET_SIZE(args[0]), found = -1;
	uint32_t sleeps = (uint32_t)PyLong_AsLong(args[1]);
	for (Py_ssize_t i = 0; i < count; i++)
		__atomic_store_n(&slot_at(PyList_GET_ITEM(args[0], i))->kernel_sleeps, sleeps, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (Py_ssize_t i = 0; i < count && found < 0; i++)
		if (stopped(slot_at(PyList_GET_ITEM(args[0], i))))
			found = i;
	if (PyErr_Occurred())
		return NULL;
	return PyLong_FromSsize_t(found);
}

/* tgkill(tgid, tid, signal): 0, or an error number. */
static PyObject *tgkill_(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	(void)self;
	if (nargs != 3)
		return bad("tgkill(tgid, tid, signal)");
	long tgid = PyLong_AsLong(args[0]), tid = PyLong_AsLong(args[1]), sig = PyLong_AsLong(args[2]);
	if (PyErr_Occurred())
		return NULL;
	return PyLong_FromLong(syscall(SYS_tgkill, tgid, tid, sig) < 0 ? errno : 0);
}

/* The aligned 32-bit word at an offset of a buffer, which the caller has to release; NULL with an exception. */
static uint32_t *word_in(PyObject *buffer, PyObject *at, Py_buffer *view)
{
	size_t offset = PyLong_AsSize_t(at);
	if (PyErr_Occurred() || PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE) < 0)
		return NULL;
	size_t length = (size_t)view->len;
	if (!(offset & 3) && length >= 4 && offset <= length - 4)
		return (uint32_t *)((char *)view->buf + offset);
	PyBuffer_Release(view);
	PyErr_SetString(PyExc_ValueError, "there is no such word");
	return NULL;
}

/* exchange(buffer, offset, old, new): store new in a word if old is there; what was there. */
static PyObject *exchange(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	Py_buffer view;

	(void)self;
	if (nargs != 4)
		return bad("exchange(buffer, offset, old, new)");
	uint32_t found = (uint32_t)PyLong_AsUnsignedLongMask(args[2]), new = (uint32_t)PyLong_AsUnsignedLongMask(args[3]);
	uint32_t *word = PyErr_Occurred() ? NULL : word_in(args[0], args[1], &view);
	if (!word)
		return NULL;
	__atomic_compare_exchange_n(word, &found, new, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	PyBuffer_Release(&view);
	return PyLong_FromUnsignedLong(found);
}

/* modify(buffer, offset, operation, argument): FUTEX_OP_SET, _ADD, _OR, _ANDN or _XOR of a word, however often others
 * change it meanwhile; what was there. */
static PyObject *modify(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	Py_buffer view;
	uint32_t found;

	(void)self;
	if (nargs != 4)
		return bad("modify(buffer, offset, operation, argument)");
	long operation = PyLong_AsLong(args[2]);
	uint32_t argument = (uint32_t)PyLong_AsUnsignedLongMask(args[3]);
	uint32_t *word = PyErr_Occurred() ? NULL : word_in(args[0], args[1], &view);
	if (!word)
		return NULL;
	switch (operation) {
	case 0: found = __atomic_exchange_n(word, argument, __ATOMIC_SEQ_CST); break;
	case 1: found = __atomic_fetch_add(word, argument, __ATOMIC_SEQ_CST); break;
	case 2: found = __atomic_fetch_or(word, argument, __ATOMIC_SEQ_CST); break;
	case 3: found = __atomic_fetch_and(word, ~argument, __ATOMIC_SEQ_CST); break;
	default: found = __atomic_fetch_xor(word, argument, __ATOMIC_SEQ_CST); break;
	}
	PyBuffer_Release(&view);
	return PyLong_FromUnsignedLong(found);
}

static PyObject *rdtsc(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return PyLong_FromUnsignedLongLong(__builtin_ia32_rdtsc());
}

static PyMethodDef methods[] = {
	{ "address", address, METH_O, "address(buffer): where a writable buffer is." },
	{ "run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, "run(slot, nops, spin): to user mode." },
	{ "perform", (PyCFunction)(void (*)(void))perform, METH_FASTCALL, "perform(slot, nops): operations only." },
	{ "spin", (PyCFunction)(void (*)(void))spin, METH_FASTCALL, "spin(slots, loops): index of a stopped one or -1." },
	{ "arm", (PyCFunction)(void (*)(void))arm, METH_FASTCALL, "arm(slots, sleeps): index of a stopped one or -1." },
	{ "tgkill", (PyCFunction)(void (*)(void))tgkill_, METH_FASTCALL, "tgkill(tgid, tid, signal): error number." },
	{ "exchange", (PyCFunction)(void (*)(void))exchange, METH_FASTCALL, "exchange(buffer, offset, old, new): what was there." },
	{ "modify", (PyCFunction)(void (*)(void))modify, METH_FASTCALL, "modify(buffer, offset, op, argument): what was there." },
	{ "rdtsc", rdtsc, METH_NOARGS, "rdtsc(): the CPU's time-stamp counter." },
	{ NULL, NULL, 0, NULL },
};

static struct PyModuleDef module = { PyModuleDef_HEAD_INIT, "_ring", NULL, -1, methods, NULL, NULL, NULL, NULL };

PyMODINIT_FUNC PyInit__ring(void)
{
	return PyModule_Create(&module);
}
