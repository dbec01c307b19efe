"""Running a program of ours under the kernel, and taking what it left at DATA when it called exit_group(2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from trapline.embed import Kernel
from trapline.labs.code.elf import DATA
from trapline.labs.code.kernel import lab_kernel

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

PATH = "/tmp/experiment"
Prepare = Callable[[Kernel], Callable[[], object] | None]


class Outcome(NamedTuple):
    status: int  #: exit status, or minus the number of the signal that ended the program
    data: bytes  #: what was at DATA when it called exit_group(2); empty if it never did


def run(
    image: bytes, *, machine: str = "host", take: int = 4096, prepare: Prepare | None = None,
    timeout: float = 60, **options: Any,
) -> Outcome:  # fmt: skip
    """Run an ELF file. `take`: bytes of DATA that are wanted; `prepare` is given the kernel before the program starts;
    what it returns, if anything, is called when the program has ended.

    Raises TimeoutError.
    """
    found: list[bytes] = []
    with lab_kernel(machine, **options) as kernel:
        finish = kernel.original("exit_group")

        def end(task: Task, code: int) -> Any:
            if take:
                found.append(task.mm.read(DATA, take))
            return finish(task, code)

        kernel.replace("exit_group", end)
        kernel.add_file(PATH, image, 0o755)
        undo = prepare(kernel) if prepare is not None else None
        status = kernel.run([PATH], timeout=timeout)
        if undo is not None:
            undo()
        if kernel.timed_out:
            raise TimeoutError(f"the experiment's program did not end in {timeout:g} s")
    return Outcome(status, found[0] if found else b"")
