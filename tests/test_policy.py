"""The tables of what a program may name, and the built-ins and modules that it gets."""

import builtins
import contextlib
import io
import types

import numpy
import pytest
import torch
from torch.utils.data import dataloader, dataset, sampler

from explorer import facades, policy


def run(source: str, **options) -> dict:
    """Run a text that nobody checked in the globals of a program."""
    namespace = policy.program_globals(**options)
    exec(compile(source, "<program>", "exec"), namespace)
    return namespace


def test_no_program_reaches_modules_frames_or_code_by_attributes():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LSTM(2, 2))
    optimizer = torch.optim.Adam(model.parameters())
    total = (torch.ones(2, requires_grad=True) * 2).sum()
    loader = torch.utils.data.DataLoader([1, 2])
    roots = [*facades.build_facades(None).values(), model, optimizer, total, total.grad_fn, numpy.ones(2)]
    roots += [(i for i in ()), lambda: 0, AttributeError("x", name="a", obj=torch), loader, iter(loader)]
    roots += [facades._replacements()["warnings"]["catch_warnings"](), torch.ones(2).untyped_storage()]
    roots += [numpy.random.default_rng(0), torch.distributions.Normal(0.0, 1.0), model.register_forward_hook(print)]
    forbidden = (types.ModuleType, types.CodeType, types.FrameType, types.TracebackType)
    sinks = {id(sink) for sink in (open, exec, eval, compile, builtins.__import__, type, torch.load, torch.from_file)}
    seen, waiting = {}, roots
    while waiting and len(seen) < 60_000:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, int | float | str | bytes | None):
            continue
        seen[id(value)] = value
        assert not isinstance(value, forbidden) and id(value) not in sinks, value
        if isinstance(value, list | tuple | set | frozenset):
            waiting += list(value)[:50]
        if isinstance(value, dict | types.MappingProxyType):
            waiting += list(value.values())[:50]
        for name in filter(policy.is_safe_attribute, dir(value)):
            with contextlib.suppress(Exception):
                waiting.append(getattr(value, name))
    assert len(seen) > 5_000


def test_reserved_names_are_those_of_runtime_objects_and_never_allowed():
    reserved = policy.reserved_names()
    assert {"gi_frame", "f_back", "f_globals", "tb_frame", "co_code", "mro", "obj", "os", "sys", "set_"} <= reserved
    assert not reserved & policy.attribute_names()


@pytest.mark.parametrize(
    "name",
    sorted(policy.words("attention memory hooks state classes queue storage weight name model save load _grad _prev")),
)
def test_ordinary_names_of_teaching_classes_are_not_reserved(name):
    assert not policy.is_reserved(name)


@pytest.mark.parametrize(
    "name",
    sorted(
        policy.words(
            "grad grad_fn next_functions saved_tensors register_hook register_prehook param_groups state_dict "
            "in_features weight running_mean values indices data item tolist numpy cuda to zero_grad log_prob"
        )
    ),
)
def test_teaching_attributes_are_allowed(name):
    assert name in policy.attribute_names()


def test_facade_sees_what_is_patched_on_the_real_module(monkeypatch):
    namespace = policy.program_globals()
    monkeypatch.setattr(torch.autograd, "backward", "patched")
    monkeypatch.setattr(torch, "relu", "patched too")
    assert namespace["torch"].autograd.backward == "patched" and namespace["torch"].relu == "patched too"


def test_facade_is_not_a_module_and_cannot_be_changed():
    facade = policy.program_globals()["torch"]
    assert not isinstance(facade, types.ModuleType) and repr(facade) == "<module 'torch'>"
    assert not hasattr(facade, "os") and not hasattr(facade, "__name__") and not hasattr(facade, "__dict__")
    with pytest.raises(AttributeError, match="read-only"):
        facade.sin = 1
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = facade.nope


def test_cudnn_flags_are_writable(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    run("torch.backends.cudnn.benchmark = True")
    assert torch.backends.cudnn.benchmark


def test_every_room_holds_what_it_promises():
    modules = facades.build_facades(None)
    for name, room in policy.rooms().items():
        for member in room.names:
            value = getattr(modules[name], member)
            assert not isinstance(value, types.ModuleType), f"{name}.{member}"


@pytest.mark.parametrize(
    "source",
    [
        "import torch.nn.functional as f; assert f.relu is F.relu",
        "import torch.nn; assert torch.nn is nn",
        "from torch import nn as n, optim as o; assert n is nn and o is optim",
        "from torch.optim.lr_scheduler import StepLR",
        "from torch.autograd.gradcheck import gradcheck; assert gradcheck is torch.autograd.gradcheck",
        "import collections.abc; collections.abc.Callable",
        "from numpy.random import default_rng; default_rng(0)",
        "from torch.nn import *; Linear(1, 1)",
        "import tqdm.auto; tqdm.tqdm([])",
    ],
)
def test_import_statement_gives_facades(source):
    run(source)


@pytest.mark.parametrize("source", ["import os", "from torch import os", "import torch.hub", "from torch import hub"])
def test_import_of_anything_else_fails(source):
    with pytest.raises(ImportError):
        run(source)


def test_c_code_of_torch_and_numpy_still_imports_for_itself():
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run("print(np.array([1, 2]), torch.tensor([1, 2]).numpy())")
    assert printed.getvalue() == "[1 2] [1 2]\n"


@pytest.mark.parametrize(
    "name", ["__class__", "__globals__", "gi_frame", "set_", "format", "mro", "__dict__", "ctypes"]
)
def test_getattr_follows_the_rule_of_the_check(name):
    for text in (f"getattr(x, {name!r})", f"setattr(x, {name!r}, 1)", f"delattr(x, {name!r})", f"hasattr(x, {name!r})"):
        with pytest.raises(AttributeError, match="not available"):
            run(f"x = torch.ones(1)\n{text}")


def test_getattr_takes_exactly_a_string():
    with pytest.raises(TypeError):
        run("class S(str):\n    pass\ngetattr(torch, S('sin'))")


def test_type_has_one_argument_and_gives_no_metaclass():
    namespace = run(
        "a = type(1)\nb = type(int)\nc = isinstance(int, type)\nd = type(torch)\ne = type(type)\nf = repr(type)"
    )
    assert namespace["a"] is int and namespace["c"] is True and namespace["d"] is types.ModuleType
    assert namespace["b"] is namespace["e"] is not type and namespace["f"] == "<class 'type'>"
    for source in ("type('A', (), {})", "class M(type):\n    pass"):
        with pytest.raises(TypeError):
            run(source)


def test_globals_are_fresh_for_each_run():
    first, second = policy.program_globals(), policy.program_globals()
    assert first["__builtins__"] is not second["__builtins__"] and set(first) == policy.PREDEFINED
    first["__builtins__"].clear()
    assert second["__builtins__"]["len"] is len


def test_loader_with_workers_gives_the_batches_of_none():
    source = (
        "from torch.utils.data import DataLoader\ntorch.manual_seed(0)\n"
        "d = DataLoader(list(range(9)), 4, shuffle=True, num_workers={}, persistent_workers={})\n"
        "batches = [b.tolist() for b in d]\nname = type(d).__name__"
    )
    plain, asked = run(source.format(0, False)), run(source.format(2, True))
    assert plain["batches"] == asked["batches"] and asked["name"] == "DataLoader"
    with pytest.raises(ValueError, match="num_workers"):
        run(source.format(-1, False))


def test_tqdm_tells_how_far_a_loop_is():
    told = []
    source = "from tqdm import tqdm\nfor i in tqdm(range(3), desc='epoch'):\n    pass"
    run(source, on_progress=told.append)
    assert told[0] == {"n": 0, "total": 3, "description": "epoch", "postfix": ""}
    assert told[-1]["n"] == 3


def test_tqdm_in_a_with_statement_counts_updates():
    told = []
    source = "from tqdm.auto import tqdm\nwith tqdm(total=5) as bar:\n    bar.update(2)\n    bar.set_postfix(loss=1)"
    run(source, on_progress=told.append)
    assert told[-1] == {"n": 2, "total": 5, "description": "", "postfix": "loss=1"}


def test_sparse_indices_are_checked():
    with pytest.raises(RuntimeError, match="index"):
        run("torch.sparse_coo_tensor(torch.tensor([[9]]), torch.ones(1), (2,))")


def draw_orders(device: str) -> list:
    """What random_split and two epochs of a shuffled loader give under a default device."""
    torch.manual_seed(3)
    torch.set_default_device(device)
    try:
        first, _ = torch.utils.data.random_split(range(10), [6, 4])
        drawn = list(first.indices)
        for _ in range(2):
            for batch in dataloader.DataLoader(list(range(10)), 3, shuffle=True, collate_fn=list):
                assert torch.empty(1).device.type == device
                drawn.append(batch)
        return drawn
    finally:
        torch.set_default_device(None)


def test_shuffled_order_on_another_device_is_that_of_the_cpu(monkeypatch):
    for kind in (sampler.RandomSampler, sampler.SubsetRandomSampler, sampler.WeightedRandomSampler):
        monkeypatch.setattr(kind, "__iter__", kind.__iter__)
    monkeypatch.setattr(dataloader._BaseDataLoaderIter, "__init__", dataloader._BaseDataLoaderIter.__init__)
    monkeypatch.setattr(dataset, "random_split", dataset.random_split)
    monkeypatch.setattr(torch.utils.data, "random_split", torch.utils.data.random_split)
    expected = draw_orders("cpu")
    policy.keep_samplers_on_cpu()
    assert draw_orders("cpu") == expected
    assert draw_orders("meta") == expected
