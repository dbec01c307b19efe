"""Compilers and what they make: gcc, make -j2, musl and glibc static binaries, threads, Rust and Go if installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from side_by_side import Same

import support

HELLO = '#include <stdio.h>\nint main(int c, char **v) { printf("hello %d %s\\n", c, v[c - 1]); return 3; }\n'
THREADS = """\
#include <pthread.h>
#include <stdio.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total;
static void *work(void *arg) {
    for (long i = 0; i < 100000; i++) {
        if (i % 100 == 0) { pthread_mutex_lock(&lock); total += (long)arg; pthread_mutex_unlock(&lock); }
    }
    return arg;
}
int main(void) {
    pthread_t t[4];
    long sum = 0;
    for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, work, (void *)(i + 1));
    for (int i = 0; i < 4; i++) { void *r; pthread_join(t[i], &r); sum += (long)r; }
    printf("%ld %ld\\n", total, sum);
    return 0;
}
"""
MAKEFILE = """\
OBJECTS = a.o b.o c.o d.o e.o f.o main.o
prog: $(OBJECTS)
\t@gcc -o $@ $^
%.o: %.c common.h
\t@gcc -O1 -c -o $@ $<
clean:
\t@rm -f $(OBJECTS) prog
"""


def test_gcc_compiles_and_runs(same: Same) -> None:
    same("cat >h.c && gcc -O2 -Wall -o h h.c && ./h one two; echo $?", stdin=HELLO, contains="hello 3 two")


def test_gcc_reports_errors(same: Same) -> None:
    same("cat >bad.c; gcc -c bad.c", stdin="int main( { return x; }\n", expect=1)


def test_gcc_pipeline_of_stages(same: Same) -> None:
    same(
        "cat >h.c; gcc -E -P -o h.i h.c; gcc -O1 -S -o h.s h.i; as -o h.o h.s; ar rcD lib.a h.o; nm h.o; gcc -pipe -flto -o h h.c; ./h",
        stdin=HELLO,
    )


@pytest.mark.parametrize("flags", ["-static", "-static-pie", "-pie", "-no-pie"])
def test_kinds_of_binaries(flags: str, same: Same) -> None:
    same(f"cat >h.c && gcc {flags} -o h h.c && ./h {flags}", stdin=HELLO)


def test_four_threads(same: Same) -> None:
    same("cat >t.c && gcc -O1 -pthread -o t t.c && ./t", stdin=THREADS, contains="10000 10")


def test_musl_static(same: Same) -> None:
    if reason := support.have("musl-gcc"):
        pytest.skip(reason)
    same("cat >t.c && musl-gcc -static -o t t.c && ./t", stdin=THREADS, contains="10000 10")


def test_make_in_parallel(same: Same) -> None:
    if reason := support.have("make"):
        pytest.skip(reason)
    parts = "; ".join(
        f"printf '#include \"common.h\"\\nint {c}(int n) {{ return n * {n} + K; }}\\n' >{c}.c" for n, c in enumerate("abcdef")
    )
    main = (
        '#include <stdio.h>\nint a(int), b(int), c(int), d(int), e(int), f(int);\n'
        'int main(void) { printf("%d\\n", a(1) + b(2) + c(3) + d(4) + e(5) + f(6)); return 0; }\n'
    )
    script = f"echo '#define K 7' >common.h; {parts}; cat >main.c; cat >Makefile <<'END'\n{MAKEFILE}END\n"
    script += "make -s -j2 && ./prog; touch -d '2 hours ago' *.[ch]; touch -d '1 hour ago' *.o prog; touch c.c; make -s -j2; make -q; echo $?; ./prog; make clean; ls"
    same(script, stdin=main, timeout_s=120)


def test_rust_static(same: Same, tmp_path: Path) -> None:
    if reason := support.have("rustc"):
        pytest.skip(reason)
    source = tmp_path / "r.rs"
    source.write_text(
        "use std::{thread, collections::HashMap, process::Command};\nfn main() {\n"
        "    let t: Vec<_> = (0..4u64).map(|n| thread::spawn(move || (0..1000 * n).sum::<u64>())).collect();\n"
        "    let m: HashMap<_, _> = t.into_iter().enumerate().map(|(i, h)| (i, h.join().unwrap())).collect();\n"
        "    println!(\"{} {}\", m[&1], m[&3]);\n"
        "    println!(\"{:?}\", Command::new(\"echo\").arg(\"child\").output().unwrap().stdout);\n"
        "    std::process::exit(5);\n}\n"
    )
    program = support.build_dir() / f"rust-{hash(source.read_text()) & 0xFFFFFF:x}"
    home = str(Path.home())
    made = support.native(
        ["rustc", "-C", "target-feature=+crt-static", "-O", "-o", str(program), str(source)],
        env={"HOME": home, "PATH": f"{home}/.cargo/bin:{support.ENVIRONMENT['PATH']}"},
    )
    if made.status:
        pytest.skip("rustc cannot link a static program here")
    same([str(program)], options=["--bind", f"{program}:{program}:ro"], expect=5)


def test_go_static(same: Same) -> None:
    if reason := support.have("go"):
        pytest.skip(reason)
    source = 'package main\nimport ("fmt"; "sync")\nfunc main() { var w sync.WaitGroup; c := make(chan int, 100)\nfor i := 0; i < 100; i++ { w.Add(1); go func(n int) { defer w.Done(); c <- n }(i) }\nw.Wait(); close(c); s := 0; for n := range c { s += n }; fmt.Println(s) }\n'
    same("cat >m.go && CGO_ENABLED=0 GOCACHE=$PWD/cache go build -o m m.go && ./m", stdin=source, timeout_s=300)


def test_pkg_of_two_languages(same: Same) -> None:
    """A shared library of ours, loaded by Python through dlopen."""
    if not shutil.which("gcc"):
        pytest.skip("not installed: gcc")
    same(
        "echo 'int twice(int n) { return 2 * n; }' | gcc -shared -fPIC -x c -o lib.so - && "
        "/usr/bin/python3 -c \"import ctypes; print(ctypes.CDLL('./lib.so').twice(21))\""
    )


def test_cpp(same: Same) -> None:
    if reason := support.have("g++"):
        pytest.skip(reason)
    source = """
#include <algorithm>
#include <fstream>
#include <future>
#include <iostream>
#include <map>
#include <stdexcept>
#include <vector>
int main() {
    std::vector<std::future<long>> jobs;
    for (long n = 1; n <= 4; n++)
        jobs.push_back(std::async(std::launch::async, [n] { long s = 0; for (long i = 0; i < 100000 * n; i++) s += i; return s; }));
    std::map<std::string, long> found;
    for (size_t i = 0; i < jobs.size(); i++) found["job" + std::to_string(i)] = jobs[i].get();
    for (auto &[name, value] : found) std::cout << name << ' ' << value << '\\n';
    try { std::vector<int>().at(3); } catch (const std::out_of_range &) { std::cout << "caught" << std::endl; }
    std::ofstream("written") << 42;
    throw std::runtime_error("nobody catches this");
}
"""
    same("cat >a.cc && g++ -std=c++17 -O1 -pthread -o a a.cc && ./a; echo $?; cat written", stdin=source, timeout_s=120)


def test_cmake_project(same: Same) -> None:
    if reason := support.have("cmake", "make"):
        pytest.skip(reason)
    script = """
        cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.10)
project(demo C)
find_package(Threads REQUIRED)
add_library(part STATIC part.c)
add_library(whole SHARED whole.c)
add_executable(demo main.c)
target_link_libraries(demo part whole Threads::Threads)
enable_testing()
add_test(NAME runs COMMAND demo)
END
        echo 'int part(int n) { return n + 1; }' >part.c
        echo 'int whole(int n) { return n * 2; }' >whole.c
        echo '#include <stdio.h>' >main.c
        echo 'int part(int), whole(int); int main(void) { printf("%d\\n", whole(part(20))); return 0; }' >>main.c
        cmake -S . -B build >log 2>&1 || tail -5 log; cmake --build build -j2 >>log 2>&1 || tail -5 log
        build/demo; (cd build && ctest 2>&1 | grep 'tests passed')
    """
    same(["bash", "-c", script], timeout_s=240, contains="42")


def test_shared_library_with_versions_and_constructors(same: Same) -> None:
    script = """
        cat >lib.c <<'END'
#include <stdio.h>
__attribute__((constructor)) static void up(void) { puts("up"); }
__attribute__((destructor)) static void down(void) { puts("down"); }
_Thread_local int each = 7;
int *here(void) { return &each; }
END
        cat >main.c <<'END'
#include <dlfcn.h>
#include <stdio.h>
int main(void) {
    void *lib = dlopen("./lib.so.1", RTLD_NOW);
    int *(*here)(void) = (int *(*)(void))dlsym(lib, "here");
    printf("%d\\n", (*here())++ + *here());
    dlclose(lib);
    printf("%s\\n", dlopen("./none.so", RTLD_LAZY) ? "found" : dlerror());
    return 0;
}
END
        gcc -shared -fPIC -Wl,-soname,lib.so.1 -o lib.so.1 lib.c && gcc -O0 -o main main.c && ./main; LD_PRELOAD=./lib.so.1 ./main
    """
    same(["bash", "-c", script])


ONE_GIB = """
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    size_t size = 1ul << 30, step = 4096, sum = 0;
    unsigned char *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) return 1;
    for (size_t i = 0; i < size; i += step) m[i] = 1;
    pid_t child = fork();
    if (child == 0) {
        for (size_t i = 0; i < size; i += step) m[i] += 1;
        for (size_t i = 0; i < size; i += step) sum += m[i];
        _exit(sum == 2 * size / step ? 7 : 8);
    }
    int status;
    waitpid(child, &status, 0);
    for (size_t i = 0; i < size; i += step) sum += m[i];
    printf("%d %zu\\n", WEXITSTATUS(status), sum);
    return 0;
}
"""


def test_one_gibibyte_every_page_written_before_and_after_fork(same: Same) -> None:
    """All 262144 pages, twice: the parent's, and the child's copies of them."""
    same("cat >m.c && gcc -O1 -o m m.c && ./m", stdin=ONE_GIB, options=["--memory", "3G"], contains="7 262144", timeout_s=60)
