"""What a worker may do to the machine: resource limits, Landlock and seccomp, raised before it sees a program."""

import contextlib
import ctypes
import errno
import functools
import os
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.limits import Limits

if TYPE_CHECKING:
    from landlock import Ruleset

try:
    import fcntl
    import resource
except ImportError:  # Windows has neither; the runner's own clock still holds there.
    resource = None

STACK = 1 << 30
"""Bytes of C stack: dropping a graph of 100,000 nodes recurses that deep."""

RESERVE = 256 << 20
"""Bytes of memory kept back from the program for writing down its recording."""

PICTURE_BYTES = 64 << 20
"""Graphviz reads DOT text from a file in memory of at most this size."""

FONTS = ("/etc/fonts", "/usr/share/fonts", "/usr/local/share/fonts", "/usr/share/fontconfig", "/var/cache/fontconfig")

# What Python and torch ask of the kernel once they are loaded. Not here: sockets, new processes, signals to others,
# ptrace, mounts, keys, io_uring, every call that changes a file.
_CALLS = """
    read readv pread64 write writev close lseek fstat stat lstat newfstatat statx access faccessat faccessat2 readlink
    readlinkat getdents64 getcwd fstatfs statfs fadvise64 dup poll ppoll select pselect6
    mmap mprotect munmap mremap madvise brk membarrier
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack setitimer getitimer restart_syscall
    futex sched_yield sched_getaffinity set_robust_list rseq getpid gettid getppid getuid geteuid getgid getegid
    clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage sysinfo uname getrandom
    exit exit_group
"""
_CLONE_THREAD = 0x00010000
_TERMINAL, _CLOSE_ON_EXEC = 0x5401, 0x5451
_CAPABILITIES = 0x20080522
_PERTURB = -6
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2


def deepen_stack() -> None:
    """Give this process a deep C stack, by starting it anew: the kernel lays the stack out when a program starts."""
    if resource is None or sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = STACK if hard == resource.RLIM_INFINITY else min(STACK, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def wipe_freed_memory(wipes: bool) -> None:
    """Have the C library overwrite memory when it is freed, or no longer.

    What passed through the process that forks must not be found by ``torch.empty`` in a fork of it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_PERTURB, int(wipes))


def die_with_parent() -> None:
    """Have the kernel end this process when the one that forked it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def limit_resources(limits: Limits, *, draws: bool = False, memory: bool = True) -> None:
    """Bound this process's memory, processor time, files and core dumps; for good, for it and its children.

    A process that ``draws`` runs Graphviz on a text of ours; one that does not runs a program and writes no file.
    """
    if resource is None:
        return
    longest = limits.layout_seconds if draws else max(limits.seconds, limits.training_seconds)
    seconds = int(longest * limits.count_threads()) + 5
    _lower(resource.RLIMIT_CPU, seconds)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, PICTURE_BYTES if draws else 0)
    _lower(resource.RLIMIT_NOFILE, 64)
    if memory and sys.platform == "linux":
        most = _virtual_size() + (limits.memory_mb << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most + RESERVE))


def release_reserve() -> None:
    """Let the recorder write down what a program did that filled all the memory it was allowed."""
    if resource is not None and sys.platform == "linux":
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def raise_walls(
    standing: Iterable[str] = ("landlock", "seccomp"), *, draws: bool = False, threads: bool = False
) -> None:
    """Leave this process no file but the code of Python and torch (and fonts, to draw), no network, no other process.

    Nothing undoes it. ``standing`` names the walls that ``find_walls`` found; ``threads`` lets compute threads be made.
    Raises OSError, ImportError or RuntimeError where one of them cannot be raised.
    """
    if sys.platform != "linux":
        return
    _give_up_privileges()
    if "landlock" in standing:
        _raise_landlock(draws)
    if "seccomp" in standing:
        _raise_seccomp(draws, threads)


def find_walls() -> dict[str, str]:
    """Which of Landlock and seccomp this system has: "" for one that stands, else why it does not.

    Both are tried for real, in a process of their own.
    """
    if sys.platform != "linux":
        return dict.fromkeys(("landlock", "seccomp"), f"exists on Linux only, this is {sys.platform}")
    return {"landlock": _try(_raise_landlock), "seccomp": _try(_raise_seccomp)}


def load_walls() -> None:
    """Make ready what the walls need: once they stand nothing can be loaded, and every fork raises them anew.

    pyseccomp looks its library up by running a program, so it must come before Landlock.
    """
    for draws in (False, True):
        for make in (
            _landlock_rules,
            functools.partial(_seccomp_filter, threads=False),
            functools.partial(_seccomp_filter, threads=True),
        ):
            # find_walls tells why it cannot be made.
            with contextlib.suppress(ImportError, OSError, RuntimeError):
                make(draws)


def _try(wall: Callable[[bool], None]) -> str:
    """Why ``wall`` cannot be raised here; "" where it can."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _give_up_privileges()
            wall(False)
            said = b"stands"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}".encode()[:500]
        os.write(writing, said)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    return "" if said == "stands" else said or "the process that tried it was ended"


def close_descriptors(keep: Iterable[int]) -> None:
    """Close every open file of this process but these and what Landlock needs."""
    last = 2
    for descriptor in sorted({*keep, *_landlock_descriptors(), 1024}):
        os.closerange(last + 1, descriptor)
        last = descriptor


def _raise_landlock(draws: bool) -> None:
    # The library takes any errno that stands for a failure of its own call.
    ctypes.set_errno(0)
    _landlock_rules(draws).apply()
    for descriptor in _landlock_descriptors():
        os.close(descriptor)


def _landlock_descriptors() -> list[int]:
    with contextlib.suppress(ImportError, OSError):
        return [_landlock_rules(draws)._fd for draws in (False, True)]
    return []


@functools.cache
def _landlock_rules(draws: bool) -> "Ruleset":
    """What may be read; made once, every fork inherits it."""
    from landlock import FSAccess, Ruleset

    rules = Ruleset()
    folders = (*_code_folders(), *(path for path in FONTS if draws and os.path.isdir(path)))
    rules.allow(*folders, rules=FSAccess.READ_FILE | FSAccess.READ_DIR)
    # Out of the way of the numbers that a worker gives to its own pipes.
    low = rules._fd
    object.__setattr__(rules, "_fd", fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 300))
    os.close(low)
    return rules


def _raise_seccomp(draws: bool, threads: bool = False) -> None:
    text = _seccomp_filter(draws, threads=threads)
    program = _Filter(len(text) // 8, ctypes.cast(text, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel refused the filter")


class _Filter(ctypes.Structure):
    """struct sock_fprog: how many instructions, and where."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@functools.cache
def _seccomp_filter(draws: bool, *, threads: bool) -> bytes:
    """The filter as the kernel reads it; libseccomp makes it once, which takes longer than a short program."""
    from pyseccomp import ALLOW, EQ, ERRNO, MASKED_EQ, Arg, SyscallFilter

    walls = SyscallFilter(ERRNO(errno.EPERM))
    for name in _CALLS.split() + (["memfd_create"] if draws else []):
        # An older libseccomp or another processor may not know a name; then nothing can call it either.
        with contextlib.suppress(OSError):
            walls.add_rule(ALLOW, name)
    changes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
    walls.add_rule(ALLOW, "openat", Arg(2, MASKED_EQ, changes, 0))
    with contextlib.suppress(OSError):
        walls.add_rule(ALLOW, "open", Arg(1, MASKED_EQ, changes, 0))
    walls.add_rule(ALLOW, "prlimit64", Arg(0, EQ, 0))
    # Not F_SETOWN and F_SETSIG, by which the kernel would signal whatever process is named.
    for command in (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC):
        walls.add_rule(ALLOW, "fcntl", Arg(1, EQ, command))
    for request in (_TERMINAL, _CLOSE_ON_EXEC):
        walls.add_rule(ALLOW, "ioctl", Arg(1, EQ, request))
    if threads:
        walls.add_rule(ALLOW, "clone", Arg(0, MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD))
        walls.add_rule(ALLOW, "sched_setaffinity", Arg(0, EQ, 0))
    # glibc then takes clone, whose flags can be looked at.
    walls.add_rule(ERRNO(errno.ENOSYS), "clone3")
    with os.fdopen(os.memfd_create("filter"), "rb+") as file:
        walls.export_bpf(file)
        file.seek(0)
        return file.read()


def _give_up_privileges() -> None:
    """No new privileges, and of a server that runs as root none of root's powers."""
    libc = ctypes.CDLL(None)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITIES, 0), (ctypes.c_uint32 * 6)())


@functools.cache
def _code_folders() -> tuple[str, ...]:
    """Where Python, torch and this package lie: a module that is imported late is read from there."""
    named = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(sorted({str(Path(path).resolve()) for path in named} | {str(Path(__file__).resolve().parent)}))


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    with contextlib.suppress(ValueError):
        resource.setrlimit(kind, (value, value) if hard == resource.RLIM_INFINITY or value <= hard else (hard, hard))


def _virtual_size() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
