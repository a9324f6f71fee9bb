"""Images: what is read, what is refused, and that rows are what the file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.data import DataConfig, open_data
from zoo.errors import DataError


def images(count: int = 40, *, dtype: str = "uint8", shape: tuple[int, ...] = (4, 3, 2)) -> Any:
    values = np.random.default_rng(0).random((count, *shape))
    return (values * 255).astype("uint8") if dtype == "uint8" else values.astype(dtype)


def config(path: Path, **fields: Any) -> DataConfig:
    return DataConfig(path=str(path), cache_dir=str(path.parent / "cache"), batch_size=4, **fields)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_rows_are_the_images_of_the_file(tmp_path: Path, dtype: str) -> None:
    path, given, labels = tmp_path / "a.npz", images(dtype=dtype), np.arange(40) % 3
    np.savez(path, image=given, label=labels)
    data = open_data(config(path), kind="images")
    assert data.spec.image == (4, 3, 2)
    assert data.spec.labels == ("0", "1", "2")
    held = np.arange(40) % 20 == 19
    np.testing.assert_array_equal(data.read_rows("validation", np.arange(2))["images"], given[held])
    batch = data.train_batch(3)
    np.testing.assert_array_equal(batch["images"], given[~held][data.train_rows(3)])
    np.testing.assert_array_equal(batch["labels"], labels[~held][data.train_rows(3)])
    assert batch["images"].dtype == dtype
    (*_, last) = data.eval_batches()
    assert last["labels"].tolist() == [*labels[held], -1, -1]
    assert open_data(config(path), kind="images").fingerprint == data.fingerprint


def test_a_dataset_of_pictures_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    given, names = images(20, shape=(4, 4, 3)), ["cat", "dog"]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    made = datasets.Dataset.from_dict(
        {"image": list(given), "label": [i % 2 for i in range(20)]}, features=features
    )
    made.to_parquet(str(tmp_path / "set" / "train.parquet"))
    asked = DataConfig(dataset=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    data = open_data(asked, kind="images")
    assert data.spec.labels == ("cat", "dog")
    row = data.read_rows("train", np.asarray([5]))
    np.testing.assert_array_equal(row["images"][0], given[5])
    assert row["labels"].tolist() == [1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": images(shape=(4, 3)), "label": range(40)}, r"image 1 has shape \(4, 3\)"),
        ({"image": images(shape=(3, 8, 8)), "label": range(40)}, "channels last"),
        ({"image": images(dtype="float32") * 9, "label": range(40)}, "values outside 0 to 1"),
        ({"image": images() > 9, "label": range(40)}, "image 1 holds bool"),
        ({"image": images(), "label": range(39)}, "40 images and 39 labels"),
        ({"image": images(), "label": np.linspace(0, 1, 40)}, r"the label 0\.0 is a float"),
        ({"image": images()}, r"has no array 'label' \(data\.label_column\); it has image"),
        ({"image": images(5), "label": range(5)}, "the validation split holds no image"),
    ],
)
def test_arrays_that_are_no_labelled_images_are_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_data(config(tmp_path / "a.npz"), kind="images")


def test_a_file_that_holds_no_arrays_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"a\.npz is not an \.npz file"):
        open_data(config(tmp_path / "a.npz"), kind="images")
