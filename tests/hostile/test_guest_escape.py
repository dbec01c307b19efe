"""What a program must not see or reach: host files, the environment, other processes, memory, whatever lies outside its binds."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from attack import Guest, reachable, unharmed

import support

pytestmark = pytest.mark.usefixtures("no_process_left")
UID = support.users()[-1]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A directory tree of the host: `inside` is bound, `secret` beside it must stay out of reach. Both are world-writable."""
    inside, secret = reachable(tmp_path) / "inside", tmp_path / "secret"
    for each in (inside, secret):
        each.mkdir()
        each.chmod(0o777)
    (secret / "file").write_text("SECRET\n")
    (secret / "file").chmod(0o666)
    (inside / "absolute").symlink_to(secret / "file")
    (inside / "relative").symlink_to("../secret/file")
    (inside / "up").symlink_to("..")
    (inside / "proc").symlink_to(f"/proc/{os.getpid()}/root")
    return tmp_path


def shell(script: str, *options: str, **more: object) -> support.Result:
    return support.trapline(["sh", "-c", script], options, uid=UID, **more)  # type: ignore[arg-type]


def test_secrets_of_the_host_are_absent() -> None:
    absent = "/etc/shadow /etc/gshadow /etc/ssl/private /root/.ssh /home/* /var/lib/dpkg/../../../root/.ssh"
    for user in ("0", str(UID)):
        got = shell(f"for f in {absent}; do ls -d $f; done; cat /etc/shadow", "--user", user)
        assert got.status != 0 and got.stdout == b"", got.tail()
    got = shell("ls -A /root /home /var/lib/dpkg/../../../root | grep -v :", "--user", "0")
    assert got.text.strip() == "" and b"cannot" not in got.stderr, got.tail()


def test_environment_does_not_leak() -> None:
    words = support.trapline_command(["sh", "-c", "env; cat /proc/*/environ | tr '\\0' '\\n'"], uid=UID)
    words.remove("--clear-env")
    got = support._execute(
        words, {**support.host_environment(), "MY_SECRET_TOKEN": "hunter2", "AWS_SECRET": "x"}, "/", b"", 60, "env"
    )
    assert got.status == 0 and "hunter2" not in got.text and "AWS_SECRET" not in got.text, got.tail()


def test_processes_of_the_host_are_absent() -> None:
    got = shell(f"ls /proc | grep -c '^[0-9]'; ls -d /proc/{os.getpid()}; kill -0 {os.getpid()}; cat /proc/1/cmdline | tr '\\0' ' '")
    assert int(got.text.split()[0]) < 10 and f"/proc/{os.getpid()}" not in got.stdout.decode(), got.tail()
    assert b"systemd" not in got.stdout


@pytest.mark.parametrize(("attack", "options"), [("others", ("--user", "0")), ("residue", ("--memory", "256M"))])
def test_memory_of_other_processes(attack: str, options: tuple[str, ...], guest: Guest) -> None:
    got = guest("peek", attack, options=options)
    assert got.status == 42, got.tail()


def test_devices_of_the_host_are_absent() -> None:
    got = shell("ls /dev | grep -E '^(sd|vd|nvme|loop|mem|kmem|port|kvm|fuse)'; cat /dev/mem /proc/kcore /dev/vda 2>/dev/null | head -c 4 | wc -c")
    assert got.text.strip() == "0", got.tail()
    made = support.trapline(["sh", "-c", "mknod /tmp/d b 254 0 && head -c 4 /tmp/d | wc -c"], ["--user", "0"], uid=UID)
    assert made.status != 0 or made.text.strip() == "0", made.tail()


@pytest.mark.parametrize("link", ["absolute", "relative", "up/secret/file", "proc/etc/hostname", "../secret/file"])
@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_links_on_a_bound_directory_stay_inside(link: str, mode: str, canary: Path) -> None:
    got = shell(f"cat /data/{link}; echo hacked >/data/{link}", "--bind", f"{canary / 'inside'}:/data:{mode}")
    assert "SECRET" not in got.text, got.tail()
    assert (canary / "secret" / "file").read_text() == "SECRET\n"
    assert (canary / "inside" / "absolute").is_symlink()


@pytest.mark.parametrize(
    "attack",
    [
        "ln -s {secret}/file /data/new; cat /data/new",
        "ln {secret}/file /data/hard; cat /data/hard",
        "cd /data && mv ../secret/file . && cat file",
        "mkdir /data/d && cd /data/d && mv /data/d /tmp/ ; cat ../../secret/file ../secret/file",
        "mount --bind / /data; cat /data{secret}/file",
        "cd /data; ln -s / root; cat root{secret}/file",
        "exec 9</data; cat /proc/self/fd/9/../secret/file",
    ],
)
def test_escapes_from_a_writable_bind(attack: str, canary: Path) -> None:
    script = attack.replace("{secret}", str(canary / "secret"))
    got = shell(script, "--bind", f"{canary / 'inside'}:/data:rw")
    assert "SECRET" not in got.text and got.status != -1, got.tail()
    assert (canary / "secret" / "file").read_text() == "SECRET\n"


def test_a_name_swapped_under_a_walk_stays_inside(canary: Path) -> None:
    """Another process of the host's swaps a directory for a link while the sandbox opens files through it."""
    (canary / "inside" / "d").mkdir(mode=0o777)
    (canary / "inside" / "d" / "file").write_text("inner\n")
    (canary / "inside" / "l").symlink_to(canary / "secret")
    swapper = support.subprocess.Popen(
        ["sh", "-c", "cd $0; while :; do mv -T d e; mv -T l d; mv -T d l; mv -T e d; done 2>/dev/null", str(canary / "inside")]
    )
    try:
        got = shell("i=0; while [ $i -lt 300 ]; do cat /data/d/file 2>/dev/null; i=$((i + 1)); done", "--bind", f"{canary / 'inside'}:/data:rw")
    finally:
        swapper.kill()
        swapper.wait()
    assert "SECRET" not in got.text and got.status != -1, got.tail()


def test_read_only_bind_is_read_only(canary: Path) -> None:
    (canary / "inside" / "f").write_text("kept\n")
    (canary / "inside" / "f").chmod(0o666)
    shell("echo x >/data/f; rm -f /data/f; mv /data/f /data/g; chmod 0 /data/f; touch /data/n; mkdir /data/m; ln -s x /data/s", "--bind", f"{canary / 'inside'}:/data:ro")
    assert (canary / "inside" / "f").read_text() == "kept\n"
    assert {each.name for each in (canary / "inside").iterdir()} == {"absolute", "relative", "up", "proc", "f"}


@pytest.mark.parametrize(
    "attack",
    [
        "exec 9</data/f; echo x >/proc/self/fd/9",
        "mount -o remount,rw /data; echo x >/data/f",
        "mount -o remount,rw,bind /data; echo x >/data/f; touch /data/n",
        "mkdir /tmp/x; mount --bind /data /tmp/x; mount -o remount,rw,bind /tmp/x; echo x >/tmp/x/f; rm /tmp/x/f",
    ],
)
def test_a_read_only_bind_stays_read_only_for_the_guests_root(attack: str, canary: Path) -> None:
    (canary / "inside" / "f").write_text("kept\n")
    (canary / "inside" / "f").chmod(0o666)
    got = shell(f"{{ {attack}; }} 2>&1", "--user", "0", "--bind", f"{canary / 'inside'}:/data:ro")
    assert "Read-only file system" in got.text, got.tail()
    assert (canary / "inside" / "f").read_text() == "kept\n"
    assert {each.name for each in (canary / "inside").iterdir()} == {"absolute", "relative", "up", "proc", "f"}


def make_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.chmod(0o644)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", **fields: int) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def hostile_tars(secret: Path) -> dict[str, list[tuple[tarfile.TarInfo, bytes]]]:
    return {
        "dot-dot": [member("../../../../../../" + str(secret / "made"), data=b"x")],
        "absolute": [member(str(secret / "made"), data=b"x")],
        "through a link": [member("l", tarfile.SYMTYPE, str(secret)), member("l/made", data=b"x")],
        "hard link out": [member("h", tarfile.LNKTYPE, str(secret / "file")), member("g", tarfile.LNKTYPE, "../../secret/file")],
        "hard link to itself": [member("h", tarfile.LNKTYPE, "h")],
        "device": [member("d", tarfile.BLKTYPE, devmajor=254, devminor=0), member("c", tarfile.CHRTYPE, devmajor=1, devminor=1)],
        "file as directory": [member("f", data=b"x"), member("f/g", data=b"y")],
        "long name": [member("n" * 5000, data=b"x"), member("/".join(["d"] * 3000), data=b"x")],
        "empty name": [member("", data=b"x"), member("/", data=b"x"), member(".", tarfile.DIRTYPE)],
        "link loop": [member("a", tarfile.SYMTYPE, "b"), member("b", tarfile.SYMTYPE, "a"), member("a/c", data=b"x")],
    }


@pytest.mark.parametrize("kind", hostile_tars(Path("/x")).keys())
def test_hostile_tar_roots(kind: str, canary: Path) -> None:
    root = make_tar(canary / "root.tar", hostile_tars(canary / "secret")[kind])
    got = support.trapline(["/bin/none"], ["--root", str(root)], uid=UID)
    assert got.status in (125, 127), got.tail()
    assert unharmed(got.stderr), got.tail()
    assert sorted(os.listdir(canary / "secret")) == ["file"]
    busybox = Path("/usr/bin/busybox")
    if not busybox.exists():
        return
    tools = [member("bin", tarfile.DIRTYPE), member("bin/busybox", data=busybox.read_bytes())]
    root = make_tar(canary / "tools.tar", [*tools, *hostile_tars(canary / "secret")[kind]])
    got = support.trapline(["/bin/busybox", "cat", "/h", "/l/file", "/g", "/a"], ["--root", str(root)], uid=UID)
    assert b"SECRET" not in got.stdout and got.status != -1, got.tail()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 700, 10000])
def test_cut_and_random_tar_roots(size: int, canary: Path) -> None:
    good = make_tar(canary / "good.tar", [member("f", data=b"x" * 3000)])
    for name, data in (("cut", good.read_bytes()[:size]), ("noise", bytes(n * 97 % 251 for n in range(size)))):
        path = canary / f"{name}.tar"
        path.write_bytes(data)
        path.chmod(0o644)
        got = support.trapline(["/bin/none"], ["--root", str(path)], uid=UID)
        assert got.status in (125, 127) and unharmed(got.stderr), got.tail()
