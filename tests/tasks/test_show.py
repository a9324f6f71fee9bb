"""The preview shows each task's rows as the model is given them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.data import DataConfig, open_data, preview
from zoo.data.config import reads
from zoo.tasks import TASKS

ROWS: dict[str, dict[str, Any]] = {
    "language_model": {"text": "some text to go on with"},
    "masked_lm": {"text": "some text to be hidden here and there"},
    "seq2seq": {"text": "one source", "target": "one \x1b target"},
    "sequence_classification": {"text": "a kind text", "label": "kind"},
    "token_classification": {"text": ["It", "rains"], "label": ["PRON", "VERB"]},
    "span": {
        "question": "Where?",
        "text": "It is here, I think.",
        "label": {"text": ["here"], "answer_start": [6]},
    },
    "image_classification": {"image": np.zeros((2, 3, 1), int).tolist(), "label": "black"},
}
SHOWN = {
    "language_model": "‹s›ome text to go on with",
    "masked_lm": "--- the model is shown\n",
    "seq2seq": "--- source, 11 tokens of 32\none source\n--- target, 13 tokens of 32\none · target",
    "sequence_classification": "labels      1: kind\n",
    "token_classification": "It‹PRON› rains‹VERB›",
    "span": "Where?\n--- text\nIt is ‹here›, I think.",
    "image_classification": "--- black: 2 x 3 x 1 uint8",
    "copy": "--- 33 tokens, 16 to be predicted\n",
    "induction": "--- 32 tokens, 8 to be predicted\nk",
    "listops": "labels      10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n",
    "parity": "--- 33 tokens, 1 to be predicted\n",
}


@pytest.mark.parametrize("name", TASKS)
def test_the_preview_shows_what_is_learnt(tmp_path: Path, name: str) -> None:
    path, task = tmp_path / "rows.jsonl", TASKS[name]
    fields: dict[str, Any] = {"length": 32} if reads(task.rows, "length") else {}
    if reads(task.rows, "path"):
        path.write_text((json.dumps(ROWS[name]) + "\n") * 40)
        fields["path"] = str(path)
    if task.rows == "text":
        fields |= {"packing": "first_fit", "separate_documents": True}
    config = DataConfig(cache_dir=str(tmp_path / "cache"), **fields)
    data = open_data(config, needs=task.needs, kind=task.rows)
    shown = preview(data, task.show, steps=7, examples=1)
    assert SHOWN[name] in shown
    assert "budget      7 steps of 16" in shown
    assert re.search(r"=== example 1: row [\d,]+ of [\d,]+", shown)
