"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

import support

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("no_process_left")

TESTS = """
import pytest

def test_copy(sandbox):
    done = sandbox.run(["cp", "/etc/hostname", "/tmp/copy"], collect=["/tmp/copy"])
    assert done.returncode == 0 and done.files["/tmp/copy"]
    done.trace.assert_called("openat", path="/etc/hostname")
    done.trace.assert_not_called("%network")
    done.trace.assert_order("openat", "exit_group")

@pytest.mark.trapline(files={"/tmp/in": "b\\na\\n"}, memory=64 << 20)
class TestSort:
    def test_survives(self, sweep):
        sweep(["sort", "/tmp/in"], calls="read,write", kinds=("error",)).check()

    @pytest.mark.trapline(hostname="elsewhere")
    def test_nearer_marks_win(self, sandbox):
        assert sandbox.run("hostname").text == "elsewhere\\n" and sandbox.run(["cat", "/tmp/in"]).text == "b\\na\\n"

def test_report(sandbox):
    sandbox.run(["echo", "hi\\x1b[2J"]).trace.assert_called("fsync")
"""


def test_fixtures_and_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers")
    result.assert_outcomes(passed=3, failed=1)
    text = result.stdout.str()
    assert "trapline: echo hi" in text and "the last calls:" in text and "at least one call of fsync" in text and "\x1b[2J" not in text


def test_a_machine_that_is_not_there_skips(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_x(sandbox): pass")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--trapline-machine=nosuch", "-rs")
    result.assert_outcomes(skipped=1)


def test_it_costs_nothing_to_have(pytester: pytest.Pytester) -> None:
    """Nothing of the kernel is imported by a test run that does not use it."""
    pytester.makepyfile("import sys\ndef test_x(): assert not [m for m in sys.modules if m.startswith(('trapline.kernel', 'trapline.machine'))]")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_page_on_it_is_true(pytester: pytest.Pytester) -> None:
    text = Path(support.ROOT, "docs/breaking.md").read_text()
    pytester.makepyfile(text.split("```python\n")[1].split("```")[0])
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "--strict-markers").assert_outcomes(passed=2)
