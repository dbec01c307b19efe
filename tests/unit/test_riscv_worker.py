"""The compiler's process: what it answers, how it ends, and that nothing depends on its living."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from trapline.machine.ram import Ram
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.isa.decode import encode
from trapline.machine.riscv.jit.objects import link
from trapline.machine.riscv.jit.worker import ASSEMBLY, OBJECT, REGION, CompilerDied, Worker

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.usefixtures("no_process_left")

TEXT = b"define i64 @double(i64 %x) nounwind {\n  %y = add i64 %x, %x\n  ret i64 %y\n}\n"


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def test_it_compiles(worker: Worker) -> None:
    for kind in (OBJECT, REGION):
        assert "double" in link(worker.ask(kind, TEXT)).symbols
    assert b"double:" in worker.ask(ASSEMBLY, TEXT)


def test_what_it_refuses_is_said_and_it_goes_on(worker: Worker) -> None:
    with pytest.raises(CompilerDied, match="expected"):
        worker.ask(REGION, b"define nonsense")
    assert worker.running and worker.ask(REGION, TEXT)


def pid(worker: Worker) -> int:
    assert worker._process is not None
    return worker._process.pid


def test_it_is_started_when_needed_and_gone_when_not(worker: Worker) -> None:
    assert not worker.running
    worker.ask(REGION, TEXT)
    first = pid(worker)
    assert os.getsid(first) == first
    assert os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT) is not None, "it has gone by itself"
    assert worker.ask(REGION, TEXT) and pid(worker) != first
    worker.close()
    worker.close()
    with pytest.raises(CompilerDied, match="closed"):
        worker.ask(REGION, TEXT)


def test_it_ends_with_its_owner() -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    worker = Worker()
    worker.ask(REGION, TEXT)
    process = pid(worker)
    del worker
    assert not os.path.exists(f"/proc/{process}") and len(os.listdir("/proc/self/fd")) == descriptors


def test_somebody_else_may_wait_for_it(worker: Worker) -> None:
    worker.ask(REGION, TEXT)
    assert os.waitpid(pid(worker), 0)[1] == 0
    assert worker.ask(REGION, TEXT)


def test_its_death_is_said(worker: Worker) -> None:
    worker.ask(REGION, TEXT)
    os.kill(pid(worker), signal.SIGKILL)
    with pytest.raises(CompilerDied, match="signal 9"):
        worker.ask(REGION, TEXT)
    assert worker.ask(REGION, TEXT)


def test_closing_does_not_wait_for_what_it_does(worker: Worker) -> None:
    worker.ask(REGION, TEXT)
    os.kill(pid(worker), signal.SIGSTOP)
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            worker.ask(REGION, TEXT)
        except CompilerDied as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.05)
    worker.close()
    thread.join(10)
    assert not thread.is_alive() and len(caught) == 1


def test_no_python_to_start(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    for executable, why in (("", "sys.executable is empty"), ("/nosuch/python", "No such file")):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(CompilerDied, match=why):
            worker.ask(REGION, TEXT)
    assert len(os.listdir("/proc/self/fd")) == descriptors and not worker.running


def test_a_program_goes_on_without_it() -> None:
    """Whenever its process starts, it is killed: no region is made, and after some tries none is asked for."""
    from trapline.machine.riscv.jit.native import NativeHart
    from trapline.machine.riscv.jit.tiers import MAX_REGIONS, Tiers

    ram = Ram(4 << 20)
    start = [encode("addi", rd=5, rs1=0, imm=0), encode("addi", rd=6, rs1=0, imm=1000), encode("addi", rd=7, rs1=7, imm=1)]
    loop = [*start, encode("addi", rd=5, rs1=5, imm=1), encode("bne", rs1=5, rs2=6, imm=-4)]
    words = [*loop * 5, encode("jal", rd=0, imm=-4 * 25)]
    for n, word in enumerate(words):
        ram.mem[0x10000 + 4 * n : 0x10004 + 4 * n] = word.to_bytes(4, "little")
    tiers = Tiers(ram, background=False, hot=100)
    tiers._compiler.worker.close()
    hart = NativeHart(Bus(ram), Code(Bus(ram)), hosted=True, tiers=tiers)
    try:
        hart.reset(0x10000)
        hart.run(1_000_000)
        assert tiers.compiled == 0 and tiers.loaded == MAX_REGIONS and hart.xs[7] > 100
    finally:
        tiers.close()
