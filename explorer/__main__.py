"""The command line: ``python -m explorer record FILE`` prints a Recording as one JSON object."""

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

from explorer import __version__
from explorer.limits import MODES, Limits
from explorer.program import Program
from explorer.runner import Runner, RunnerError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 where a Recording was made, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m explorer", description="Autograd Explorer")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="run a PyTorch program and print what its autograd did, as JSON")
    record.add_argument("file", metavar="FILE", help="the program, or - for standard input")
    record.add_argument("--device", default="cpu", help="where its tensors are made: cpu, cuda:0, mps (default cpu)")
    record.add_argument("--seed", type=int, default=0, help="of torch, random and NumPy (default 0)")
    record.add_argument("--timeout", type=_seconds, help="seconds the program may take (EXPLORER_SECONDS, 10)")
    record.add_argument(
        "--mode", choices=MODES, help="shared needs Landlock and seccomp and uses one core; local what the system has"
    )
    record.add_argument("--knob", action="append", default=[], type=_knob, metavar="NAME=VALUE", help="set a number")
    record.add_argument("--full", action="append", default=[], type=int, metavar="PASS", help="record it in full")
    record.add_argument("-o", "--output", metavar="OUT", help="write here instead of standard output")
    chosen = parser.parse_args(arguments)
    try:
        source = sys.stdin.read() if chosen.file == "-" else Path(chosen.file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"cannot read {chosen.file}: {error}")
    if not -(2**63) <= chosen.seed < 2**63:
        parser.error("--seed must be a 64-bit integer")
    if chosen.output and Path(chosen.output).is_dir():
        parser.error(f"cannot write {chosen.output}: it is a folder")
    if chosen.output and not Path(chosen.output).parent.is_dir():
        parser.error(f"cannot write {chosen.output}: no such folder")
    try:
        limits = Limits.from_environment()
    except ValueError as error:
        parser.error(str(error))
    seconds = chosen.timeout or limits.seconds
    limits = replace(
        limits,
        seconds=seconds,
        # Nobody watches here: what is asked for is the time in all.
        training_seconds=seconds,
        mode=chosen.mode or limits.mode,
    )
    runner = Runner(limits)
    try:
        run = runner.start(Program(source, chosen.device, chosen.seed, dict(chosen.knob)), full=chosen.full)
        run.wait()
    except RunnerError as error:
        parser.error(str(error))
    finally:
        runner.close()
    text = json.dumps(run.plain, ensure_ascii=False, allow_nan=False) + "\n"
    if chosen.output:
        Path(chosen.output).write_text(text, encoding="utf-8")
    else:
        sys.stdout.buffer.write(text.encode("utf-8"))
    return 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 86_400:
        raise argparse.ArgumentTypeError("must be more than 0 and less than a day")
    return seconds


def _knob(text: str) -> tuple[str, float]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    try:
        number = int(value) if value.lstrip("+-").isdigit() else float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number") from None
    if isinstance(number, float) and not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{value!r} is not a finite number")
    return name, number


if __name__ == "__main__":
    sys.exit(main())
