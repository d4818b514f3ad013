"""A race: several optimizers from one start down one landscape, as a program, and who arrived first."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from explorer.history import Curve
from explorer.landscape import Landscape, write_function
from explorer.narrate import format_number, join_words
from explorer.optimizers import OPTIMIZERS, check_count, check_number, check_rate, find_optimizer

MOST_STEPS = 10_000
MOST_RACERS = 8
ARRIVED = 1e-4
"""A racer has arrived when so little is left of the way down from its start to the lowest value."""


@dataclass(frozen=True, slots=True)
class Racer:
    """One optimizer with its learning rate; nan, negative or infinite ones raise ValueError, as does SGD by hand."""

    optimizer: str
    rate: float

    def __post_init__(self) -> None:
        if find_optimizer(self.optimizer).call is None:
            raise ValueError("a race is run with torch.optim: choose SGD instead of SGD by hand")
        object.__setattr__(self, "rate", check_rate(self.rate))


RACERS: tuple[str, ...] = tuple(name for name, optimizer in OPTIMIZERS.items() if optimizer.call)
"""The optimizers that can race."""


def name_racers(racers: Sequence[Racer]) -> dict[str, str]:
    """Suffix in the program -> name on the page: {"sgd": "SGD", "adam": "Adam", "adam_2": "Adam (2)"}."""
    counts: Counter[str] = Counter()
    names = {}
    for racer in racers:
        optimizer = find_optimizer(racer.optimizer)
        counts[optimizer.id] += 1
        number = counts[optimizer.id]
        suffix, name = ("", "") if number == 1 else (f"_{number}", f" ({number})")
        names[f"{optimizer.id}{suffix}"] = f"{optimizer.name}{name}"
    return names


def write_race(
    landscape: Landscape, racers: Sequence[Racer], *, start: Sequence[float] | None = None, steps: int | None = None
) -> str:
    """The program that runs every racer from one start, in turn; start and steps are the landscape's if not given.

    Every racer has leaves and a ``backward()`` of its own, on a line of its own: its gradient is its true one, its
    losses are the passes of that line. Pass k belongs to racer ``k % len(racers)``. Leaves are ``x_SUFFIX`` and
    ``y_SUFFIX`` (see ``name_racers``); knobs are ``start_x``, ``start_y``, ``steps``, ``lr_SUFFIX``, and ``momentum``
    and ``weight_decay`` where they count. Raises ValueError for no racer, too many, steps outside of 1 to 10,000 and a
    start that is no point.
    """
    if not 1 <= len(racers) <= MOST_RACERS:
        raise ValueError(f"a race needs 1 to {MOST_RACERS} optimizers, got {len(racers)}")
    steps = check_count("number of steps", landscape.steps if steps is None else steps, most=MOST_STEPS)
    point = [check_number("start", number) for number in (landscape.start if start is None else start)]
    variables = landscape.variables
    if len(point) != len(variables):
        raise ValueError(f"the start needs a number for {join_words(list(variables))}, got {len(point)}")
    names = name_racers(racers)
    chosen = [find_optimizer(racer.optimizer) for racer in racers]
    knobs = {name: value for optimizer in chosen for name, value in optimizer.knobs}
    lines = [f"start_{name} = {number!r}" for name, number in zip(variables, point, strict=True)]
    lines.append(f"steps = {steps}")
    lines += [f"lr_{suffix} = {racer.rate!r}" for suffix, racer in zip(names, racers, strict=True)]
    lines += [f"{name} = {value!r}" for name, value in knobs.items()]
    for suffix, optimizer in zip(names, chosen, strict=True):
        lines += ["", *(f"{name}_{suffix} = torch.tensor(start_{name}, requires_grad=True)" for name in variables)]
        leaves = ", ".join(f"{name}_{suffix}" for name in variables)
        lines.append(f"optimizer_{suffix} = {optimizer.call.format(leaves=leaves, rate=f'lr_{suffix}')}")
    lines += ["", "for step in range(steps):"]
    for suffix in names:
        arguments = ", ".join(f"{name}_{suffix}" for name in variables)
        lines += [f"    optimizer_{suffix}.zero_grad()", f"    loss_{suffix} = f({arguments})"]
        lines += [f"    loss_{suffix}.backward()", f"    optimizer_{suffix}.step()", ""]
    for suffix, name in names.items():
        values = ", ".join(f"{variable} = {{{variable}_{suffix}.item():.4f}}" for variable in variables)
        lines.append(f'print(f"{name}: {values}, loss = {{loss_{suffix}.item():.4g}}")')
    return f"{write_function(landscape)}\n\n" + "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Track:
    """A racer's way: ``losses[k]`` is f before step k; before step ``steps[i]`` it was at ``points[i]``, (x, y, f).

    A point of one variable is (x, f). Long runs look at the leaves of some passes only; the losses are all there. What
    is not finite is a float too.
    """

    losses: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    points: list[tuple[float, ...]] = field(default_factory=list)


def read_race(
    racers: Sequence[Racer], loss: Curve, values: Mapping[str, Curve], *, variables: Sequence[str] = ("x", "y")
) -> dict[str, Track]:
    """The tracks of the program of ``write_race`` so far, by the names of ``name_racers``.

    ``loss`` and ``values`` are those of the run's ``explorer.history.History``.
    """
    count = len(racers)
    losses = list(loss.y)
    tracks = {}
    for place, (suffix, name) in enumerate(name_racers(racers).items()):
        first, *others = (values.get(f"{variable}_{suffix}", Curve()) for variable in variables)
        columns = [dict(zip(other.x, other.y, strict=False)) for other in others]
        steps, points = [], []
        for index, number in zip(first.x, first.y, strict=False):
            if index < len(losses) and all(index in column for column in columns):
                steps.append(index // count)
                points.append((number, *(column[index] for column in columns), losses[index]))
        tracks[name] = Track(losses[place::count], steps, points)
    return tracks


def choose_goal(landscape: Landscape, tracks: Mapping[str, Track], *, seen: float | None = None) -> float | None:
    """The loss at or below which a racer has arrived; None where no minimum to arrive at is known.

    All but 1/10,000 of the way from the start down to the lowest value. Of the reader's own function that is the least
    that any racer, or ``seen`` on the surface, has met, if somebody has come to rest there: a function may fall without
    end.
    """
    losses = [loss for track in tracks.values() for loss in track.losses if math.isfinite(loss)]
    if not losses or landscape.lowest == -math.inf:
        return None
    first = next(iter(tracks.values())).losses[0]
    if not math.isfinite(first):
        return None
    if landscape.lowest is not None:
        return landscape.lowest + ARRIVED * (first - landscape.lowest)
    met = min(losses)
    lowest = min(met, seen) if seen is not None and math.isfinite(seen) else met
    goal = met + ARRIVED * (first - met)
    if lowest == met and not any(_rests(track.losses, goal) or _turned(track.losses, met) for track in tracks.values()):
        return None
    return None if _falls(tracks) else lowest + ARRIVED * (first - lowest)


def _rests(losses: Sequence[float], goal: float) -> bool:
    """Whether the last tenth of the steps, two at least, stayed at or below ``goal``."""
    last = losses[-max(2, len(losses) // 10) :]
    return len(last) > 1 and all(loss <= goal for loss in last)


def _turned(losses: Sequence[float], met: float) -> bool:
    """Whether this racer met the lowest value of all and rose again: a function that falls without end has none."""
    return met in losses[:-2] and min(losses[-2:]) > met


def _falls(tracks: Mapping[str, Track]) -> bool:
    return any(loss == -math.inf for track in tracks.values() for loss in track.losses)


def find_arrivals(tracks: Mapping[str, Track], goal: float | None) -> dict[str, int | None]:
    """For each racer the number of steps after which its loss was at or below ``goal`` and stayed there, or None."""
    return {name: None if goal is None else _arrival(track.losses, goal) for name, track in tracks.items()}


def _arrival(losses: list[float], goal: float) -> int | None:
    first = len(losses)
    while first and losses[first - 1] <= goal:
        first -= 1
    return first if first < len(losses) else None


def explain_race(tracks: Mapping[str, Track], goal: float | None) -> str:
    """Who arrived first, in a sentence or two; who ran away is said besides."""
    if not any(track.losses for track in tracks.values()):
        return "Nobody has moved yet."
    arrivals = {name: step for name, step in find_arrivals(tracks, goal).items() if step is not None}
    ends = {name: _find_end(track) for name, track in tracks.items()}
    lost = [name for name, end in ends.items() if end is not None]
    sentences = []
    if arrivals:
        ranked = sorted(arrivals.items(), key=lambda item: item[1])
        best = ranked[0][1]
        winners = [name for name, step in ranked if step == best]
        others = [f"{name} after {step:,}" for name, step in ranked if step > best]
        told = f"{join_words(winners)} arrived first, after {best:,} step{'s' * (best != 1)}"
        sentences.append(f"{told}; {join_words(others)}." if others else f"{told}.")
    else:
        last = {name: track.losses[-1] for name, track in tracks.items() if track.losses and name not in lost}
        if last:
            leader = min(last, key=last.__getitem__)
            sentences.append(f"Nobody has arrived; {leader} is lowest at {format_number(last[leader])}.")
        if goal is None and last:
            sentences[-1] = f"No minimum to arrive at was found; {leader} is lowest at {format_number(last[leader])}."
    outside = {name: place for name, end in ends.items() if end and (place := _find_outside(tracks[name], end[0]))}
    if len(set(outside.values())) == 1 and len(outside) == len(tracks) and next(iter(ends.values()))[0] == 0:
        where = _tell_place(next(iter(outside.values())))
        return f"The function has no value at the start, {where}: it is nan there{_NAN} Choose another start."
    for name, place in outside.items():
        where, step = _tell_place(place), ends[name][0]
        told = f"{name} left the domain of the function after {step:,} step{'s' * (step != 1)}: at {where} it is nan"
        sentences.append(f"{told}{_NAN} Lower its learning rate, or choose another start.")
    fallen = [name for name in lost if name not in outside and ends[name][1] == -math.inf]
    away = [name for name in lost if name not in outside and name not in fallen]
    if fallen:
        sentences.append(f"{join_words(fallen)} fell without end: the loss became -inf.")
    if away:
        sentences.append(f"{join_words(away)} ran away: the loss became inf or nan. Lower the learning rate.")
    return " ".join(sentences)


_NAN = ", as the logarithm or the square root of a negative number is."

FAR = 1e6
"""Who is farther out than this has run away, whatever the function is there."""


def _find_end(track: Track) -> tuple[int, float] | None:
    """The first step before which the loss was not finite, and that loss."""
    return next(((step, loss) for step, loss in enumerate(track.losses) if not math.isfinite(loss)), None)


def _find_outside(track: Track, step: int) -> tuple[float, ...] | None:
    """The place, near by, where the function was nan before this step; None where that is not so."""
    place = next((point[:-1] for at, point in zip(track.steps, track.points, strict=True) if at == step), None)
    is_near = place is not None and all(abs(number) < FAR for number in place)
    return place if is_near and math.isnan(track.losses[step]) else None


def _tell_place(place: Sequence[float]) -> str:
    return ", ".join(f"{name} = {format_number(number)}" for name, number in zip("xy", place, strict=False))
