"""The limits of a server and its runs, in one place: each is an environment variable and a line of the About page."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MODES = ("local", "shared")

GRACE = 0.6
"""Seconds between the soft stop of a program and its end."""

WRITING = 30.0
"""Seconds that a worker may take to write down what a program did that ended by itself."""

CUT_SHORT = 3.0
"""Seconds that it may take where the program was ended by its time or its reader."""


def _limit(default: Any, text: str, *, unit: str = "") -> Any:
    return field(default=default, metadata={"text": text, "unit": unit})


def _fault(default: Any, value: Any) -> str:
    """What a limit with this default must be, where ``value`` is not; "" where it is."""
    if isinstance(default, str):
        return "" if value in MODES else "local or shared"
    if type(value) is not int and not (type(value) is float and isinstance(default, float)):
        return "a number"
    if not (value > 0 or (default == 0 and value == 0)):
        return "positive"
    return "" if value < 1e9 else "less than 10^9"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may take; ``seconds`` is EXPLORER_SECONDS in the environment of the server, and so on."""

    mode: str = _limit("local", "local: one person on their own machine; shared: a class server, both walls needed")
    seconds: float = _limit(10.0, "wall time of a program, or of a training loop without a backward pass", unit="s")
    training_seconds: float = _limit(300.0, "wall time of a training loop in all", unit="s")
    training_passes: int = _limit(1_000_000, "backward passes of a run; what it did until then is kept")
    pause_seconds: float = _limit(600.0, "time a run may stand paused", unit="s")
    memory_mb: int = _limit(2048, "memory a program may take beyond what PyTorch itself holds", unit="MB")
    threads: int = _limit(0, "compute threads of a run; 0 is one per core but one, shared always gives one")
    output_kb: int = _limit(64, "printed text that is kept", unit="kB")
    recording_mb: int = _limit(16, "size of a recording; a longer one keeps fewer full passes", unit="MB")
    held_seconds: float = _limit(600.0, "time a trained model is kept for its page without being asked", unit="s")
    held_at_once: int = _limit(16, "models kept at the same time; the one not asked for longest goes first")
    at_once: int = _limit(8, "short runs at the same time; the next ones wait their turn")
    training_at_once: int = _limit(32, "runs besides these that go on for more than a second")
    at_once_each: int = _limit(2, "runs of one visitor at the same time")
    queue: int = _limit(100, "runs that may wait")
    queue_each: int = _limit(4, "of these, runs of one visitor")
    layout_seconds: float = _limit(6.0, "time Graphviz gets for one picture", unit="s")
    accelerators: int = _limit(0, "1 lets a shared server use CUDA and MPS, where no walls can stand")

    def __post_init__(self) -> None:
        """Raise ValueError for a limit that cannot be meant."""
        for limit in fields(self):
            fault = _fault(limit.default, getattr(self, limit.name))
            if fault:
                raise ValueError(f"{limit.name} must be {fault}, got {getattr(self, limit.name)!r}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """The limits that the environment asks for. Raises ValueError for one that cannot be meant."""
        found: dict[str, Any] = {}
        for limit in fields(cls):
            name, text = f"EXPLORER_{limit.name.upper()}", environment.get(f"EXPLORER_{limit.name.upper()}")
            if text is None:
                continue
            try:
                found[limit.name] = type(limit.default)(text)
            except ValueError:
                raise ValueError(f"{name} must be a number, got {text!r}") from None
            fault = _fault(limit.default, found[limit.name])
            if fault:
                raise ValueError(f"{name} must be {fault}, got {text!r}")
        return cls(**found)

    @property
    def is_shared(self) -> bool:
        """Whether many people's programs run here."""
        return self.mode == "shared"

    def count_threads(self) -> int:
        """How many compute threads a run gets; without a wish, one core is left to the page and its browser."""
        return 1 if self.is_shared else self.threads or max(1, (os.cpu_count() or 1) - 1)

    def rows(self) -> list[dict[str, str]]:
        """The limits as a table: what is limited, to what, and the variable that changes it."""
        return [
            {
                "limit": limit.metadata["text"],
                "value": f"{getattr(self, limit.name):,.10g} {limit.metadata['unit']}".strip()
                if limit.name != "mode"
                else self.mode,
                "variable": f"EXPLORER_{limit.name.upper()}",
            }
            for limit in fields(self)
        ]
