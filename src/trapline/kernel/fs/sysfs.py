"""sysfs: the few files below /sys that programs look at: how many CPUs there are, what they are like, page sizes; sysfs(5).

The tree is fixed when it is first used. What can be written is about huge pages, and takes effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from trapline.typed import TYPE_CHECKING, Any, NamedTuple

from trapline.abi.errno import EINVAL
from trapline.abi.mount import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RELATIME, SYSFS_MAGIC
from trapline.kernel.fs.superblock import SuperBlock
from trapline.kernel.fs.synthetic import SynthDir, SynthFile
from trapline.kernel.mm.hugepages import pool_of

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Mount
    from trapline.kernel.fs.vfs import Vfs

#: Directories, texts (a newline is added) now or late, late directories.
Tree = Mapping[str, "Tree | str | Made | Callable[[], Tree]"]


class Made(NamedTuple):
    """A text that is made when it is read."""

    make: Callable[[], str]
    put: Callable[[str], None] | None = None  #: takes what is written, without white space around it; EINVAL


def _node_memory(kernel: Any) -> str:
    frames = kernel.ram.frames
    total, used = frames.limit_pages, frames.used_pages
    rows = (("MemTotal", total), ("MemFree", total - used), ("MemUsed", used))
    return "\n".join(f"Node 0 {name + ':':<15} {pages << 2:8d} kB" for name, pages in rows)


def _huge_pages(kernel: Any) -> Tree:
    pool = pool_of(kernel.ram)

    def shown(value: Callable[[], int]) -> Made:
        def make() -> str:
            pool.settle()
            return str(value())

        return Made(make)

    count = Made(lambda: str(pool.persistent), lambda text: pool.resize(_number(text)))
    return {
        "hugepages-2048kB": {
            "nr_hugepages": count, "nr_hugepages_mempolicy": count,
            "nr_overcommit_hugepages": Made(
                lambda: str(pool.overcommit), lambda text: setattr(pool, "overcommit", _number(text))
            ),
            "free_hugepages": shown(lambda: len(pool.free)), "resv_hugepages": shown(lambda: pool.reserved),
            "surplus_hugepages": shown(lambda: pool.surplus),
        }
    }  # fmt: skip


def _number(text: str) -> int:
    if not text.isdigit() or len(text) > 18:
        raise EINVAL
    return int(text)


_RULES = ("always", "madvise", "never")  #: by ALWAYS, ADVISED, NEVER


def _transparent(kernel: Any) -> Made:
    pool = pool_of(kernel.ram)

    def put(text: str) -> None:
        if text not in _RULES:
            raise EINVAL
        pool.transparent = _RULES.index(text)

    return Made(lambda: " ".join(f"[{each}]" if i == pool.transparent else each for i, each in enumerate(_RULES)), put)


def cpu_range(cpus: int) -> str:
    return f"0-{cpus - 1}" if cpus > 1 else "0"


def _mask(cpus: int) -> str:
    return f"{(1 << cpus) - 1:0{(cpus - 1) // 4 + 1}x}"


def _caches(arch: Any, number: int, cpus: int) -> Tree:
    """The caches of one CPU; the outer ones are everybody's, and are told apart by the first who has them."""
    from trapline.kernel.drivers.hostcpu import caches

    tree: dict[str, Tree] = {}
    for index, (fields, shared) in enumerate(caches(arch)):
        mine = {
            "shared_cpu_list": cpu_range(cpus) if shared else str(number),
            "shared_cpu_map": _mask(cpus) if shared else f"{1 << number:0{(cpus - 1) // 4 + 1}x}",
        }
        tree[f"index{index}"] = fields | mine | ({"id": "0" if shared else str(number)} if "id" in fields else {})
    return tree


def _cpu(arch: Any, number: int, cpus: int) -> Tree:
    return {
        "online": "1",
        "topology": {
            "core_id": str(number), "physical_package_id": "0", "die_id": "0", "cluster_id": "65535",
            "core_cpus": _mask(1) if cpus == 1 else f"{1 << number:0{(cpus - 1) // 4 + 1}x}", "core_cpus_list": str(number),
            "thread_siblings": f"{1 << number:0{(cpus - 1) // 4 + 1}x}", "thread_siblings_list": str(number),
            "package_cpus": _mask(cpus), "package_cpus_list": cpu_range(cpus),
            "core_siblings": _mask(cpus), "core_siblings_list": cpu_range(cpus),
        },
        "cpufreq": {},
        "cache": lambda: _caches(arch, number, cpus),
    }  # fmt: skip


def _cpus(arch: Any, cpus: int) -> Tree:
    tree: dict[str, Any] = {f"cpu{number}": (lambda n=number: _cpu(arch, n, cpus)) for number in range(cpus)}
    tree |= {
        "online": cpu_range(cpus), "possible": cpu_range(cpus), "present": cpu_range(cpus), "offline": "", "isolated": "",
        "kernel_max": "8191", "smt": {"active": "0", "control": "notsupported"}, "vulnerabilities": {},
    }  # fmt: skip
    return tree


def _tree(kernel: Any) -> Tree:
    cpus = kernel.machine.cpus
    return {
        "block": {}, "bus": {}, "class": {"net": {}, "tty": {}, "block": {}}, "dev": {"block": {}, "char": {}},
        "devices": {
            "system": {
                "cpu": lambda: _cpus(kernel.machine.arch, cpus),
                "node": {
                    "online": "0", "possible": "0", "has_cpu": "0", "has_memory": "0", "has_normal_memory": "0",
                    "node0": {
                        "cpulist": cpu_range(cpus), "cpumap": _mask(cpus), "distance": "10",
                        "meminfo": Made(lambda: _node_memory(kernel)),
                    },
                },
            },
            "virtual": {},
        },
        "firmware": {},
        "fs": {"cgroup": {}},
        "hypervisor": {},
        "kernel": {
            "mm": {
                "transparent_hugepage": {
                    "enabled": _transparent(kernel), "defrag": "always defer defer+madvise [madvise] never",
                    "hpage_pmd_size": "2097152", "shmem_enabled": "always within_size advise [never] deny force",
                    "use_zero_page": "0",
                },
                "hugepages": _huge_pages(kernel),
            },
            "security": {},
        },
        "module": {},
        "power": {},
    }  # fmt: skip


def build(sb: SuperBlock, tree: Tree) -> Inode:
    children: dict[bytes, Inode | Callable[[], Inode]] = {}
    for name, value in tree.items():
        if isinstance(value, (str, Made)):
            children[name.encode()] = _text(sb, value)
        else:
            children[name.encode()] = _directory(sb, value)
    return SynthDir(sb, children)


def _text(sb: SuperBlock, text: str | Made) -> Callable[[], Inode]:
    def make() -> Inode:
        if isinstance(text, str):
            inode = SynthFile(sb, f"{text}\n".encode)
        else:
            put = text.put
            store = None if put is None else lambda data: put(data.decode(errors="replace").strip())
            inode = SynthFile(sb, lambda: text.make().encode() + b"\n", 0o444 if put is None else 0o644, store=store)
        inode.size = 4096  # as every sysfs file
        return inode

    return make


def _directory(sb: SuperBlock, tree: Tree | Callable[[], Tree]) -> Callable[[], Inode]:
    return lambda: build(sb, tree() if callable(tree) else tree)


class _Root(SynthDir):
    """Filled when first looked into."""

    __slots__ = ("_kernel",)

    def __init__(self, sb: SuperBlock, kernel: Any) -> None:
        super().__init__(sb)
        self._kernel = kernel

    def _fill(self) -> None:
        if self._kernel is not None:
            kernel, self._kernel = self._kernel, None
            for name, value in _tree(kernel).items():
                assert not isinstance(value, (str, Made))
                self.children[name.encode()] = _directory(self.sb, value)

    def lookup(self, name: bytes) -> Inode:
        self._fill()
        return super().lookup(name)

    def entries(self) -> list[tuple[bytes, int, int]]:
        self._fill()
        return super().entries()


def make_sysfs(vfs: Vfs, kernel: Any) -> SuperBlock:
    sb = SuperBlock(vfs, b"sysfs", SYSFS_MAGIC)
    sb.root = _Root(sb, kernel)
    return sb


def mount_sysfs(kernel: Any) -> Mount:
    """Register the file system, and mount it at /sys."""
    vfs: Vfs = kernel.vfs
    vfs.register_filesystem(b"sysfs", lambda vfs, source, options, task: make_sysfs(vfs, kernel))
    mount = vfs.new_mount(make_sysfs(vfs, kernel), b"sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME)
    return vfs.mount(mount, vfs.at_root(b"/sys"))
