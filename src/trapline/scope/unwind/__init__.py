"""Unwinding: the stack of a program, from its registers, its memory and the files it has mapped; for traces."""
