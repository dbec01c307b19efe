"""What /proc/cpuinfo says, and what is known of caches and speculation: on the host machine, the host CPU's identity, which
user code can ask the CPU for anyway (CPUID); on the RISC-V machine, its harts. As many CPUs as the machine has.

Only the fields in FIELDS are passed on, from the first CPU the host lists.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from trapline.machine.contract import Arch

FIELDS = (
    "vendor_id", "cpu family", "model", "model name", "stepping", "cpu MHz", "cache size", "fpu", "fpu_exception",
    "cpuid level", "wp", "flags", "bugs", "bogomips", "TLB size", "clflush size", "cache_alignment", "address sizes",
    "power management",
)  # fmt: skip
#: Of the flags, what belongs to the kernel's side of the CPU and would promise what this kernel does not have.
HIDDEN_FLAGS = frozenset("vmx svm hypervisor sgx pku ospke user_shstk monitor mwaitx pts".split())
LIMIT = 1 << 16


#: What the lines of the host's /proc/self/status about speculation mean, as PR_SPEC_* of prctl(2). PR_SPEC_PRCTL is missing:
#: no program here can change it.
STORE_BYPASS = {
    "not vulnerable": 0, "vulnerable": 2, "thread vulnerable": 2, "globally mitigated": 4, "thread mitigated": 4,
    "thread force mitigated": 4,
}  # fmt: skip
INDIRECT_BRANCH = {
    "not affected": 0, "always enabled": 2, "conditional enabled": 2, "always disabled": 4, "conditional disabled": 4,
    "conditional force disabled": 4,
}  # fmt: skip


def speculation(arch: Arch) -> tuple[int, int] | None:
    """(store bypass, indirect branches) as PR_GET_SPECULATION_CTRL has them; None: this architecture has no such question."""
    if arch.name != "x86_64":
        return None
    found: dict[str, str] = {}
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                found[name] = value.strip()
    except OSError:
        pass
    stores, branches = found.get("Speculation_Store_Bypass", ""), found.get("SpeculationIndirectBranch", "")
    return STORE_BYPASS.get(stores, 2), INDIRECT_BRANCH.get(branches, 2)


_CPU = "/sys/devices/system/cpu/cpu0"
MAX_CACHES = 8
#: What sysfs says of a cache, besides by which CPUs it is shared.
CACHE_FIELDS = (
    "id", "level", "type", "size", "coherency_line_size", "number_of_sets", "ways_of_associativity", "physical_line_partition",
)  # fmt: skip


def caches(arch: Arch) -> list[tuple[dict[str, str], bool]]:
    """The caches that a CPU reaches, innermost first: (what CACHE_FIELDS are known to be, shared with all other CPUs)."""
    if arch.name != "x86_64":
        return []
    found = []
    alone = _read(f"{_CPU}/topology/thread_siblings_list")
    for index in range(MAX_CACHES):
        fields = {name: _read(f"{_CPU}/cache/index{index}/{name}") for name in CACHE_FIELDS}
        if not fields["level"]:
            break
        shared = _read(f"{_CPU}/cache/index{index}/shared_cpu_list") != alone
        found.append(({name: value for name, value in fields.items() if value}, shared))
    return found


def _read(path: str) -> str:
    """A host file's only line; nothing if it cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(LIMIT).strip()
    except OSError:
        return ""


def cpuinfo(arch: Arch, cpus: int) -> bytes:
    """The whole text."""
    host = _host_fields() if arch.name == "x86_64" else {}
    blocks = (_x86(host, cpu, cpus) if arch.name == "x86_64" else _riscv(arch, cpu) for cpu in range(cpus))
    return "".join(f"{block}\n" for block in blocks).encode(errors="replace")


def _host_fields() -> dict[str, str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            text = file.read(LIMIT)
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        if name.strip() in FIELDS:
            found[name.strip()] = value.strip()
    flags = found.get("flags")
    if flags is not None:
        found["flags"] = " ".join(each for each in flags.split() if each not in HIDDEN_FLAGS)
    return found


def _x86(host: dict[str, str], cpu: int, cpus: int) -> str:
    fields = {"processor": str(cpu)}
    for name in FIELDS:
        if name in host:
            fields[name] = host[name]
        if name == "cache size":
            fields |= {"physical id": "0", "siblings": str(cpus), "core id": str(cpu), "cpu cores": str(cpus)}
            fields |= {"apicid": str(cpu), "initial apicid": str(cpu)}
    return "".join(_line(name, value) for name, value in fields.items())


def _line(name: str, value: str) -> str:
    """Values start at column 18, but for the last field."""
    if name == "power management":
        return f"{name}:{' ' + value if value else ''}\n"
    tabs = "\t\t" if len(name) < 8 else "\t"
    return f"{name}{tabs}: {value}\n"


def _riscv(arch: Arch, cpu: int) -> str:
    """As arch/riscv/kernel/cpu.c prints one: nothing of the host shows."""
    return (
        f"processor\t: {cpu}\nhart\t\t: {cpu}\nisa\t\t: {arch.isa}\nmmu\t\t: {arch.paging.name.lower()}\n"
        "mvendorid\t: 0x0\nmarchid\t\t: 0x0\nmimpid\t\t: 0x0\n"
    )
