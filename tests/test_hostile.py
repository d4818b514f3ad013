"""What got through the check and the policy once, by one way of each kind; hostile.json holds whole programs."""

import collections
import contextlib
import copy
import dataclasses
import enum
import functools
import json
import types
from pathlib import Path
from typing import ClassVar

import numpy
import pytest
import torch
from torch.nn.utils import prune

from explorer import policy
from explorer.check import Refused, check_program
from explorer.program import Program

EVIL = "a if print('LEAK') else 0"


def run(source: str) -> dict:
    """Check a program and run it here; its globals."""
    namespace = policy.program_globals()
    exec(compile(check_program(Program(source)), "<program>", "exec"), namespace)
    return namespace


def is_refused(source: str) -> bool:
    """Whether a program does not pass the check."""
    with contextlib.suppress(Refused):
        check_program(Program(source))
        return False
    return True


def test_hostile_programs_have_the_form_of_the_corpus():
    programs = json.loads(Path(__file__).with_name("hostile.json").read_text(encoding="utf-8"))
    assert len({program["id"] for program in programs}) == len(programs)
    assert len({program["code"] for program in programs}) == len(programs)
    for program in programs:
        assert program.keys() == {"id", "group", "code", "expect"}
        assert program["expect"].keys() - {"probe", "probe_expect"} == {"any_of", "must_not"}
        assert program["id"].startswith(f"x-{program['group']}-")


@pytest.mark.parametrize("alias", ["type[int]", "typing.Type[int]", "typing.Type"])
def test_alias_of_type_makes_no_classes(alias):
    with pytest.raises(TypeError, match="1 argument"):
        run(f"import typing\n{alias}('M', (), {{}})")


def test_typing_hands_out_neither_the_real_type_nor_text_that_it_evaluates():
    assert is_refused("from typing import get_origin") and is_refused("from typing import get_args")
    assert is_refused("r = '_evaluate'\nr._evaluate({}, {}, frozenset())")


def test_enum_takes_no_members_from_a_module():
    assert is_refused("import enum\nenum.Enum._convert_('E', 'os', lambda name: True)")
    with pytest.raises(AttributeError, match="not available"):
        run("import enum\ngetattr(enum.Enum, '_conv' + 'ert_')('E', 'os', lambda name: True)")


@pytest.mark.parametrize("members", ["{name: 1}", "[(name, 1)]", "[name]", "name", "Text(name)", "Twice()"])
def test_member_of_an_enum_has_no_name_that_is_special_to_python(members):
    source = f"""
import enum, collections
name = "__redu" + "ce__"
class Text(str):
    def replace(self, old, new):
        return self
    def split(self):
        return [str(self)]
class Pair:
    looks = 0
    def __getitem__(self, index):
        return "A"
    def __iter__(self):
        return iter([name, 1])
class Twice(collections.UserDict):
    def items(self):
        return [Pair()]
enum.Enum("E", {members})
"""
    with pytest.raises(ValueError, match="name of a member"):
        run(source)


@pytest.mark.parametrize("members", ["A B", "A, B", ["A", "B"], [("A", 1), ("B", 2)], {"A": 1, "B": 2}, (), ""])
def test_enum_of_names_is_as_in_plain_python(members):
    made = run(f"import enum\nE = enum.IntEnum('E', {members!r})")["E"]
    plain = enum.IntEnum("E", members)
    assert [(m.name, m.value) for m in made] == [(m.name, m.value) for m in plain] and made.__module__ == "__main__"


@pytest.mark.parametrize(
    "source",
    [
        "dataclasses.dataclass(init=False)(typing.TypedDict('T', {EVIL: int}))",
        "f = dataclasses.field()\nf.name = EVIL",
        "f = dataclasses.field()\nobject.__setattr__(f, 'name', EVIL)",
        "f = dataclasses.field()\nf.name = type('S', (str,), {})",
    ],
)
def test_field_of_a_dataclass_is_named_by_an_identifier(source):
    with pytest.raises(TypeError, match=r"identifiers|1 argument"):
        run(f"import dataclasses, typing\nEVIL = {EVIL!r}\n{source}")


def test_fields_of_a_dataclass_are_copies():
    made = run("import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\nf = dataclasses.fields(A)[0]")
    made["f"].name = "y"
    assert dataclasses.fields(made["A"])[0].name == "x" and repr(made["A"](2)).endswith("A(x=2)")


def test_wraps_copies_fixed_attributes_onto_functions():
    with pytest.raises(TypeError, match="assigned"):
        run("import functools\nfunctools.wraps(len)(lambda: 0, assigned=('__glo' + 'bals__',))")
    with pytest.raises(TypeError, match="decorates functions"):
        run("import functools\nclass Sink:\n    pass\nfunctools.wraps(int)(Sink())")
    assert is_refused("import functools\nfunctools.wraps(len).keywords.update") is False
    assert run("import functools\nf = functools.wraps(abs)(lambda x: x)")["f"].__name__ == "abs"


@pytest.mark.parametrize("holder", ["object", "functools.lru_cache(object)", "type(lambda: 0)"])
def test_cached_property_tells_nothing_of_a_class(holder):
    source = f"import functools\np = functools.cached_property(len)\np.attrname = '__ha' + 'sh__'\np.__get__({holder})"
    with pytest.raises(AttributeError, match="not available"):
        run(source)
    with pytest.raises(TypeError, match="No '__dict__'"):
        run(source.replace("'__ha' + 'sh__'", "'name'").replace("functools.lru_cache(object)", "int"))


def test_cached_property_is_as_in_plain_python():
    source = (
        "class A:\n    calls = 0\n    @functools.cached_property\n    def x(self):\n        'doc'\n"
        "        self.calls += 1\n        return self.calls\n"
        "a = A()\nseen = [a.x, a.x, a.calls]\na.x = 7\nseen.append(a.x)\ndel a.x\nseen += [a.x, A.x is A.x]"
    )
    plain: dict = {"functools": functools}
    exec(source, plain)
    assert run(f"import functools\n{source}")["seen"] == plain["seen"]


def test_copy_of_a_bound_method_reads_no_attribute_by_name():
    source = "import copy\nclass A:\n    def f(self):\n        return 1\ndef g(self):\n    return 2\n"
    made = run(f"{source}setattr(g, '__name__', '__dict__')\nm = copy.copy(type(A().f)(g, A()))")
    assert isinstance(made["m"], types.MethodType) and made["m"]() == 2
    assert run("import copy\nc = copy.copy([1])")["c"] == copy.copy([1])


@pytest.mark.parametrize("holder", ["object", "type(lambda: 0)", "torch.Tensor"])
def test_scheduler_tells_nothing_of_a_class_in_its_place(holder):
    state = run(f"state = optim.lr_scheduler.LRScheduler.state_dict({holder})")["state"]
    assert all(policy.is_safe_attribute(name) for name in state)


def test_class_of_a_facade_shows_no_module():
    kind = type(policy.program_globals()["torch"])
    for name in ("sin", "nn", "Tensor"):
        assert isinstance(getattr(kind, name).fget, types.FunctionType)


def test_scheduler_tells_nothing_of_a_class_as_its_scale():
    source = (
        "s = optim.lr_scheduler.CyclicLR(optim.SGD([nn.Parameter(torch.ones(1))], 0.1, 0.9), base_lr=0.1, max_lr=0.2)\n"
        "'_scale_fn_custom'\ns._scale_fn_custom = object\nstate = s.state_dict()"
    )
    assert run(source)["state"]["_scale_fn_custom"] == {"__doc__": object.__doc__}


def test_scheduler_tells_nothing_of_a_class_among_its_lambdas():
    source = (
        "s = optim.lr_scheduler.LambdaLR(optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), lambda epoch: 1.0)\n"
        "s.lr_lambdas = [object]\nstate = s.state_dict()"
    )
    assert run(source)["state"]["lr_lambdas"] == [{"__doc__": object.__doc__}]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LambdaLR", {"lr_lambda": abs}),
        ("MultiplicativeLR", {"lr_lambda": lambda epoch: 0.9}),
        ("StepLR", {"step_size": 1}),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2}),
        ("OneCycleLR", {"max_lr": 0.2, "total_steps": 9}),
        ("ReduceLROnPlateau", {}),
        ("CosineAnnealingLR", {"T_max": 9}),
    ],
)
def test_state_of_a_scheduler_is_whole(kind, options):
    policy.guard_libraries()
    if kind == "LambdaLR":
        options = {"lr_lambda": functools.partial(pow, 0.5)}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, kind)(optimizer, **options)
    for method in (type(scheduler).state_dict, type(scheduler).load_state_dict):
        assert callable(method)
    plain = type(scheduler).state_dict.__wrapped__(scheduler)
    assert scheduler.state_dict().keys() == plain.keys()
    scheduler.load_state_dict(scheduler.state_dict())


class Holder:
    """Something whose attributes library code may be asked for by name."""

    _key_to_attr = staticmethod(lambda key: key)
    _get_abs_string_index = staticmethod(lambda index: index)
    _all_weights = (("__dict__",),)
    _forward_pre_hooks = types.MappingProxyType({})
    _keys: ClassVar[dict] = {}


class Constraint:
    """A constraint of a distribution that is told the values of its arguments."""

    is_discrete, event_dim = False, 0

    def check(self, value):
        raise AssertionError(value)


@pytest.mark.parametrize(
    "read",
    [
        lambda: torch.nn.ParameterDict.__getitem__(Holder, "__mro__"),
        lambda: torch.nn.ParameterDict.__setitem__(Holder, "__call__", 1),
        lambda: torch.nn.ParameterList.__getitem__(Holder, "__mro__"),
        lambda: torch.nn.LSTM.all_weights.fget(Holder),
        lambda: prune.identity(Holder, "__mro__"),
        lambda: torch.distributions.Distribution.__init__(Held(), validate_args=True),
    ],
)
def test_library_code_reads_attributes_by_the_rule_of_the_check(read):
    policy.guard_libraries()
    with pytest.raises(AttributeError, match="not available"):
        read()


class Held(torch.distributions.Distribution):
    """A distribution with an argument of a name that no argument has."""

    arg_constraints = types.MappingProxyType({"__class__": Constraint()})

    def __init__(self):
        pass


@pytest.mark.parametrize(
    "loader",
    [
        "data.DataLoader(items, num_workers=np.int64(1))",
        "data.DataLoader(items)\nloader.num_workers = 1\nloader.prefetch_factor = 2",
        "Loader()",
    ],
)
def test_loader_never_starts_workers(loader):
    source = f"""
import torch.utils.data as data
class Items(data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return index if data.get_worker_info() is None else "in a worker"
items = Items()
class Loader(data.DataLoader):
    def __init__(self):
        super(data.DataLoader, self).__init__(items, num_workers=1)
loader = {loader}
seen = [int(batch) for batch in loader]
"""
    with contextlib.suppress(RuntimeError):
        assert run(source)["seen"] == [0, 1]


def test_numpy_count_of_workers_counts_as_any_other():
    made = run("import torch.utils.data as d\nl = d.DataLoader([1, 2], num_workers=np.int64(2), prefetch_factor=4)")
    assert isinstance(numpy.int64(2), numpy.integer) and made["l"].num_workers == 0


def test_default_tensor_type_is_no_way_to_import():
    for name in ("'antigravity.x'", "'os.path'", "'torch.os.system'"):
        with pytest.raises(TypeError, match="no tensor type"):
            run(f"torch.set_default_tensor_type({name})")
    with pytest.warns(UserWarning, match="deprecated"):
        run("torch.set_default_tensor_type('torch.FloatTensor')\ntorch.set_default_tensor_type(torch.FloatTensor)")


def test_checkpoint_names_no_frames_of_native_code(monkeypatch):
    asked = {}
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", lambda *args, **options: asked.update(options))
    run("from torch.utils.checkpoint import checkpoint\ncheckpoint(abs, 1, use_reentrant=False, debug=True)")
    assert asked == {"use_reentrant": False}


def test_nothing_writes_source_text_of_a_traced_function():
    assert is_refused("torch.func.linearize(torch.sin, torch.ones(1))")


@pytest.mark.parametrize(
    "call",
    [
        "super(int, int).__setattr__(f, name, 1)",
        "super(int, int).__setattr__(*args)",
        "super(int, f).__setattr__(name, 1)",
        "super().__setattr__(f, name, 1)",
        "super().__setattr__(*args)",
        "super().__setattr__(name, value=1)",
        "super().__getattr__(f, name)",
        "super().__delattr__(f, name)",
        "object.__setattr__(self, name, 1)",
    ],
)
def test_name_of_an_attribute_that_is_computed_is_of_an_instance_of_an_own_class(call):
    assert is_refused(f"def f():\n    pass\nclass A:\n    def put(self, name, *args):\n        {call}")


@pytest.mark.parametrize(
    "source",
    [
        "def super():\n    return f\nsuper().__setattr__(name, 1)",
        "super = f\nsuper().__setattr__('grad', 1)",
        "object = f\nobject.__setattr__(name, 'grad')",
        "class B:\n    pass\nB = int\nclass A:\n    def put(self):\n        super(B, self).__setattr__(name, 1)",
    ],
)
def test_super_and_object_are_the_built_in_ones_where_they_set_attributes(source):
    assert is_refused(f"f = name = torch.relu\n{source}")


def test_own_classes_set_and_read_attributes_by_computed_names():
    source = """
class A(nn.Module):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
    def __getattr__(self, name):
        return super(A, self).__getattr__(name)
    def __delattr__(self, name):
        super().__delattr__(name)
a = A()
a.w = nn.Parameter(torch.ones(1))
b = a.w
del a.w
class C:
    def __init__(self, **given):
        for name, value in given.items():
            super().__setattr__(name, value)
        object.__setattr__(self, "y", 2)
c = C(x=1).x
"""
    made = run(source)
    assert made["c"] == 1 and made["b"].requires_grad


def test_import_that_c_code_asks_for_gives_nothing_to_the_program():
    ask = policy.program_globals()["__builtins__"]["__import__"]
    assert ask("os", None, None, [], 0) is None


def test_named_tuples_and_dataclasses_stay_as_they_are():
    made = run(
        "import collections, dataclasses, typing\nP = collections.namedtuple('P', 'x y')\n"
        "@dataclasses.dataclass(frozen=True, order=True)\nclass D:\n    x: int\n    y: 'float' = 2.0\n"
        "    z: list = dataclasses.field(default_factory=list)\n"
        "d = dataclasses.replace(D(1), y=3.0)\nt = dataclasses.asdict(d)"
    )
    assert made["P"](1, 2) == collections.namedtuple("P", "x y")(1, 2)
    assert made["t"] == {"x": 1, "y": 3.0, "z": []} and made["d"] > made["D"](1)
