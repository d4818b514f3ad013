"""Hostile programs meet both walls, then the second one alone; benign ones are as in plain Python."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from behind_one_wall import unchecked_runner
from conftest import read_shared
from processes import adopting_orphans, await_truth, find_children, require_walls
from test_single_use import PROBE

from explorer.host import MORE_BYTES
from explorer.limits import Limits
from explorer.program import Program
from explorer.recording import Recording
from explorer.runner import Runner

CANARY = "CANARY-7f3a"
LIMITS = Limits(mode="shared", seconds=0.6, training_seconds=0.6, memory_mb=300, at_once=4, recording_mb=4)
LATENESS = 4.0
"""Seconds after its time is over that a Recording may come at the latest, with other programs beside it."""

STATUS = {"refused": "rejected"}
"""What the corpora call it, where that is another word than ours."""

# Without the check a program may look at whatever is in its process; the file is what it must not get at.
INTROSPECTION = {"LEAK"}

SHARED = read_shared("corpus/hostile.json")
OWN = json.loads(Path(__file__).with_name("hostile.json").read_text(encoding="utf-8"))
BENIGN = read_shared("corpus/benign.json")


def entries(found: list[dict[str, Any]]) -> list[Any]:
    """One parameter for each entry, or one that is skipped with the reason."""
    missing = pytest.param(None, marks=pytest.mark.skip("the corpus is not part of the repository"))
    return [pytest.param(entry, id=entry["id"]) for entry in found] or [missing]


@dataclass(frozen=True)
class Outcome:
    """What became of one program, and of the student after it."""

    recording: Recording
    events: list[dict[str, Any]]
    seconds: float
    limit: float
    created: list[str]
    probe: str
    own_probe: str | None

    @cached_property
    def text(self) -> str:
        """All that came back, but for the program as it was typed, or quoted by an error message."""
        plain = {name: value for name, value in self.recording.to_plain().items() if name != "program"}
        events = [event for event in self.events if event["event"] != "finished"]
        return json.dumps([plain, events], ensure_ascii=False).replace("print('LEAK'", "")


class Ground:
    """A secret that must not be read, folders in which nothing may appear, and a Runner that starts in one of them."""

    def __init__(self, folder: Path, runner: Runner, known: set[int]) -> None:
        self.known = known
        self.home = folder / "home"
        self.secret = folder / "secret.txt"
        self._outs = folder / "outs"
        self.runner = runner

    def run(self, entry: dict[str, Any]) -> Outcome:
        """Run one entry to its end, then the next student's program."""
        out = self._outs / entry["id"]
        out.mkdir(parents=True)
        source = entry["code"].replace("@SECRET@", str(self.secret)).replace("@OUT@", str(out))
        # Those that must end by themselves have time for it, whatever runs beside them.
        limit = LIMITS.seconds if "limit" in entry["expect"]["any_of"] else 10.0
        run = self.runner.start(Program(source), limits=replace(LIMITS, seconds=limit, training_seconds=limit))
        assert run.wait(limit + 40.0), f"{entry['id']} never ended"
        seconds = time.monotonic() - run.started
        probe = self.runner.run(Program(PROBE)).stdout
        own = entry["expect"].get("probe")
        own_probe = self.runner.run(Program(own)).stdout if own else None
        created = [str(path) for path in out.rglob("*")]
        return Outcome(run.recording(), list(run.events()), seconds, limit, created, probe, own_probe)


@pytest.fixture(scope="module", params=["both walls", "second wall alone"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """The ground that hostile programs run on."""
    folder = tmp_path_factory.mktemp("ground")
    (folder / "home").mkdir()
    (folder / "secret.txt").write_text(CANARY, encoding="utf-8")
    home = str(folder / "home")
    is_alone = request.param != "both walls"
    with ExitStack() as stack:
        known = find_children(os.getpid())
        stack.enter_context(adopting_orphans())
        stack.enter_context(mock.patch.dict(os.environ, {name: home for name in ("HOME", "TMP", "TEMP")}))
        before = Path.cwd()
        stack.callback(os.chdir, before)
        os.chdir(home)
        limits = replace(LIMITS, seconds=10.0, memory_mb=1024)
        runner = stack.enter_context(unchecked_runner(limits)) if is_alone else Runner(limits)
        stack.callback(runner.close)
        require_walls(runner)
        os.chdir(before)
        yield Ground(folder, runner, known)


@pytest.fixture(scope="module")
def files_before(ground: Ground) -> set[Path]:
    """The files of the server's own folder after its start: the fonts that Graphviz noted down."""
    return set(ground.home.rglob("*"))


@pytest.fixture(scope="module")
def fresh(ground: Ground) -> str:
    """What the next student's program prints in a worker before which nothing hostile ran."""
    recording = ground.runner.run(Program(PROBE))
    assert recording.problem is None
    return recording.stdout


@pytest.fixture(scope="module")
def fresh_probes(ground: Ground) -> dict[str, str]:
    """What the entries' own probes print in such a worker."""
    probes = {entry["id"]: entry["expect"]["probe"] for entry in SHARED + OWN if "probe" in entry["expect"]}
    return {name: ground.runner.run(Program(probe)).stdout for name, probe in probes.items()}


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, ground: Ground, files_before: set[Path], fresh: str, fresh_probes: dict[str, str]
) -> dict[str, Outcome]:
    """What became of every hostile program that is to be looked at, several of them at a time."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    chosen = {given["hostile"]["id"]: given["hostile"] for given in params if given.get("hostile")}
    with ThreadPoolExecutor(LIMITS.at_once) as pool:
        return dict(zip(chosen, pool.map(ground.run, chosen.values()), strict=True))


@pytest.mark.parametrize("hostile", entries(SHARED + OWN))
def test_hostile_program_gets_nothing_and_leaves_nothing(
    request: pytest.FixtureRequest,
    outcomes: dict[str, Outcome],
    fresh: str,
    fresh_probes: dict[str, str],
    hostile: dict[str, Any],
) -> None:
    outcome, expect = outcomes[hostile["id"]], hostile["expect"]
    recording = outcome.recording
    is_alone = "second wall alone" in request.node.callspec.id
    assert recording.status in ("ok", "error", "refused", "limit", "crash")
    if not is_alone:
        assert STATUS.get(recording.status, recording.status) in expect["any_of"]
    for secret in {CANARY, *expect["must_not"]} - (INTROSPECTION if is_alone else set()):
        assert secret not in outcome.text
    assert outcome.created == []
    assert outcome.seconds < outcome.limit + LATENESS
    printed = sum(len(event["text"]) for event in outcome.events if event["event"] == "printed")
    assert max(len(recording.stdout), printed) <= LIMITS.output_kb * 1000
    assert len(outcome.text) < LIMITS.recording_mb * 1_000_000 + MORE_BYTES
    assert recording.status == "ok" or (recording.problem.explanation and recording.problem.hint)
    assert outcome.probe == fresh, "the next student's program prints something else"
    assert outcome.own_probe == fresh_probes.get(hostile["id"])
    if "probe_expect" in expect and not is_alone:
        assert outcome.own_probe == expect["probe_expect"]


def test_hostile_programs_leave_no_process_and_no_file(
    ground: Ground, outcomes: dict[str, Outcome], files_before: set[Path]
) -> None:
    # The one child is the worker that waits for the next program.
    host = ground.runner._host.pid
    assert await_truth(lambda: len(find_children(host)) <= 1)
    assert set(ground.home.rglob("*")) == files_before
    assert ground.secret.read_text(encoding="utf-8") == CANARY
    assert find_children(os.getpid()) <= ground.known | {host}, "a process outlived its worker"


def test_own_corpus_has_sixty_programs_in_the_form_of_the_shared_one() -> None:
    assert len(OWN) >= 60
    for entry in OWN:
        assert {"id", "group", "code", "expect"} <= set(entry)
        assert set(entry["expect"]["any_of"]) <= {"rejected", "error", "limit", "crash", "ok"}
    names = [entry["id"] for entry in SHARED + OWN]
    assert len(set(names)) == len(names)


# -- benign --------------------------------------------------------------------------------------------

# What the README says of the names that are there and of the seeds; each program in a fork, that none meets another's.
PLAIN = """
import contextlib, io, json, math, os, random, sys, traceback
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
torch.set_num_threads(1)
# What the first optimizer imports, no fork has to import again.
optim.SGD([torch.ones(1, requires_grad=True)], 0.1).step()
for source in json.load(sys.stdin):
    if os.fork():
        os.wait()
        continue
    names = {"__name__": "__main__"}
    names |= {"torch": torch, "nn": nn, "F": F, "optim": optim, "math": math, "np": np}
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    printed, kind, line = io.StringIO(), None, None
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "<program>", "exec"), names)
    except BaseException as error:
        kind = type(error).__name__
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<program>"]
        line = lines[-1] if lines else getattr(error, "lineno", None)
    print(json.dumps([printed.getvalue(), kind, line]), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def in_plain_python() -> dict[str, tuple[str, str | None, int | None]]:
    """What each benign program prints and raises in plain Python, and on which line."""
    sources = json.dumps([entry["code"] for entry in BENIGN])
    command = [sys.executable, "-W", "ignore", "-c", PLAIN]
    done = subprocess.run(command, input=sources, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    return {entry["id"]: answer for entry, answer in zip(BENIGN, answers, strict=True)}


@pytest.fixture(scope="module")
def sharing() -> Iterator[Runner]:
    """A Runner as a class shares it."""
    made = Runner(Limits(mode="shared"))
    require_walls(made)
    yield made
    made.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="plain Python is forked for every program")
@pytest.mark.parametrize("benign", entries(BENIGN))
def test_benign_program_is_as_in_plain_python(
    sharing: Runner, in_plain_python: dict[str, tuple[str, str | None, int | None]], benign: dict[str, Any]
) -> None:
    recording = sharing.run(Program(benign["code"]))
    problem = recording.problem
    found = recording.stdout, problem and problem.type, problem and problem.line
    assert found == in_plain_python[benign["id"]]
    assert found == (benign["expect"]["stdout"], benign["expect"].get("exc"), benign["expect"].get("line"))
    assert recording.status == benign["expect"].get("status", "ok")
