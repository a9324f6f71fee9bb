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


def test_without_a_source_they_are_digits(tmp_path: Path) -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    asked = DataConfig(cache_dir=str(tmp_path / "cache"))
    data = open_data(asked, kind="images")
    assert data.spec.image == (8, 8, 1)
    assert data.spec.labels == tuple("0123456789")
    assert (data.rows("train"), data.rows("validation")) == (1438, 359)
    held, digits = data.read_rows("validation", np.arange(2)), sklearn.load_digits()
    np.testing.assert_allclose(held["images"][..., 0] * 16, digits.images[[4, 9]])
    np.testing.assert_array_equal(held["labels"], digits.target[[4, 9]])
    assert data.label == "scikit-learn's handwritten digits"


def picture_folders(root: Path, *, sizes: tuple[tuple[int, int], ...] = ((6, 6),)) -> Path:
    """`root/<label>/<n>.png`: all of cat are dark, all of dog bright, every third one is grey."""
    pictures = pytest.importorskip("PIL.Image")
    for number in range(20):
        label, value = ("cat", 40) if number % 2 else ("dog", 200)
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        mode = "L" if number % 3 == 2 else "RGB"
        colour = value if mode == "L" else (value, value, value + number)
        pictures.new(mode, sizes[number % len(sizes)], colour).save(folder / f"{number:02}.png")
    return root


def test_folders_of_pictures_are_labels(tmp_path: Path) -> None:
    train = picture_folders(tmp_path / "train", sizes=((6, 6), (9, 7), (4, 12)))
    held = picture_folders(tmp_path / "val", sizes=((5, 8),))
    data = open_data(config(train, validation_path=str(held), image_size=5), kind="images")
    assert data.spec.image == (5, 5, 3)
    assert data.spec.labels == ("cat", "dog")
    assert (data.rows("train"), data.rows("validation")) == (20, 20)
    batch = data.read_rows("train", np.arange(20))
    # Of one colour, so scaling changes none of it.
    red = batch["images"][:, 0, 0, 0]
    assert (batch["images"][..., 0] == red[:, None, None]).all()
    np.testing.assert_array_equal(red, np.where(batch["labels"] == 0, 40, 200))


def test_pictures_of_unequal_sizes_want_one_to_be_set(tmp_path: Path) -> None:
    train = picture_folders(tmp_path / "train", sizes=((6, 6), (9, 7)))
    with pytest.raises(DataError, match=r"make them alike, or set data\.image_size"):
        open_data(config(train), kind="images")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_middle_of_an_array_is_kept(tmp_path: Path, dtype: str) -> None:
    given = np.zeros((20, 4, 8, 2), dtype)
    given[:, :, 2:6, 1] = 1
    np.savez(tmp_path / "a.npz", image=given, label=np.arange(20) % 2)
    data = open_data(config(tmp_path / "a.npz", image_size=4), kind="images")
    row = data.read_rows("train", np.asarray([0]))["images"][0]
    assert row.dtype == dtype
    np.testing.assert_array_equal(row, given[0, :, 2:6])


def test_columns_of_cifar_are_read_by_their_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = ["airplane", "automobile", "bird"]
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    for split, count in (("train", 6), ("test", 4)):
        rows = {
            "img": list(images(count, shape=(32, 32, 3))),
            "label": [i % 3 for i in range(count)],
        }
        made = datasets.Dataset.from_dict(rows, features=features)
        made.to_parquet(str(tmp_path / "set" / "plain_text" / f"{split}-00000-of-00001.parquet"))
    asked = DataConfig(
        dataset=str(tmp_path / "set"),
        validation_split="test",
        image_column="img",
        cache_dir=str(tmp_path / "cache"),
    )
    data = open_data(asked, kind="images")
    assert (data.spec.labels, data.spec.image) == (tuple(names), (32, 32, 3))
    assert (data.rows("train"), data.rows("validation")) == (6, 4)


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
