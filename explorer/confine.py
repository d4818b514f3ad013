"""What a worker may take of the machine: the limits of a run, and how the operating system keeps them."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass

try:
    import resource
except ImportError:  # Windows has none; the runner's own clock still holds there.
    resource = None

STACK = 1 << 30
"""Bytes of C stack: dropping a graph of 100,000 nodes recurses that deep."""


RESERVE = 256 << 20
"""Bytes of memory kept back from the program for writing down its recording."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one run, each settable by an environment variable of the server."""

    seconds: float = 10.0
    """Wall time of a program (EXPLORER_SECONDS)."""

    memory_mb: int = 2048
    """Memory a program may take beyond what torch itself holds (EXPLORER_MEMORY_MB)."""

    threads: int = 0
    """Compute threads of a run, 0 for one per core (EXPLORER_THREADS)."""

    at_once: int = 8
    """Runs at the same time; the next ones wait (EXPLORER_AT_ONCE)."""

    layout_seconds: float = 6.0
    """Time Graphviz gets for one picture (EXPLORER_LAYOUT_SECONDS)."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """The limits that the environment asks for. Raises ValueError for one that is not a positive number."""
        found = {}
        for name, kind in _KINDS.items():
            text = environment.get(f"EXPLORER_{name.upper()}")
            if text is not None:
                try:
                    found[name] = kind(text)
                except ValueError:
                    raise ValueError(f"EXPLORER_{name.upper()} must be a number, got {text!r}") from None
                is_some = found[name] > 0 or (name == "threads" and found[name] == 0)
                if not is_some or found[name] == float("inf"):
                    raise ValueError(f"EXPLORER_{name.upper()} must be positive, got {text!r}")
        return cls(**found)

    def count_threads(self) -> int:
        """How many compute threads a run gets."""
        return self.threads or os.cpu_count() or 1


_KINDS = {"seconds": float, "memory_mb": int, "threads": int, "at_once": int, "layout_seconds": float}


def deepen_stack() -> None:
    """Give this process a deep C stack, by starting it anew: the kernel lays the stack out when a program starts."""
    if resource is None or sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = STACK if hard == resource.RLIM_INFINITY else min(STACK, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def die_with_parent() -> None:
    """Have the kernel end this process when the one that forked it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


PICTURE_BYTES = 64 << 20
"""pygraphviz passes DOT text through a temporary file of at most this size."""


def limit_resources(limits: Limits, *, draws: bool = False, memory: bool = True) -> None:
    """Bound this process's memory, processor time, files and core dumps; for good, for it and its children.

    A process that ``draws`` runs Graphviz on a text of ours; one that does not runs a program and writes no file.
    """
    if resource is None:
        return
    seconds = int(limits.seconds * limits.count_threads()) + 5
    _lower(resource.RLIMIT_CPU, seconds)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, PICTURE_BYTES if draws else 0)
    if memory and sys.platform == "linux":
        most = _virtual_size() + (limits.memory_mb << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most + RESERVE))


def release_reserve() -> None:
    """Let the recorder write down what a program did that filled all the memory it was allowed."""
    if resource is not None and sys.platform == "linux":
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    with contextlib.suppress(ValueError):
        resource.setrlimit(kind, (value, value) if hard == resource.RLIM_INFINITY or value <= hard else (hard, hard))


def _virtual_size() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
