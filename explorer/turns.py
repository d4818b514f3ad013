"""Whose program runs next: a bounded queue with turns by visitor."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from explorer.limits import Limits


@dataclass(frozen=True, slots=True)
class Place:
    """What became of a request: it may start now, or waits behind ``ahead`` others, or is ``refused`` and why.

    ``outed`` is the number of the request that lost its place to it, where the queue was full.
    """

    starts: bool = False
    ahead: int = 0
    refused: str = ""
    outed: int | None = None


@dataclass(slots=True)
class Turns:
    """Requests that run and that wait.

    A visitor is "address/tab". Who has fewer running goes first, counted by address and then by tab, and among equals
    who was served longest ago: a visitor who floods waits for their own runs, not others for theirs.
    """

    _waiting: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    _running: dict[int, str] = field(default_factory=dict)
    _long: set[int] = field(default_factory=set)
    _served: dict[str, float] = field(default_factory=dict)

    def ask(self, request: dict[str, Any]) -> Place:
        """Let a request start, or put it into the queue, or refuse it."""
        limits, visitor = Limits(**request.get("limits", {})), request.get("visitor", "")
        if self._may_start(visitor, limits) and not self._next_visitor():
            self._start(request, visitor)
            return Place(starts=True)
        own = self._waiting.get(visitor, ())
        if visitor and len(own) >= limits.queue_each:
            return Place(refused=f"{len(own)} of your runs are waiting already")
        waiting, outed = sum(map(len, self._waiting.values())), None
        if waiting >= limits.queue:
            outed = self._find_one_too_many(visitor)
            if outed is None:
                return Place(refused=f"{waiting} runs are waiting already")
            self.withdraw(outed)
            waiting -= 1
        self._waiting.setdefault(visitor, deque()).append(request)
        return Place(ahead=waiting, outed=outed)

    def take_next(self) -> dict[str, Any] | None:
        """The waiting request whose turn it is, now counted as running; None where none may start."""
        visitor = self._next_visitor()
        if visitor is None:
            return None
        request = self._waiting[visitor].popleft()
        if not self._waiting[visitor]:
            del self._waiting[visitor]
        self._start(request, visitor)
        return request

    def is_waiting(self, number: int) -> bool:
        """Whether a request with this number is in the queue."""
        return any(request["id"] == number for requests in self._waiting.values() for request in requests)

    def withdraw(self, number: int) -> bool:
        """Take a waiting request out of the queue; whether it was there."""
        for visitor, requests in self._waiting.items():
            for request in requests:
                if request["id"] == number:
                    requests.remove(request)
                    if not requests:
                        del self._waiting[visitor]
                    return True
        return False

    def go_on_long(self, number: int) -> None:
        """A run takes longer than short ones do; it makes room for the next of these."""
        if number in self._running:
            self._long.add(number)

    def end(self, number: int) -> None:
        """Its run is over."""
        self._running.pop(number, None)
        self._long.discard(number)

    def _find_one_too_many(self, visitor: str) -> int | None:
        """The last request of who fills the queue; None where that is ``visitor`` or nobody has more waiting."""
        by_tab = {tab: len(requests) for tab, requests in self._waiting.items()}
        by_address: Counter[str] = Counter()
        for tab, count in by_tab.items():
            by_address[_address(tab)] += count
        most = max(by_tab, key=lambda tab: (by_address[_address(tab)], by_tab[tab]), default="")
        if _address(most) == _address(visitor):
            has_more = by_tab.get(most, 0) > by_tab.get(visitor, 0) + 1
        else:
            has_more = by_address[_address(most)] > by_address[_address(visitor)] + 1
        return self._waiting[most][-1]["id"] if has_more else None

    def _start(self, request: dict[str, Any], visitor: str) -> None:
        self._running[request["id"]] = visitor
        now = time.monotonic()
        self._served[visitor] = self._served[_address(visitor)] = now
        if len(self._served) > 10_000:
            self._served = {name: when for name, when in self._served.items() if now - when < 600}

    def _may_start(self, visitor: str, limits: Limits) -> bool:
        running = len(self._running)
        own = sum(name == visitor for name in self._running.values())
        has_room = running - len(self._long) < limits.at_once and running < limits.at_once + limits.training_at_once
        return has_room and (own < limits.at_once_each or not visitor)

    def _next_visitor(self) -> str | None:
        by_tab = Counter(self._running.values())
        by_address = Counter(map(_address, self._running.values()))
        ready = [
            visitor
            for visitor, requests in self._waiting.items()
            if self._may_start(visitor, Limits(**requests[0].get("limits", {})))
        ]

        def turn(visitor: str) -> tuple:
            address = _address(visitor)
            served = self._served.get(address, 0.0), self._served.get(visitor, 0.0)
            return by_address[address], by_tab[visitor], *served

        return min(ready, key=turn, default=None)


def _address(visitor: str) -> str:
    return visitor.partition("/")[0]
