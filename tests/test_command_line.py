"""``python -m explorer record``: what people, tests and measurements use alike."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.__main__ import main
from explorer.recording import Recording

ROOT = Path(__file__).resolve().parents[1]
LOOP = """\
learning_rate = 0.25
w = torch.tensor(1.0, requires_grad=True)
for step in range(200):
    loss = w ** 2
    loss.backward()
    with torch.no_grad():
        w -= learning_rate * w.grad
    w.grad = None
print(torch.rand(1).item(), "\N{GREEK SMALL LETTER ALPHA}")
"""


def record(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess:
    """The command run as a person runs it; its output is decoded as UTF-8 whatever the locale says."""
    return subprocess.run(
        [sys.executable, "-m", "explorer", "record", *arguments],
        input=text,
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def read(text: str) -> Recording:
    """A Recording from strict JSON on one line."""
    assert text.endswith("}\n") and text.count("\n") == 1
    return Recording.from_plain(json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in the JSON")))


def test_program_is_recorded_with_its_options(tmp_path: Path) -> None:
    program, out = tmp_path / "program.py", tmp_path / "out.json"
    program.write_text(LOOP, encoding="utf-8")
    options = ["--seed", "3", "--timeout", "20", "--knob", "learning_rate=0.5", "--full", "117", "--mode", "shared"]
    done = record(str(program), *options, "-o", str(out))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    recording = read(out.read_text(encoding="utf-8"))
    assert recording.program == {"source": LOOP, "device": "cpu", "seed": 3, "knobs": {"learning_rate": 0.5}}
    assert recording.status == "ok"
    # w -= 0.5 * 2w is the minimum in one step.
    assert [one.loss for one in recording.passes[:3]] == [1.0, 0.0, 0.0]
    assert recording.passes[117].steps and recording.passes[117].detail == "full"
    assert recording.stdout.endswith(" \N{GREEK SMALL LETTER ALPHA}\n")

    import torch

    torch.manual_seed(3)
    assert float(recording.stdout.split()[0]) == torch.rand(1).item()


def test_program_comes_from_standard_input_and_its_failure_is_a_recording() -> None:
    source = "x = torch.tensor([float('nan'), float('inf')], requires_grad=True)\nprint(x.sum())\nx.backward()\n"
    done = record("-", text=source)
    assert (done.returncode, done.stderr) == (0, "")
    recording = read(done.stdout)
    assert (recording.status, recording.problem.type, recording.problem.line) == ("error", "RuntimeError", 3)
    assert recording.problem.message == "grad can be implicitly created only for scalar outputs"
    assert recording.variables[0].value.values == ["nan", "inf"]
    assert recording.stdout == "tensor(nan, grad_fn=<SumBackward0>)\n"


def test_hundred_thousand_operations_in_a_row_are_recorded_without_a_crash() -> None:
    """Dropping such a graph recurses in C; the shell's stack limit is left as it is."""
    source = (
        "x = torch.tensor(1.0, requires_grad=True)\ny = x\nfor i in range(100_000):\n    y = y * 1.0\ny.backward()\n"
        "z = x\nfor i in range(30_000):\n    z = z + 1\ndel z\nprint(x.grad.item())\n"
    )
    done = record("-", "--timeout", "60", text=source)
    assert (done.returncode, done.stderr) == (0, "")
    recording = read(done.stdout)
    assert (recording.status, recording.problem, recording.stdout) == ("ok", None, "1.0\n")
    (graph,), (one,) = recording.graphs, recording.passes
    assert graph.total_nodes == 100_001
    assert 0 < len(graph.nodes) < graph.total_nodes
    assert {edge.source for edge in graph.edges} | {edge.target for edge in graph.edges} <= {n.id for n in graph.nodes}
    assert one.loss == 1.0
    assert [(leaf.variable, leaf.grad_norm) for leaf in one.leaves] == [("x", 1.0)]


def test_program_past_its_time_is_a_recording_too() -> None:
    done = record("-", "--timeout", "0.5", text="x = 1\nfor i in range(10):\n    while True:\n        x += 1\n")
    assert done.returncode == 0
    recording = read(done.stdout)
    assert (recording.status, recording.problem.type) == ("limit", "TimeLimit")
    assert recording.problem.line in (3, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required"),
        (["record"], "FILE"),
        (["explode"], "invalid choice"),
        (["record", "no such file.py"], "cannot read no such file.py"),
        (["record", str(ROOT)], "cannot read"),
        (["record", "-", "--timeout", "0"], "more than 0"),
        (["record", "-", "--timeout", "-1"], "more than 0"),
        (["record", "-", "--timeout", "nan"], "more than 0"),
        (["record", "-", "--timeout", "inf"], "less than a day"),
        (["record", "-", "--timeout", "soon"], "soon"),
        (["record", "-", "--seed", "1.5"], "invalid int"),
        (["record", "-", "--seed", str(2**63)], "64-bit"),
        (["record", "-", "--mode", "public"], "invalid choice"),
        (["record", "-", "--knob", "rate"], "NAME=VALUE"),
        (["record", "-", "--knob", "a b=1"], "NAME=VALUE"),
        (["record", "-", "--knob", "rate=fast"], "not a number"),
        (["record", "-", "--knob", "rate=nan"], "finite"),
        (["record", "-", "--knob", "rate=1e999"], "finite"),
        (["record", "-", "--full", "first"], "invalid int"),
        (["record", "-", "--output", str(ROOT / "no such folder" / "out.json")], "cannot write"),
    ],
    ids=lambda value: " ".join(value).replace(str(ROOT), "") if isinstance(value, list) else None,
)
def test_wrong_usage_is_status_two_and_says_what(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


def test_file_that_is_not_text_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    program = tmp_path / "program.py"
    program.write_bytes(b"x = '\xff'\n")
    with pytest.raises(SystemExit) as ended:
        main(["record", str(program)])
    assert ended.value.code == 2
    assert "cannot read" in capsys.readouterr().err


def test_wrong_environment_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("EXPLORER_AT_ONCE", "many")
    with pytest.raises(SystemExit) as ended:
        main(["record", os.devnull])
    assert ended.value.code == 2
    assert "EXPLORER_AT_ONCE must be a number" in capsys.readouterr().err


def test_device_that_is_not_there_is_wrong_usage(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["record", os.devnull, "--device", "cuda:63"])
    assert ended.value.code == 2
    assert "did not start" in capsys.readouterr().err


def test_file_as_windows_writes_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With a byte order mark and carriage returns; Python reads both."""
    program = tmp_path / "program.py"
    program.write_bytes(b"\xef\xbb\xbfx = torch.tensor(2.0)\r\nprint(x)\r\n")
    assert main(["record", str(program)]) == 0
    recording = read(capsys.readouterr().out)
    assert (recording.status, recording.stdout) == ("ok", "tensor(2.)\n")


def test_help_and_version_are_there(capsys: pytest.CaptureFixture) -> None:
    for arguments, said in ((["--version"], "0."), (["record", "--help"], "--knob NAME=VALUE")):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        assert said in capsys.readouterr().out
