"""A worker runs one program: nothing that a program changes reaches the next one."""

import textwrap
from collections.abc import Iterator

import pytest
from behind_one_wall import unchecked_runner
from processes import require_walls

from explorer.limits import Limits
from explorer.program import Program
from explorer.recording import Recording
from explorer.runner import Runner

PROBE = """\
import decimal, random, warnings
x = torch.rand(2, requires_grad=True)
layer = nn.Linear(2, 1)
print(x, layer(x), torch.get_default_dtype(), torch.is_grad_enabled(), (x * 1).requires_grad)
print(torch.rand(2), np.random.rand(2), random.random(), np.array([1 / 3]), torch.is_anomaly_enabled())
print(torch.ones(1).device, x.relu(), F.relu(x), hasattr(torch.Tensor, "extra"), hasattr(nn.Linear, "extra"))
print(hasattr(nn.Module, "shared"), hasattr(Exception, "extra"), isinstance(optim.SGD([x], lr=0.5), optim.SGD))
opt = optim.SGD([x], lr=0.5)
(x * x).sum().backward()
opt.step()
print(x, x.grad, x._version, (x * 2).grad_fn.name(), torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype)
print(torch.is_inference_mode_enabled(), torch.are_deterministic_algorithms_enabled(), torch.initial_seed())
print(torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark, torch.get_num_threads())
print(torch.tensor(1e-41) * 1, torch.tensor([1e-310], dtype=torch.float64) * 1, decimal.Decimal(1) / 3)
print(np.array([1.0]) / np.array([0.0]), len(str(2 ** 9000)), sum([1, 2]), max(1, 2), abs(-1), int("5"))
with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
    print((x * x).sum())
warnings.warn("one warning")
try:
    torch.distributions.Normal(0.0, -1.0)
except ValueError:
    print("arguments are checked")
try:
    print(left_over)
except NameError:
    print("no left_over")
"""
"""What a program can see of the state of its process; prints the same in every fresh worker."""

ENTERED = """\
no_grad(): torch.no_grad().__enter__()
enable_grad(False): torch.set_grad_enabled(False)
inference_mode(): held = torch.inference_mode(); held.__enter__()
autocast(): torch.autocast("cpu", dtype=torch.bfloat16).__enter__()
device(): torch.device("meta").__enter__()
detect_anomaly(): torch.autograd.set_detect_anomaly(True)
saved_tensors_hooks(): torch.autograd.graph.saved_tensors_hooks(lambda t: t * 0, lambda t: t).__enter__()
disable_saved_tensors_hooks(): held = torch.autograd.graph.disable_saved_tensors_hooks("none"); held.__enter__()
default dtype: torch.set_default_dtype(torch.float64)
default device: torch.set_default_device("meta")
print options of torch: torch.set_printoptions(precision=1)
print options of NumPy: np.set_printoptions(precision=1)
seed of torch: torch.manual_seed(5)
seed of NumPy: np.random.seed(5)
random numbers of torch: torch.rand(3)
random numbers of NumPy: np.random.rand(3)
errors of NumPy: np.seterr(all="raise")
deterministic algorithms: torch.use_deterministic_algorithms(True)
matmul precision: torch.set_float32_matmul_precision("medium")
denormal numbers: torch.set_flush_denormal(True)
flags of cuDNN: torch.backends.cudnn.benchmark = True
checks of distributions: torch.distributions.Distribution.set_default_validate_args(False)
method of a module: nn.Linear.forward = lambda self, x: x * 0
attribute of a module: nn.Linear.extra = 1
attribute of Module: nn.Module.shared = []
attribute of Tensor: torch.Tensor.extra = 1
method of Tensor: setattr(torch.Tensor, "relu", lambda self: 5)
method of an optimizer: optim.SGD.step = lambda self: None
variable: left_over = 1
"""

MORE = {
    "suspended generator in no_grad()": """\
        def hold():
            with torch.no_grad():
                yield
        left_over = hold()
        next(left_over)
        """,
    "seed of random": "import random\nrandom.seed(5)",
    "precision of decimal": "import decimal\ndecimal.getcontext().prec = 3",
    "filters of warnings": "import warnings\nwarnings.simplefilter('error')",
    "cached function": """\
        import functools
        @functools.lru_cache
        def remember(key):
            return []
        remember(1).append(5)
        nn.Module.shared = remember
        """,
}

UNCHECKED_PROBE = (
    PROBE
    + """\
import builtins, functools, gc, json, os, re, signal, sys, threading, time
from explorer import facades, policy
print(sorted(os.environ), os.getcwd() == "/", sys.getrecursionlimit(), gc.isenabled(), gc.get_threshold())
print([signal.getsignal(number) is not signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)])
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), threading.active_count(), threading.stack_size())
print(torch.get_num_threads(), len(warnings.filters), len(sys.path), "smuggled" in sys.modules, sys.gettrace())
print(facades.build_facades(None)["torch"].relu is torch.relu, len(policy.attribute_names()), json.dumps([1]))
print(len(nn.modules.module._global_forward_hooks), len(nn.modules.module._global_backward_hooks))
print(torch._C._autograd._top_saved_tensors_default_hooks(True), torch.autograd.graph.__name__, len(gc.callbacks))
"""
)

UNCHECKED = {
    "environment": "import os\nos.environ['EXTRA'] = '1'",
    "recursion limit": "import sys\nsys.setrecursionlimit(5000)",
    "collector": "import gc\ngc.disable()\ngc.set_threshold(1)",
    "callback of the collector": "import gc\ngc.callbacks.append(lambda *a: None)",
    "signal handler": "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)",
    "blocked signals": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGALRM])",
    "thread count": "torch.set_num_threads(3)",
    "stack of threads": "import threading\nthreading.stack_size(1 << 20)",
    "import path": "import sys\nsys.path.append('/extra')\nsys.modules['smuggled'] = sys",
    "trace function": "import sys\nsys.settrace(lambda *a: None)",
    "built-in": "import builtins\nbuiltins.len = lambda value: 5",
    "function of torch": "torch.rand = lambda *a, **o: torch.ones(2, requires_grad=True)",
    "C hook of saved tensors": "torch._C._autograd._push_saved_tensors_default_hooks(lambda t: t, lambda t: t)",
    "forward hook of all modules": "nn.modules.module.register_module_forward_hook(lambda m, i, o: o * 0)",
    "backward hook of all modules": "nn.modules.module.register_module_full_backward_hook(lambda m, i, o: None)",
    "class of a facade": """\
        from explorer import facades
        type(facades.build_facades(None)["torch"]).relu = 5
        """,
    "tables of the check": """\
        import functools
        from explorer import policy
        policy.attribute_names = functools.cache(lambda: frozenset({"os"}))
        """,
    "module of the standard library": "import json\njson.dumps = lambda *a, **o: '{}'",
    "random state of torch": "torch.set_rng_state(torch.zeros(5056, dtype=torch.uint8))",
    "metaclass trick": "type(nn.Linear).__call__ = lambda cls, *a, **o: None",
}  # fmt: skip


@pytest.fixture(scope="module")
def untouched(runner: Runner) -> Recording:
    """What PROBE does in a fresh worker."""
    recording = runner.run(Program(PROBE))
    assert recording.problem is None
    assert recording.stdout.endswith("arguments are checked\nno left_over\n")
    return recording


CHANGES = dict(line.split(": ", 1) for line in ENTERED.splitlines())
CHANGES |= {name: textwrap.dedent(source) for name, source in MORE.items()}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_no_state_reaches_the_next_run(runner: Runner, untouched: Recording, change: str) -> None:
    assert runner.run(Program(change)).status == "ok"
    changed = runner.run(Program(f"{change}\n{PROBE}"))
    after = runner.run(Program(PROBE))
    # Notes tell the line, which the change moves.
    assert changed.stdout != untouched.stdout or len(changed.notes) != len(untouched.notes), "it changes nothing"
    assert (after.stdout, after.notes) == (untouched.stdout, untouched.notes)


@pytest.fixture(scope="module")
def unchecked() -> Iterator[Runner]:
    """A Runner whose programs reach all of Python and torch."""
    with unchecked_runner(Limits(seconds=20.0)) as made:
        require_walls(made)
        yield made


@pytest.fixture(scope="module")
def untouched_below(unchecked: Runner) -> str:
    """What UNCHECKED_PROBE prints in a fresh worker."""
    recording = unchecked.run(Program(UNCHECKED_PROBE))
    assert recording.problem is None
    return recording.stdout


@pytest.mark.parametrize("change", UNCHECKED.values(), ids=UNCHECKED.keys())
def test_no_state_below_the_check_reaches_the_next_run(unchecked: Runner, untouched_below: str, change: str) -> None:
    change = textwrap.dedent(change)
    changed = unchecked.run(Program(f"{change}\n{UNCHECKED_PROBE}"))
    assert changed.status == "crash" or changed.stdout != untouched_below, "it changes nothing"
    assert unchecked.run(Program(UNCHECKED_PROBE)).stdout == untouched_below


def test_runs_at_the_same_time_share_no_state(runner: Runner, untouched: Recording) -> None:
    change = "torch.set_default_dtype(torch.float64)\ntorch.set_printoptions(precision=1)\nnn.Linear.extra = 1\n"
    runs = [runner.start(Program(source)) for source in (change + PROBE, PROBE) * 8]
    assert {run.recording().stdout for run in runs[1::2]} == {untouched.stdout}
    assert all(run.recording().stdout != untouched.stdout for run in runs[::2])


def test_process_of_each_run_is_another_one(unchecked: Runner) -> None:
    numbers = [unchecked.run(Program("import os\nprint(os.getpid())")).stdout for _ in range(5)]
    assert len(set(numbers)) == 5
