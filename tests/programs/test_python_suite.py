"""Python's own regression tests of what it asks of a kernel have, case by case, the outcome here that they have natively.

The tests are those that Debian has in libpython3.11-testsuite; only modules that take a few seconds and need no network are run.
"""

from __future__ import annotations

import json

import pytest

import support

PYTHON = "/usr/bin/python3"
MODULES = {
    "files and memory": "stat fcntl mmap openpty resource posix",
    "processes": "wait4 popen pty",
    "waiting": "select thread posixpath grp",
}
#: Runs modules of the suite and prints the outcome of each case, by name, as JSON after the last newline.
RUN = """
import json, os, sys, tempfile, unittest

class Outcomes(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.of = {}

    def note(self, test, outcome):
        self.of[test.id()] = outcome

    def addSuccess(self, test):
        self.of.setdefault(test.id(), "ok")

    def addSkip(self, test, reason):
        self.note(test, "skipped")

    def addFailure(self, test, error):
        self.note(test, "failed: " + self._exc_info_to_string(error, test))

    addError = addFailure

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.addFailure(test, error)

os.chdir(tempfile.mkdtemp())
sys.argv[1:] = [f"test.test_{name}" for name in sys.argv[1:]]
outcomes = Outcomes()
unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:]).run(outcomes)
os.chdir("/")
print()
print(json.dumps(outcomes.of), end="")
"""


def outcomes(result: support.Result) -> dict[str, str]:
    assert result.status == 0, result.tail()
    found: dict[str, str] = json.loads(result.stdout.rpartition(b"\n")[2])
    return found


@pytest.mark.parametrize("modules", MODULES)
def test_outcomes_are_those_of_the_host(modules: str) -> None:
    if support.native([PYTHON, "-c", "import test.test_stat"]).status != 0:
        pytest.skip("libpython3.11-testsuite is not installed")
    command = [PYTHON, "-c", RUN, *MODULES[modules].split()]
    here, there = outcomes(support.trapline(command)), outcomes(support.native(command))
    assert sum(outcome == "ok" for outcome in there.values()) > 12, "too little was tested"
    different = {name: (there.get(name), here.get(name)) for name in there.keys() | here.keys() if there.get(name) != here.get(name)}
    assert not different, "\n".join(f"{name}: natively {a}, here {b}" for name, (a, b) in sorted(different.items()))
