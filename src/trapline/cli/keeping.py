"""What `trapline boot` does for --save, --restore and --rewind-disks."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.cli.main import complain
from trapline.cli.options import Parsed, UsageError

if TYPE_CHECKING:
    from trapline.cli.disks import Disk
    from trapline.machine.riscv.board import Board
    from trapline.machine.riscv.checkpoint import Checkpoint


def kept_by(parsed: Parsed) -> Checkpoint | None:
    """What --restore names. Raises UsageError."""
    if parsed.flag("--save-at") and not parsed.flag("--save"):
        raise UsageError("--save-at needs somewhere to save to: add --save FILE")
    if parsed.flag("--share") and (parsed.flag("--save") or parsed.flag("--restore")):
        raise UsageError("--share: what the guest has open there cannot be in a checkpoint: leave it out, or use --drive")
    if not parsed.flag("--restore"):
        if parsed.flag("--rewind-disks"):
            raise UsageError("--rewind-disks is for --restore FILE: add it, or leave both out")
        return None
    from trapline.cli.checkpoints import read

    return read(parsed.last("--restore"))


def keep(parsed: Parsed, board: Board, disks: list[Disk]) -> bool:
    """Whether a checkpoint has been kept; else the user has been told why."""
    from trapline.cli.checkpoints import save
    from trapline.machine.riscv.checkpoint import take

    path = parsed.last("--save")
    board.flush_disks()
    try:
        save(path, take(board), disks)
    except OSError as error:
        complain(f"--save {path}: no checkpoint has been kept: {error.strerror}")
        return False
    return True


def bring_back(board: Board, parsed: Parsed, kept: Checkpoint, disks: list[Disk]) -> None:
    """Raises UsageError."""
    from trapline.cli.checkpoints import restore_disks
    from trapline.machine.riscv.checkpoint import restore
    from trapline.machine.riscv.devices.saved import BadState

    path = parsed.last("--restore")
    try:
        restore(board, kept, fresh=True)
    except BadState as error:
        raise UsageError(f"--restore {path}: {error}") from None
    restore_disks(path, kept, disks, over=parsed.flag("--rewind-disks"))


def seed_of(kept: Checkpoint) -> bytes:
    try:
        return bytes.fromhex(kept.state["seed"])
    except (KeyError, TypeError, ValueError):
        raise UsageError("--restore: the checkpoint does not say what its random numbers follow from") from None


def harts_of(kept: Checkpoint) -> int:
    """Of its harts. Raises UsageError."""
    harts = kept.state.get("harts")
    if type(harts) is not list or not 1 <= len(harts) <= 64:
        raise UsageError("--restore: the checkpoint has no harts, or too many")
    return len(harts)
