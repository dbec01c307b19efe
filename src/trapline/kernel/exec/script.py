"""Scripts: the first line of a file that starts with `#!`; execve(2), "Interpreter scripts"."""

from __future__ import annotations

from trapline.abi.errno import ENOEXEC

LINE = 256  #: bytes of the file that are looked at (BINPRM_BUF_SIZE)


def parse(head: bytes) -> tuple[bytes, list[bytes]]:
    """(interpreter, optional argument) of a script whose first LINE bytes are `head`; raises ENOEXEC."""
    line, newline, _ = head[2:LINE].partition(b"\n")
    if not newline and len(head) >= LINE:
        # the line was cut: Linux goes on if the interpreter's name is whole
        stripped = line.lstrip(b" \t")
        if not any(each in b" \t" for each in stripped):
            raise ENOEXEC("the interpreter's name is too long")
    line = line.partition(b"\0")[0].strip(b" \t")
    if not line:
        raise ENOEXEC("no interpreter is named")
    interpreter = line.replace(b"\t", b" ").split(b" ", 1)[0]
    argument = line[len(interpreter) :].strip(b" \t")
    return interpreter, [argument] if argument else []
