"""Rows that are images with a label each.

Without a source of their own they are the handwritten digits that scikit-learn brings along (a part
of UCI's optical recognition of handwritten digits): 1,797 of 8 x 8 pixels with values from 0 to 16.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data.base import Batch, Data, RowSpec
from zoo.data.cache import Store, StoreWriter, open_or_build
from zoo.data.config import DataConfig, cache_root
from zoo.data.encoding import digest
from zoo.data.readers import (
    TABLES,
    Record,
    dataset_records,
    image_folder_records,
    read_records,
)
from zoo.data.records import EVERY, label_of, number_labels
from zoo.data.sources import SPLITS, Split, fingerprint, stamps, walk
from zoo.data.tokenizers import ByteTokenizer, Vocabulary
from zoo.errors import DataError

FORM_FILE = "images.json"
MOST_CHANNELS = 4
# So few digits: one of five is held out.
EVERY_DIGIT = 5


class ImageData(Data):
    """Labelled images of the two splits; `zoo.data.loader.open_data` makes it.

    Rows are `images` [batch, height, width, channels], uint8 or float32 in [0, 1], and `labels`
    int32 [batch], -1 in a row of padding.
    """

    unit = "examples"

    def __init__(self, config: DataConfig, *, store: Store, dtype: str, **common: Any) -> None:
        super().__init__(config, **common)
        self._store = store
        self._dtype = np.dtype(dtype)
        self._labels = {split: np.load(store.folder / _labels_file(split)) for split in SPLITS}

    @property
    def fingerprint(self) -> str:
        """Equal where the images and labels of both splits are equal, whatever the machine."""
        return digest([self._store.meta[key] for key in ("splits", "files")])

    def rows(self, split: Split) -> int:
        """Images in `split`."""
        return len(self._labels[split])

    def read_rows(self, split: Split, indices: np.ndarray) -> Batch:
        """The images `indices` [batch]; an index of -1 gives a row of padding."""
        assert self.spec.image is not None
        stored = self._store.tokens[split].reshape(self.rows(split), -1)
        chosen = np.ascontiguousarray(stored[np.maximum(indices, 0)])
        labels = np.where(indices < 0, -1, self._labels[split][np.maximum(indices, 0)])
        return {
            "images": chosen.view(self._dtype).reshape(-1, *self.spec.image),
            "labels": labels.astype(np.int32),
        }

    def num_targets(self) -> int:
        """Images in an epoch."""
        return self.rows("train")

    def bytes_per_token(self, split: Split) -> float | None:
        """None: no text is predicted."""
        return None

    def figures(self, split: Split) -> dict[str, str]:
        """Sizes of `split`, for people."""
        assert self.spec.image is not None
        shape = " x ".join(map(str, self.spec.image))
        return {"images": f"{self.rows(split):,}", "shape": shape, "values": self._dtype.name}


def open_image_data(config: DataConfig, *, seed: int, notes: list[str]) -> ImageData:
    """The images of `config`; arguments and errors as for `zoo.data.loader.open_data`."""
    columns = {field: getattr(config, field) for field in ("image_column", "label_column")}
    label = config.path or config.dataset or "scikit-learn's handwritten digits"
    store = open_or_build(
        cache_root(config) / f"images-{_fingerprint(config, columns)}",
        lambda folder: _write(_splits(config, columns), label, folder, size=config.image_size),
        notes,
        what=label,
    )
    form = json.loads((store.folder / FORM_FILE).read_text(encoding="utf-8"))
    return ImageData(
        config,
        seed=seed,
        label=label,
        tokenizer=ByteTokenizer(),
        spec=RowSpec(
            length=0,
            vocabulary=Vocabulary(0),
            labels=tuple(map(str, form["labels"])),
            image=tuple(form["shape"]),
        ),
        notes=tuple(notes),
        store=store,
        dtype=form["dtype"],
    )


def _fingerprint(config: DataConfig, columns: dict[str, str]) -> str:
    marks = []
    for field in ("path", "validation_path"):
        name = getattr(config, field)
        if name is None:
            continue
        path = Path(name).expanduser()
        if not path.exists():
            raise DataError(f"data.{field}: there is no file or folder {name}")
        if path.is_file() and path.suffix not in (*TABLES, ".npz"):
            raise DataError(
                f"data.{field}: {name}; images are read from .npz, .parquet or .jsonl, or from a "
                "folder with a folder of pictures for each label"
            )
        whole = path.is_dir()
        marks.append(stamps(path, walk(path)) if whole else stamps(path.parent, [path.name]))
    local = Path(config.dataset or "").expanduser()
    if config.dataset is not None and local.is_dir():
        marks.append(stamps(local, walk(local)))
    identity = (
        (config.dataset, config.dataset_config, config.dataset_split, config.validation_split),
        (config.max_documents, config.streaming),
    )
    return fingerprint("images", columns, marks, identity, config.image_size)


def _splits(config: DataConfig, columns: dict[str, str]) -> Iterator[tuple[Split, Record]]:
    """Every record with its split; without a held-out source every twentieth is held out."""
    if config.path is None and config.dataset is None:
        for number, record in enumerate(_digits(), start=1):
            yield "validation" if number % EVERY_DIGIT == 0 else "train", record
        return

    def records(path: str | None, split: str | None) -> Iterator[Record]:
        if path is None:
            return dataset_records(config, str(config.dataset), str(split), columns)
        file = Path(path).expanduser()
        if file.is_dir():
            return image_folder_records(file, columns)
        return _read_npz(file, columns) if file.suffix == ".npz" else read_records(file, columns)

    whole = config.validation_path is None and config.validation_split is None
    for number, record in enumerate(records(config.path, config.dataset_split), start=1):
        yield "validation" if whole and number % EVERY == 0 else "train", record
    if not whole:
        for record in records(config.validation_path, config.validation_split):
            yield "validation", record


def _digits() -> Iterator[Record]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "the handwritten digits are scikit-learn's, which is not there: pip install "
            "scikit-learn, or give data.path or data.dataset"
        ) from error
    found = load_digits()
    images = (found.images[..., None] / found.images.max()).astype(np.float32)
    for number, (image, label) in enumerate(zip(images, found.target, strict=True), start=1):
        yield f"digit {number}", [image, label]


def _read_npz(path: Path, columns: dict[str, str]) -> Iterator[Record]:
    try:
        with np.load(path) as arrays:
            for field, column in columns.items():
                if column not in arrays:
                    raise DataError(
                        f"{path} has no array {column!r} (data.{field}); it has {', '.join(arrays)}"
                    )
            images, labels = (arrays[column] for column in columns.values())
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not an .npz file of arrays: {error}") from error
    if len(images) != len(labels):
        raise DataError(f"{path} has {len(images):,} images and {len(labels):,} labels")
    for number, (image, label) in enumerate(zip(images, labels, strict=True), start=1):
        yield f"{path} image {number}", [image, label]


def _write(
    records: Iterator[tuple[Split, Record]], label: str, folder: Path, *, size: int | None
) -> None:
    found: dict[Split, list[str | int]] = {split: [] for split in SPLITS}
    first: np.ndarray | None = None
    with StoreWriter(folder, max_id=255) as writer:
        for split, (where, (value, name)) in records:
            image = _image(
                value, where, size=size, colours=None if first is None else first.shape[2]
            )
            first = image if first is None else first
            if (image.shape, image.dtype) != (first.shape, first.dtype):
                raise DataError(
                    f"{where} is {image.dtype} of shape {image.shape}, the first one is "
                    f"{first.dtype} of shape {first.shape}; make them alike"
                    + (", or set data.image_size" if size is None else "")
                )
            writer.add(split, np.frombuffer(image.tobytes(), np.uint8), 0)
            found[split].append(label_of(name, where))
    for split in SPLITS:
        if not found[split]:
            raise DataError(
                f"{label}: the {split} split holds no image; give more of them, or held-out ones "
                "of their own"
            )
    assert first is not None
    labels, numbers = number_labels(found, label)
    for split in SPLITS:
        np.save(folder / _labels_file(split), np.asarray(numbers[split], np.int32))
    form = {"shape": first.shape, "dtype": first.dtype.name, "labels": labels}
    (folder / FORM_FILE).write_text(json.dumps(form), encoding="utf-8")
    writer.finish()


def _image(value: Any, where: str, *, size: int | None, colours: int | None) -> np.ndarray:
    """[height, width, channels], uint8 or float32 in [0, 1]. Raises `DataError` for all else.

    Args:
        size: of the square that is cut out of its middle; None: all of it is taken.
        colours: channels of the images before it; a grey picture among coloured ones gets them.
    """
    if hasattr(value, "convert"):  # an image of Pillow, as `datasets` gives
        value = value if value.mode in ("L", "RGB", "RGBA") else value.convert("RGB")
        value = value.convert("RGB") if (value.mode, colours) == ("L", 3) else value
        image = np.asarray(value if size is None else _square(value, size))
        image = image[..., None] if image.ndim == 2 else image
    else:
        try:
            image = np.asarray(value)
        except ValueError:  # rows of unequal length
            image = np.asarray(None)
    if image.ndim != 3 or not 1 <= image.shape[-1] <= MOST_CHANNELS:
        raise DataError(
            f"{where} has shape {image.shape}; use [height, width, channels], channels last, "
            f"1 to {MOST_CHANNELS} of them"
        )
    whole = np.issubdtype(image.dtype, np.integer)
    if not whole and not np.issubdtype(image.dtype, np.floating):
        raise DataError(f"{where} holds {image.dtype}; use uint8, or floats in [0, 1]")
    most = 255 if whole else 1
    if image.size == 0 or not (image.min() >= 0 and image.max() <= most):
        raise DataError(f"{where} has values outside 0 to {most}; use uint8, or floats in [0, 1]")
    image = image.astype(np.uint8 if whole else np.float32)
    if size is None or hasattr(value, "convert"):
        return image
    # Pillow scales floats in a picture of one channel only.
    from PIL import Image

    parts = [
        _square(Image.fromarray(image[..., channel]), size) for channel in range(image.shape[2])
    ]
    return np.stack([np.clip(np.asarray(part), 0, most) for part in parts], axis=-1)


def _square(picture: Any, size: int) -> Any:
    """The middle of a picture of Pillow whose shorter side is scaled to `size` pixels."""
    from PIL import ImageOps

    return picture if picture.size == (size, size) else ImageOps.fit(picture, (size, size))


def _labels_file(split: Split) -> str:
    return f"{split}.labels.npy"
