"""Every limit is an environment variable, a line of the About page, and a number that can be meant."""

import os
from dataclasses import fields

import pytest

from explorer.limits import Limits

NAMES = [limit.name for limit in fields(Limits)]
NUMBERS = [name for name in NAMES if name != "mode"]


def test_environment_that_says_nothing_gives_the_usual_limits() -> None:
    assert Limits.from_environment({}) == Limits()
    assert Limits.from_environment({"SECONDS": "3", "EXPLORER_NONSENSE": "3"}) == Limits()


@pytest.mark.parametrize("name", NUMBERS)
def test_every_limit_is_an_environment_variable(name: str) -> None:
    limits = Limits.from_environment({f"EXPLORER_{name.upper()}": "7"})
    assert getattr(limits, name) == 7
    assert type(getattr(limits, name)) is type(getattr(Limits(), name))
    assert {other for other in NAMES if getattr(limits, other) != getattr(Limits(), other)} == {name}


@pytest.mark.parametrize("mode", ["local", "shared"])
def test_mode_is_an_environment_variable(mode: str) -> None:
    limits = Limits.from_environment({"EXPLORER_MODE": mode})
    assert (limits.mode, limits.is_shared) == (mode, mode == "shared")


def test_limits_come_from_the_environment_together() -> None:
    names = {"SECONDS": "2.5", "MEMORY_MB": "100", "THREADS": "1", "AT_ONCE": "3", "LAYOUT_SECONDS": "4"}
    limits = Limits.from_environment({f"EXPLORER_{name}": text for name, text in names.items()})
    assert limits == Limits(seconds=2.5, memory_mb=100, threads=1, at_once=3, layout_seconds=4.0)
    assert limits.count_threads() == 1


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["soon", "", "-1", "nan", "inf", "-inf", "1e400", "1e9"])
def test_text_that_is_no_positive_number_is_an_error_that_names_its_variable(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"EXPLORER_{name.upper()} must be (a number|positive|less than)"):
        Limits.from_environment({f"EXPLORER_{name.upper()}": text})


@pytest.mark.parametrize("name", [name for name in NUMBERS if getattr(Limits(), name) != 0])
def test_nought_is_no_limit(name: str) -> None:
    with pytest.raises(ValueError, match=f"EXPLORER_{name.upper()} must be positive, got '0'"):
        Limits.from_environment({f"EXPLORER_{name.upper()}": "0"})


@pytest.mark.parametrize("name", ["threads", "accelerators"])
def test_nought_is_meant_where_it_is_usual(name: str) -> None:
    assert Limits.from_environment({f"EXPLORER_{name.upper()}": "0"}) == Limits()


@pytest.mark.parametrize("text", ["1.5", "2 MB"])
def test_whole_number_has_no_fraction(text: str) -> None:
    with pytest.raises(ValueError, match="EXPLORER_MEMORY_MB must be a number"):
        Limits.from_environment({"EXPLORER_MEMORY_MB": text})


@pytest.mark.parametrize("text", ["", "Shared", "both", "1"])
def test_unknown_mode_is_an_error_that_names_the_two(text: str) -> None:
    with pytest.raises(ValueError, match="EXPLORER_MODE must be local or shared"):
        Limits.from_environment({"EXPLORER_MODE": text})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds", "5"),
        ("seconds", float("nan")),
        ("seconds", 10**400),
        ("seconds", True),
        ("memory_mb", 1.5),
        ("memory_mb", None),
        ("queue", []),
        ("at_once", 0),
        ("mode", "open"),
        ("mode", ["local"]),
    ],
)
def test_limit_that_cannot_be_meant_is_never_made(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        Limits(**{name: value})


@pytest.mark.parametrize(("cores", "threads"), [(None, 1), (1, 1), (2, 1), (8, 7)])
def test_run_leaves_one_core_to_the_page_and_its_browser(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert Limits().count_threads() == threads
    assert Limits(mode="shared").count_threads() == 1


def test_threads_that_are_asked_for_are_given_but_not_by_a_shared_server() -> None:
    assert Limits(threads=3).count_threads() == 3
    assert Limits(mode="shared", threads=3).count_threads() == 1


def test_rows_tell_every_limit_its_value_and_its_variable() -> None:
    rows = Limits(mode="shared", seconds=2.5, memory_mb=100).rows()
    assert [row["variable"] for row in rows] == [f"EXPLORER_{name.upper()}" for name in NAMES]
    assert all(row["limit"] and row["value"] for row in rows)
    values = {row["variable"]: row["value"] for row in rows}
    assert (values["EXPLORER_MODE"], values["EXPLORER_SECONDS"]) == ("shared", "2.5 s")
    assert (values["EXPLORER_MEMORY_MB"], values["EXPLORER_AT_ONCE"]) == ("100 MB", "8")
