"""What a comparison prints at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.compare.comparison import Comparison
from zoo.compare.progress import summary
from zoo.compare.statistics import Score, analyse
from zoo.tasks.base import Metric


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_summary_says_what_is_known_of_each_pair(seeds: int, tmp_path: Path) -> None:
    scores = [
        Score(name, "here", seed, value + 0.01 * seed)
        for name, value in (("post_norm", 2.0), ("pre_norm", 1.5))
        for seed in range(seeds)
    ]
    metric = Metric("bits_per_byte", True)
    made = Comparison(tmp_path, {}, metric, [], [], analyse(scores), [], {})
    text = summary(made, {"html": tmp_path / "report.html"})
    assert "post_norm against pre_norm: " in text
    # One run of each says how far apart they are, and nothing of what chance does.
    assert ("(+0.5, " in text) == (seeds > 1)
    assert str(tmp_path / "report.html") in text
