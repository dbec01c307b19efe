"""findutils, grep, sed, awk, tar, gzip, xz, perl and busybox's own tools."""

from __future__ import annotations

import pytest
from side_by_side import Same

import support

COMMANDS = """
find . | sort
find . -type f -name '*.[ch]' | sort
find . -type f -size +1k -exec wc -c {} +
find . -name '*.txt' -exec head -n1 {} ';'
find sub -depth -print0 | xargs -0 -n1 basename | sort
find . -newermt 2000-01-01 -type l -printf '%p %l %m\\n'
find sub -type f -delete; find sub | sort
find . -maxdepth 1 -type f -print0 | sort -z | xargs -0 -P2 -n2 cksum | sort
seq 1 500 | xargs -n 50 echo | wc -l
seq 1 20 | xargs -P4 -I{} sh -c 'echo {}' | sort -n | tail -1
xargs -a fruit.txt -n1 false
grep -n a fruit.txt
grep -c apple fruit.txt text
grep -rl int sub | sort
grep -E '^(a|b).*[ae]$' fruit.txt
grep -v -i THE text
grep -o '[a-z]*' table.csv | sort -u
grep nothing fruit.txt
grep x nonexistent
grep -P '\\d+(?=,R)' table.csv
grep -a -c . bytes
sed -n '2,4p' fruit.txt
sed 's/a/A/2;/fig/d' fruit.txt
sed -i.bak 's/pear/PEAR/' fruit.txt; cat fruit.txt fruit.txt.bak
sed -e '1!G;h;$!d' fruit.txt
sed -E 's/([a-z]+),([0-9]+)/\\2-\\1/' table.csv
sed 'y/abc/xyz/;N;s/\\n/ /' fruit.txt
sed -f nonexistent text
awk -F, 'NR > 1 { s += $2; n[$3]++ } END { print s; for (c in n) print c, n[c] | "sort"; close("sort") }' table.csv
awk '{ printf "%-10s|%5.2f\\n", $1, length($0) / 3 }' fruit.txt
awk 'BEGIN { while ((getline l < "fruit.txt") > 0) print toupper(l); "echo cmd" | getline x; print x; system("exit 3") }'
awk 'BEGIN { for (i = 0; i < 100000; i++) s += i * 0.5; print s; exit 7 }'
tar cf t.tar --sort=name --mtime=@0 --owner=0 --group=0 sub fruit.txt link; sha256sum t.tar
tar cf - sub | tar tvf - --full-time | wc -l
tar czf t.tgz sub && mkdir x && tar xzf t.tgz -C x && diff -r sub x/sub && find x | sort
tar cJf t.txz sub && tar tJf t.txz
tar xf nonexistent.tar
tar cf - . --exclude=t.tar | tar xf - -C sub && ls sub
gzip -n -c numbers | gzip -d | cmp - numbers
gzip -n numbers; ls -l numbers.gz | cut -c1-10; zcat numbers.gz | tail -1; gzip -t numbers.gz; echo $?
gzip -d < fruit.txt
xz -k -T2 bytes && xz -l --robot bytes.xz | tail -1 && xz -dc bytes.xz | cmp - bytes
bzip2 -k numbers && bzcat numbers.bz2 | md5sum
perl -e 'print join(",", map { $_ * $_ } 1 .. 10), "\\n"'
perl -ne 'print "$.:$_" if /a.*e/' fruit.txt
perl -pi -e 's/fig/FIG/' fruit.txt; cat fruit.txt
perl -e 'my $p = fork; if (!$p) { exit 7 } waitpid $p, 0; print $? >> 8, "\\n"'
perl -e 'pipe R, W; if (!fork) { print W "from child\\n"; exit } close W; print <R>; wait'
perl -e '$SIG{ALRM} = sub { print "alarm\\n"; exit 2 }; alarm 1; select undef, undef, undef, 5 while 1'
perl -e 'open my $f, "-|", "sort", "fruit.txt" or die; print while <$f>; close $f; print $?'
perl -MPOSIX -e 'print strftime("%F", gmtime 0), " ", floor(3.7), "\\n"; print POSIX::getpid() == $$ ? "same\\n" : "no\\n"'
perl -MFile::Find -e 'find(sub { print "$File::Find::name\\n" if -f }, "sub")' | sort
perl -MSocket -e 'socketpair(A, B, AF_UNIX, SOCK_STREAM, PF_UNSPEC); syswrite A, "sock"; sysread B, $x, 9; print "$x\\n"'
perl -e 'die "dead\\n"'
perl -e 'my %h; $h{$_ % 1000} .= $_ for 1 .. 50000; print scalar keys %h, "\\n"'
""".strip().splitlines()
BUSYBOX = """
busybox echo hello
busybox ls -1
busybox find . -type f | busybox sort
busybox sha256sum bytes
busybox awk 'BEGIN { print 6 * 7 }'
busybox sed -n '2p' fruit.txt
busybox grep -c a fruit.txt
busybox tar cf - sub | busybox tar tf -
busybox gzip -c numbers | busybox gunzip | busybox cmp - numbers
busybox vi --version
busybox cp -r sub copied && busybox diff -r sub copied
busybox dd if=/dev/zero bs=1k count=5 2>/dev/null | busybox wc -c
busybox timeout 1 busybox sleep 0.01
busybox xargs -n1 busybox echo < fruit.txt
busybox stat -c '%s %a' fruit.txt
busybox env -i A=1 busybox env
busybox seq 5 | busybox tac
busybox md5sum -c < /dev/null
busybox nosuchapplet
""".strip().splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, same: Same) -> None:
    needs = {"xz": "xz", "bzip2": "bzip2"}
    if reason := support.have(*(needs[w] for w in command.split()[:1] if w in needs)):
        pytest.skip(reason)
    same(["bash", "-c", command], ignore=["t.tgz", "t.txz", "t.tar"])


@pytest.mark.parametrize("command", BUSYBOX)
def test_busybox(command: str, same: Same) -> None:
    if reason := support.have("busybox"):
        pytest.skip(reason)
    same(["busybox", "sh", "-c", command], files=True)
