"""The walls of a worker: no file but code, no network, no other process; and no shared server without them."""

import json
import os
import platform
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from behind_one_wall import unchecked_runner
from processes import await_only_child, await_truth, find_children, require_walls

from explorer import confine
from explorer.limits import Limits
from explorer.program import Program
from explorer.runner import Runner, WallsError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these walls exist on Linux only")

ROOT = Path(__file__).resolve().parents[1]
CANARY = "CANARY-7f3a"


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file and a folder in it, which programs try to read and change."""
    folder = tmp_path_factory.mktemp("victim")
    (folder / "file").write_text(CANARY, encoding="utf-8")
    (folder / "folder").mkdir()
    return folder


@pytest.fixture(scope="module")
def confined() -> Iterator[Runner]:
    """A Runner of a shared server whose programs reach all of Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPLORER_TEST_SECRET", CANARY)
        with unchecked_runner(Limits(mode="shared", seconds=20.0)) as made:
            require_walls(made)
            yield made


def run(confined: Runner, source: str) -> str:
    """What a program prints that nobody checks."""
    recording = confined.run(Program(textwrap.dedent(source)))
    assert recording.problem is None, recording.problem
    return recording.stdout


ATTEMPT = """\
import array, ctypes, fcntl, glob, mmap, os, pathlib, resource, shutil, signal, socket, subprocess, sys, tempfile
import threading, time
folder, host = @FOLDER@, os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    answer = libc.syscall(number, *arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
def attempt():
    @CODE@
try:
    print("it did:", attempt())
except (OSError, ValueError, RuntimeError, AssertionError) as error:
    print("no:", type(error).__name__)
"""

READING = """\
a file of the system: return open("/etc/passwd").read()
a file of a user: return open(folder + "/file").read()
its start environment: return open("/proc/self/environ").read()
the environment of its host: return open(f"/proc/{host}/environ").read()
the memory of its host: return open(f"/proc/{host}/mem", "rb").read(1)
its memory map: return open("/proc/self/maps").read()
its descriptors: return os.listdir("/proc/self/fd")
other processes: return os.listdir("/proc")
the root folder: return os.listdir("/")
a temporary folder: return os.listdir(folder)
a home folder: return os.listdir("/root")
a device: return open("/dev/zero", "rb").read(1)
by mapping: return mmap.mmap(os.open(folder + "/file", os.O_RDONLY), 0, prot=mmap.PROT_READ)
by torch: return torch.from_file(folder + "/file", size=4, dtype=torch.uint8)
by NumPy: return np.fromfile(folder + "/file", dtype="uint8")
by a path of folders: return os.open("file", os.O_RDONLY, dir_fd=os.open(folder, os.O_PATH))
through the code folder: return open(os.path.dirname(os.__file__) + "/../../../../../../../../etc/passwd").read()
"""

WRITING = """\
a new file: return open(folder + "/new", "w")
a new file where it stands: return open("new", "w")
a new file next to the code: return open(os.path.dirname(os.__file__) + "/new", "w")
a file in shared memory: return open("/dev/shm/explorer-test", "w")
an old file: return open(folder + "/file", "a")
an old file of the code: return open(os.__file__, "r+")
by truncating: return os.truncate(folder + "/file", 0)
by unlinking: return os.unlink(folder + "/file")
by renaming: return os.rename(folder + "/file", folder + "/other")
by linking: return os.link(folder + "/file", folder + "/other")
by a symbolic link: return os.symlink(folder + "/file", folder + "/other")
a folder: return os.mkdir(folder + "/new")
by removing a folder: return os.rmdir(folder + "/folder")
a tree: return shutil.rmtree(folder)
the mode of a file: return os.chmod(folder + "/file", 0o777)
the owner of a file: return os.chown(folder + "/file", 1, 1)
the times of a file: return os.utime(folder + "/file", (1, 1))
an attribute of a file: return os.setxattr(folder + "/file", "user.a", b"a")
a pipe with a name: return os.mkfifo(folder + "/new")
a device: return os.mknod(folder + "/new")
a temporary file: return tempfile.TemporaryFile()
a file in memory: return os.memfd_create("new")
by torch: return torch.from_file(folder + "/new", shared=True, size=12, dtype=torch.uint8)
by NumPy: return np.ones(3).tofile(folder + "/new")
by torch.save: return torch.save(torch.ones(1), folder + "/new")
its folder: return os.chdir("/")
its root: return os.chroot(folder)
"""

NETWORK = """\
the internet: return socket.socket(socket.AF_INET).connect(("127.0.0.1", @PORT@))
the internet of today: return socket.socket(socket.AF_INET6)
datagrams: return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"a", ("127.0.0.1", @PORT@))
raw packets: return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
a local socket: return socket.socket(socket.AF_UNIX)
a pair of sockets: return socket.socketpair()
the kernel: return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
a name: return socket.create_connection(("localhost", @PORT@), 1)
a server: return socket.create_server(("127.0.0.1", 0))
"""

PROCESSES = """\
by forking: return os.fork()
by spawning: return os.posix_spawn("/bin/sh", ["sh", "-c", "true"], {})
by a subprocess: return subprocess.run(["true"])
by a shell: assert os.system("true") == 0; return "shell"
by executing: return os.execv(sys.executable, [sys.executable, "-c", "print(1)"])
a thread: thread = threading.Thread(target=print); thread.start(); return thread
a signal to its host: return os.kill(host, signal.SIGTERM)
a signal to the first process: return os.kill(1, 0)
a signal to all: return os.kill(-1, 0)
a signal to its group: return os.killpg(os.getpgid(0), 0)
a signal from its pipe to its host: return fcntl.fcntl(3, fcntl.F_SETOWN, host)
a signal of its choice from its pipe: return fcntl.fcntl(3, 10, signal.SIGKILL)
a handle of its host: return os.pidfd_open(host)
a session: return os.setsid()
the priority of its host: return os.setpriority(os.PRIO_PROCESS, host, 5)
its own priority: return os.nice(-5)
the processors of its host: return os.sched_setaffinity(host, {0})
the limits of its host: return resource.prlimit(host, resource.RLIMIT_NOFILE)
more memory: return resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
more files: return resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
another user: return os.setuid(1000)
other groups: return os.setgroups([0])
a pipe: return os.pipe()
terminal input: return fcntl.ioctl(0, 0x5412, b"a")
"""

# Numbers of x86-64.
KERNEL = """\
ptrace: return call(101, 16, host, 0, 0)
process_vm_readv: return call(310, host, 0, 0, 0, 0, 0)
vfork: return call(58)
clone of a process: return call(56, 17, 0, 0, 0, 0)
clone3: return call(435, 0, 0)
unshare: return call(272, 0x10000000)
setns: return call(308, 0, 0)
mount: return call(165, b"none", b"/tmp", b"tmpfs", 0, 0)
pivot_root: return call(155, b"/", b"/")
bpf: return call(321, 0, 0, 0)
perf_event_open: return call(298, 0, 0, 0, 0, 0)
io_uring_setup: return call(425, 1, 0)
userfaultfd: return call(323, 0)
keyctl: return call(250, 0, 0, 0, 0, 0)
add_key: return call(248, b"user", b"a", b"a", 1, -2)
capset: return call(126, 0, 0)
prctl: return call(157, 4, 1, 0, 0, 0)
seccomp: return call(317, 0, 0, 0)
init_module: return call(175, 0, 0, b"")
reboot: return call(169, 0, 0, 0, 0)
settimeofday: return call(164, 0, 0)
sethostname: return call(170, b"a", 1)
personality: return call(135, 0)
open_by_handle_at: return call(304, 0, 0, 0)
openat2: return call(437, -100, b"/etc/passwd", 0, 0)
execveat: return call(322, -100, b"/bin/true", 0, 0, 0)
memfd_secret: return call(447, 0)
pkey_alloc: return call(330, 0, 0)
shmget: return call(29, 0, 4096, 0o1000)
msgget: return call(68, 0, 0o1000)
semget: return call(64, 0, 1, 0o1000)
mq_open: return call(240, b"a", 0o100, 0o600, 0)
tkill: return call(200, host, 0)
tgkill: return call(234, host, host, 0)
sendfile: return call(40, 1, 0, 0, 1)
splice: return call(275, 0, 0, 1, 0, 1, 0)
creat: return call(85, (folder + "/new").encode(), 0o600)
open of 32 bits: return call(2, (folder + "/new").encode(), 0o102, 0o600)
"""


def attempts() -> list[Any]:
    """One parameter for each attempt."""
    on_x86 = platform.machine() == "x86_64"
    texts = {"reads": READING, "writes": WRITING, "reaches": NETWORK, "makes": PROCESSES, "calls": KERNEL * on_x86}
    return [
        pytest.param(code, id=f"{verb} {name}")
        for verb, text in texts.items()
        for name, code in (line.split(": ", 1) for line in text.splitlines())
    ]


@pytest.fixture(scope="module")
def listening() -> Iterator[socket.socket]:
    """A server on this machine, to which nobody must come."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(0.01)
        yield made


def look_at(folder: Path) -> dict[str, tuple[int, int, str]]:
    """All that can be told of what lies in a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.stat().st_mtime_ns, path.is_file() * path.name)
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.parametrize("code", attempts())
def test_attempt_fails(confined: Runner, victim: Path, listening: socket.socket, code: str) -> None:
    before, here = look_at(victim), set(os.listdir(Path.cwd()))
    source = ATTEMPT.replace("@CODE@", code.replace("; ", "\n    ")).replace("@FOLDER@", repr(str(victim)))
    recording = confined.run(Program(source.replace("@PORT@", str(listening.getsockname()[1]))))
    assert recording.stdout.startswith("no: "), (recording.stdout, recording.problem)
    assert CANARY not in recording.to_json()
    assert look_at(victim) == before
    assert (victim / "file").read_text(encoding="utf-8") == CANARY
    assert "new" not in set(os.listdir(Path.cwd())) - here
    with pytest.raises(TimeoutError):
        listening.accept()
    assert await_truth(lambda: len(find_children(confined._host.pid)) <= 1)


# -- what a worker still has ---------------------------------------------------------------------------


def test_worker_has_no_environment(confined: Runner) -> None:
    assert run(confined, "import os\nprint(dict(os.environ), os.getenv('PATH'))") == "{} None\n"


def test_host_has_nothing_of_the_environment_of_the_server_but_what_it_needs(confined: Runner) -> None:
    assert confined.find_walls()
    assert CANARY.encode() not in Path(f"/proc/{confined._host.pid}/environ").read_bytes()


def test_worker_reads_the_code_of_python_and_torch(confined: Runner) -> None:
    source = """
        import json, os, torch, explorer
        for module in (json, torch, explorer):
            with open(module.__file__, "rb") as file:
                print(len(file.read()) > 10)
        import wave, colorsys
        print(colorsys.rgb_to_hsv(1, 1, 1), len(os.urandom(3)))
        """
    assert run(confined, source) == "True\nTrue\nTrue\n(0.0, 0.0, 1) 3\n"


def test_worker_has_null_devices_and_its_pipes_open_and_nothing_else(confined: Runner) -> None:
    source = """
        import fcntl, os, stat
        found = []
        for descriptor in range(4096):
            try:
                fcntl.fcntl(descriptor, fcntl.F_GETFD)
            except OSError:
                continue
            found.append(descriptor)
        kinds = {descriptor: os.fstat(descriptor) for descriptor in found}
        print([d for d in found if stat.S_ISCHR(kinds[d].st_mode) and kinds[d].st_rdev == os.makedev(1, 3)])
        print([d for d in found if d > 2 and not stat.S_ISFIFO(kinds[d].st_mode)], max(found) <= 5, os.read(0, 1))
        """
    assert run(confined, source) == "[0, 1, 2]\n[] True b''\n"


def test_worker_has_its_limits(confined: Runner) -> None:
    source = """
        import resource as r
        print([r.getrlimit(kind) for kind in (r.RLIMIT_CORE, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE)])
        print(all(r.getrlimit(kind)[1] != r.RLIM_INFINITY for kind in (r.RLIMIT_AS, r.RLIMIT_CPU)))
        """
    assert run(confined, source) == "[(0, 0), (0, 0), (64, 64)]\nTrue\n"


def test_worker_has_none_of_the_powers_of_root(confined: Runner) -> None:
    going = confined.start(Program("import time\nprint('started', flush=True)\ntime.sleep(60)\n"))
    assert await_truth(lambda: bool(going.stdout), 20.0)
    worker = await_only_child(confined._host.pid)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{worker}/status").read_text().splitlines())
    going.stop()
    assert {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == dict.fromkeys(
        ("CapEff", "CapPrm", "CapInh", "CapAmb"), 0
    )
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert going.recording().problem.type == "Stopped"


def test_run_of_one_thread_makes_none_and_one_of_two_makes_them(confined: Runner) -> None:
    source = "import threading\nt = threading.Thread(target=print, args=('from a thread',))\nt.start()\nt.join()\n"
    assert confined.run(Program(source)).problem.type == "RuntimeError"
    several = confined.run(Program(source), limits=Limits(threads=2))
    assert (several.problem, several.stdout) == (None, "from a thread\n")
    parallel = "print(torch.get_num_threads(), (torch.ones(600, 600) @ torch.ones(600, 600)).sum().item())\n"
    assert run(confined, parallel) == "1 216000000.0\n"
    assert confined.run(Program(parallel), limits=Limits(threads=2)).stdout == "2 216000000.0\n"


def test_run_of_two_threads_makes_no_process(confined: Runner) -> None:
    source = "import os\ntry:\n    print(os.fork())\nexcept PermissionError:\n    print('no')\n"
    assert confined.run(Program(source), limits=Limits(threads=2)).stdout == "no\n"


# -- the walls by themselves ---------------------------------------------------------------------------

ALONE = """\
import json, os, sys
from explorer import confine
from explorer.limits import Limits
options, code = json.loads(sys.argv[1]), sys.argv[2]
confine.load_walls()
pid = os.fork()
if pid == 0:
    confine.limit_resources(Limits(), draws=options.get("draws", False))
    confine.raise_walls(**options)
    try:
        exec(code, {"os": os})
        print("it did", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


def behind(code: str, **options: Any) -> str:
    """What became of ``code`` behind the walls that ``options`` names, without torch and without a host."""
    command = [sys.executable, "-c", ALONE, json.dumps(options), code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize(
    ("standing", "code", "wanted"),
    [
        (["landlock"], "open('/etc/passwd').read()", "PermissionError"),
        (["landlock"], "open('/dev/shm/explorer-test', 'w')", "PermissionError"),
        (["landlock"], "open(os.__file__).read()", "it did"),
        (["landlock"], "os.fork() or os._exit(0)", "it did"),
        (["seccomp"], "os.fork()", "PermissionError"),
        (["seccomp"], "import socket\nsocket.socket()", "PermissionError"),
        (["seccomp"], "open('/dev/shm/explorer-test', 'w')", "PermissionError"),
        (["seccomp"], "open('/etc/passwd').read()", "it did"),
        ([], "open('/etc/passwd').read()", "it did"),
    ],
)
def test_each_wall_holds_by_itself(standing: list[str], code: str, wanted: str) -> None:
    assert behind(code, standing=standing) == wanted


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("[open(os.path.join(folder, name), 'rb').read(1) for folder in confine.FONTS for folder, _, names in "
         "os.walk(folder) for name in names[:3] if os.path.exists(os.path.join(folder, name))]", "it did"),
        ("os.write(os.memfd_create('picture'), b'text')", "it did"),
        ("open('/etc/passwd').read()", "PermissionError"),
        ("open('/etc/hostname').read()", "PermissionError"),
        ("open('picture', 'w')", "PermissionError"),
        ("import socket\nsocket.socket()", "PermissionError"),
        ("os.fork()", "PermissionError"),
        ("import threading\nthreading.Thread(target=print).start()", "RuntimeError"),
    ],
)  # fmt: skip
def test_process_that_draws_reads_fonts_too_and_nothing_else(code: str, wanted: str) -> None:
    assert behind("from explorer import confine\n" + code, draws=True) == wanted


@pytest.mark.usefixtures("confined")
def test_process_that_runs_a_program_reads_no_fonts() -> None:
    folder = next((folder for folder in confine.FONTS if os.path.isdir(folder) and os.listdir(folder)), None)
    if folder is None:
        pytest.skip("this machine has no fonts")
    assert behind(f"os.listdir({folder!r})") == "PermissionError"


# -- a wall that is missing ----------------------------------------------------------------------------


@pytest.fixture(
    scope="module", params=[("landlock", "landlock"), ("seccomp", "pyseccomp")], ids=["landlock", "seccomp"]
)
def lacking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Runner]]:
    """The name of a wall, and a Runner for whose processes its library is not installed."""
    wall, module = request.param
    folder = tmp_path_factory.mktemp("lacking")
    (folder / f"{module}.py").write_text("raise ImportError('is not installed')\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
        made = Runner(Limits())
        made.find_walls()
    yield wall, made
    made.close()


@pytest.mark.usefixtures("confined")
def test_shared_server_runs_nothing_where_a_wall_is_missing(
    lacking: tuple[str, Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, runner = lacking
    monkeypatch.setattr(runner, "limits", Limits(mode="shared"))
    for _ in range(2):
        with pytest.raises(WallsError, match=rf"lacks them: {missing}: ImportError: is not installed"):
            runner.start(Program("print(1)"))
    assert await_truth(lambda: len(find_children(runner._host.pid)) <= 1)


@pytest.mark.usefixtures("confined")
def test_one_person_runs_programs_where_a_wall_is_missing_and_is_told(lacking: tuple[str, Runner]) -> None:
    missing, runner = lacking
    walls = dict(runner.find_walls())
    assert walls.pop(missing) == "ImportError: is not installed"
    assert list(walls.values()) == [""]
    assert runner.run(Program("print(1)")).stdout == "1\n"


@pytest.mark.usefixtures("confined")
def test_host_refuses_where_a_wall_is_missing_whatever_its_runner_believes(lacking: tuple[str, Runner]) -> None:
    missing, runner = lacking
    refused = runner.run(Program("print(1)"), limits=Limits(mode="shared"))
    assert (refused.status, refused.problem.type, refused.stdout) == ("limit", "NoWalls", "")
    assert refused.problem.message == f"{missing}: ImportError: is not installed"


def test_walls_of_another_system_are_missing_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert confine.find_walls() == dict.fromkeys(("landlock", "seccomp"), "exists on Linux only, this is darwin")
    confine.raise_walls()
    assert Path("/proc/self/environ").read_bytes()


@pytest.mark.parametrize(
    ("wall", "said"),
    [
        ("lambda draws: None", ""),
        ("lambda draws: 1 / 0", "ZeroDivisionError: division by zero"),
        ("lambda draws: os.kill(os.getpid(), 9)", "the process that tried it was ended"),
    ],
)
def test_wall_that_cannot_be_raised_says_why(wall: str, said: str) -> None:
    code = f"import os\nfrom explorer import confine\nprint(confine._try({wall}))\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (said, "")
