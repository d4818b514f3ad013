"""Nothing that another visitor's run left in memory can be read by the next program."""

from explorer.limits import Limits
from explorer.program import Program
from explorer.runner import Runner

MARK = "NEIGHBOUR-7731"
# What torch.empty returns is memory as it was left; the name is put together so that it is not in this text.
SPY = """\
mark = b"NEIGHB" + b"OUR-77"
found = 0
for size in list(range(24, 4000, 8)) * 3 + list(range(4000, 120000, 512)) * 2:
    found += mark in bytes(torch.empty(size, dtype=torch.uint8).tolist())
print("found", found)
"""


def test_uninitialized_memory_holds_nothing_of_earlier_programs() -> None:
    runner = Runner(Limits(seconds=60))
    try:
        for size in (1, 20, 200, 2_000) * 2:
            runner.run(Program(f"x = '{MARK}'\nprint(x * {size})\n# {MARK * size}\n"))
        assert runner.run(Program(SPY)).stdout == "found 0\n"
    finally:
        runner.close()
