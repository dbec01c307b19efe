"""coreutils: a table of commands, each with the output and status it gives natively."""

from __future__ import annotations

import pytest
from side_by_side import Same

COMMANDS = """
true
false
echo -e 'a\\tb\\nc' -n
printf '%s-%03d\\n' a 1 b 2
cat fruit.txt - text
cat -A text
cat nonexistent fruit.txt
tac fruit.txt
nl -ba text
head -n 2 fruit.txt numbers
head -c 100 bytes
tail -n 3 numbers
tail -c +10200 bytes
wc fruit.txt numbers bytes
wc -l < numbers
sort fruit.txt
sort -u -r fruit.txt
sort -t, -k2n table.csv
sort -n numbers --parallel=2 -S 1M
sort -c fruit.txt
uniq -c fruit.txt
cut -d, -f2,3 table.csv
paste -d: fruit.txt table.csv
join -t, table.csv table.csv
comm fruit.txt table.csv
tr -d aeiou < fruit.txt
tr '[:lower:]' '[:upper:]' < text
fold -w 10 -s text
fmt -w 20 text
expand -t 4 text
od -A d -t x1z bytes | head -20
base64 bytes | tail -3
base64 fruit.txt | base64 -d
md5sum fruit.txt bytes
sha256sum bytes
sha512sum numbers | sha512sum -c -
cksum bytes
b2sum text
seq 1 2 10
seq -s, 5 -1 1
shuf -i 1-10 --random-source=bytes
factor 1234567890 97
expr 6 \\* 7
expr abc : 'a\\(.\\)c'
test -d sub -a -L link
[ fruit.txt -nt nonexistent ]
basename /a/b/c.txt .txt
dirname /a/b/c.txt
realpath --relative-to=sub fruit.txt
readlink -f link
readlink fruit.txt
pwd
ls
ls -la --time-style=+%s --block-size=1 fruit.txt bytes link
ls -R sub
ls -1 -S -r
ls nonexistent
ls -i fruit.txt | wc -w
stat -c '%n %s %a %F %h %Y %U' fruit.txt sub/empty link
stat -L -c '%s %F' link
du -b --apparent-size fruit.txt bytes
df --output=target . > /dev/null
cp fruit.txt new; cat new
cp -r sub copy; find copy | sort
cp -p run.sh kept; stat -c '%a %Y' kept
cp fruit.txt nonexistent/x
cp --sparse=always bytes sparse; cmp bytes sparse
mv fruit.txt moved; ls
mv sub moved; ls -R moved
ln fruit.txt hard; stat -c %h fruit.txt
ln -s sub dirlink; ls dirlink/
rm fruit.txt link; ls
rm -r sub; ls
rm sub
rm -f nonexistent
rmdir sub
mkdir -p a/b/c; rmdir -p a/b/c; ls
mkdir -m 700 private; stat -c %a private
touch -d @1000 fruit.txt; stat -c %Y fruit.txt
touch -r fruit.txt bytes; stat -c %Y bytes
chmod u=rwx,go= fruit.txt; stat -c %a fruit.txt
chmod -R a-w sub; stat -c %a sub/one.c; chmod -R u+w sub
truncate -s 5 fruit.txt; cat fruit.txt
truncate -s +1M bytes; stat -c %s bytes
dd if=bytes of=out bs=100 count=3 skip=2 status=none; cksum out
dd if=/dev/zero bs=64k count=20 status=none | wc -c
tee copy1 copy2 < fruit.txt; cat copy1 copy2
split -l 50 numbers part.; ls part.*; cat part.* | cmp - numbers
csplit -s text '/lazy/'; ls xx*; cat xx01
install -m 600 fruit.txt inst; stat -c %a inst
mktemp -u XXXXXX | wc -c
env -i A=1 B=2 env
env A=1 sh -c 'echo $A'
env nosuchprogram
nice -n 5 nice
nohup true < /dev/null > /dev/null
timeout 0.1 sleep 5
timeout -s KILL 0.1 sleep 5
sleep 0.01
yes no | head -3
date -u -d @86400 +%F\\ %T
id -u
groups > /dev/null
whoami
uname -s -m
nproc > /dev/null
tty
stty
hostname > /dev/null
logname > /dev/null 2>&1; true
stdbuf -oL echo buffered
numfmt --to=iec 1048576 5000
tsort <<< 'a b'
echo 'a b b c' | tsort
pr -t -2 fruit.txt
sync fruit.txt
pathchk -p 'bad name*'
mkfifo p; ls -l p | cut -c1
cat /dev/null
head -c 10 /dev/zero | od -c
echo x > /dev/full
unlink sub
link fruit.txt l2; ls
chown $(id -u) fruit.txt
diff fruit.txt numbers | head
cmp fruit.txt bytes
vdir --time-style=+%s sub
""".strip().splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, same: Same) -> None:
    same(["bash", "-c", command], stdin="from stdin\n", files="ls -la" not in command)
