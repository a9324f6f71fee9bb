"""Which documents a source yields, and to which split."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from zoo.data import DataConfig
from zoo.data.sources import STDLIB_LEFT_OUT, hold_out_tail, open_source, path_fraction


def read(config: DataConfig) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {"train": [], "validation": []}
    for split, document in open_source(config).read():
        found[split].append(document)
    return found


def write_folder(root: Path, names: list[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"text of {name}\n")


def test_default_source_is_the_standard_library_without_tests_and_packages() -> None:
    found = read(DataConfig())
    everything = set(found["train"] + found["validation"])
    library = Path(os.__file__).parent
    assert (library / "textwrap.py").read_bytes() in everything
    assert (library / "json" / "decoder.py").read_bytes() in everything
    for name in ("idlelib/idle_test/test_query.py", "test/test_json/test_scanstring.py"):
        if (library / name).is_file() and (library / name).stat().st_size:
            assert (library / name).read_bytes() not in everything
    assert Path(np.__file__).read_bytes() not in everything
    assert "site-packages" in STDLIB_LEFT_OUT
    held = sum(map(len, found["validation"]))
    assert 0.01 < held / (held + sum(map(len, found["train"]))) < 0.15


def test_a_file_keeps_its_split_wherever_the_folder_lies(tmp_path: Path) -> None:
    names = [f"part{i % 3}/file{i}.txt" for i in range(60)]
    write_folder(tmp_path / "here", names)
    write_folder(tmp_path / "elsewhere" / "deep", names)
    first = read(DataConfig(path=str(tmp_path / "here")))
    assert first == read(DataConfig(path=str(tmp_path / "elsewhere" / "deep")))
    assert first["validation"] == [
        f"text of {name}\n".encode() for name in sorted(names) if path_fraction(name) < 0.05
    ]
    assert 0 < len(first["validation"]) < 12


def test_path_hash_is_the_documented_one() -> None:
    # blake2b, 8 bytes, big-endian: written down so that an edit cannot move files between splits.
    assert path_fraction("json/decoder.py") == 0.11393991729957655
    fractions = [path_fraction(f"f{i}") for i in range(2000)]
    assert 0.03 < np.mean(np.asarray(fractions) < 0.05) < 0.07


@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_small_folder_holds_out_at_least_one_file_and_never_all(
    tmp_path: Path, count: int
) -> None:
    write_folder(tmp_path, [f"{i}.txt" for i in range(count)])
    found = read(DataConfig(path=str(tmp_path)))
    assert found["validation"]
    assert found["train"]
    assert len(found["train"]) + len(found["validation"]) == count


def test_a_folder_leaves_out_hidden_empty_and_binary_files(tmp_path: Path) -> None:
    write_folder(tmp_path, ["a.txt", "b.md", ".hidden", ".git/config"])
    (tmp_path / "empty.txt").touch()
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    found = read(DataConfig(path=str(tmp_path)))
    assert sorted(found["train"] + found["validation"]) == [b"text of a.txt\n", b"text of b.md\n"]


def test_a_text_file_holds_out_its_last_twentieth(tmp_path: Path) -> None:
    text = bytes(range(33, 126)) * 20
    (tmp_path / "a.log").write_bytes(text)
    found = read(DataConfig(path=str(tmp_path / "a.log")))
    (train,), (held,) = found["train"], found["validation"]
    assert train + held == text
    assert len(held) == 93


def test_the_cut_does_not_split_a_character(tmp_path: Path) -> None:
    for offset in range(4):
        text = ("a" * offset + "\N{GRINNING FACE}" * 60).encode()
        (tmp_path / "a.txt").write_bytes(text)
        found = read(DataConfig(path=str(tmp_path / "a.txt")))
        (train,), (held,) = found["train"], found["validation"]
        assert train.decode() + held.decode() == text.decode()


def test_validation_path_leaves_the_training_text_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc" * 100)
    (tmp_path / "b.txt").write_text("xyz")
    found = read(DataConfig(path=str(tmp_path / "a.txt"), validation_path=str(tmp_path / "b.txt")))
    assert found == {"train": [b"abc" * 100], "validation": [b"xyz"]}


def test_jsonl_yields_a_document_a_line_from_the_chosen_column(tmp_path: Path) -> None:
    rows = [{"body": f"document {i} ü", "text": "no"} for i in range(40)]
    lines = [json.dumps(row, ensure_ascii=i % 2 == 0) for i, row in enumerate(rows)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    found = read(DataConfig(path=str(tmp_path / "a.jsonl"), text_column="body"))
    assert found["train"] == [row["body"].encode() for row in rows[:38]]
    assert found["validation"] == [row["body"].encode() for row in rows[38:]]


def test_parquet_yields_a_document_a_row_and_leaves_out_missing_ones(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"text": ["eins", None, "zwei", "drei"], "n": [1, 2, 3, 4]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found = read(DataConfig(path=str(tmp_path / "a.parquet")))
    assert found == {"train": [b"eins", b"zwei"], "validation": [b"drei"]}


@pytest.mark.parametrize("count", [2, 19, 20, 21, 100, 101])
def test_the_held_out_tail_is_a_twentieth_rounded_up(count: int) -> None:
    documents = [str(i).encode() for i in range(count)]
    split = list(hold_out_tail(iter(documents)))
    assert [document for _, document in split] == documents
    held = [document for name, document in split if name == "validation"]
    assert held == documents[count - max(1, -(-count // 20)) :]
