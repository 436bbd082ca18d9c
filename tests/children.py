"""A process that a test starts: a copy of this one, which has imported everything already, where that is allowed."""

import contextlib
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo  # which the first optimizer imports: otherwise each child would import it for itself

METHOD = "spawn" if torch.cuda.is_available() else "fork"  # CUDA does not survive a fork


def run(work: Callable, *arguments, said: Path) -> int:
    """Do the work in a process of its own, its words in the file `said`; its exit code, -9 when it was killed."""
    child = torch.multiprocessing.get_context(METHOD).Process(target=_work, args=(work, arguments, said))
    child.start()
    child.join(120)
    if child.is_alive():
        child.kill()
        raise TimeoutError(f"after two minutes, {work.__name__} still ran: {said.read_text(encoding='utf-8')}")
    return child.exitcode


def outcome(work: Callable, folder: Path, *arguments) -> tuple[int, str]:
    """Do the work in a folder, in a process of its own: its exit code and its words."""
    said = folder.parent / "said"
    return run(work, folder, *arguments, said=said), said.read_text()


def _work(work: Callable, arguments: tuple, said: Path) -> None:
    torch.set_num_threads(1)
    with said.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            work(*arguments)
        except BaseException:
            traceback.print_exc()
            raise
