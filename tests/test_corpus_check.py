"""What people write passes the check and runs as in plain Python; what attacks is refused or left to the limits."""

import contextlib
import io
import json
import os
import random
import re
from pathlib import Path

import numpy
import pytest
import torch

from explorer import policy
from explorer.check import Refused, check_program
from explorer.program import Program

SHARED = Path(__file__).parents[2] / "shared"
# Groups of hostile programs whose harm is a resource or a native crash: the worker's process limits those.
LIMITED = {"memory", "cpu", "native", "output", "state", "hooks", "wave2_native"}
# Programs of the other groups that are accepted, and the ordinary error that running each ends in.
HARMLESS = {
    "h-attr-19": AttributeError,  # get_submodule gives modules only
    "h-unicode-07": NameError,  # the text is no UTF-7 by now, only an unknown name
    "h-classes-03": TypeError,  # type() has one argument here and gives no metaclass
    "h-classes-09": TypeError,  # getattr takes exactly str
    "h-builtins-17": AttributeError,  # a facade is read-only
    "h-wave2_lang-01": AttributeError,  # functional_call takes no special name
    "h-wave2_lang-03": KeyError,  # add_module refuses an existing attribute
    "h-wave2_lang-05": TypeError,  # a function needs a code object, and none is in reach
}


@pytest.fixture(scope="module", autouse=True)
def warm():
    """What a worker does before its program."""
    policy.warm_up()


def read_shared(name: str) -> list[dict]:
    """The entries of a shared file; none where it is absent, but an error under CI."""
    path = SHARED / name
    if not path.exists() and not os.environ.get("CI"):
        return []
    return json.loads(path.read_text(encoding="utf-8"))


def entries(name: str) -> list:
    """One parameter for each entry, or one that is skipped with the reason."""
    found = [pytest.param(entry, id=entry["id"]) for entry in read_shared(name)]
    return found or [pytest.param(None, marks=pytest.mark.skip(reason=f"shared/{name} is not beside this checkout"))]


def run_checked(source: str) -> tuple[str, Exception | None, int | None, dict]:
    """Check and run a program here; what it printed, what it raised and on which of its lines, its globals."""
    code = compile(check_program(Program(source)), "<program>", "exec")
    torch.manual_seed(0)
    numpy.random.seed(0)
    random.seed(0)
    namespace, raised, line = policy.program_globals(), None, None
    options = torch._tensor_str.PRINT_OPTS.precision
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(code, namespace)
        except Exception as error:
            raised, trace = error, error.__traceback__
            while trace is not None:
                line = trace.tb_lineno if trace.tb_frame.f_code is code or line is not None else line
                if trace.tb_frame.f_code.co_filename == "<program>":
                    line = trace.tb_lineno
                trace = trace.tb_next
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_printoptions(precision=options)
            torch.set_grad_enabled(True)
            torch.autograd.set_detect_anomaly(False)
    return printed.getvalue(), raised, line, namespace


@pytest.mark.parametrize("entry", entries("seeds/programs.json"))
def test_seed_program_runs_as_expected(entry):
    printed, raised, _, namespace = run_checked(entry["code"])
    assert (type(raised).__name__ if raised else None) == entry["expect"]["error"]
    assert all(part in printed for part in entry["expect"]["stdout_contains"])
    for name, wanted in entry["expect"]["variables"].items():
        if "grad" in wanted:
            torch.testing.assert_close(namespace[name].grad, torch.tensor(wanted["grad"], dtype=torch.float32))


@pytest.mark.parametrize("entry", entries("corpus/benign.json"))
def test_benign_program_is_as_in_plain_python(entry):
    printed, raised, line, _ = run_checked(entry["code"])
    expect = entry["expect"]
    assert printed == expect["stdout"]
    assert (type(raised).__name__ if raised else None) == expect.get("exc")
    assert line == expect.get("line")


@pytest.mark.parametrize("entry", entries("corpus/hostile.json"))
def test_hostile_program_is_refused_or_left_to_the_limits(entry):
    try:
        check_program(Program(entry["code"]))
    except Refused as refused:
        assert refused.problem.message and refused.problem.explanation and refused.problem.hint
        return
    if entry["id"] in HARMLESS:
        printed, raised, _, _ = run_checked(entry["code"])
        assert type(raised) is HARMLESS[entry["id"]] and "LEAK" not in printed
    else:
        assert entry["group"] in LIMITED


# Ordinary teaching programs of all kinds; a line "## name" begins each.
TUTORIALS = """
## variable
from torch.autograd import Variable
x = Variable(torch.ones(2, 2), requires_grad=True)
x.sum().backward()

## grad_fn_chain
x = torch.ones(2, requires_grad=True)
y = (x * 2).mean()
fn = y.grad_fn
while fn is not None:
    print(fn.name(), fn.metadata)
    fn = fn.next_functions[0][0] if fn.next_functions else None

## saved
x = torch.ones(2, requires_grad=True)
y = x ** 2
print(y.grad_fn._saved_self, y.grad_fn._saved_exponent, x._version)

## accumulate_grad
x = torch.ones(1, requires_grad=True)
node = (x * 1).grad_fn.next_functions[0][0]
print(node.variable is x)

## tensor_hook
x = torch.ones(3, requires_grad=True)
h = x.register_hook(lambda g: g * 2)
(x * 3).sum().backward()
h.remove()
assert x.grad.tolist() == [6, 6, 6]

## node_hooks
x = torch.ones(1, requires_grad=True)
y = x * 2
y.grad_fn.register_hook(lambda i, o: None)
y.grad_fn.register_prehook(lambda o: None)
y.backward()

## module_hooks
m = nn.Linear(2, 1)
acts = {}
def save(name):
    def hook(mod, inp, out):
        acts[name] = out.detach()
    return hook
m.register_forward_hook(save('fc'))
m.register_full_backward_hook(lambda mod, gi, go: None)
m(torch.ones(1, 2, requires_grad=True)).sum().backward()
print(acts['fc'].shape)

## retain_grad
x = torch.ones(2, requires_grad=True)
y = x * 2
y.retain_grad()
y.sum().backward()
print(y.grad, y.is_leaf)

## retain_graph
x = torch.tensor(1., requires_grad=True)
y = x ** 2
y.backward(retain_graph=True)
y.backward()
print(x.grad)

## custom_function
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.scale = 2.0
        return x * x
    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return ctx.scale * x * grad_output
x = torch.tensor(3., requires_grad=True)
Square.apply(x).backward()
assert x.grad == 6

## setup_context
class Double(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return 2 * x
    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.set_materialize_grads(False)
    @staticmethod
    def backward(ctx, g):
        if ctx.needs_input_grad[0]:
            return 2 * g
Double.apply(torch.ones(1, requires_grad=True)).backward()

## gradcheck
from torch.autograd import gradcheck
x = torch.randn(3, dtype=torch.double, requires_grad=True)
print(gradcheck(torch.exp, (x,)))

## functional
from torch.autograd.functional import jacobian, hessian
print(jacobian(lambda x: x ** 2, torch.ones(2)))
print(hessian(lambda x: (x ** 3).sum(), torch.ones(2)))

## func
from torch.func import grad, vmap, jacrev, functional_call
print(vmap(grad(lambda x: x ** 2))(torch.arange(3.)))
m = nn.Linear(1, 1)
print(functional_call(m, dict(m.named_parameters()), torch.ones(1)).shape)

## anomaly
with torch.autograd.set_detect_anomaly(True):
    x = torch.ones(1, requires_grad=True)
    (x * 2).backward()

## saved_hooks
with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
    x = torch.ones(1, requires_grad=True)
    y = x ** 2
y.backward()

## checkpoint
from torch.utils.checkpoint import checkpoint
x = torch.ones(2, requires_grad=True)
checkpoint(lambda t: t.sin(), x, use_reentrant=False).sum().backward()

## forward_ad
import torch.autograd.forward_ad as fwAD
with fwAD.dual_level():
    d = fwAD.make_dual(torch.ones(1), torch.ones(1))
    print(fwAD.unpack_dual(d ** 2).tangent)

## inference_mode
with torch.inference_mode():
    x = torch.ones(1)
print(x.is_inference())

## data_attribute
w = torch.ones(2, requires_grad=True)
(w * 3).sum().backward()
w.data = w.data - 0.1 * w.grad.data
w.grad.data.zero_()

## numpy_plot_free
import numpy as np
X = np.linspace(-1, 1, 20).reshape(-1, 1)
y = 2 * X + np.random.randn(20, 1) * 0.1
t = torch.from_numpy(X).float()
print(t.detach().cpu().numpy().shape, X.mean(axis=0), np.allclose(X, X))

## training_function
def train(model, loader, optimizer, criterion):
    model.train()
    total = 0.0
    for xb, yb in loader:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item() * xb.size(0)
    return total / len(loader.dataset)
from torch.utils.data import DataLoader, TensorDataset
ds = TensorDataset(torch.randn(8, 2), torch.randn(8, 1))
m = nn.Linear(2, 1)
loader = DataLoader(ds, batch_size=4, shuffle=True, num_workers=2, pin_memory=False)
print(train(m, loader, optim.SGD(m.parameters(), lr=0.1), nn.MSELoss()))

## custom_dataset
from torch.utils.data import Dataset, DataLoader, random_split
class Points(Dataset):
    def __init__(self, n):
        self.x = torch.linspace(0, 1, n)
    def __len__(self):
        return len(self.x)
    def __getitem__(self, idx):
        return self.x[idx], self.x[idx] ** 2
a, b = random_split(Points(10), [8, 2])
print(len(a), next(iter(DataLoader(a, batch_size=4)))[0].shape)

## cnn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(8 * 13 * 13, 10)
    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        return F.log_softmax(self.fc(torch.flatten(x, 1)), dim=1)
net = Net()
out = net(torch.randn(2, 1, 28, 28))
print(out.argmax(dim=1).eq(torch.tensor([0, 1])).sum().item(), net.conv1.weight.grad)

## init_weights
def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.xavier_uniform_(m.weight)
        nn.init.zeros_(m.bias)
        m.bias.data.fill_(0.01)
net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
net.apply(init_weights)

## named
net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
for name, p in net.named_parameters():
    print(name, p.shape, p.numel())
for child in net.children():
    print(child.in_features)
print(sum(p.numel() for p in net.parameters() if p.requires_grad), net._modules)

## ordered
from collections import OrderedDict
net = nn.Sequential(OrderedDict([('hidden', nn.Linear(2, 2)), ('act', nn.Tanh())]))
print(net.hidden.weight.shape, net.act)

## register
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(2))
        self.register_buffer('mask', torch.ones(2))
        self.register_parameter('bias', None)
    def forward(self, x):
        return (self.w * self.mask * x).sum()
m = M()
m(torch.ones(2)).backward()
print(m.mask, m.w.grad)

## dynamic_layers
class M(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
            setattr(self, f'layer{i}', nn.Linear(a, b))
    def forward(self, x):
        return getattr(self, 'layer1')(self.layer0(x))
print(M([2, 3, 1])(torch.ones(2)).shape, hasattr(M([1, 1, 1]), 'layer9'))

## schedulers
p = nn.Parameter(torch.ones(1))
opt = optim.SGD([p], lr=0.1, momentum=0.9)
sched = optim.lr_scheduler.StepLR(opt, step_size=2)
for _ in range(3):
    opt.step()
    sched.step()
print(sched.get_last_lr(), opt.param_groups[0]['lr'], opt.state_dict()['state'])

## all_optimizers
for make in [optim.SGD, optim.Adam, optim.RMSprop, optim.Adagrad]:
    x = torch.tensor(1., requires_grad=True)
    o = make([x], lr=0.1)
    (x ** 2).backward()
    o.step()
    print(make.__name__, x.item())

## own_optimizer
class MySGD(optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, dict(lr=lr))
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group['params']:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-group['lr'])
                    self.state[p]['n'] = 1
x = nn.Parameter(torch.ones(1))
o = MySGD([x])
x.sum().backward()
o.step()

## lbfgs
x = torch.tensor(3., requires_grad=True)
o = optim.LBFGS([x])
def closure():
    o.zero_grad()
    l = (x - 1) ** 2
    l.backward()
    return l
o.step(closure)

## clip
m = nn.Linear(2, 1)
m(torch.ones(2)).sum().backward()
print(torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0))

## state
m = nn.Linear(1, 1)
best = {k: v.clone() for k, v in m.state_dict().items()}
print(m.load_state_dict(best))

## copy
import copy
m = nn.Linear(1, 1)
m2 = copy.deepcopy(m)
assert torch.equal(m.weight, m2.weight)

## early_stopping
class EarlyStopping:
    def __init__(self, patience=3):
        self.patience = patience
        self.best = float('inf')
        self.bad_epochs = 0
    def __call__(self, loss):
        if loss < self.best:
            self.best, self.bad_epochs = loss, 0
        else:
            self.bad_epochs += 1
        return self.bad_epochs > self.patience
stop = EarlyStopping()
print([stop(v) for v in (3, 2, 1, 1, 1, 1, 1)])

## micrograd_engine
class Value:
    def __init__(self, data, _children=(), _op=''):
        self.data = data
        self.grad = 0
        self._backward = lambda: None
        self._prev = set(_children)
        self._op = _op
    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data + other.data, (self, other), '+')
        def _backward():
            self.grad += out.grad
            other.grad += out.grad
        out._backward = _backward
        return out
    __radd__ = __add__
    def backward(self):
        topo, visited = [], set()
        def build_topo(v):
            if v not in visited:
                visited.add(v)
                for child in v._prev:
                    build_topo(child)
                topo.append(v)
        build_topo(self)
        self.grad = 1
        for v in reversed(topo):
            v._backward()
a = Value(2.0)
b = 1 + a + a
b.backward()
assert a.grad == 2

## dataclass
from dataclasses import dataclass, field
@dataclass
class Config:
    lr: float = 0.1
    layers: list = field(default_factory=list)
    def __post_init__(self):
        self.layers = [2, 1]
c = Config(lr=0.2)
print(c, c.lr, c.layers)

## namedtuple
from collections import namedtuple, defaultdict, deque, Counter
T = namedtuple('T', 'state action')
t = T(1, 2)
print(t.state, t._replace(action=3)._asdict())
d = defaultdict(list)
d['a'].append(1)
q = deque(maxlen=3)
q.appendleft(1)
print(Counter('aab').most_common(1))

## typing
from __future__ import annotations
from typing import List, Optional, Callable
import typing as t
def f(x: List[int], y: Optional[torch.Tensor] = None) -> t.Any:
    return x
print(f([1]))

## math_random
import math, random
import itertools as it
from functools import partial, reduce, lru_cache, wraps
random.seed(0)
print(math.pi, math.gcd(4, 6), random.choice([1]), list(it.product([0, 1], repeat=2)))
print(reduce(lambda a, b: a + b, [1, 2]))

## decorator
import functools, time
def timed(f):
    @functools.wraps(f)
    def inner(*args, **kwargs):
        start = time.perf_counter()
        out = f(*args, **kwargs)
        inner.calls = time.perf_counter() - start
        return out
    return inner
@timed
def g(x):
    return x
print(g(1), g.__name__)

## context_manager
from contextlib import contextmanager
@contextmanager
def frozen(m):
    for p in m.parameters():
        p.requires_grad_(False)
    try:
        yield m
    finally:
        for p in m.parameters():
            p.requires_grad_(True)
with frozen(nn.Linear(1, 1)) as m:
    print(m.weight.requires_grad)

## main_guard
def main():
    print(torch.__version__ != '')
if __name__ == '__main__':
    main()

## star_import
from math import *
print(round(sin(pi / 2)), sqrt(4))

## match
def kind(x):
    match x:
        case [a, *rest]:
            return a
        case {'lr': lr}:
            return lr
        case 0 | 1:
            return 'bit'
        case None:
            return None
        case other:
            return other
print(kind([1, 2]), kind({'lr': 3}), kind(0))

## walrus
x = torch.tensor(4., requires_grad=True)
while (loss := x ** 2) > 1e-2:
    loss.backward()
    with torch.no_grad():
        x -= 0.3 * x.grad
    x.grad = None

## percent_and_format
loss = 0.5
print('loss %.3f' % loss, 'loss {:.3f}'.format(loss), '{0} {name:>{w}}'.format(1, name='n', w=4), f'{loss!r:>8}')

## type_names
m = nn.ReLU()
print(m.__class__.__name__, type(m).__name__, type(3) is int, isinstance(int, type))
print(type(torch.ones(1)) == torch.Tensor)

## amp
with torch.autocast('cpu', dtype=torch.bfloat16):
    y = torch.ones(2, 2) @ torch.ones(2, 2)
print(y.dtype)

## cudnn
import torch.backends.cudnn as cudnn
cudnn.deterministic = True
torch.backends.cudnn.benchmark = False
print(torch.backends.cuda.is_built(), torch.cuda.device_count())

## seeds
import random
import numpy as np
def set_seed(s):
    random.seed(s)
    np.random.seed(s)
    torch.manual_seed(s)
    torch.cuda.manual_seed_all(s)
    torch.use_deterministic_algorithms(False)
set_seed(42)

## tqdm
from tqdm import tqdm, trange
for e in trange(2):
    with tqdm([1, 2], desc='x') as bar:
        for b in bar:
            bar.set_postfix(loss=b)
tqdm.write('done')

## distributions
from torch.distributions import Normal, kl_divergence
from torch.distributions.categorical import Categorical
mu = torch.zeros(1, requires_grad=True)
d = Normal(mu, 1.0)
(-d.log_prob(torch.ones(1))).sum().backward()
print(mu.grad, d.rsample().shape, kl_divergence(d, Normal(0., 1.)).item(), Categorical(torch.ones(2)).entropy())

## attention
class Head(nn.Module):
    def __init__(self, d):
        super(Head, self).__init__()
        self.key, self.query = nn.Linear(d, d), nn.Linear(d, d)
        self.register_buffer('tril', torch.tril(torch.ones(4, 4)))
        self.attention = None
        self.memory = []
    def forward(self, x):
        T = x.shape[1]
        wei = self.query(x) @ self.key(x).transpose(-2, -1)
        wei = wei.masked_fill(self.tril[:T, :T] == 0, float('-inf'))
        self.attention = F.softmax(wei, dim=-1)
        return self.attention @ x
Head(3)(torch.randn(1, 4, 3)).sum().backward()

## embedding
emb = nn.Embedding(10, 3)
lstm = nn.LSTM(3, 4, batch_first=True)
out, (h, c) = lstm(emb(torch.tensor([[1, 2]])))
print(h.shape, lstm.weight_ih_l0.shape, emb.weight.norm(dim=1).shape)

## rnn_packed
from torch.nn.utils.rnn import pad_sequence, pack_padded_sequence
x = pad_sequence([torch.ones(2, 1), torch.ones(1, 1)], batch_first=True)
print(pack_padded_sequence(x, [2, 1], batch_first=True).batch_sizes)

## linalg
A = torch.randn(3, 3)
U, S, Vh = torch.linalg.svd(A)
print(torch.linalg.cond(A).shape, torch.svd(A).S.shape, A.max(dim=0).indices, torch.topk(A, 2).values.shape)

## fft
print(torch.fft.fft(torch.ones(4)).real, torch.view_as_real(torch.ones(1, dtype=torch.cfloat)))
print(torch.special.expit(torch.zeros(1)))

## sparse
i = torch.tensor([[0, 1], [1, 0]])
a = torch.sparse_coo_tensor(i, torch.ones(2), (2, 2))
print(torch.sparse.mm(a, torch.eye(2)), a.to_dense())

## memory_sharing
x = torch.arange(4)
y = x.view(2, 2)
print(x.data_ptr() == y.data_ptr(), y.stride(), y.storage_offset(), y.is_contiguous())
print(x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr())

## exceptions
class TooLarge(ValueError):
    pass
try:
    raise TooLarge('x')
except (TooLarge, RuntimeError) as e:
    print(type(e).__name__, e.args, str(e))
else:
    pass
finally:
    print('done')

## keyboard_interrupt
try:
    print('train')
except KeyboardInterrupt:
    print('stopped')

## warnings
import warnings
warnings.filterwarnings('ignore')
with warnings.catch_warnings(record=True) as w:
    warnings.simplefilter('always')
    warnings.warn('x')
print(len(w))

## abc
from abc import ABC, abstractmethod
class Layer(ABC):
    @abstractmethod
    def forward(self, x): ...
    def __call__(self, *args):
        return self.forward(*args)
class Scale(Layer):
    def forward(self, x):
        return 2 * x
print(Scale()(1))

## property_setter
class T:
    def __init__(self):
        self._value = 1
    @property
    def value(self):
        return self._value
    @value.setter
    def value(self, v):
        self._value = v
t = T()
t.value = 3
print(t.value)

## super_getattr
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(1, 1)
    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('inner'), name)
print(M().weight.shape)

## explicit_init
class M(nn.Module):
    def __init__(self):
        nn.Module.__init__(self)
        self.l = nn.Linear(1, 1)
    def forward(self, x):
        return self.l.forward(x)
print(M()(torch.ones(1)).shape, (1).__add__(2))

## input_named
input = torch.randn(2, 3)
dir = 'a'
output = nn.Softmax(dim=1)(input)
print(output.sum(dim=1), dir)

## gan_style
def real_data(n):
    return torch.randn(n, 1)
G, D = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1), nn.Sigmoid())
for p in D.parameters():
    p.requires_grad = False
loss = F.binary_cross_entropy(D(G(real_data(4))), torch.ones(4, 1))
loss.backward()
print(G.weight.grad is not None, D[0].weight.grad)

## device_agnostic
device = torch.device('mps' if torch.backends.mps.is_available() else 'cuda:0' if torch.cuda.is_available() else 'cpu')
m = nn.Linear(1, 1).to(device)
print(m.weight.device.type, next(m.parameters()).is_cuda)

## reinforce
class ReplayBuffer:
    def __init__(self, size):
        self.storage, self.size = [], size
    def push(self, item):
        self.storage.append(item)
    def sample(self, n):
        return self.storage[:n]
b = ReplayBuffer(3)
b.push(1)
print(b.sample(1))

## enum
from enum import Enum, auto
class Mode(Enum):
    TRAIN = auto()
    EVAL = auto()
print(Mode.TRAIN.name, Mode['EVAL'].value, [m.name for m in Mode])

## generator_send
def averager():
    total, n = 0.0, 0
    mean = None
    while True:
        x = yield mean
        total, n = total + x, n + 1
        mean = total / n
a = averager()
next(a)
print(a.send(3), a.send(5))
a.close()

## default_dtype
torch.set_default_dtype(torch.float64)
print(torch.ones(1).dtype)
torch.set_printoptions(precision=3)
print(torch.get_default_dtype())

## torch_function
class Logged(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return super().__torch_function__(func, types, args, kwargs or {})
print(torch.ones(2).sum())

## frozen_dataclass
from dataclasses import dataclass
@dataclass(frozen=True)
class Point:
    x: float
    def __post_init__(self):
        object.__setattr__(self, 'x', 2.0 * self.x)
print(Point(1.0))

## parametrize
import torch.nn.utils.parametrize as parametrize
class Symmetric(nn.Module):
    def forward(self, X):
        return X.triu() + X.triu(1).transpose(-1, -2)
layer = nn.Linear(2, 2)
parametrize.register_parametrization(layer, 'weight', Symmetric())
print(layer.parametrizations.weight.original.shape)

## testing
torch.testing.assert_close(torch.ones(1), torch.ones(1))
np.testing.assert_allclose(np.ones(2), np.ones(2))
"""


def split_tutorials() -> list:
    """One parameter for each program."""
    parts = re.split(r"^## (\w+)\n", TUTORIALS, flags=re.MULTILINE)[1:]
    return [pytest.param(source, id=name) for name, source in zip(parts[::2], parts[1::2], strict=True)]


@pytest.mark.parametrize("source", split_tutorials())
def test_tutorial_passes_and_runs(source):
    _, raised, line, _ = run_checked(source)
    assert raised is None, (line, raised)
