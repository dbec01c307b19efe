"""The command: `python -m tests.fuzz NAME`. Exit status: 0 no crash, 1 a crash (its input is saved), 2 a wrong command line."""

from __future__ import annotations

import argparse
import hashlib
import sys
import traceback
from pathlib import Path

from .engine import HANG_S, Report, Target, best, fuzz, time_limit
from .targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


def corpus_of(name: str) -> list[bytes]:
    """The inputs in corpus/NAME, in a fixed order."""
    return [each.read_bytes() for each in sorted((CORPUS / name).glob("*")) if each.is_file()]


def save(directory: Path, data: bytes, prefix: str = "") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / (prefix + hashlib.sha256(data).hexdigest()[:16])
    path.write_bytes(data)
    return path


def prune(target: Target, count: int) -> int:
    """Leave at most `count` inputs in the corpus of a target."""
    directory = CORPUS / target.name
    keep = {save(directory, data) for data in best(target, corpus_of(target.name), count)}
    for path in directory.glob("*"):
        if path not in keep:
            path.unlink()
    print(f"{target.name}: {len(keep)} inputs kept")
    return 0


def replay(target: Target, files: list[Path]) -> int:
    """Run inputs by themselves, without looking at coverage."""
    for path in files:
        try:
            with time_limit(HANG_S):
                target.run(path.read_bytes())
        except BaseException:
            traceback.print_exc()
            print(f"{target.name}: {path}: CRASH")
            return 1
        print(f"{target.name}: {path}: no crash")
    return 0


def tell(report: Report, crashes: Path) -> int:
    print(report)
    if report.crash is None or report.error is None:
        return 0
    traceback.print_exception(report.error)
    path = save(crashes, report.crash, f"crash-{report.target}-")
    print(f"saved: {path}; to repeat: python -m tests.fuzz {report.target} {path}")
    return 1


def main() -> int:
    listing = "\n".join(f"  {name:9} {(make.__doc__ or '').strip()}".rstrip() for name, make in TARGETS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, epilog=f"targets:\n{listing}\n  all       each in turn",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("name", choices=[*TARGETS, "all"], metavar="NAME", help="what to fuzz: see below")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="only run these inputs, to repeat a crash")
    parser.add_argument("--seed", type=int, default=0, help="start of the random numbers: the same seed repeats a run (default: 0)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time limit (default: 10)")
    parser.add_argument("--inputs", type=int, help="most inputs (default: no limit)")
    parser.add_argument("--save", action="store_true", help="add inputs that reach new edges to tests/fuzz/corpus/NAME")
    parser.add_argument("--prune", type=int, metavar="N", help="fuzz nothing: keep only the N inputs of the corpus that reach most")
    parser.add_argument("--crashes", type=Path, default=Path(), metavar="DIR", help="where to save crashing inputs (default: here)")
    args = parser.parse_args()
    status = 0
    for name in TARGETS if args.name == "all" else [args.name]:
        target = TARGETS[name]()
        try:
            if args.files:
                status |= replay(target, args.files)
                continue
            if args.prune is not None:
                status |= prune(target, args.prune)
                continue
            report = fuzz(target, corpus_of(name), seed=args.seed, seconds=args.seconds, inputs=args.inputs)
            if args.save:
                for data in report.found:
                    save(CORPUS / name, data)
            status |= tell(report, args.crashes)
        finally:
            target.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
