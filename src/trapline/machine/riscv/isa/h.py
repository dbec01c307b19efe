"""H: loads and stores on behalf of a guest, and fences of its translation (volume II, "Hypervisor Extension", "Hypervisor
Instructions"), and those of Svinval that a hypervisor uses."""

from __future__ import annotations

from trapline.machine.riscv.isa.declare import Body, Instruction, extension
from trapline.machine.riscv.isa.vocabulary import Vocabulary

op = extension("H", system=True)


def _load(name: str, size: int, *, signed: bool, executable: bool = False) -> Body:
    def body(m: Vocabulary, i: Instruction) -> None:
        m.w(i.rd, m.guest_load(m.x(i.rs1), size, signed=signed, executable=executable))

    body.__name__ = name
    return body


def _store(name: str, size: int) -> Body:
    def body(m: Vocabulary, i: Instruction) -> None:
        m.guest_store(m.x(i.rs1), size, m.x(i.rs2))

    body.__name__ = name
    return body


for _which, _letter, _size in (("00", "b", 1), ("01", "h", 2), ("10", "w", 4), ("11", "d", 8)):
    op(f"0110{_which}0 00000 rs1 100 rd 1110011", "rd, (rs1)")(_load(f"hlv_{_letter}", _size, signed=True))
    if _size < 8:
        op(f"0110{_which}0 00001 rs1 100 rd 1110011", "rd, (rs1)")(_load(f"hlv_{_letter}u", _size, signed=False))
    if _size in (2, 4):
        op(f"0110{_which}0 00011 rs1 100 rd 1110011", "rd, (rs1)")(
            _load(f"hlvx_{_letter}u", _size, signed=False, executable=True)
        )
    op(f"0110{_which}1 rs2 rs1 100 00000 1110011", "rs2, (rs1)")(_store(f"hsv_{_letter}", _size))


@op("0010001 rs2 rs1 000 00000 1110011", "rs1, rs2")
def hfence_vvma(m: Vocabulary, i: Instruction) -> None:
    m.hfence_vvma(m.x(i.rs1), m.x(i.rs2), any_address=i.rs1 == 0, any_asid=i.rs2 == 0)


@op("0110001 rs2 rs1 000 00000 1110011", "rs1, rs2")
def hfence_gvma(m: Vocabulary, i: Instruction) -> None:
    m.hfence_gvma(m.x(i.rs1), m.x(i.rs2), any_address=i.rs1 == 0, any_vmid=i.rs2 == 0)


@op("0010011 rs2 rs1 000 00000 1110011", "rs1, rs2")
def hinval_vvma(m: Vocabulary, i: Instruction) -> None:
    m.hfence_vvma(m.x(i.rs1), m.x(i.rs2), any_address=i.rs1 == 0, any_asid=i.rs2 == 0)


@op("0110011 rs2 rs1 000 00000 1110011", "rs1, rs2")
def hinval_gvma(m: Vocabulary, i: Instruction) -> None:
    m.hfence_gvma(m.x(i.rs1), m.x(i.rs2), any_address=i.rs1 == 0, any_vmid=i.rs2 == 0)
