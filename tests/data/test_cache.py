"""The token cache is reused, rebuilt when damaged, and never half-written."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from zoo.data import DataConfig, TextData, open_data
from zoo.data.cache import StoreWriter, open_or_build, read_store
from zoo.errors import DataError

TEXT = "".join(f"line {i}: the quick brown fox\n" for i in range(60))


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    (tmp_path / "a.txt").write_text(TEXT)
    return DataConfig(
        path=str(tmp_path / "a.txt"),
        cache_dir=str(tmp_path / "cache"),
        batch_size=2,
        length=16,
        prefetch=0,
    )


def bpe(config: DataConfig) -> DataConfig:
    return DataConfig(**{**config.__dict__, "tokenizer": "bpe", "vocab_size": 270})


def stores(config: DataConfig, kind: str = "*") -> list[Path]:
    return sorted(Path(str(config.cache_dir)).glob(f"{kind}-*"))


def stream(data: TextData) -> list[int]:
    return [int(t) for row in range(data.rows("train")) for t in _row(data, row)]


def _row(data: TextData, row: int) -> np.ndarray:
    return np.asarray(data.read_rows("train", np.asarray([row]))["tokens"][0])


@pytest.mark.parametrize("make", [lambda c: c, bpe], ids=["bytes", "bpe"])
def test_a_second_opening_reads_the_cache_and_not_the_source(config, make, monkeypatch) -> None:
    config = make(config)
    first = open_data(config)
    assert first.notes

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("the source was read again")

    monkeypatch.setattr("zoo.data.sources.read_file", fail)
    monkeypatch.setattr("zoo.data.encoding.train_bpe", fail)
    second = open_data(config)
    assert not second.notes
    assert stream(first) == stream(second)
    assert first.fingerprint == second.fingerprint


def test_a_changed_source_is_read_again(config: DataConfig) -> None:
    before = open_data(config)
    Path(str(config.path)).write_text(TEXT.upper())
    os.utime(str(config.path), ns=(1, 1))
    after = open_data(config)
    assert after.tokenizer.decode(_row(after, 0)).startswith("LINE 0")
    assert after.fingerprint != before.fingerprint


def test_the_fingerprint_is_of_the_text_and_not_of_the_file(config: DataConfig) -> None:
    before = open_data(config)
    os.utime(str(config.path), ns=(1, 1))
    after = open_data(config)
    assert after.notes, "another modification time is a reason to read again"
    assert after.fingerprint == before.fingerprint


def test_ids_are_stored_in_the_smallest_type_that_holds_them(config: DataConfig) -> None:
    open_data(config)
    open_data(bpe(config))
    (text,), (tokens,) = stores(config, "text")[:1], stores(config, "tokens")
    assert read_store(text).tokens["train"].dtype == np.uint8
    assert read_store(tokens).tokens["train"].dtype == np.uint16


def truncate(folder: Path) -> None:
    path = folder / "train.bin"
    path.write_bytes(path.read_bytes()[:-3])


def flip(folder: Path) -> None:
    path = folder / "train.bin"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(bytes(data))


def flip_offsets(folder: Path) -> None:
    path = folder / "validation.offsets"
    path.write_bytes(path.read_bytes()[::-1])


def lose_meta(folder: Path) -> None:
    (folder / "meta.json").unlink()


def cut_meta(folder: Path) -> None:
    (folder / "meta.json").write_text((folder / "meta.json").read_text()[:30])


def other_format(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 0}))


def become_a_file(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("not a folder")


@pytest.mark.parametrize(
    "damage", [truncate, flip, flip_offsets, lose_meta, cut_meta, other_format, become_a_file]
)
def test_a_damaged_cache_is_rebuilt_and_that_is_said(config: DataConfig, damage) -> None:
    whole = stream(open_data(config))
    damage(stores(config)[0])
    again = open_data(config)
    assert stream(again) == whole
    assert "is damaged" in again.notes[0]
    assert not open_data(config).notes
    assert not list(Path(str(config.cache_dir)).glob(".building-*"))


def test_a_damaged_tokenizer_in_the_cache_is_rebuilt(config: DataConfig) -> None:
    whole = stream(open_data(bpe(config)))
    path = stores(config, "tokens")[0] / "tokenizer.json"
    path.write_text(path.read_text().replace("the", "teh"))
    again = open_data(bpe(config))
    assert "is damaged" in again.notes[0]
    assert stream(again) == whole


def test_a_failure_while_building_leaves_nothing(config: DataConfig, monkeypatch) -> None:
    def fail(self: StoreWriter) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StoreWriter, "finish", fail)
    with pytest.raises(DataError, match=r"No space left on device; data.cache_dir"):
        open_data(config)
    assert list(Path(str(config.cache_dir)).iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_named(config: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blocked = DataConfig(**{**config.__dict__, "cache_dir": str(tmp_path / "file" / "cache")})
    with pytest.raises(DataError, match=r"cannot write the token cache in .*file"):
        open_data(blocked)


def test_writers_at_the_same_time_agree_on_one_whole_store(tmp_path: Path) -> None:
    """All build at once (a barrier holds them); each gets the same complete store."""
    writers = 6
    barrier = threading.Barrier(writers)
    found: list[list[int]] = []

    def build(folder: Path) -> None:
        with StoreWriter(folder, max_id=255) as writer:
            for split in ("train", "validation"):
                writer.add(split, np.arange(50), 50)
        writer.finish()
        barrier.wait()

    def open_store() -> None:
        store = open_or_build(tmp_path / "text-x", build, [], what="a text")
        found.append(store.tokens["train"].tolist())

    threads = [threading.Thread(target=open_store) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(50))] * writers
    assert [path.name for path in tmp_path.iterdir()] == ["text-x"]


def test_the_default_cache_lies_under_xdg_cache_home(config, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_data(DataConfig(**{**config.__dict__, "cache_dir": None}))
    assert list((tmp_path / "xdg" / "postnorm-zoo").glob("text-*/meta.json"))


def test_what_killed_writers_left_is_swept_up_after_a_day(config: DataConfig) -> None:
    cache = Path(str(config.cache_dir))
    (cache / ".building-folder").mkdir(parents=True)
    for name in (".building-folder/tokens", ".building-rows.npz", ".building-new.npz"):
        (cache / name).touch()
    for name in (".building-folder", ".building-rows.npz"):
        os.utime(cache / name, (0, 0))
    open_data(config)
    assert [path.name for path in cache.glob(".building-*")] == [".building-new.npz"]
