"""What the benchmarks share: their two options, a row that is held against its target, and the table."""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A clone that was not installed finds its own explorer, and so do the processes that a benchmark starts.
sys.path.insert(0, str(ROOT))

MOST_SECONDS = 10
"""A result or a picture that is not there after this counts as this late."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement; ``value`` is None where it was not made, and ``note`` says why or over what."""

    name: str
    value: float | None
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the value is at most its target; None for a row without one."""
        return None if self.target is None or self.value is None else self.value <= self.target


def read_options(description: str) -> argparse.Namespace:
    """``--quick`` and ``--json``."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--quick", action="store_true", help="shorter loads and fewer rounds: at most a minute")
    options.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    return options.parse_args()


def print_rows(rows: Iterable[Row], *, as_json: bool) -> None:
    """Print each row when it is there: of a table, or as ``{name, value, unit, target, holds}``."""
    if not as_json:
        print(f"{'what':<58} {'value':>9} {'unit':<7} {'target':>8}  holds  note")
    for row in rows:
        if as_json:
            names = ("name", "value", "unit", "target", "holds")
            print(json.dumps({name: getattr(row, name) for name in names}), flush=True)
            continue
        value = "-" if row.value is None else f"{row.value:,.3g}" if row.value < 100 else f"{row.value:,.0f}"
        target = "" if row.target is None else f"<= {row.target:g}"
        holds = {None: "", True: "yes", False: "NO"}[row.holds]
        print(f"{row.name:<58} {value:>9} {row.unit:<7} {target:>8}  {holds:<5}  {row.note}".rstrip(), flush=True)


def spread(values: Sequence[float]) -> str:
    """The quarter points of the samples, for the note beside their median."""
    if len(values) < 3:
        return ""
    low, _, high = statistics.quantiles(values, n=4)
    return f"quartiles {low:,.3g} to {high:,.3g}"


def median_row(name: str, milliseconds: Sequence[float | None], target: float | None = None, note: str = "") -> Row:
    """The row of a median; what never came counts as the longest that was waited."""
    reached = [time for time in milliseconds if time is not None]
    missing = len(milliseconds) - len(reached)
    all_times = reached + [1000.0 * MOST_SECONDS] * missing
    parts = [note, f"{len(milliseconds)} times", f"{missing} NEVER CAME" if missing else "", spread(all_times)]
    return Row(name, statistics.median(all_times), "ms", target, ", ".join(part for part in parts if part))


def late_row(name: str, milliseconds: Sequence[float | None], target: float | None = None, note: str = "") -> Row:
    """The row of a 95th percentile, likewise."""
    all_times = sorted(1000.0 * MOST_SECONDS if time is None else time for time in milliseconds)
    late = statistics.quantiles(all_times, n=20)[-1]
    middle = f"median {statistics.median(all_times):.3g}, slowest {all_times[-1]:.3g}"
    return Row(name, late, "ms", target, ", ".join(part for part in (note, f"{len(all_times)} times", middle) if part))
