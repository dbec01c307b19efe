"""The option parser and the values of options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trapline.cli import values
from trapline.cli.environment import default_environment, environment
from trapline.cli.options import Option, UsageError, describe, parse
from trapline.kernel.config import Identity

OPTIONS = (
    Option("--root", "DIR", "what to show as the root"),
    Option("--env", "K=V", "a variable", many=True),
    Option("--trace", "FILE", "write a trace", optional=True),
    Option("--no-aslr", "", "no randomness"),
    Option("--help", "", "this text"),
)


def test_options_end_at_the_program() -> None:
    parsed = parse(["--root", "/x", "ls", "--root", "-l"], OPTIONS)
    assert parsed.values == {"--root": ["/x"]}
    assert parsed.rest == ["ls", "--root", "-l"]


def test_options_end_at_two_dashes() -> None:
    assert parse(["--no-aslr", "--", "--root"], OPTIONS).rest == ["--root"]
    assert parse(["-"], OPTIONS).rest == ["-"]


def test_values_with_and_without_equals_are_the_same() -> None:
    assert parse(["--root=/x=y"], OPTIONS).last("--root") == "/x=y"
    assert parse(["--root", "/x"], OPTIONS).last("--root") == "/x"
    assert parse(["--root", "--no-aslr"], OPTIONS).last("--root") == "--no-aslr"


def test_optional_value_needs_equals() -> None:
    parsed = parse(["--trace", "ls"], OPTIONS)
    assert parsed.flag("--trace") and parsed.last("--trace") == "" and parsed.rest == ["ls"]
    assert parse(["--trace=out", "ls"], OPTIONS).last("--trace") == "out"


def test_repeated_options() -> None:
    assert parse(["--env", "A=1", "--env=B"], OPTIONS).all("--env") == ["A=1", "B"]
    with pytest.raises(UsageError, match="given twice"):
        parse(["--root", "a", "--root", "b"], OPTIONS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--roo", "x"], "did you mean --root"), (["--zzz"], "--help lists the options"), (["--root"], "needs a value"),
        (["--no-aslr=1"], "takes no value"), (["-x"], "unknown option -x"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(words, OPTIONS)


def test_help_names_every_option() -> None:
    text = describe(OPTIONS)
    assert all(option.name in text and option.help.split()[0] in text for option in OPTIONS)
    assert "--trace[=FILE]" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("text", "bytes_"), [("64M", 64 << 20), ("2G", 2 << 30), ("2GiB", 2 << 30), ("0.5g", 512 << 20), ("67108864", 64 << 20), ("65536kB", 64 << 20)]
)
def test_sizes(text: str, bytes_: int) -> None:
    assert values.size("--memory", text) == bytes_


@pytest.mark.parametrize("text", ["", "x", "1M", "-1G", "12Q", "inf", "nan", "1e400G"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="--memory"):
        values.size("--memory", text)


@pytest.mark.parametrize(("text", "ns"), [("10", 10**10), ("1.5s", 15 * 10**8), ("2m", 12 * 10**10), ("100ms", 10**8), ("1h", 36 * 10**11)])
def test_durations(text: str, ns: int) -> None:
    assert values.duration_ns("--timeout", text) == ns


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "1y", "inf"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(UsageError, match="--timeout"):
        values.duration_ns("--timeout", text)


def test_binds(tmp_path: Path) -> None:
    assert values.bind(f"{tmp_path}:/data") == f"{tmp_path}:/data:ro"
    assert values.bind(f"{tmp_path}:/data/../x:rw") == f"{tmp_path}:/x:rw"
    for wrong in (f"{tmp_path}", f"{tmp_path}:data", f"{tmp_path}:/data:rx", f"{tmp_path}:/data:", "/no/such:/data", ":/x"):
        with pytest.raises(UsageError, match="--bind"):
            values.bind(wrong)


def test_identities() -> None:
    assert values.identity("12:34") == Identity(12, 34, (34,), b"12", b"/")
    assert values.identity("0").name == b"root"
    assert values.identity("root").uid == 0
    assert values.identity("") == values.caller()
    assert values.caller().uid == os.geteuid()
    for wrong in ("nosuchuser", "root:0", "-1", "4294967295", "1:x"):
        with pytest.raises(UsageError, match="--user"):
            values.identity(wrong)


def test_secrets_do_not_cross_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("LC_TIME", "C")
    env = environment([], False, Identity(name=b"u", home=b"/h"))
    assert b"AWS_SECRET_ACCESS_KEY" not in env
    assert env[b"LC_TIME"] == b"C"
    assert (env[b"USER"], env[b"HOME"]) == (b"u", b"/h")
    assert b"LD_PRELOAD" not in default_environment({b"LD_PRELOAD": b"x"}, Identity())


def test_variables_are_passed_on_by_name_or_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "mine")
    assert environment(["TOKEN", "A=b=c", "E="], True, Identity()) == {
        b"TOKEN": b"mine", b"A": b"b=c", b"E": b"",
    }  # fmt: skip
    monkeypatch.delenv("TOKEN")
    with pytest.raises(UsageError, match="is not set"):
        environment(["TOKEN"], True, Identity())
    with pytest.raises(UsageError, match="--env"):
        environment(["=x"], True, Identity())
