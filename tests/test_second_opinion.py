"""RestrictedPython reads the same programs: where it and our check disagree, a reason is written down."""

import json
import warnings
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import read_shared
from RestrictedPython import compile_restricted

from explorer.check import Refused, check_program
from explorer.program import Program

TESTS = Path(__file__).parent

# Part of RestrictedPython's message -> why our check accepts that.
REASONS = {
    "invalid attribute name": "It refuses every _name after a dot. Ours lists those that do no harm: __init__ and "
    "other methods, __name__, __version__, _saved_self, and private names that no runtime object has.",
    "invalid variable name": "It refuses to define any _name. Classes of PyTorch programs define __getitem__, __exit__ "
    "and private fields; ours keeps out those that choose an object's class or run at unforeseen moments.",
    "Augmented assignment of attributes": "Its guards cannot stand before p.grad *= 2. Ours checks names, not values.",
    "AnnAssign": "It has no annotations. They run nothing; names of dataclass fields are checked apart.",
    "reserved name": "It keeps print for itself. A program that replaces print changes its own output only.",
}

# Programs that ours accepts and RestrictedPython refuses, by the parts of its messages.
ACCEPTED_BY_OURS_ALONE = {
    "corpus/benign.json": {
        "invalid attribute name": "b-nn-03 b-python-05 b-python-07 b-python-15",
        "invalid variable name": "b-python-05",
        "Augmented assignment of attributes": "b-inplace-03 b-nn-03 b-python-05 b-python-13",
    },
    "seeds/programs.json": {"invalid attribute name": "mnist_net nn_step install_check"},
    "examples": {},
    "corpus/hostile.json": {
        "invalid attribute name": "h-state-05 h-wave2_native-69",
        "invalid variable name": "h-cpu-17 h-output-07",
        "reserved name": "h-state-11",
    },
    "hostile.json": {
        "invalid attribute name": """
            x-descriptor-01 x-descriptor-02 x-descriptor-03 x-descriptor-06 x-descriptor-08 x-descriptor-09
            x-descriptor-10 x-descriptor-12 x-names-05 x-names-06 x-names-07 x-names-08 x-names-10
            x-names-14 x-names-18 x-exec-01 x-exec-05 x-exec-06 x-exec-09 x-types-03 x-types-17 x-types-19
            x-types-20 x-types-21 x-types-23 x-memory-03 x-memory-05 x-memory-07 x-process-01 x-frames-02
            x-frames-08 x-state-05 x-library-03 x-library-04 x-library-05 x-library-06 x-library-10 x-library-11
            x-library-12
        """,
        "AnnAssign": "x-descriptor-07 x-names-17 x-exec-02 x-exec-07 x-exec-08 x-exec-09",
        "invalid variable name": """
            x-descriptor-07 x-names-01 x-names-02 x-names-04 x-names-06 x-names-07 x-names-19 x-names-20
            x-exec-07 x-exec-10 x-types-11 x-types-17 x-types-19 x-types-21 x-memory-02 x-process-01
            x-process-02 x-process-03 x-process-04 x-frames-01 x-frames-02 x-limit-02 x-limit-04 x-limit-05
            x-limit-09 x-recorder-01 x-recorder-02 x-recorder-03 x-recorder-04 x-recorder-05 x-recorder-06
            x-recorder-09 x-recorder-12 x-recorder-17 x-recorder-18 x-library-07 x-library-10
        """,
        "Augmented assignment of attributes": "x-recorder-12",
    },
}


def read_programs(source: str) -> dict[str, str]:
    """The texts of a collection by their ids; skips where it is not beside this checkout."""
    if source == "examples":
        return {
            path.stem: path.read_text(encoding="utf-8") for path in TESTS.parent.glob("explorer/examples/[a-z]*.py")
        }
    own = TESTS / source
    entries = json.loads(own.read_text(encoding="utf-8")) if own.exists() else read_shared(source)
    if not entries:
        pytest.skip(f"shared/{source} is not beside this checkout")
    return {entry["id"]: entry["code"] for entry in entries}


def is_accepted(code: str) -> bool:
    """Whether our check lets a program run."""
    try:
        check_program(Program(code))
    except Refused:
        return False
    return True


def find_objections(code: str) -> list[str]:
    """What RestrictedPython says against a program under its ordinary policy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile_restricted(code, "<program>", "exec")
        except (SyntaxError, RecursionError, ValueError) as error:
            messages = error.args[0] if error.args else ""
            return list(messages) if isinstance(messages, tuple) else [str(messages)]
    return []


@pytest.mark.parametrize("source", ACCEPTED_BY_OURS_ALONE)
def test_program_that_ours_alone_accepts_is_listed_with_the_reason(source):
    found = defaultdict(set)
    for name, code in read_programs(source).items():
        for message in find_objections(code) if is_accepted(code) else ():
            found[next((part for part in REASONS if part in message), message)].add(name)
    assert found == {part: set(names.split()) for part, names in ACCEPTED_BY_OURS_ALONE[source].items()}


@pytest.mark.parametrize("source", ["corpus/benign.json", "seeds/programs.json", "examples"])
def test_no_honest_program_is_refused_by_ours_alone(source):
    refused = {name for name, code in read_programs(source).items() if not is_accepted(code)}
    assert {name for name in refused if not find_objections(read_programs(source)[name])} == set()
