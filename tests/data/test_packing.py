"""First-fit rows hold whole documents, each token once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.data import DataConfig, open_data
from zoo.data.packing import cached_first_fit, pack_first_fit
from zoo.errors import DataError


def test_every_document_is_packed_whole_and_once() -> None:
    sizes = np.random.default_rng(0).integers(2, 18, size=200)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = pack_first_fit(offsets, length=16)
    positions = rows.positions(np.arange(rows.count))
    real = positions[positions >= 0]
    assert sorted(real.tolist()) == list(range(int(offsets[-1])))
    documents = np.where(positions >= 0, np.searchsorted(offsets, positions, side="right"), -1)
    for document in range(1, 201):
        assert len({int(row) for row in np.where(documents == document)[0]}) == 1
    assert rows.count < 1.2 * offsets[-1] / 17, "little is padding"
    assert rows.num_targets == offsets[-1] - rows.count


def test_a_long_document_is_cut_so_that_each_token_is_predicted_once() -> None:
    rows = pack_first_fit(np.asarray([0, 40, 41], np.int64), length=16)
    positions = rows.positions(np.arange(rows.count))
    follows = positions[:, 1:] == positions[:, :-1] + 1
    targets = positions[:, 1:][follows & (positions[:, 1:] >= 0) & (positions[:, :-1] >= 0)]
    assert sorted(targets.tolist()) == list(range(1, 40))


def test_the_row_index_is_reused_and_rebuilt_when_damaged(tmp_path: Path, monkeypatch) -> None:
    offsets = np.asarray([0, 5, 12, 20], np.int64)
    path = tmp_path / "rows.npz"
    first = cached_first_fit(path, offsets, length=8)
    path.write_bytes(path.read_bytes()[:100])
    again = cached_first_fit(path, offsets, length=8)
    np.testing.assert_array_equal(first.piece_starts, again.piece_starts)
    monkeypatch.setattr("zoo.data.packing.pack_first_fit", None)
    np.testing.assert_array_equal(
        cached_first_fit(path, offsets, length=8).row_starts, first.row_starts
    )
    assert [file.name for file in tmp_path.iterdir()] == ["rows.npz"]


def test_packed_batches_pad_with_segment_zero_and_number_documents(tmp_path: Path) -> None:
    texts = [chr(97 + i) * (2 + i % 9) for i in range(26)] * 2
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    config = DataConfig(
        path=str(tmp_path / "a.jsonl"),
        cache_dir=str(tmp_path / "cache"),
        length=12,
        batch_size=2,
        packing="first_fit",
        separate_documents=True,
    )
    data = open_data(config)
    batch = data.read_rows("train", np.arange(data.rows("train")))
    assert (batch["segment_ids"] == 0).any()
    for tokens, segments in zip(batch["tokens"], batch["segment_ids"], strict=True):
        used = int((segments > 0).sum())
        assert (tokens[used:] == 0).all()
        assert (segments[used:] == 0).all()
        changes = np.concatenate([[0], np.cumsum(np.diff(tokens[:used]) != 0)])
        np.testing.assert_array_equal(segments[:used], 1 + changes)
    assert [b["tokens"].shape for b in data.eval_batches(2)] == [(2, 13)] * -(
        -data.rows("validation") // 2
    )


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(DataError, match="No space left"):
        cached_first_fit(tmp_path / "rows.npz", np.asarray([0, 40], np.int64), length=16)
    assert list(tmp_path.iterdir()) == []
