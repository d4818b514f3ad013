"""What the tests share: the order of the files, where the material beside the checkout lies, one warm Runner."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explorer import datasets
from explorer.runner import Runner

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Two processes of tests, each with a thread for every core, wait for each other: networks learn twice as slowly.
os.environ.setdefault("OMP_NUM_THREADS", "1")

BROWSING = [
    *("test_training_browser", "test_live_plot", "test_components", "test_explore_browser", "test_canvas"),
    *("test_surface", "test_digits_browser", "test_map_browser"),
]
"""The files with a browser; one process runs them all, since two browsers at once take each other's time."""

HEAVY = [
    *("test_corpus", "test_faults", "test_confine", "test_regression_page", "test_optimizers_page", "test_held"),
    *("test_control", "test_network", "test_digits_page", "test_runner", "test_command_line", "test_regression"),
    *("test_single_use", "test_datasets", "test_imports", "test_look", "test_explore_training", "test_race"),
]
"""The other files that take long, the longest first; one that began last would leave a core with nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files by the time they take; pytest-xdist hands them out in this order."""
    order = {name: number for number, name in enumerate(BROWSING + HEAVY)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole files, those with a browser as if they were one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Lanes(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "browser" if Path(file).stem in BROWSING else file

    return Lanes(config, log)


def read_shared(name: str) -> Any:
    """A JSON file of the material beside the checkout; absent outside our CI, where tests that need it skip."""
    path = SHARED / name
    if not path.exists():
        if os.environ.get("CI"):
            raise FileNotFoundError(f"{path} must be there in CI")
        return []
    return json.loads(path.read_text(encoding="utf-8"))


def seed_programs() -> list[Any]:
    """One pytest parameter for each program that the project was asked to run."""
    programs = read_shared("seeds/programs.json")
    if not programs:
        return [pytest.param(None, marks=pytest.mark.skip("the seed programs are not part of the repository"))]
    return [pytest.param(entry, id=entry["id"]) for entry in programs]


@pytest.fixture
def shared_mnist(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real digits beside the checkout, named by EXPLORER_DATA."""
    real = SHARED / "mnist"
    if not real.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{real} must be there in CI")
        pytest.skip("the real digits are not part of the repository")
    monkeypatch.setenv("EXPLORER_DATA", str(real))
    # What another test loaded is of another folder.
    monkeypatch.setattr(datasets, "_loaded", None)
    return real


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """A Runner with its forking process started."""
    made = Runner()
    yield made
    made.close()
