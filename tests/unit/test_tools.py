"""The checks of tools/ find what they are for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import check_layers
import check_surface
import coverage_page
import imports
import syscall_index
from trapline.kernel.syscalls.declare import REFUSALS, SYSCALLS
from trapline.kernel.syscalls.index import FAMILY


def make(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = tmp_path / "trapline" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for directory in (path.parent, *path.parent.parents):
            if directory == tmp_path:
                break
            init = directory / "__init__.py"
            if not init.exists():
                init.write_text("")
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "target", "good"),
    [
        ("trapline.kernel.fs.vfs", "trapline.kernel.sync.park", True),
        ("trapline.kernel.fs.vfs", "trapline.kernel.ipc.pipe", True),
        ("trapline.kernel.fs.vfs", "trapline.kernel.task.task", False),
        ("trapline.kernel.mm.area", "trapline.kernel.fs.file", False),
        ("trapline.kernel.core", "trapline.kernel.entry.loop", True),
        ("trapline.kernel.entry.loop", "trapline.kernel.core", False),
        ("trapline.kernel.boot", "trapline.machine.host.machine", False),
        ("trapline.kernel.boot", "trapline.machine.contract", True),
        ("trapline.kernel.boot", "trapline.machine.paging.walk", True),
        ("trapline.machine.ram", "trapline.kernel.core", False),
        ("trapline.cli.run", "trapline.embed", True),
        ("trapline.embed", "trapline.cli.run", False),
        ("trapline.cli.main", "trapline", True),
        ("trapline.kernel.core", "trapline", False),
    ],
)
def test_layers_know_which_way_is_down(module: str, target: str, good: bool) -> None:
    assert (check_layers.complaint(module, target) == "") is good


def test_import_that_points_up_is_found_and_type_checking_is_exempt(tmp_path: Path) -> None:
    source = make(
        tmp_path,
        {
            "abi/a.py": "from trapline.kernel import core\n",
            "machine/m.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from trapline.kernel import core\n",
            "kernel/core.py": "",
        },
    )
    assert [line.split(": ", 1)[1] for line in check_layers.check(source)] == [
        "trapline.abi.a -> trapline.kernel.core: points up"
    ]


def test_import_inside_a_function_counts(tmp_path: Path) -> None:
    source = make(tmp_path, {"abi/a.py": "def f():\n    import trapline.cli.main\n", "cli/main.py": ""})
    assert len(check_layers.check(source)) == 1


def test_cycle_and_missing_module_are_found(tmp_path: Path) -> None:
    source = make(
        tmp_path,
        {
            "abi/a.py": "from trapline.abi import b\n",
            "abi/b.py": "from trapline.abi import a\nimport trapline.abi.gone\n",
        },
    )
    wrong = check_layers.check(source)
    assert any(line.startswith("cycle: ") for line in wrong)
    assert any("no such module" in line for line in wrong)


def test_relative_imports_are_resolved() -> None:
    known = {"trapline.kernel.fs.a": Path("a.py"), "trapline.kernel.mm.b": Path("b.py")}
    tree = ast.parse("from ..mm import b\n")
    assert next(imports.imports(tree, "trapline.kernel.fs.a", known)).target == "trapline.kernel.mm.b"


@pytest.mark.parametrize(
    "text",
    [
        "import ctypes", "import os\nos.read(0, 1)", "import os\nos.path.exists('/')", "from os import environ",
        "import sys\nsys.stderr.write('')", "open('/etc/passwd')", "from io import FileIO", "import socket as s",
        "def f():\n    import select", "from os.path import isfile", "print('x')", "import time",
    ],
)  # fmt: skip
def test_host_access_is_seen(text: str) -> None:
    assert check_surface.uses(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.fsencode('x')", "import os\nos.path.join('a', 'b')", "import os\nx = os.O_RDONLY",
        "from io import BytesIO", "import sys\nsys.exit(0)", "self.open(path)", "import struct, heapq",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket",
    ],
)  # fmt: skip
def test_pure_code_is_not_taken_for_host_access(text: str) -> None:
    assert check_surface.uses(ast.parse(text)) == []


def test_surface_outside_the_list_is_named_with_its_line(tmp_path: Path) -> None:
    source = make(tmp_path, {"kernel/fs/x.py": "\nimport socket\n", "kernel/drivers/hostx.py": "import socket\n"})
    assert check_surface.check(source) == ["src/trapline/kernel/fs/x.py:2: socket: host access outside the list"]
    assert "hostx.py" in check_surface.markdown(source)


def test_embedded_table_replaces_only_what_is_between_the_marks() -> None:
    page = f"head\n{check_surface.BEGIN}\nold\n{check_surface.END}\ntail\n"
    assert check_surface.embedded(page, "new") == f"head\n{check_surface.BEGIN}\nnew\n{check_surface.END}\ntail\n"


def test_coverage_page_has_every_call_once() -> None:
    coverage_page.load()
    text = coverage_page.page()
    rows = [line for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()]
    names = [line.split("`")[1] for line in rows]
    assert len(names) == len(set(names)) == len(coverage_page.X86_64 | coverage_page.RISCV64)
    assert coverage_page.status("read")[0] in ("supported", "partial")
    assert coverage_page.status("vserver") == ("missing", "ENOSYS") or coverage_page.status("vserver")[0] == "refused"


def test_every_declared_call_is_in_the_index_under_its_family() -> None:
    coverage_page.load()
    assert FAMILY.keys() == SYSCALLS.keys() | REFUSALS.keys()
    assert {name: FAMILY[name] for name in SYSCALLS} == {name: call.family for name, call in SYSCALLS.items()}


def test_index_names_what_is_declared_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        '@syscall("one", returns="fd")\ndef f(): "two"\n\nrefuse(ENOSYS, "three", "four", "five")\n@other("six")\ndef g(): ...\n'
    )
    (tmp_path / "b.py").write_text("x = 1\n")
    found: dict[str, dict[str, str]] = {}
    exec(syscall_index.index(tmp_path), found)
    assert found["FAMILIES"] == {"a": "one four five"}
    assert found["FAMILY"] == {"one": "a", "four": "a", "five": "a"}


def test_a_call_whose_name_is_computed_is_refused_by_the_index(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('@syscall("o" + "ne")\ndef f(): ...\n')
    with pytest.raises(ValueError, match="line 1: the name of a system call must be written out"):
        syscall_index.index(tmp_path)


def test_directories_of_tests_that_are_named_together_are_collected() -> None:
    """conftest.py has the same module name everywhere, so whoever imports from one may get another's."""
    tests = Path(__file__).parent.parent
    known = {"test": Path("test.py")}
    files = list(tests.rglob("*.py"))
    assert len({path.name for path in files if path.name not in ("conftest.py", "__init__.py")}) > 100
    wrong = [p for p in files for each in imports.imports(ast.parse(p.read_text()), "test", known) if each.target == "conftest"]
    assert wrong == []
