"""What Linux says of processes: children, descriptors, memory; for tests that nothing is left behind."""

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from explorer.runner import Runner

_BE_SUBREAPER = 36


def find_children(pid: int, *, ended: bool = False) -> set[int]:
    """The processes whose parent is ``pid``: those that live, or those that have ``ended`` and were not asked how."""
    if sys.platform != "linux":
        pytest.skip("/proc tells the processes on Linux only")
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if int(parent) == pid and (state == "Z") == ended:
            found.add(int(name.split()[0]))
    return found


def await_truth(question: Callable[[], bool], seconds: float = 3.0) -> bool:
    """Whether the answer becomes yes in time."""
    end = time.monotonic() + seconds
    while not question():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def await_only_child(pid: int, seconds: float = 20.0) -> int:
    """The one child of a process, once those before it, whose results came a moment ago, are gone."""
    assert await_truth(lambda: len(find_children(pid)) == 1, seconds), find_children(pid)
    (child,) = find_children(pid)
    return child


def count_descriptors(pid: int) -> int:
    """How many files, pipes and sockets a process holds open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_bytes(pid: int) -> int:
    """The memory that a process holds."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Until the end of the block, what a process below this one leaves behind becomes a child of this one."""
    if sys.platform != "linux":
        pytest.skip("orphans can be adopted on Linux only")
    libc = ctypes.CDLL(None)
    before = find_children(os.getpid(), ended=True)
    libc.prctl(_BE_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_BE_SUBREAPER, 0, 0, 0, 0)
        for pid in find_children(os.getpid(), ended=True) - before:
            os.waitpid(pid, os.WNOHANG)


def require_walls(runner: Runner) -> None:
    """Skip where a wall is missing; in CI that is a failure."""
    missing = {wall: why for wall, why in runner.find_walls().items() if why}
    if missing and os.environ.get("CI"):
        pytest.fail(f"both walls must stand in CI: {missing}")
    if missing:
        pytest.skip(f"this machine lacks a wall: {missing}")
