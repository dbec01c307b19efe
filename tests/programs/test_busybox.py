"""busybox, statically linked: its applets, most of which the fuller programs of Debian do not exercise in the same way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from side_by_side import Same

import support

APPLETS = """
ls -la sub | cut -c1-10
cat fruit.txt - | tac
awk -F, 'NR > 1 { n[$3] += $2 } END { for (c in n) print c, n[c] }' table.csv | sort
sed -n '/a/{s/a/[&]/g;p}' fruit.txt
sed -i 's/fig/FIG/' fruit.txt; cat fruit.txt
grep -rn int sub | sort
egrep '^(a|b)' fruit.txt
fgrep -c . numbers
find . -type f -name '*.[ch]' | sort
find . -type f -size +2k -exec wc -c {} +
sort -n numbers | uniq -c | sort -rn | head -n 3
tar cf t.tar sub fruit.txt; tar tf t.tar | sort; mkdir x; tar xf t.tar -C x; diff -r sub x/sub && echo same
tar czf t.tgz sub; gunzip -c t.tgz | tar tf - | sort
gzip numbers; zcat numbers.gz | md5sum
bzip2 -k numbers; bunzip2 -c numbers.bz2 | sha1sum
xzcat nosuch.xz
find sub | sort | cpio -o -H newc 2>/dev/null >a.cpio; mkdir y; cd y; cpio -id <../a.cpio 2>/dev/null; find . | sort
vi -c ':%s/apple/APPLE/g' -c ':wq' fruit.txt >/dev/null </dev/null; cat fruit.txt
printf '/banana/d\\nw\\nq\\n' | ed -s fruit.txt; cat fruit.txt
diff fruit.txt table.csv | head -n 5
printf 'a\\nb\\n' >a; printf 'a\\nc\\n' >b; diff -u a b | tail -n +3 >p; patch a <p; cat a
cmp fruit.txt table.csv
comm -12 fruit.txt fruit.txt | head -n 2
od -c fruit.txt | head -n 3
hexdump -C bytes | head -n 3
xxd fruit.txt | head -n 2
base64 fruit.txt | base64 -d
md5sum bytes fruit.txt; sha256sum numbers; sha512sum numbers; cksum bytes
dd if=bytes of=out bs=512 count=3 skip=1 2>/dev/null; cksum out
seq 1 30 | xargs -n 7 echo
seq 1 8 | xargs -P 2 -I % sh -c 'echo %' | sort -n
expr 6 '*' 7; echo '6 * 7' | bc; dc -e '6 7 * p'
factor 1234567; nproc >/dev/null; printf '%05d %s\\n' 7 x
head -c 20 bytes | od -An -tx1; tail -n 2 numbers
cut -d, -f1,3 table.csv; paste fruit.txt numbers | head -n 2; fold -w 5 text | head -n 3; nl fruit.txt
tr a-z A-Z <fruit.txt; rev fruit.txt; expand text | head -n 2; strings sub/one.c
stat -c '%n %s %a' fruit.txt; du -s sub >/dev/null; readlink -f link; realpath link | sed 's/.*work/work/'
mkdir -p a/b/c; rmdir a/b/c; touch a/f; mv a/f a/g; cp -r a z; find z | sort; rm -r a z; ls
ln -s fruit.txt s; ls -l s | sed 's/.*s -> /s -> /'; unlink s; mktemp -u | wc -c
chmod 640 fruit.txt; stat -c %a fruit.txt; install -m 755 fruit.txt prog; stat -c %a prog
mkfifo f; cat f & echo through >f; wait
env -i A=1 env; id -u; whoami; uname -s; hostname >/dev/null; pwd | sed 's/.*work/work/'
timeout 0.2 sleep 5; echo $?; sleep 0.01; usleep 100; true; false; echo $?
test -f fruit.txt -a -d sub; echo $?; [ -L link ]; echo $?
ps >/dev/null; echo $?; ps | head -n 1; free | head -n 1; uptime >/dev/null; echo $?
kill -l | head -n 3; sh -c 'kill -TERM $$'; echo $?
which sh; cal 1 2000; date -u -d @0 +%Y; tty; nice -n 3 nice; nohup echo x 2>/dev/null
split -l 80 numbers p.; ls p.*; tee c1 <fruit.txt >/dev/null; cmp c1 fruit.txt; truncate -s 3 c1; cat c1
unzip -l nosuch.zip
ar t nosuch.a
sync; df . >/dev/null; mount | grep -c ' / '; pidof nosuchprogram; basename /a/b.c .c; dirname /a/b
crc32 bytes; sum numbers; uuencode -m fruit.txt x | head -n 2; shuf -n 5 numbers | wc -l; tsort sub/empty
""".strip().splitlines()
SCRIPT = """
count() { local n=0; while read -r line; do n=$((n + ${#line})); done; echo $n; }
for file in *.txt sub/*; do [ -f "$file" ] && echo "$file: $(count <"$file")"; done | sort
(trap 'echo subshell ends' EXIT; echo in; exit 4); echo $?
trap 'echo USR1' USR1; kill -USR1 $$
sleep 0.05 & wait $!; echo $?
cat <<END | tr a-z A-Z
here $((1 + 1)) `echo inner`
END
set -- a 'b c' d; for x; do printf '<%s>' "$x"; done; echo; shift; echo $# "$*"
f=path/name.tar.gz; echo ${f##*/} ${f%%.*} ${f/name/other} ${#f} ${f:0:4}
"""


@pytest.fixture(autouse=True)
def _installed() -> None:
    if reason := support.have("busybox"):
        pytest.skip(reason)


@pytest.mark.parametrize("command", APPLETS)
def test_applet(command: str, same: Same) -> None:
    """ash runs its own applets in preference to the programs in PATH, whether in pipelines or alone."""
    same(["busybox", "sh", "-c", command], stdin="typed\n", stderr="which sh" not in command)


def test_script(same: Same) -> None:
    same("cat >script; busybox sh script", stdin=SCRIPT, files=True)


def test_root_with_nothing_but_busybox(tmp_path: Path, no_process_left: None) -> None:
    """A directory with one static program is a whole system."""
    root = tmp_path / "root"
    for name in ("bin", "proc", "dev", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    shutil.copy(str(shutil.which("busybox")), root / "bin/busybox")
    for name in ("sh", "ls", "cat"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    got = support.trapline(["sh", "-c", "ls /; cat /etc/passwd; echo x >/tmp/y; ls /tmp; ls /dev/null"], ["--root", str(root), "--workdir", "/"])
    assert got.text == "bin\ndev\netc\nproc\nsys\ntmp\nroot:x:0:0:root:/:/bin/sh\ny\n/dev/null\n", got.tail()
    assert not list((root / "tmp").iterdir())
