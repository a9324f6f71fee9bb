"""The preview shows borders, mask and budget."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from zoo.data import DataConfig, open_data, preview
from zoo.data.packing import loss_mask
from zoo.data.preview import show_text


def test_preview_shows_borders_mask_and_epochs(tmp_path: Path) -> None:
    texts = [f"<{i}>" * 4 for i in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    config = DataConfig(
        path=str(tmp_path / "a.jsonl"),
        cache_dir=str(tmp_path / "cache"),
        length=32,
        separate_documents=True,
    )
    shown = preview(open_data(config), show_text, steps=10)
    assert shown.count("=== example") == 3
    assert shown.count("--- document") >= 6
    assert "segment 2" in shown
    assert "‹<›" in shown, "the first token of another document carries no loss"
    assert "1.000" in shown
    assert "warning" in shown


def test_preview_prints_no_control_characters(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x1b[31mred\r\x07" * 40)
    config = DataConfig(path=str(tmp_path / "a.bin"), cache_dir=str(tmp_path / "cache"), length=16)
    shown = preview(open_data(config), show_text)
    assert all(character.isprintable() or character in "\n\t" for character in shown)


def test_the_mask_leaves_out_first_tokens_and_padding() -> None:
    segments = np.asarray([[1, 1, 2, 2, 3, 0, 0]])
    assert loss_mask(segments).astype(int).tolist() == [[0, 1, 0, 1, 0, 0, 0]]
