"""Debian's own Python: imports, threads, subprocess, fork, mmap, signals, multiprocessing, sqlite3, tempfile, asyncio."""

from __future__ import annotations

import textwrap

import pytest
from side_by_side import Same

import support

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
    "every module": """
        import importlib, sys, warnings
        warnings.simplefilter("ignore")
        skip = {"antigravity", "this", "idlelib", "lib2to3", "tkinter", "turtle", "turtledemo", "test", "msilib", "winreg", "winsound", "nt", "ntpath"}
        good, bad = 0, []
        for name in sorted(sys.stdlib_module_names - skip):
            if name.startswith("_"): continue
            try: importlib.import_module(name); good += 1
            except ImportError: bad.append(name)
        print(good > 180, good, bad)
        """,
    "archives": """
        import gzip, io, lzma, bz2, os, shutil, tarfile, zipfile, zlib
        for name in ("zip", "gztar", "xztar"): shutil.make_archive("a", name, ".", "sub"); shutil.unpack_archive("a." + {"zip": "zip", "gztar": "tar.gz", "xztar": "tar.xz"}[name], "x")
        print(sorted(os.listdir("x/sub")), zipfile.ZipFile("a.zip").testzip(), sorted(tarfile.open("a.tar.gz").getnames()))
        data = bytes(range(256)) * 1000
        print(all(m.decompress(m.compress(data)) == data for m in (gzip, lzma, bz2, zlib)))
        """,
    "ctypes": """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.abs(-5), libc.open(b"/no/such", 0), os.strerror(ctypes.get_errno()), ctypes.string_at(libc.strchr and b"xyz", 3))
        compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))(lambda a, b: a[0] - b[0])
        numbers = (ctypes.c_int * 6)(5, 1, 4, 2, 6, 3); libc.qsort(numbers, 6, 4, compare); print(list(numbers))
        """,
    "shared mmap between processes": """
        import mmap, os, struct
        m = mmap.mmap(-1, 4096)
        for n in range(8):
            if os.fork() == 0: m[n] = n + 1; os._exit(0)
        for n in range(8): os.wait()
        print(list(m[:8]))
        with open("f", "w+b") as f:
            f.truncate(8192); shared = mmap.mmap(f.fileno(), 8192); private = mmap.mmap(f.fileno(), 8192, flags=mmap.MAP_PRIVATE)
            shared[0:4] = b"abcd"; private[0:1] = b"X"; print(private[:4], shared[:4], os.pread(f.fileno(), 4, 0))
            os.pwrite(f.fileno(), b"EFGH", 4096); print(shared[4096:4100], private[4096:4100])
        """,
    "multiprocessing manager and pipes": """
        import multiprocessing as mp
        def child(d, l, c, e): d["k"] = "v"; l.append(4); c.send(("tuple", [1, {2: 3}])); print(c.recv()); e.wait(); c.close()
        if __name__ == "__main__":
            with mp.Manager() as m:
                d, l, e = m.dict(), m.list([1]), mp.Event(); a, b = mp.Pipe()
                p = mp.Process(target=child, args=(d, l, b, e)); p.start()
                print(a.recv(), flush=True); a.send("answer"); e.set(); p.join(20); print(dict(d), list(l), p.exitcode)
            p = mp.Process(target=print, args=("never",)); s = mp.Semaphore(0)
            q = mp.Process(target=s.acquire); q.start(); print(s.acquire(timeout=0.05)); q.terminate(); q.join(); print(q.exitcode)
        """,
    "process pool": """
        from concurrent.futures import ProcessPoolExecutor, as_completed
        def work(n):
            if n == 5: raise ValueError(n)
            return sum(range(n * 1000))
        if __name__ == "__main__":
            with ProcessPoolExecutor(3) as pool:
                jobs = {pool.submit(work, n): n for n in range(8)}
                print(sorted((jobs[j], str(j.exception()) if j.exception() else j.result()) for j in as_completed(jobs)))
        """,
    "asyncio processes and signals": """
        import asyncio, os, signal
        async def main():
            loop = asyncio.get_running_loop(); got = asyncio.Event(); loop.add_signal_handler(signal.SIGUSR1, got.set)
            os.kill(os.getpid(), signal.SIGUSR1); await asyncio.wait_for(got.wait(), 5); print("signal")
            p = await asyncio.create_subprocess_shell("cat; exit 3", stdin=-1, stdout=-1); print(await p.communicate(b"through"), p.returncode)
            many = await asyncio.gather(*(asyncio.create_subprocess_exec("sh", "-c", f"exit {n}") for n in range(6))); print([await p.wait() for p in many])
            p = await asyncio.create_subprocess_exec("sleep", "50"); p.kill(); print(await p.wait())
            r, w = os.pipe(); loop.add_reader(r, lambda: (print(os.read(r, 9)), loop.remove_reader(r), done.set_result(1))); done = loop.create_future(); os.write(w, b"pipe"); await done
        asyncio.run(main())
        """,
    "sqlite3 from threads": """
        import sqlite3, threading
        sqlite3.connect("db").executescript("pragma journal_mode=wal; create table t (n integer);")
        def work(k):
            db = sqlite3.connect("db", timeout=30)
            for n in range(20):
                with db: db.execute("insert into t values (?)", (k * 100 + n,))
        ts = [threading.Thread(target=work, args=(k,)) for k in range(4)]; [t.start() for t in ts]; [t.join() for t in ts]
        print(sqlite3.connect("db").execute("select count(*), sum(n) from t").fetchone())
        """,
    "files that are watched and locked": """
        import fcntl, os, select, selectors, tempfile, time
        f, g = open("l", "w"), open("l", "w"); fcntl.flock(f, fcntl.LOCK_EX)
        try: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e: print("busy", e.errno)
        fcntl.lockf(f, fcntl.LOCK_EX, 10)
        if os.fork() == 0:
            try: fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5)
            except OSError as e: print("held", e.errno, flush=True)
            os._exit(0)
        os.wait(); t = time.monotonic(); r, w = os.pipe()
        print(select.select([r], [w], [], 1)[1] == [w], select.select([r], [], [], 0.05)[0], time.monotonic() - t >= 0.05)
        os.set_blocking(w, False); n = 0
        try:
            while True: n += os.write(w, b"x" * 65536)
        except BlockingIOError: print(n)
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


def test_venv_with_pip(same: Same) -> None:
    """Hundreds of files unpacked and compiled, scripts written with paths of their own."""
    if support.native([PYTHON, "-c", "import venv, ensurepip"]).status:
        pytest.skip("this Python has no ensurepip")
    same(f"{PYTHON} -m venv v && v/bin/pip --version | cut -d' ' -f1,2 && v/bin/pip list --format freeze --disable-pip-version-check", timeout_s=300)


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
