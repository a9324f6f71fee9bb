"""ListOps: the value of nested MIN, MAX, MED and SUM_MOD (Nangia and Bowman 2018, 1804.06028)."""

from __future__ import annotations

from collections.abc import Iterator

from zoo.data.probes.base import Draws, Probe, Problem, asked

DIGITS = tuple(map(str, range(10)))
# `SM` is the sum modulo 10; of an even number of arguments the median is rounded down.
OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
WORDS = (*DIGITS, *OPERATORS, "]", "=")
CLOSE, EQUALS = len(WORDS) - 2, len(WORDS) - 1
# As in the paper's program: two to five arguments, each of them nested with this probability.
MOST_ARGUMENTS, NESTED = 5, 0.25
SMALLEST = 4  # tokens of an operator, two digits and the bracket


def problem(draws: Draws, length: int) -> Problem:
    """`[MAX 2 [MIN 4 7 ] 0 ] = 4`, of half the length or more where it comes out so.

    The paper lets trees grow as they like and cuts their depth; here a tree is given its number of
    tokens, and one argument at least is nested while there is room, so that longer is deeper.
    """
    # A token takes three numbers at most.
    numbers = iter(draws(4 * length).tolist())
    least = length // 2
    made = expression(numbers, max(SMALLEST, least + int(next(numbers) * (length - least))))
    return asked([*made, EQUALS], [value(made)])


def expression(numbers: Iterator[float], room: int) -> list[int]:
    """The tokens of a random expression that takes at most `room` of them."""
    made: list[int] = []
    # What is still to be written, the next one last: the room of an argument, or 0 for a bracket.
    ahead = [room]
    while ahead:
        room = ahead.pop()
        if room == 0:
            made.append(CLOSE)
        elif room < SMALLEST:
            made.append(int(next(numbers) * len(DIGITS)))
        else:
            made.append(len(DIGITS) + int(next(numbers) * len(OPERATORS)))
            ahead += [0, *_rooms(numbers, room - 2)]
    return made


def _rooms(numbers: Iterator[float], room: int) -> list[int]:
    """How many tokens each argument of an operator may take, together at most `room`."""
    count = 2 + int(next(numbers) * (min(MOST_ARGUMENTS, room) - 1))
    nested = [i for i in range(count) if next(numbers) < NESTED]
    nested = nested or [int(next(numbers) * count)]
    spare = room - count
    cuts = sorted(int(next(numbers) * (spare + 1)) for _ in nested[1:])
    rooms = [1] * count
    for i, start, end in zip(nested, [0, *cuts], [*cuts, spare], strict=True):
        rooms[i] += end - start
    return rooms


def value(tokens: list[int]) -> int:
    """The value of an expression, 0 to 9."""
    open_: list[list[int]] = [[]]
    for token in tokens:
        if token < len(DIGITS):
            open_[-1].append(token)
        elif token == CLOSE:
            operator, *arguments = open_.pop()
            open_[-1].append(_apply(OPERATORS[operator - len(DIGITS)], arguments))
        else:
            open_.append([token])
    return open_[0][0]


def _apply(operator: str, arguments: list[int]) -> int:
    match operator:
        case "[MIN":
            return min(arguments)
        case "[MAX":
            return max(arguments)
        case "[MED":
            ordered, last = sorted(arguments), len(arguments) - 1
            return (ordered[last // 2] + ordered[-(last // 2) - 1]) // 2
        case _:
            return sum(arguments) % 10


PROBE = Probe(
    name="listops",
    summary="compute nested minima, maxima, medians and sums modulo 10",
    source="Nangia and Bowman 2018 (1804.06028)",
    shortest=16,
    words=lambda length: WORDS,
    label=lambda length: f"ListOps of {length // 2} to {length - 1} tokens",
    problem=problem,
    labels=DIGITS,
)
