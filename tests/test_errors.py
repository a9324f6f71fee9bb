"""Ends of messages."""

from __future__ import annotations

from zoo.errors import choices, near_matches


def test_choices_are_read_as_a_sentence_ends() -> None:
    assert choices(["a", 2, "c"]) == "a, 2 or c"
    assert choices(["a"]) == "a"
    assert choices([]) == "none"


def test_near_matches_are_offered_only_when_there_are_some() -> None:
    assert near_matches("deep_nrom", ["deep_norm", "zzz"]) == " (did you mean deep_norm?)"
    assert near_matches("deep_nrom", ["zzz"]) == near_matches("deep_nrom", []) == ""
