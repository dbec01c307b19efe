"""The pytest plugin: run programs in a kernel of the test's own, assert what they asked of it, and sweep them with failures.

    def test_copy(sandbox):
        done = sandbox.run(["cp", "/etc/hostname", "/tmp/copy"], collect=["/tmp/copy"])
        assert done.returncode == 0
        done.trace.assert_called("openat", path="/etc/hostname")
        done.trace.assert_not_called("%network")

    @pytest.mark.trapline(files={"/tmp/in": "3 1 2"}, memory=64 << 20)
    def test_survives(sweep):
        sweep(["sort", "/tmp/in"], calls="%desc").check()

The marker's arguments are those of `trapline.sandbox.Sandbox`. When a test fails, the last calls of each program that it ran
are part of the report. Nothing of this is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from trapline.typed import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trapline.sandbox import Done, Sandbox
    from trapline.sweep import Report

_TAIL = 20
_RUNS = pytest.StashKey[list["Done"]]()
MARKER = "trapline(**settings): settings of the kernels of fixtures `sandbox` and `sweep`, as of trapline.sandbox.Sandbox"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("trapline", "Trapline: programs in a kernel of their own")
    group.addoption(
        "--trapline-machine", metavar="NAME", help="the machine of the fixtures `sandbox` and `sweep`: host (default) or riscv"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Put the last calls of what a failed test ran into its report."""
    report = yield
    if report.when == "call" and report.failed:
        for done in item.stash.get(_RUNS, []):
            report.sections.append((f"trapline: {_words(done)}", _story(done)))
    return report


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """A `trapline.sandbox.Sandbox`: `run(args, input=, env=, cwd=, timeout=, collect=)` runs a program in a new kernel."""
    from trapline.machine.select import NoMachine, open_machine
    from trapline.sandbox import Sandbox

    settings: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("trapline"))):
        settings |= mark.kwargs
    machine = request.config.getoption("--trapline-machine")
    if machine:
        settings["machine"] = machine
    try:
        open_machine(settings.get("machine", "host"), 0, 1).close()
    except NoMachine as error:
        pytest.skip(f"trapline: {error}")
    runs = request.node.stash.setdefault(_RUNS, [])

    class Remembering(Sandbox):
        def run(self, *args: Any, **kwargs: Any) -> Done:
            done = super().run(*args, **kwargs)
            runs.append(done)
            del runs[:-_TAIL]
            return done

    return Remembering(**settings)


@pytest.fixture
def sweep(sandbox: Sandbox) -> Callable[..., Report]:
    """`sweep(args, calls=, kinds=, errors=, ...)`: a `trapline.sweep.Report`; its `check()` fails the test."""
    from trapline.sandbox import Sandbox
    from trapline.sweep import Sweep

    plain = Sandbox(files=sandbox.files, **sandbox.settings)  # its hundreds of runs are in the report by themselves

    def run(args: Any, **kwargs: Any) -> Report:
        return Sweep(args, sandbox=plain, **kwargs).run()

    return run


def _words(done: Done) -> str:
    from trapline.scope.strace.text import printable

    return printable(" ".join(done.args))


def _story(done: Done) -> str:
    """How a run went, in lines."""
    from trapline.scope.strace.text import printable

    calls = [printable(str(each)) for each in done.trace.calls()[-_TAIL:]]
    ended = f"exit status {done.returncode}" if done.returncode >= 0 else f"killed by signal {-done.returncode}"
    lines = [f"{len(done.trace.calls())} calls; {'timed out; ' if done.timed_out else ''}{ended}; the last calls:", *calls]
    for name, data in (("output", done.stdout), ("errors", done.stderr)):
        text = data[-2000:].decode(errors="replace")
        lines += [f"{name}:", *(f"    {printable(line)}" for line in text.splitlines())] if text else []
    return "\n".join(lines)
