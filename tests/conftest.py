"""What the tests share: where the material beside the checkout lies, and one warm Runner."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explorer.runner import Runner

SHARED = Path(__file__).resolve().parents[2] / "shared"


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


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """A Runner with its forking process started."""
    made = Runner()
    yield made
    made.close()
