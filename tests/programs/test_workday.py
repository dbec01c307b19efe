"""The tools of a working day: compilers' helpers, comparers, calculators, archivers, keys, searchers, editors without a terminal."""

from __future__ import annotations

import pytest
from side_by_side import Same

import support

#: Programs needed: the command.
COMMANDS = """
diff: diff -u fruit.txt table.csv | tail -n +3
diff: diff -r sub . | sort
diff patch: sed 's/fig/grape/' fruit.txt >new; diff -u fruit.txt new >p; patch <p; cmp fruit.txt new; patch -R <p; cat fruit.txt; patch -N <p >/dev/null; echo $?
bc: echo 'scale=20; 4*a(1); 2^200; sqrt(2)' | bc -l
dc: echo '16 o 255 p 2 100 ^ p' | dc
m4: printf 'define(`sq'"'"', `eval($1 * $1)'"'"')sq(12) syscmd(`echo shell'"'"') esyscmd(`echo more'"'"')' | m4
jq: echo '{"a":[1,2,{"b":"c"}],"n":1e3}' | jq -c '.a[2].b, (.a|length), [.a[]|numbers|.*2], .n'
jq: jq -n '[range(1000)] | add'
jq: echo '{bad' | jq .
file: file fruit.txt bytes link sub run.sh sub/empty
file: file -b -i /bin/ls -L
strings: strings -n 3 sub/one.c; strings /bin/true | wc -l
objdump: objdump -d /bin/true | tail -n 20; objdump -h /bin/true | head -n 12
readelf: readelf -hlW /bin/true; readelf -d /bin/true
nm: nm -D /bin/true | sort -k2
size: size /bin/true
gawk: gawk 'BEGIN { PROCINFO["sorted_in"] = "@ind_str_asc"; a["x"] = 1; a["b"] = 2; for (k in a) print k; print strftime("%Y", 0, 1); "date -u -d @0 +%F" | getline d; print d }'
gawk: gawk -F, '{ print > ($3 ".out") } END { close("Oslo.out"); while ((getline l < "Oslo.out") > 0) print l }' table.csv
gawk: gawk 'BEGIN { c = "sort"; print "b\\na" |& c; close(c, "to"); while ((c |& getline l) > 0) print l }'
mawk: mawk '{ s += $1 } END { printf "%d %.3f\\n", s, s / NR }' numbers
ed: printf '1,$s/a/A/g\\n2d\\nw\\nq\\n' | ed fruit.txt; cat fruit.txt
vim: vim -es -u NONE -c '%s/a/A/ge' -c 'sort u' -c 'wq' fruit.txt; cat fruit.txt
vim: vim -es -u NONE -c 'put =system(\\"echo from shell\\")' -c '%print' -c 'q!' fruit.txt
rg: rg --no-heading -n --sort path int
rg: rg -c a fruit.txt; rg -U 'fox\\njumps' text; rg nothing
fdfind: fdfind --type f . | sort; fdfind -e c -x wc -l {}
fzf: fzf --filter=an <fruit.txt
zstd: zstd -q -19 numbers && zstd -t -q numbers.zst && zstd -dc numbers.zst | cmp - numbers; zstd -q -T2 -b1 -i0 nosuch; echo $?
zstd: zstd -q -T2 bytes -o b.zst; zstdcat b.zst | md5sum; zstd -l b.zst | tail -n 1 | wc -w
bzip2: bzip2 -9 numbers; bzip2 -t numbers.bz2; bunzip2 numbers.bz2; md5sum numbers; bunzip2 <fruit.txt
xz: xz -T2 -9e numbers; xz -t numbers.xz; unxz numbers.xz; md5sum numbers; xz -dc fruit.txt
gzip: gzip -9n numbers; gzip -l numbers.gz; gunzip numbers.gz; md5sum numbers; gunzip nosuch.gz
zip unzip: zip -qrX a.zip sub fruit.txt && unzip -l a.zip | tail -n 1 | wc -w && mkdir x && unzip -q a.zip -d x && diff -r sub x/sub && unzip -p a.zip fruit.txt; unzip -t bytes
cpio: find sub | sort | cpio --quiet -o -H newc >a.cpio; mkdir x; cd x; cpio --quiet -id <../a.cpio; find . | sort; cpio --quiet -t <../a.cpio
rsync: rsync -a sub/ copy/ && rsync -ai --delete sub/ copy/ && diff -r sub copy && rsync -r nosuch x 2>/dev/null; echo $?
ssh-keygen: ssh-keygen -q -t ed25519 -N '' -C c -f k && ssh-keygen -y -f k | cut -d' ' -f1 && ssh-keygen -l -f k.pub | cut -d' ' -f1,3- && stat -c %a k
ssh-keygen: ssh-keygen -q -t rsa -b 1024 -N 'pass phrase' -f k && ssh-keygen -y -P 'pass phrase' -f k | cut -d' ' -f1; ssh-keygen -y -P wrong -f k 2>/dev/null; echo $?
openssl: openssl dgst -sha256 fruit.txt; openssl enc -aes-256-cbc -pbkdf2 -k secret -in fruit.txt | openssl enc -d -aes-256-cbc -pbkdf2 -k secret
openssl: openssl genrsa 1024 2>/dev/null >key && openssl rsa -in key -pubout 2>/dev/null >pub && openssl dgst -sha1 -sign key -out sig fruit.txt && openssl dgst -sha1 -verify pub -signature sig fruit.txt
openssl: openssl rand -hex 8 | wc -c; openssl req -x509 -newkey rsa:1024 -nodes -subj /CN=x -keyout k -out c 2>/dev/null; openssl x509 -in c -noout -subject
xargs: seq 1 12 | xargs -P2 -n3 sh -c 'echo $#' sh; seq 1 9 | xargs -P3 -I{} sh -c 'exit $(({} % 2))'; echo $?
find: find . -name '*.c' -o -name '*.h' | sort; find sub -exec sh -c 'test -d "$1" && echo "$1"' sh {} ';' ; find . -perm 755 -type f; find nosuch; echo $?
locale: locale -a | head -n 1; LC_ALL=C sort fruit.txt | head -n 1
getconf: getconf PAGESIZE; getconf ARG_MAX; getconf _NPROCESSORS_CONF >/dev/null; getconf PATH
iconv: iconv -f latin1 -t utf8 bytes | md5sum; printf '\\303\\251' | iconv -f utf8 -t ascii
getent: getent passwd root; getent group 0; getent passwd nosuchuser; echo $?
script: script -qec 'tty | cut -c1-9; echo on a terminal' /dev/null </dev/null | tr -d '\\r'
setsid flock: setsid -w sh -c 'exit 5'; echo $?; flock l sh -c 'flock -n l echo never || echo busy'
cmake: cmake --version | head -n 1; cmake -E echo hi; cmake -E sha256sum fruit.txt; cmake -E capabilities | wc -l
git: git hash-object fruit.txt; git --no-pager diff --no-index --stat fruit.txt table.csv
make: printf 'all: a b c\\n%%:\\n\\t@echo make $@\\n.PHONY: a b c\\n' >Makefile; make -j2 --output-sync | sort; make nosuch.o -f /dev/null 2>&1 | head -n 1
as ld: printf '.globl _start\\n_start: mov $60,%%eax\\nmov $42,%%edi\\nsyscall\\n' | as -o s.o && ld -o s s.o && ./s; echo $?
""".strip().splitlines()


@pytest.mark.parametrize("line", COMMANDS)
def test_tool(line: str, same: Same) -> None:
    needs, _, command = line.partition(": ")
    if reason := support.have(*needs.split()):
        pytest.skip(reason)
    same(["bash", "-c", command], timeout_s=90)
