"""For tests: programs that nobody checks, with the real modules, so that the walls of the process stand alone.

The host is explorer.host in all else: it forks, shuts in, records and ends its workers as always.
"""

import ast
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from explorer import runner
from explorer.limits import Limits


def main() -> None:
    """Run as ``python -m behind_one_wall``."""
    import math

    import numpy
    import torch

    from explorer import host, policy, recorder

    names = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional, "optim": torch.optim, "math": math, "np": numpy}
    recorder.check_program = lambda program: ast.parse(program.source)
    policy.program_globals = lambda on_progress=None: {"__name__": "__main__", **names}
    host.main()


class UncheckedRunner(runner.Runner):
    """A Runner whose programs are not checked."""

    def _process_for(self, device: str, *, keep: bool = False) -> runner._Process:
        if self._host is None or not self._host.is_alive:
            ours = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
            with mock.patch.dict(os.environ, {"PYTHONPATH": ours}):
                self._host = runner._Process("behind_one_wall")
        return self._host


@contextlib.contextmanager
def unchecked_runner(limits: Limits) -> Iterator[runner.Runner]:
    """A Runner whose programs are not checked, with its host started."""
    made = UncheckedRunner(limits)
    try:
        made.find_walls()
        yield made
    finally:
        made.close()


if __name__ == "__main__":
    main()
