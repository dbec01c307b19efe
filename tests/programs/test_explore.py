"""`trapline explore` as its user meets it: the command, its streams and exit status; and the page, in a real browser."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import support
from chromium import PROGRAM, Browser

browser_only = pytest.mark.skipif(PROGRAM is None, reason="no chromium is installed: tools/test-packages names it")
HOSTILE = "<img src=x onerror=alert(1)>"
#: Every script of the page would be able to set this, and so would a string that became markup.
CLEAN = "document.querySelectorAll('img:not(.mark), script:not([src]), iframe').length === 0"


class Explorer:
    """One `trapline explore`; what it says on stderr before the program does is the address of its page."""

    def __init__(self, *words: str, stdin: int = subprocess.DEVNULL, cwd: str | Path = "/usr") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trapline", "explore", "--no-browser", *words],
            env=support.host_environment(), cwd=cwd, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]+)", line)
        assert found is not None, line + self.process.stderr.read()
        self.url, self.port, self.token = found.group(0), int(found.group(1)), found.group(2)

    def request(self, path: str, question: dict[str, Any] | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Cookie": f"trapline-{self.port}={self.token}", "Origin": f"http://127.0.0.1:{self.port}"}
        body = None if question is None else json.dumps(question).encode()
        connection.request("GET" if body is None else "POST", path, body, headers)
        data = connection.getresponse().read()
        connection.close()
        return data

    def ask(self, **question: Any) -> dict[str, Any]:
        return dict(json.loads(self.request("/ask", question)))

    def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "in time"
            time.sleep(0.05)

    def end(self, signo: int = signal.SIGINT) -> tuple[int, str, str]:
        if self.process.poll() is None:
            self.process.send_signal(signo)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def ended(explorer: Explorer) -> Callable[[], bool]:
    """The program has ended, and its last news has arrived."""
    assert explorer.process.stderr is not None
    stream = explorer.process.stderr
    return lambda: bool(select.select([stream], [], [], 0)[0]) and "has ended" in stream.readline()


@pytest.fixture
def explore(no_process_left: None) -> Iterator[Callable[..., Explorer]]:
    yield from starter()


@pytest.fixture
def explore_in(page: Browser) -> Iterator[Callable[..., Explorer]]:
    """The same, beside a browser, which goes on."""
    yield from starter()


def starter() -> Iterator[Callable[..., Explorer]]:
    started: list[Explorer] = []

    def start(*words: str, **how: Any) -> Explorer:
        started.append(Explorer(*words, **how))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate(timeout=30)


def test_with_exit_it_is_as_run(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--no-wait", "--exit", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert explorer.process.wait(30) == 7
    assert explorer.end() == (7, "out\n", "err\n")


def test_a_signal_that_kills_the_program_kills_it_too(explore: Callable[..., Explorer]) -> None:
    assert explore("--no-wait", "--exit", "--", "sh", "-c", "kill -TERM $$").process.wait(30) == -signal.SIGTERM


def test_all_output_arrives_before_it_ends(explore: Callable[..., Explorer]) -> None:
    _, out, _ = explore("--no-wait", "--exit", "--", "seq", "100000").end(0)
    assert out.splitlines()[-1] == "100000" and len(out.splitlines()) == 100000


def test_input_of_ours_reaches_the_program(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--no-wait", "--exit", "--", "tr", "a-z", "A-Z", stdin=subprocess.PIPE)
    out, _ = explorer.process.communicate("hello", timeout=30)
    assert out == "HELLO"


def test_a_program_that_cannot_start_says_so(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--no-wait", "--exit", "--", "nosuchprogram")
    assert explorer.process.wait(30) == 127
    assert "nosuchprogram: not found in the guest" in explorer.end()[2]


def test_the_program_waits_for_a_page_and_ctrl_c_ends_that(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--", "echo", "started")
    time.sleep(0.7)
    code, out, _ = explorer.end()
    assert (code, out) == (-signal.SIGINT, "")


def test_the_time_out_holds_while_it_waits(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--timeout", "0.5", "--exit", "--", "sleep", "60")
    assert explorer.process.wait(30) == 124


def test_the_page_stays_with_memory_and_trace_after_the_end(explore: Callable[..., Explorer], tmp_path: Path) -> None:
    explorer = explore("--no-wait", "--", "ls", "/")
    explorer.until(ended(explorer))
    events = [json.loads(line) for line in explorer.request("/events.jsonl").splitlines()]
    kinds = {each["event"] for each in events}
    assert {"start", "call", "run", "exit"} <= kinds
    assert [each["status"] for each in events if each["event"] == "exit"] == [0]
    space = explorer.ask(do="space", pid=2)["value"]
    assert space["ended"] and any(area["name"] == "[stack]" for area in space["areas"])
    start = hex(space["areas"][0]["start"])
    walk = explorer.ask(do="walk", pid=2, address=start)["value"]
    assert len(walk["steps"]) == 4 and walk["mapped"]
    assert "only the walks to where its areas start" in explorer.ask(do="walk", pid=2, address="0x1234000")["error"]
    assert "has ended" in explorer.ask(do="pause")["error"]
    saved = tmp_path / "trace.jsonl"
    saved.write_bytes(explorer.request("/events.jsonl"))
    assert explorer.end()[0] == 0
    again = explore("--open", str(saved))
    assert again.request("/events.jsonl").count(b"\n") == len(events)
    assert "not memory" in again.ask(do="space", pid=2)["error"]
    assert again.end()[0] == 0


def test_pause_step_and_signal(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--no-wait", "--exit", "--", "sh", "-c", "while :; do sleep 0.01; done")

    def count() -> int:
        return explorer.request("/events.jsonl").count(b"\n")

    explorer.until(lambda: count() > 200)
    assert explorer.ask(do="pause")["value"] is None
    time.sleep(0.3)
    before = count()
    time.sleep(0.3)
    assert count() == before
    space = explorer.ask(do="space", pid=2)["value"]  # memory can be looked at meanwhile
    assert space["command"] == "sh"
    code = next(area for area in space["areas"] if area["kind"] == "program" and "x" in area["rights"] and area["rss"])
    walks = [explorer.ask(do="walk", pid=2, address=hex(at))["value"] for at in range(code["start"], code["end"], 4096)]
    (shared,) = next(walk["sharers"] for walk in walks if walk["mapped"])
    assert shared["file"] == code["name"] and shared["references"] > 0
    for _ in range(3):
        explorer.ask(do="step")
        time.sleep(0.15)
    assert before < count() < before + 40
    assert explorer.ask(do="stop", calls=["nosuchcall"])["error"] == "no system call is named nosuchcall"
    assert explorer.ask(do="signal", tid=2, signal=15)["value"] is None
    explorer.ask(do="continue")
    assert explorer.process.wait(30) == -signal.SIGTERM


def test_a_stop_at_a_call_and_at_the_end(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--no-wait", "--console", "page", "--exit", "--", "sh", "-c", "read line; cat /etc/hostname; exit 3")
    explorer.until(lambda: b'"read"' in explorer.request("/events.jsonl") or "value" in explorer.ask(do="space", pid=2))
    assert explorer.ask(do="stop", calls=["execve"], exit=True)["value"] is None
    explorer.ask(do="input", text="go\n")
    explorer.until(lambda: b'"call":"read"' in explorer.request("/events.jsonl"))
    time.sleep(0.5)
    assert b'"command":"cat"' not in explorer.request("/events.jsonl")  # it is held before it becomes cat
    explorer.ask(do="continue")
    explorer.until(lambda: b'"command":"cat"' in explorer.request("/events.jsonl"))
    for _ in range(200):
        if explorer.process.poll() is not None:
            break
        try:
            explorer.ask(do="continue")
        except OSError:
            break
        time.sleep(0.1)
    assert explorer.process.wait(30) == 3


def test_keys_of_the_page_are_the_program_s_terminal(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--no-wait", "--console", "page", "--exit", "--", "sh", "-c", "tty; stty size; read x; echo got:$x; cat; echo $?")
    explorer.until(lambda: explorer.ask(do="resize", columns=77, rows=22).get("value", 1) is None)
    explorer.until(lambda: b'"call":"read"' in explorer.request("/events.jsonl") or explorer.ask(do="input", text="")["value"] is None)
    explorer.ask(do="input", text="one\n")
    explorer.until(lambda: b"got:one" in explorer.request("/events.jsonl"))
    explorer.until(lambda: b'"command":"cat"' in explorer.request("/events.jsonl"))
    time.sleep(0.3)
    explorer.ask(do="input", text="\x03")
    assert explorer.process.wait(30) == -signal.SIGINT
    assert "/dev/pts/0" in explorer.end()[1]


def test_what_the_page_must_not_ask_is_refused(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--no-wait", "--exit", "--", "sleep", "30")
    explorer.until(lambda: "value" in explorer.ask(do="space", pid=2))
    bad: list[dict[str, Any]] = [
        {}, {"do": None}, {"do": ["pause"]}, {"do": "answer"}, {"do": "space"}, {"do": "space", "pid": "2"}, {"do": "space", "pid": 999},
        {"do": "walk", "pid": 2, "address": "zz"}, {"do": "signal", "tid": 2, "signal": 99}, {"do": "signal", "tid": 1, "signal": 9},
        {"do": "key", "signal": 9}, {"do": "input", "text": "x"}, {"do": "stop", "calls": "read"}, {"do": "space", "pid": 2, "id": {}, "x": 1},
    ]  # fmt: skip
    for question in bad[:-1]:
        assert explorer.ask(**question).keys() == {"error"}, question
    assert "value" in explorer.ask(**bad[-1])
    explorer.ask(do="signal", tid=2, signal=9)
    assert explorer.process.wait(30) == -signal.SIGKILL


def test_a_server_that_stands_still_does_not_stop_the_program(explore: Callable[..., Explorer], tmp_path: Path) -> None:
    script = "read x; ls -l /usr/bin > /dev/null; touch done; sleep 60"  # more events than the socket holds
    explorer = explore("--no-wait", "--rw", str(tmp_path), "--workdir", str(tmp_path), "--", "sh", "-c", script, stdin=subprocess.PIPE)
    explorer.until(lambda: "value" in explorer.ask(do="space", pid=2))
    server = int(Path(f"/proc/{explorer.process.pid}/task/{explorer.process.pid}/children").read_text().split()[0])
    os.kill(server, signal.SIGSTOP)
    assert explorer.process.stdin is not None
    explorer.process.stdin.write("go\n")
    explorer.process.stdin.flush()
    try:
        explorer.until((tmp_path / "done").exists, 60)
    finally:
        os.kill(server, signal.SIGCONT)
    explorer.until(lambda: explorer.request("/events.jsonl").count(b"\n") > 3000)  # and what was held back arrives
    explorer.ask(do="signal", tid=2, signal=9)
    explorer.until(ended(explorer))


def test_another_user_s_guess_sees_nothing(explore: Callable[..., Explorer]) -> None:
    explorer = explore("--no-wait", "--", "true")
    connection = http.client.HTTPConnection("127.0.0.1", explorer.port, timeout=20)
    connection.request("GET", "/?token=guess")
    assert connection.getresponse().status == 403
    assert explorer.token.encode() not in Path(f"/proc/{explorer.process.pid}/cmdline").read_bytes()
    explorer.until(ended(explorer))
    assert explorer.end()[0] == 0


REFUSED = {
    "": "no program", "--open x y": "runs nothing", "--open /nosuch": "No such file", "--open /dev/null": "no events", "--port x true": "--port",
    "--port 70000 true": "--port", "--console odd true": "--console odd", "--browser --no-browser true": "one of them", "--odd true": "unknown",
}  # fmt: skip


def test_what_makes_no_sense_is_refused_with_advice(capfd: pytest.CaptureFixture[str]) -> None:
    from trapline.cli.main import main

    for words, phrase in REFUSED.items():
        assert main(["explore", *words.split()]) == 125, words
        out, err = capfd.readouterr()
        assert out == "" and err.startswith("trapline: ") and err.count("\n") == 1 and phrase in err, (words, err)


def test_a_port_that_is_taken_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    import socket

    from trapline.cli.main import main

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert main(["explore", "--port", str(other.getsockname()[1]), "true"]) == 125
    assert "choose another port" in capfd.readouterr().err


def test_help_fits_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    from trapline.cli.main import main

    assert main(["explore", "--help"]) == 0
    out, _ = capfd.readouterr()
    assert "--open FILE" in out and max(map(len, out.splitlines())) <= 80


def test_it_runs_on_the_riscv_machine_too(explore: Callable[..., Explorer], riscv_hello: Path) -> None:
    explorer = explore("--no-wait", "--machine", "riscv", "--bind", f"{riscv_hello.parent}:/t", "--", f"/t/{riscv_hello.name}")
    explorer.until(ended(explorer), 60)
    space = explorer.ask(do="space", pid=2)["value"]
    assert space["machine"] == "riscv64" and space["paging"].startswith("Sv")
    assert space["tlb"]["machine"] == "riscv"
    assert explorer.end()[:2] == (0, "hello\n")


@pytest.fixture(scope="module")
def riscv_hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program for RISC-V."""
    import shutil

    compiler = shutil.which("riscv64-linux-gnu-gcc")
    if compiler is None:
        pytest.skip("no riscv64-linux-gnu-gcc")
    here = tmp_path_factory.mktemp("riscv")
    (here / "hello.c").write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    subprocess.run([compiler, "-static", "-O1", "-o", "hello", "hello.c"], cwd=here, check=True)
    return here / "hello"


# ---- in a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    """A page that has no problem at the end."""
    chromium.fresh()
    yield chromium
    chromium.leave()
    assert chromium.problems == []


def opened(page: Browser, explorer: Explorer) -> None:
    page.open(explorer.url)
    page.wait("document.querySelector('#status')?.textContent.startsWith('ended')")


@browser_only
def test_the_page_shows_a_run_from_its_start(explore_in: Callable[..., Explorer], page: Browser) -> None:
    explorer = explore_in("--", "sh", "-c", "ls /; exit 4")
    opened(page, explorer)  # the program has waited for it
    assert page.text("#status") == "ended, exit 4"
    assert page.text("#program") == "sh -c ls /; exit 4"
    assert page.run("location.search") == "" and page.run("document.cookie") == ""  # the token is where scripts do not see it
    page.wait("document.querySelectorAll('#tasks .task').length === 2")
    assert "ls" in page.text("#tasks")
    page.click("#tab-calls")
    page.wait("document.querySelectorAll('#calls tbody tr').length > 20")
    page.click("#tab-ledger")
    page.wait("[...document.querySelectorAll('#ledger td')].some((each) => each.textContent === 'openat')")
    page.click("#tab-console")
    assert "tmp" in page.text("#console pre")
    page.wait("!document.querySelector('#player').hidden")
    page.wait("document.querySelectorAll('#line .lane').length > 0")


@browser_only
def test_live_events_appear_and_tasks_cross_the_line(explore_in: Callable[..., Explorer], page: Browser) -> None:
    explorer = explore_in("--", "sh", "-c", "while :; do sleep 0.05; done")
    page.open(explorer.url)
    page.wait("document.querySelector('#status').textContent === 'running'")
    number = "Number(document.querySelector('#figures dd').textContent.replace('k', '')) "
    first = page.wait(number)
    page.wait(f"{number} > {first} + 50")
    for place in ("user", "kernel", "asleep"):  # tokens are seen at each side
        page.wait(f"document.querySelector('.lane[data-at={place}]') !== null")
    page.click("#pause")
    page.wait("document.querySelector('#status').textContent === 'paused'")
    page.click("#step")
    page.wait("document.querySelector('#why').textContent.includes('is about to have served')")
    page.click("#pause")
    page.wait("document.querySelector('#status').textContent === 'running'")
    page.wait("document.querySelector('#why').textContent === ''")
    page.click("#tasks .task")
    page.run("document.querySelector('.send select').value = '9'")
    page.wait("!document.querySelector('.send').hidden")
    page.click(".send button")
    page.wait("document.querySelector('#status').textContent === 'ended, killed by signal 9'")


@browser_only
def test_the_filter_narrows_what_is_listed(explore_in: Callable[..., Explorer], page: Browser) -> None:
    explorer = explore_in("--", "sh", "-c", "ls /nosuchplace; cat /etc/hostname")
    opened(page, explorer)
    page.click("#tab-calls")

    def narrowed(name: str, value: str) -> list[str]:
        page.run("document.querySelector('#filter').reset()")
        page.run(f"(() => {{ const f = document.querySelector('#filter').elements.{name}; f.value = {json.dumps(value)};"
                 "f.dispatchEvent(new Event('input', {bubbles: true})); })()")  # fmt: skip
        page.run("new Promise((done) => setTimeout(done, 350))")  # lists are painted four times a second
        return list(page.run("[...document.querySelectorAll('#calls tbody tr')].map((each) => each.querySelector('.what').textContent)"))

    assert len(narrowed("text", "")) > 50
    assert all("nosuchplace" in each for each in narrowed("text", "NOSUCHPLACE")) and narrowed("text", "nosuchplace")
    assert all(each.startswith("openat(") for each in narrowed("call", "openat")) and narrowed("call", "openat")
    assert any(each.startswith("mmap(") for each in narrowed("call", "%memory"))
    page.run("document.querySelector('#filter').reset()")
    page.click("#filter [name=failed]")
    page.run("new Promise((done) => setTimeout(done, 350))")
    failed = page.run("[...document.querySelectorAll('#calls tbody tr')].map((each) => each.textContent)")
    assert failed and all("−1 E" in each for each in failed)
    page.click("#calls tbody tr")
    assert "result" in page.text("#calls .detail")


@browser_only
def test_a_walk_is_shown_bit_by_bit(explore_in: Callable[..., Explorer], page: Browser) -> None:
    explorer = explore_in("--", "sh", "-c", "read x; exit", "--console", stdin=subprocess.PIPE)
    page.open(explorer.url)
    page.wait("document.querySelector('#status').textContent === 'running'")
    page.click("#tab-memory")
    page.wait("document.querySelectorAll('#memory .map button').length > 5")
    page.click("#memory .map button")  # the topmost area
    page.wait("document.querySelectorAll('#memory .walk .step').length >= 1")
    stack = page.run("[...document.querySelectorAll('#memory .map button')].find((each) => each.textContent.startsWith('[stack]')).click()")
    assert stack is None
    page.run("(() => { const rows = [...document.querySelectorAll('.areas tbody tr')].find((each) => each.textContent.includes('/dash') || each.textContent.includes('r-xp')); rows.click(); })()")
    page.wait("document.querySelectorAll('#memory .walk .step').length === 4")
    text = page.text("#memory .walk")
    assert "PML4" in text and "present" in text and "physical address" in text
    page.run("document.querySelector('#memory [name=address]').value = '0x8000000000000000'")
    page.click("#memory form button")
    page.wait("document.querySelector('#memory .walk').textContent.includes('not canonical')")
    page.run("document.querySelector('#memory [name=address]').value = 'zebra'")
    page.click("#memory form button")
    page.wait("document.querySelector('#memory .walk .error') !== null")


@browser_only
def test_what_programs_control_stays_text(explore_in: Callable[..., Explorer], page: Browser, tmp_path: Path) -> None:
    """In arguments, in paths, in the name of the process, in the output, in the names of areas."""
    tmp_path.chmod(0o755)
    script = tmp_path / "hostile.py"
    script.write_text(
        "import ctypes, mmap, os, sys, time\n"
        f"name = {HOSTILE!r}\n"
        "ctypes.CDLL(None).prctl(15, name.encode()[:15], 0, 0, 0)\n"
        "try: os.stat(name)\nexcept OSError: pass\n"
        "fd = os.memfd_create(name); os.truncate(fd, 4096); area = mmap.mmap(fd, 4096)\n"
        "print(name, '\\x1b]0;' + name + '\\x07', '\\x1b[31m' + name + '\\x1b[0m', '\\x1b[2;9999999999C', flush=True)\n"
        "os.read(0, 1)\n"
    )
    explorer = explore_in("--bind", f"{tmp_path}:/t", "--", "/usr/bin/python3", "/t/hostile.py", HOSTILE, stdin=subprocess.PIPE)
    page.open(explorer.url)
    page.run("window.alert = () => { window.hit = true; }")
    page.wait("document.querySelector('#console pre').textContent.includes('onerror')")
    for tab in ("calls", "memory", "timeline", "ledger", "coverage", "console"):
        page.click(f"#tab-{tab}")
        page.run("new Promise((done) => setTimeout(done, 500))")
        assert page.run(CLEAN), tab
    page.wait("[...document.querySelectorAll('.areas td')].some((each) => each.textContent.includes('onerror'))")
    assert HOSTILE in page.text("#program")
    assert HOSTILE[:15] in page.text("#tasks")
    assert page.text("#console pre").count(HOSTILE) == 2  # and not the title of a terminal
    assert page.run("window.hit") is None
    with pytest.raises(Exception, match="TrustedHTML"):  # even a mistake of ours could not make markup of it
        page.run("document.body.innerHTML = '<b>x</b>'")
    assert [each for each in page.problems if "TrustedHTML" not in each] == []
    page.problems.clear()


@browser_only
def test_the_timeline_zooms_pans_and_selects(explore_in: Callable[..., Explorer], page: Browser) -> None:
    explorer = explore_in("--", "sh", "-c", "ls / | wc -l")
    opened(page, explorer)
    span = "document.querySelector('#timeline .bar2 span').textContent"
    all_shown = f"{span}.split(' of ').length === 2 && {span}.split(' of ')[0] === {span}.split(' of ')[1]"
    whole = page.wait(f"{all_shown} && {span}")
    page.run("document.querySelector('#timeline canvas').scrollIntoView({block: 'center'}); document.querySelector('#timeline canvas').focus()")
    for _ in range(4):
        page.key("+")
    page.wait(f"{span} !== {json.dumps(whole)}")
    zoomed = page.run(span)
    page.key("ArrowRight")
    page.wait(f"{span} === {json.dumps(zoomed)}")
    page.key("Home")
    page.wait(all_shown)
    left, top, width = page.run("(() => { const r = document.querySelector('#timeline canvas').getBoundingClientRect(); return [r.x, r.y, r.width]; })()")
    page.drag((left + 150, top + 60), (left + width - 10, top + 60), shift=True)
    page.wait("document.querySelector('#timeline .hover').textContent.includes('Selected')")
    selected = page.text("#timeline .hover")
    assert re.search(r"Selected .*: \d+ calls, \d+ faults", selected), selected
    page.key("Escape")
    painted = page.run(
        "(() => { const c = document.querySelector('#timeline canvas'); const d = c.getContext('2d').getImageData(130, 30, c.width - 130, 20).data;"
        "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; })()"
    )
    assert painted > 100  # the first CPU's stays in user mode


@browser_only
def test_it_can_be_used_with_the_keyboard(explore_in: Callable[..., Explorer], page: Browser) -> None:
    explorer = explore_in("--", "ls", "/")
    opened(page, explorer)
    page.run("document.querySelector('#tab-timeline').focus()")
    page.key("ArrowRight")
    assert page.run("document.activeElement.id") == "tab-calls"
    assert page.run("document.querySelector('#calls').hidden") is False
    page.key("End")
    assert page.run("document.activeElement.id") == "tab-console"
    page.key("Home")
    page.run("document.querySelector('#timeline canvas').focus()")
    unnamed = page.run(
        "[...document.querySelectorAll('button, input, select, a, canvas, [role=tabpanel]')].filter((each) => !(each.innerText || each.textContent"
        " || each.ariaLabel || each.title || each.getAttribute('aria-labelledby') || each.labels?.length)).map((each) => each.outerHTML)"
    )
    assert unnamed == []


@browser_only
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_narrow_and_wide_screens(explore_in: Callable[..., Explorer], page: Browser, width: int) -> None:
    page.fresh(width, 800)
    explorer = explore_in("--", "sh", "-c", "ls / | wc")
    opened(page, explorer)
    for tab in ("timeline", "calls", "ledger", "memory", "coverage", "console"):
        page.click(f"#tab-{tab}")
        page.run("new Promise((done) => setTimeout(done, 300))")
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), tab


@browser_only
def test_a_saved_trace_is_replayed(explore_in: Callable[..., Explorer], page: Browser, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    subprocess.run(
        [sys.executable, "-m", "trapline", "trace", "--json", "-f", "-o", str(file), "--", "sh", "-c", "ls / | wc"],
        env=support.host_environment(), cwd="/usr", stdout=subprocess.DEVNULL, check=True, timeout=60,
    )  # fmt: skip
    explorer = explore_in("--open", str(file))
    page.open(explorer.url)
    page.wait("document.querySelector('#status').textContent === 'saved trace'")
    page.wait("document.querySelectorAll('#tasks .tree .tree .task').length === 2")  # the children are below the shell
    page.wait("Number(document.querySelector('#player input').value) > 3")
    page.click("#player button")
    page.click("#tab-memory")
    assert "holds calls, not memory" in page.text("#memory")


@browser_only
def test_a_long_trace_of_many_tasks_is_shown_whole(explore_in: Callable[..., Explorer], page: Browser, tmp_path: Path) -> None:
    """It comes in portions: the player gets all of them, every lane a name, and the page stays small."""
    count = 30_000
    common = {"event": "call", "args": {}, "shown": {"fd": "3"}, "result": 0, "error": None, "duration_ns": 5, "wait_ns": 0, "cpu": 0}
    events = ({**common, "time_ns": i * 100, "pid": 2 + i % 3000, "tid": 2 + i % 3000, "command": "many", "call": "read"} for i in range(count))
    timer = {"event": "interrupt", "time_ns": count * 100, "pid": 0, "tid": 0, "command": "kernel", "cpu": 0, "kind": "timer"}
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in (*events, timer)))
    explorer = explore_in("--open", str(file))
    page.open(explorer.url)
    page.wait(f"document.querySelector('#player input').max === '{count - 1}'")
    page.wait("document.querySelectorAll('.lane:not([hidden])').length > 3")
    assert page.run("[...document.querySelectorAll('.lane:not([hidden]) b')].every((each) => each.textContent === 'many')")
    assert "3,000" in page.text("#figures").replace("3000", "3,000")  # an interrupt of the kernel's own is no task
    assert page.run("document.querySelectorAll('*').length") < 6000


def test_the_address_is_in_no_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user can read command lines: the browser is given a file that is ours alone."""
    from trapline.cli.browser import open_browser

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    given: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: given.append(url) or True)
    file = Path(open_browser("http://127.0.0.1:1/?token=secret&x"))
    assert given == [f"file://{file}"] and file.parent == tmp_path
    assert file.stat().st_mode & 0o777 == 0o600
    assert "url=http://127.0.0.1:1/?token=secret&amp;x" in file.read_text()


@browser_only
def test_a_browser_that_was_started_gets_in(explore_in: Callable[..., Explorer], page: Browser, tmp_path: Path) -> None:
    """Through the file that leads to the page, which a browser takes for another site."""
    from trapline.cli.browser import PAGE

    explorer = explore_in("--", "true")
    file = tmp_path / "open.html"
    file.write_text(PAGE.format(url=explorer.url))
    page.open(file.as_uri())
    page.wait("document.querySelector('#status')?.textContent === 'ended, exit 0'")
    page.run("location.reload()")
    page.wait("document.querySelector('#status')?.textContent === 'ended, exit 0'")


@browser_only
def test_a_lost_server_is_said(explore_in: Callable[..., Explorer], page: Browser) -> None:
    explorer = explore_in("--", "true")
    opened(page, explorer)
    explorer.end()
    page.wait("document.querySelector('#status').textContent === 'trapline explore has ended'")
    page.problems[:] = [each for each in page.problems if "ERR_" not in each]  # that it is lost is what the browser complains of
