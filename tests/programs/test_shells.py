"""dash, bash and busybox's shell: pipelines, subshells, background jobs, traps, here-documents, job control."""

from __future__ import annotations

import pytest
from side_by_side import Same

import support

COMMON = {
    "pipeline": "cat numbers | sort -n | uniq -c | sort -k1,1nr -k2n | head -5",
    "status of a pipeline": "false | true; echo $?; true | false; echo $?",
    "long pipeline": "cat fruit.txt | cat | cat | cat | cat | cat | cat | wc -l",
    "subshell": "x=1; (x=2; cd /; pwd; echo $x); echo $x; pwd | sed 's/.*work/work/'",
    "group": "{ echo a; echo b >&2; } 2>&1 | tr ab xy",
    "command substitution": 'echo "$(echo "$(echo deep)er")" `echo back`',
    "here-document": 'v=value; cat <<A; cat <<"B"; cat <<-C\nline $v $((6 * 7))\nA\nline $v\nB\n\tindented\nC\n',
    "background and wait": "sleep 0.05 & p=$!; (exit 3) & q=$!; wait $q; echo $?; wait $p; echo $?",
    "many background jobs": "for i in 1 2 3 4 5 6 7 8; do (exit $i) & done; wait; echo all",
    "kill a job": "sleep 100 & kill $!; wait $!; echo $?",
    "trap EXIT": "trap 'echo bye' EXIT; echo hello",
    "trap TERM": "trap 'echo got TERM; exit 4' TERM; kill $$; echo not reached",
    "trap in a loop": "n=0; trap 'n=$((n + 1))' USR1; for i in 1 2 3; do kill -USR1 $$; done; echo $n",
    "ignored signal": "trap '' TERM; kill $$; echo alive; sh -c 'kill $$; echo child alive'",
    "death by signal": "{ sh -c 'kill -9 $$'; echo $?; sh -c 'kill -SEGV $$'; echo $?; } 2>/dev/null",
    "die of a signal": "kill -TERM $$",
    "redirections": "echo one >new; echo two >>new; cat <new; exec 3<new; read x <&3; read y <&3; echo $y $x; exec 3<&-",
    "redirect both": "ls nonexistent fruit.txt >out 2>&1; wc -l <out; echo x 2>&- >&2 | cat",
    "noclobber": "set -C; echo 1 >n; echo 2 >n; cat n",
    "read write": "echo 12345 >rw; exec 3<>rw; read -r x <&3; echo $x; printf ab >&3; cat rw",
    "globbing": "echo *.txt sub/* [a-n]*; echo none*",
    "case and functions": 'f() { case $1 in a*) echo A;; *b|c) echo B;; *) echo other; return 5;; esac; }; f abc; f xb; f zz; echo $?',
    "loops": "i=0; while [ $i -lt 5 ]; do i=$((i + 1)); [ $i = 3 ] && continue; echo $i; done; for f in *.csv; do echo $f; done",
    "arithmetic": "echo $((1 + 2 * 3)) $((7 % 4)) $((1 << 10)) $((0x1f)) $((5 > 3 && 2 > 1))",
    "parameters": 'x=path/to/file.tar.gz; echo ${x##*/} ${x%%.*} ${x%.gz} ${y:-default} ${#x}',
    "not found": "nosuchcommand; echo $?; ./fruit.txt; echo $?; ./sub; echo $?",
    "script file": "./run.sh a 'b c'; sh run.sh; . ./run.sh",
    "exec": "exec echo replaced; echo never",
    "exit status": "(exit 255); echo $?; (exit 256); echo $?; exit 42",
    "errexit": "set -e; echo 1; false; echo 2",
    "ulimit": "ulimit -n 32; ulimit -n; ulimit -c 0; ulimit -c",
    "umask": "umask 077; >private; ls -l private | cut -c1-10; umask",
    "cd": "cd sub/deep; cd ..; cd ../sub; pwd | sed 's/.*work/work/'; cd nowhere; echo $?",
    "read with IFS": "while IFS=, read a b c; do echo \"$c:$b:$a\"; done <table.csv",
    "large output": "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i + 1)); done | tail -2",
    "SIGPIPE": "yes | head -2",
    "fifo": "mkfifo f; cat f & echo through >f; wait",
    "times is there": "times >/dev/null; echo $?",
    "stdin": "read a; read b; echo $b $a; cat",
}
BASH = {
    "pipefail": "set -o pipefail; false | true; echo $? ${PIPESTATUS[@]}; true | exit 3 | cat; echo ${PIPESTATUS[*]}",
    "process substitution": "diff <(sort fruit.txt) <(sort -u fruit.txt); echo hi | tee >(tr a-z A-Z >up) >/dev/null; sleep 0.1; cat up",
    "here-string": "tr a-z A-Z <<<'here string'",
    "arrays": 'a=(x y z); a+=(w); echo ${#a[@]} ${a[-1]} ${a[@]:1:2}; declare -A m=([k]=v [j]=w); for k in j k; do echo ${m[$k]}; done',
    "brace and extglob": "shopt -s extglob globstar; echo {1..5} {a,b}{1,2}; echo !(*.txt|*.csv); echo **/*.h",
    "coprocess": "coproc cat; echo ping >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo $x; kill $COPROC_PID; wait $COPROC_PID 2>/dev/null; echo $?",
    "job control": "set -m; sleep 100 & jobs; kill -STOP %1; sleep 0.1; jobs; kill %1; sleep 0.3; wait %1; echo $?",
    "wait -n": "sleep 10 & s=$!; (exit 7) & wait -n; echo $?; kill $s",
    "regular expressions": '[[ "abc123" =~ ([a-z]+)([0-9]+) ]] && echo ${BASH_REMATCH[2]} ${BASH_REMATCH[1]}',
    "printf and read": 'printf "%05d|%-6s|%x\\n" 42 ab 255; read -t 0.05 x; echo $?; read -n 2 y <<<abcdef; echo $y',
    "traps": "trap 'echo ERR $?' ERR; trap 'echo DEBUG >/dev/null' DEBUG; false; trap - ERR; (trap 'echo sub EXIT' EXIT); echo end",
    "CHLD trap": "set -m; trap 'echo child' CHLD; sleep 0.01 & wait; trap - CHLD",
    "mapfile": "mapfile -t l <fruit.txt; echo ${l[2]} ${#l[@]}",
    "time": "TIMEFORMAT=; time true; echo $?",
    "nested functions and local": "f() { local x=1; g; echo $x; }; g() { x=2; }; x=0; f; echo $x",
    "exec descriptors": "exec {fd}<fruit.txt; read -u $fd a; echo $a $((fd >= 10)); exec {fd}<&-",
}


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@pytest.mark.parametrize("script", COMMON.values(), ids=COMMON.keys())
def test_common(shell: str, script: str, same: Same) -> None:
    if reason := support.have(shell):
        pytest.skip(reason)
    words = ["busybox", "sh"] if shell == "busybox" else [shell]
    same([*words, "-c", script], stdin="first\nsecond\nrest 1\nrest 2\n")


@pytest.mark.parametrize("script", BASH.values(), ids=BASH.keys())
def test_bash(script: str, same: Same) -> None:
    same(["bash", "-c", script], stderr="set -m" not in script)


def test_script_from_stdin(same: Same) -> None:
    """A shell that reads its script must not read ahead what a program in it wants."""
    same(["sh"], stdin="echo start\nhead -n1\nthis line is for head\necho end\n")


def test_interactive_bash_without_a_terminal(same: Same) -> None:
    same(["bash", "--norc", "-i"], stdin="echo one\nfalse\nexit 3\n", stderr=False)
