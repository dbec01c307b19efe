"""Debian's own Python: imports, threads, subprocess, fork, mmap, signals, multiprocessing, sqlite3, tempfile, asyncio."""

from __future__ import annotations

import textwrap

import pytest

import support
from conftest import Same

PYTHON = "/usr/bin/python3"
SCRIPTS = {
    "arithmetic": "print(6 * 7, 2**200 % 1000007, sum(range(10**6)))",
    "imports": """
        import argparse, collections, csv, ctypes, datetime, decimal, email, functools, hashlib, http.client, json, logging, re
        import shutil, socket, ssl, statistics, struct, threading, unittest, urllib.parse, uuid, xml.etree.ElementTree, zipfile
        print(json.dumps({"ok": [1, 2.5, None]}), hashlib.sha256(b"x").hexdigest(), decimal.Decimal(1) / 3)
        """,
    "threads": """
        import threading, queue
        jobs, done = queue.Queue(), []
        def work():
            while (n := jobs.get()) is not None:
                done.append(n * n)
        threads = [threading.Thread(target=work) for _ in range(4)]
        [t.start() for t in threads]
        [jobs.put(n) for n in range(200)]
        [jobs.put(None) for _ in threads]
        [t.join() for t in threads]
        print(len(done), sum(done), threading.active_count())
        """,
    "executor": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(4) as pool:
            print(sum(pool.map(lambda n: n ** 2, range(100))))
        """,
    "events with time-outs": """
        import threading, time
        e = threading.Event(); t = time.monotonic()
        print(e.wait(0.05), time.monotonic() - t >= 0.05)
        threading.Timer(0.02, e.set).start(); print(e.wait(5))
        """,
    "subprocess": """
        import subprocess
        print(subprocess.run(["sort", "fruit.txt"], capture_output=True, text=True).stdout.split())
        print(subprocess.check_output("echo $((1+1)); exit 0", shell=True))
        print(subprocess.run(["false"]).returncode, subprocess.run("kill -9 $$", shell=True).returncode)
        p = subprocess.Popen(["tr", "a-z", "A-Z"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        print(p.communicate("pipe both ways"))
        try: subprocess.run(["sleep", "9"], timeout=0.1)
        except subprocess.TimeoutExpired: print("timed out")
        try: subprocess.run(["/no/such"])
        except FileNotFoundError as e: print(e.errno)
        """,
    "fork": """
        import os, sys
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(w, b"child %d" % (os.getppid() != 0)); os._exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.read(r, 100))
        pids = [os.fork() or os._exit(n) for n in range(10)]
        print(sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in pids))
        print(os.posix_spawn("/bin/true", ["true"], os.environ) > 0, os.wait()[1])
        """,
    "mmap": """
        import mmap
        with open("m", "w+b") as f:
            f.write(b"0" * 10000); f.flush()
            m = mmap.mmap(f.fileno(), 0); m[5000:5005] = b"hello"; m.flush(); m.resize(20000); m[19999] = 65; m.close()
            f.seek(5000); print(f.read(5), f.seek(0, 2))
        a = mmap.mmap(-1, 1 << 20); a[::4096] = b"x" * 256; print(a[:1], a[1:2], len(a))
        """,
    "signals": """
        import os, signal, time
        seen = []
        signal.signal(signal.SIGUSR1, lambda s, f: seen.append(s))
        os.kill(os.getpid(), signal.SIGUSR1); print(seen)
        signal.signal(signal.SIGALRM, lambda s, f: (_ for _ in ()).throw(TimeoutError))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try: time.sleep(5)
        except TimeoutError: print("interrupted")
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); os.kill(os.getpid(), signal.SIGUSR2)
        print(signal.sigpending(), signal.sigwait([signal.SIGUSR2]))
        pid = os.fork()
        if pid == 0: time.sleep(10); os._exit(0)
        os.kill(pid, signal.SIGTERM); print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
    "keyboard interrupt": "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(1)",
    "abort": "import os; os.abort()",
    "faulthandler": "import faulthandler, ctypes, sys; faulthandler.enable(open('/dev/null', 'w')); ctypes.string_at(0)",
    "multiprocessing with fork": """
        import multiprocessing as mp
        def square(n): return n * n
        if __name__ == "__main__":
            ctx = mp.get_context("fork")
            with ctx.Pool(2) as pool: print(pool.map(square, range(20)))
            q = ctx.Queue(); p = ctx.Process(target=q.put, args=("from child",)); p.start(); print(q.get()); p.join(); print(p.exitcode)
            v = ctx.Value("i", 0)
            def add():
                for _ in range(500):
                    with v.get_lock(): v.value += 1
            ps = [ctx.Process(target=add) for _ in range(3)]; [p.start() for p in ps]; [p.join() for p in ps]; print(v.value)
        """,
    "multiprocessing with spawn": """
        import multiprocessing as mp
        def square(n): return n * n
        if __name__ == "__main__":
            with mp.get_context("spawn").Pool(2) as pool: print(pool.map(square, range(10)))
        """,
    "shared memory": """
        from multiprocessing import shared_memory
        a = shared_memory.SharedMemory(create=True, size=100); b = shared_memory.SharedMemory(a.name)
        a.buf[0] = 42; print(b.buf[0]); b.close(); a.close(); a.unlink()
        """,
    "sqlite3": """
        import sqlite3
        db = sqlite3.connect("db.sqlite"); db.execute("create table t (a integer primary key, b text)")
        db.executemany("insert into t (b) values (?)", [(str(n),) for n in range(1000)]); db.commit()
        print(db.execute("select count(*), sum(a), max(b) from t").fetchone())
        db.execute("pragma journal_mode=wal"); db.execute("update t set b = b || 'x'"); db.commit(); db.close()
        print(sqlite3.connect("db.sqlite").execute("select b from t where a = 7").fetchone())
        """,
    "tempfile": """
        import os, tempfile
        with tempfile.TemporaryDirectory() as d:
            p = os.path.join(d, "f"); open(p, "w").write("x"); print(os.listdir(d), oct(os.stat(d).st_mode))
        print(os.path.exists(d))
        with tempfile.TemporaryFile() as f: f.write(b"abc"); f.seek(1); print(f.read(), os.fstat(f.fileno()).st_nlink)
        with tempfile.NamedTemporaryFile() as f: print(os.path.exists(f.name))
        """,
    "asyncio": """
        import asyncio
        async def handle(r, w): w.write((await r.readline()).upper()); await w.drain(); w.close()
        async def main():
            print(await asyncio.gather(*(asyncio.sleep(0.01 * (3 - n), n) for n in range(3))))
            p = await asyncio.create_subprocess_exec("sort", "-u", "fruit.txt", stdout=asyncio.subprocess.PIPE)
            print((await p.communicate())[0].split(), p.returncode)
            s = await asyncio.start_unix_server(handle, "sock")
            r, w = await asyncio.open_unix_connection("sock"); w.write(b"hello\\n"); print(await r.read()); w.close(); s.close()
            try: await asyncio.wait_for(asyncio.sleep(5), 0.05)
            except TimeoutError: print("timeout")
            print(await asyncio.to_thread(lambda: "thread"))
        asyncio.run(main())
        """,
    "selectors": """
        import selectors, socket
        a, b = socket.socketpair(); s = selectors.DefaultSelector(); s.register(a, selectors.EVENT_READ, "a")
        print(s.select(0)); b.send(b"x"); print([(k.data, m) for k, m in s.select(1)]); print(a.recv(10))
        """,
    "files": """
        import os, pathlib, shutil
        p = pathlib.Path("d/e"); p.mkdir(parents=True); (p / "f").write_text("é"); shutil.copytree("d", "g"); print(sorted(map(str, pathlib.Path(".").rglob("f"))))
        os.rename("g", "h"); shutil.rmtree("d"); print(os.path.exists("h/e/f"), os.path.getsize("h/e/f"), [e.name for e in os.scandir("h")])
        fd = os.open("x", os.O_RDWR | os.O_CREAT); os.pwrite(fd, b"abc", 5); os.ftruncate(fd, 7); print(os.pread(fd, 10, 0), os.lseek(fd, 0, 2))
        import fcntl; fcntl.flock(fd, fcntl.LOCK_EX); fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB); print(os.sendfile(1, fd, 5, 2)); os.memfd_create("m")
        """,
    "exit status": "import atexit, sys; atexit.register(print, 'bye'); sys.exit(17)",
    "traceback": "def f(n): return f(n - 1) if n else 1 / 0\nf(3)",
    "deep recursion": "import sys; sys.setrecursionlimit(20000)\ndef f(n): return n and f(n - 1)\nprint(f(15000))",
    "memory": "b = bytearray(64 << 20); b[::4096] = b'x' * (len(b) // 4096); print(b.count(b'x'))",
    "compileall": "import py_compile, os; print(os.path.basename(py_compile.compile('mod.py', cfile='mod.pyc')))",
    "pty": """
        import os, pty
        pid, fd = pty.fork()
        if pid == 0: os.execvp("sh", ["sh", "-c", "tty | cut -c1-8; stty -a | grep -c speed; read x; echo got $x"])
        os.write(fd, b"typed\\n"); out = b""
        try:
            while d := os.read(fd, 1000): out += d
        except OSError: pass
        print(sorted(out.split(b"\\r\\n")), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
    "resource": """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        try: bytearray(2 << 30)
        except MemoryError: print("MemoryError")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 1000)
        """,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_script(script: str, same: Same) -> None:
    if reason := support.have(PYTHON):
        pytest.skip(reason)
    text = textwrap.dedent(script)
    same(["sh", "-c", f"cat >mod.py && {PYTHON} mod.py; echo status $?"], stdin=text, timeout_s=120)


def test_from_stdin_and_command_line(same: Same) -> None:
    same([PYTHON, "-c", "import sys; print(sys.argv[1:], sys.stdin.read())", "a", "b c"], stdin="text in")
    same([PYTHON, "-"], stdin="print('script from stdin')")


def test_venv(same: Same) -> None:
    if support.native([PYTHON, "-c", "import venv, ensurepip"]).status:
        pytest.skip("this Python has no ensurepip")
    same(f"{PYTHON} -m venv --without-pip v && v/bin/python -c 'import sys; print(sys.prefix != sys.base_prefix)'")


def test_one_gibibyte_mapped_forked_written(same: Same) -> None:
    script = """
        import mmap, os
        size = 1 << 30
        m = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for i in range(0, size, 1 << 20): m[i] = 1
        if os.fork() == 0:
            for i in range(0, size, 1 << 21): m[i] = 2
            os._exit(sum(m[i] == 2 for i in range(0, size, 1 << 20)) // 4)
        print(os.waitstatus_to_exitcode(os.wait()[1]), sum(m[i] for i in range(0, size, 1 << 20)))
        """
    same([PYTHON, "-c", textwrap.dedent(script)])
