"""Who floods waits for their own runs: others' runs come first, and are refused last."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.turns import Turns

BOUNDS = {"at_once": 3, "at_once_each": 2, "queue": 6, "queue_each": 3}


class Server:
    """Turns with programs that end when the test says so."""

    def __init__(self, **bounds: int) -> None:
        self.turns = Turns()
        self.bounds = BOUNDS | bounds
        self.running: dict[int, str] = {}
        self.waiting: dict[int, str] = {}
        self.refused: dict[int, str] = {}
        self.reasons: list[str] = []
        self.count = 0

    def ask(self, visitor: str, **extra: Any) -> int:
        """One more request of ``visitor``; its number."""
        self.count += 1
        place = self.turns.ask({"id": self.count, "visitor": visitor, "limits": self.bounds, **extra})
        assert place.starts + bool(place.refused) <= 1
        if place.outed is not None:
            self.refused[place.outed] = self.waiting.pop(place.outed)
        if place.refused:
            self.reasons.append(place.refused)
        where = self.running if place.starts else self.refused if place.refused else self.waiting
        where[self.count] = visitor
        if where is self.waiting:
            assert place.ahead == len(self.waiting) - 1
        return self.count

    def end(self, number: int) -> list[int]:
        """A run ends; the numbers of those that start for it."""
        del self.running[number]
        self.turns.end(number)
        started = []
        while (request := self.turns.take_next()) is not None:
            started.append(request["id"])
            self.running[request["id"]] = self.waiting.pop(request["id"])
        return started

    def is_lawful(self) -> bool:
        """Whether every bound is kept, and nobody waits who could run."""
        running, waiting = list(self.running.values()), list(self.waiting.values())
        most = all(running.count(visitor) <= self.bounds["at_once_each"] for visitor in running if visitor)
        long = all(waiting.count(visitor) <= self.bounds["queue_each"] for visitor in waiting if visitor)
        if len(running) > self.bounds["at_once"] or len(waiting) > self.bounds["queue"] or not most or not long:
            return False
        is_full = len(running) == self.bounds["at_once"]
        return is_full or all(running.count(tab) == self.bounds["at_once_each"] and tab for tab in waiting)


def test_request_starts_at_once_where_there_is_room() -> None:
    server = Server()
    assert [server.ask(visitor) in server.running for visitor in ("a/1", "b/1", "c/1")] == [True] * 3
    assert server.ask("d/1") in server.waiting


def test_visitor_never_has_more_runs_at_once_than_allowed() -> None:
    server = Server()
    first, second, third = (server.ask("a/1") for _ in range(3))
    assert (set(server.running), set(server.waiting)) == ({first, second}, {third})
    assert server.ask("b/1") in server.running
    assert server.end(first) == [third]


def test_flood_of_one_visitor_is_refused_with_the_reason() -> None:
    server = Server()
    for _ in range(20):
        server.ask("a/1")
    assert (len(server.running), len(server.waiting), len(server.refused)) == (2, 3, 15)
    assert set(server.reasons) == {"3 of your runs are waiting already"}


def test_visitor_who_comes_after_a_flood_is_next() -> None:
    server = Server(at_once=2)
    flood = [server.ask("a/1") for _ in range(5)]
    late = server.ask("b/1")
    assert server.end(flood[0]) == [late]


def test_address_with_many_tabs_takes_its_turns_as_one() -> None:
    server = Server(at_once=2, queue=20)
    flood = [server.ask(f"a/{tab}") for tab in range(10)]
    late = [server.ask("b/1"), server.ask("b/1")]
    assert server.end(flood[0]) == [late[0]]
    assert server.end(flood[1]) == [flood[2]]
    assert server.end(late[0]) == [late[1]]


def test_tabs_of_one_address_take_turns() -> None:
    server = Server(at_once=1, at_once_each=1)
    first = server.ask("a/1")
    again, other = server.ask("a/1"), server.ask("a/2")
    assert server.end(first) == [other]
    assert server.end(other) == [again]


def test_who_was_served_longest_ago_goes_first() -> None:
    server = Server(at_once=1)
    runs = {visitor: server.ask(visitor) for visitor in ("a/1", "b/1", "c/1")}
    again = server.ask("a/1")
    assert server.end(runs["a/1"]) in ([runs["b/1"]], [runs["c/1"]])
    order = [runs["a/1"], *[number for number in server.running]]
    while server.running:
        order += server.end(next(iter(server.running)))
    assert order[-1] == again


def test_newcomer_takes_the_last_place_of_who_fills_the_queue() -> None:
    server = Server(at_once=1)
    flood = [server.ask(f"a/{tab % 4}") for tab in range(9)]
    assert len(server.waiting) == 6
    late = server.ask("b/1")
    assert late in server.waiting
    assert len(server.waiting) == 6
    assert server.end(flood[0]) == [late]


def test_full_queue_of_as_many_visitors_refuses_the_next() -> None:
    server = Server(at_once=1)
    for address in range(7):
        server.ask(f"{address}/1")
    assert server.ask("late/1") in server.refused
    assert server.reasons == ["6 runs are waiting already"]


def test_flood_does_not_out_its_own_or_others() -> None:
    server = Server(at_once=1, queue=4, queue_each=4)
    runs = [server.ask("a/1") for _ in range(5)]
    assert server.ask("a/2") in server.waiting, "another tab of the classroom has its place too"
    assert runs[-1] in server.refused
    assert server.ask("b/1") in server.waiting
    assert [server.ask("a/1") in server.refused, server.ask("a/1") in server.refused] == [True, True]
    assert sorted(server.waiting.values()) == ["a/1", "a/1", "a/2", "b/1"]


def test_run_without_a_visitor_is_bound_by_the_queue_alone() -> None:
    server = Server()
    numbers = [server.ask("") for _ in range(10)]
    assert (len(server.running), len(server.waiting)) == (3, 6)
    assert numbers[-1] in server.refused


def test_request_that_says_nothing_of_limits_has_the_usual_ones() -> None:
    turns = Turns()
    assert turns.ask({"id": 1}).starts


def test_withdrawn_request_never_starts() -> None:
    server = Server(at_once=1)
    first, second, third = (server.ask(f"{visitor}/1") for visitor in "abc")
    assert server.turns.is_waiting(second)
    assert server.turns.withdraw(second)
    assert not server.turns.is_waiting(second)
    assert not server.turns.withdraw(second)
    assert not server.turns.withdraw(first)
    del server.waiting[second]
    assert server.end(first) == [third]


def test_end_of_what_never_ran_changes_nothing() -> None:
    server = Server(at_once=1)
    server.ask("a/1")
    server.turns.end(99)
    assert server.ask("b/1") in server.waiting


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.data())
def test_bounds_hold_and_nobody_is_forgotten_whatever_comes(data: st.DataObject) -> None:
    server = Server()
    for _ in range(data.draw(st.integers(0, 60))):
        if server.running and data.draw(st.booleans()):
            server.end(data.draw(st.sampled_from(sorted(server.running))))
        elif server.waiting and data.draw(st.integers(0, 9)) == 0:
            number = data.draw(st.sampled_from(sorted(server.waiting)))
            assert server.turns.withdraw(number)
            del server.waiting[number]
        else:
            server.ask(data.draw(st.sampled_from(["a/1", "a/2", "b/1", "c/1", ""])))
        assert server.is_lawful()
    while server.running:
        server.end(min(server.running))
    assert not server.waiting
    assert server.turns.take_next() is None


@settings(derandomize=True, deadline=None, max_examples=100)
@given(flood=st.integers(1, 40), tabs=st.integers(1, 20), at_once=st.integers(1, 4))
def test_flood_delays_another_visitor_by_one_run_at_most(flood: int, tabs: int, at_once: int) -> None:
    server = Server(at_once=at_once, queue=10)
    for number in range(flood):
        server.ask(f"a/{number % tabs}")
    late = server.ask("b/1")
    assert late not in server.refused
    if late in server.waiting:
        assert late in server.end(min(server.running))


@pytest.mark.parametrize("visitors", [10_500])
def test_memory_of_who_was_served_is_bounded(visitors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("explorer.turns.time.monotonic", lambda: now[0])
    server = Server()
    for number in range(visitors):
        now[0] += 1.0
        server.end(server.ask(f"{number}/1"))
    assert len(server.turns._served) <= 10_001
