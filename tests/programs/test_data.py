"""git and sqlite3: programs that rely on locks, renames, fsync and memory maps."""

from __future__ import annotations

import pytest
from side_by_side import Same

import support

GIT = {
    **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "T"), ("EMAIL", "t@t"))},
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_PAGER": "cat",
}


@pytest.mark.skipif(bool(support.have("git")), reason="not installed: git")
def test_git_life(same: Same) -> None:
    script = """
        set -e
        git init -q -b main repo; cd repo; cp ../fruit.txt ../numbers .
        git add .; git commit -q -m first; git log --oneline --stat
        echo more >>fruit.txt; git diff --stat; git commit -q -am second; git status --short
        git checkout -q -b side HEAD~1; echo side >side; git add side; git commit -q -m side; git merge -q main -m merged
        git log --graph --format='%h %s' --all; git tag v1; git gc -q; git fsck
        cd ..; git clone -q repo clone; cd clone; git log --oneline | wc -l; ls; git rev-parse HEAD v1
        cd ..; git clone -q --bare file://$PWD/repo bare.git; git -C bare.git count-objects -v | grep packs
        git -C repo grep -n apple; git -C repo stash list; git -C repo archive HEAD | tar t
    """
    same(["bash", "-c", script], env=GIT, stderr=False, timeout_s=120, expect=0)


@pytest.mark.skipif(bool(support.have("sqlite3")), reason="not installed: sqlite3")
class TestSqlite:
    def test_one_writer(self, same: Same) -> None:
        same(
            "sqlite3 d.db \"create table t(a,b); insert into t values(1,'x'),(2,'y'); create index i on t(a); select * from t; pragma integrity_check;\" && sqlite3 -csv -header d.db 'select sum(a) s from t'"
        )

    @pytest.mark.parametrize("mode", ["delete", "wal"])
    def test_concurrent_writers(self, mode: str, same: Same) -> None:
        same(
            f"sqlite3 d.db 'pragma journal_mode={mode}; create table t(a);' && for w in 1 2 3; do (for n in 1 2 3 4 5 6 7 8; do "
            "sqlite3 -cmd '.timeout 20000' d.db \"insert into t values($w * 100 + $n)\"; done) & done; wait; "
            "sqlite3 d.db 'select count(*), sum(a) from t; pragma integrity_check'",
            timeout_s=120,
        )
