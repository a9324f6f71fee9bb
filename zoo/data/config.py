"""The settings of the data room."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from zoo.errors import ConfigError, choices, near_matches
from zoo.settings import at_least, check_types

Packing = Literal["concat", "first_fit"]
Framing = Literal["own", "tokenizer"]
ValidationHalf = Literal["both", "first", "second"]
ProbeKind = Literal["copy", "induction", "listops", "parity"]
RowKind = Literal["text", "pairs", "classes", "tags", "spans", "images", ProbeKind]
# What the rows of a kind are, for people.
KINDS: dict[RowKind, str] = {
    "text": "running text",
    "pairs": "pairs of texts",
    "classes": "texts with a label each",
    "tags": "words with a label each",
    "spans": "questions about a text, with a span of it as the answer",
    "images": "images with a label each",
    "copy": "strings to copy",
    "induction": "pairs to recall",
    "listops": "nested operations on digits",
    "parity": "strings of bits",
}
PROBE_KINDS: tuple[ProbeKind, ...] = get_args(ProbeKind)
_STORED = tuple(kind for kind in KINDS if kind not in PROBE_KINDS)
_TEXTS: tuple[RowKind, ...] = ("text", "pairs", "classes", "tags", "spans")
# The settings that only some kinds read.
_READ_BY: dict[str, tuple[RowKind, ...]] = {
    "target_path": ("pairs",),
    "validation_target_path": ("pairs",),
    "target_column": ("pairs",),
    "target_length": ("pairs",),
    "label_column": ("classes", "tags", "spans", "images"),
    "text_pair_column": ("classes",),
    "question_column": ("spans",),
    "image_column": ("images",),
    "image_size": ("images",),
    **dict.fromkeys(("path", "validation_path", "dataset"), _STORED),
    **dict.fromkeys(("text_column", "tokenizer", "vocab_size"), _TEXTS),
    "length": (*_TEXTS, *PROBE_KINDS),
    "packing": ("text",),
    "separate_documents": ("text",),
}


@dataclass(frozen=True)
class DataConfig:
    """Where the text comes from, how it becomes tokens, and the shape of a batch.

    With neither `path` nor `dataset` the text is the source of the Python standard library, and
    the images are scikit-learn's handwritten digits (8 x 8, one channel).
    """

    path: str | None = None
    """A text file, a folder of text files, a .jsonl or a .parquet file (None: the Python
    standard library's source). Images: an .npz, .jsonl or .parquet file, or a folder with a folder
    of pictures for each label (None: handwritten digits)."""
    validation_path: str | None = None
    """Held-out text, read like `path` (None: a part of `path` is held out)."""
    dataset: str | None = None
    """A dataset with a text column, by Hub name (`owner/name`, `owner/name@revision`) or local
    folder, read through `datasets`."""
    dataset_config: str | None = None
    """The dataset's configuration name (`wikitext-2-raw-v1`)."""
    dataset_split: str = "train"
    """The dataset's split to train on."""
    validation_split: str | None = None
    """The dataset's split to evaluate on (None: the last 5 % of the training documents)."""
    validation_half: ValidationHalf = "both"
    """Evaluate on this contiguous half of the held-out rows only: choose settings by the first
    half, report figures of the second."""
    text_column: str = "text"
    """The column that holds the text in JSONL, Parquet and datasets."""
    target_path: str | None = None
    """The targets of pairs of texts: line i belongs to line i of `path`."""
    validation_target_path: str | None = None
    """The held-out targets, with `validation_path`."""
    target_column: str = "target"
    """The column of the targets of pairs; their sources are in `text_column`. For a key within
    a column write `column.key` (`translation.de`)."""
    label_column: str = "label"
    """The column of the labels: a name or a number; for words a list of these; for spans an
    object with the lists `text` and `answer_start`, as in SQuAD."""
    text_pair_column: str | None = None
    """The column of a second text, where two are classified together (GLUE's `sentence2`)."""
    question_column: str = "question"
    """The column of the questions that a span of `text_column` answers."""
    image_column: str = "image"
    """The column, or array of an .npz file, of images [height, width, channels]."""
    image_size: int | None = None
    """Pixels of a side: each image is scaled to the shorter one and its middle cut out (None: they
    are all of one size already)."""
    streaming: bool = False
    """Stream the dataset instead of downloading all of it; needs `max_documents`."""
    max_documents: int | None = None
    """Read at most this many documents of each split of the dataset (None: all)."""
    tokenizer: str = "bytes"
    """`bytes`, `bpe` (trained on the training split) or the path of a tokenizer.json."""
    vocab_size: int = 8192
    """Size of the trained vocabulary; only with `tokenizer=bpe`."""
    framing: Framing = "own"
    """Special tokens around a text that is classified, tagged or masked. `own`: a begin token
    before what is classified, and a separator between two texts; `tokenizer`: those that the
    tokenizer.json puts around every text (BERT's [CLS] and [SEP]), as a pretrained model has seen
    them."""
    batch_size: int = 16
    """Rows in a global batch."""
    length: int = 256
    """Tokens a row predicts; a row holds length + 1 tokens. Of a probe the most that a problem has
    beside its last answer: it sets how large the problems are."""
    target_length: int | None = None
    """Tokens a target row predicts, the end token among them (None: `length`)."""
    packing: Packing = "concat"
    """`concat`: rows are windows of the concatenated documents; `first_fit`: whole documents are
    packed into rows (longer ones cut), the rest of a row is padding."""
    separate_documents: bool = False
    """Give each document of a row its own segment, so that none attends to another."""
    cache_dir: str | None = None
    """Where token caches are kept (None: `postnorm-zoo` in the user's cache folder)."""
    prefetch: int = 4
    """Batches prepared ahead by a background thread (0: none)."""

    def validate(self) -> None:
        """Raise `ConfigError` for values that are meaningless or clash; reads no file."""
        check_types(self, "data.")
        for field in ("batch_size", "length", "target_length", "max_documents", "image_size"):
            at_least(f"data.{field}", getattr(self, field), 1)
        at_least("data.prefetch", self.prefetch, 0)
        for field in ("path", "validation_path", "dataset", "text_column", "dataset_split"):
            if getattr(self, field) == "":
                raise ConfigError(f"data.{field} is an empty string; leave it out instead")
        self._validate_source()
        self._validate_tokenizer()

    def _validate_source(self) -> None:
        if self.path is not None and self.dataset is not None:
            raise ConfigError(
                f"data.path = {self.path!r} and data.dataset = {self.dataset!r} are both set; "
                "give one of them"
            )
        if self.validation_path is not None and self.path is None:
            raise ConfigError(
                f"data.validation_path = {self.validation_path!r} needs data.path"
                + ("; with data.dataset use data.validation_split" if self.dataset else "")
            )
        if self.validation_path is not None and self.validation_path == self.path:
            raise ConfigError(
                f"data.validation_path = {self.validation_path!r} is the text trained on; name "
                "another, or leave it out to hold out a part"
            )
        if self.dataset is None:
            for field, unset in (
                ("dataset_config", None),
                ("dataset_split", "train"),
                ("validation_split", None),
                ("streaming", False),
                ("max_documents", None),
            ):
                if getattr(self, field) != unset:
                    value = getattr(self, field)
                    raise ConfigError(f"data.{field} = {value!r} needs data.dataset")
        elif self.validation_split == self.dataset_split:
            raise ConfigError(
                f"data.validation_split = {self.validation_split!r} is the split trained on; "
                "name another, or leave it out to hold out the last 5 %"
            )
        if self.streaming and self.max_documents is None:
            raise ConfigError(
                "data.streaming = True needs data.max_documents: the number of documents to keep"
            )

    def _validate_tokenizer(self) -> None:
        if self.framing == "tokenizer":
            if self.tokenizer in ("bytes", "bpe"):
                raise ConfigError(
                    f"data.framing = 'tokenizer' with data.tokenizer = {self.tokenizer!r}, which "
                    "puts nothing around a text; use the path of a tokenizer.json"
                )
            if self.separate_documents:
                raise ConfigError(
                    "data.framing = 'tokenizer' puts special tokens around a row, and with "
                    "data.separate_documents = True a row is several texts; use one of them"
                )
        if self.tokenizer not in ("bytes", "bpe") and not self.tokenizer.endswith(".json"):
            raise ConfigError(
                f"data.tokenizer = {self.tokenizer!r}; use bytes, bpe or the path of a "
                f"tokenizer.json{near_matches(self.tokenizer, ['bytes', 'bpe'])}"
            )
        if self.tokenizer == "bpe":
            # 256 bytes and the end-of-document token come before the first merge.
            at_least("data.vocab_size", self.vocab_size, 258)
        elif self.vocab_size != DataConfig.vocab_size:
            raise ConfigError(
                f"data.vocab_size = {self.vocab_size} has no effect with data.tokenizer = "
                f"{self.tokenizer!r}; it sets the size of a trained bpe vocabulary"
            )


def reads(kind: RowKind, field: str) -> bool:
    """Whether rows of this kind depend on a setting."""
    return kind in _READ_BY.get(field, KINDS)


def check_kind(config: DataConfig, kind: RowKind) -> None:
    """Raise `ConfigError` where `config` cannot give rows of this kind; reads no file."""
    plain = DataConfig()
    for field, readers in _READ_BY.items():
        value = getattr(config, field)
        if not reads(kind, field) and value != getattr(plain, field):
            raise ConfigError(
                f"data.{field} = {value!r} has no effect on {KINDS[kind]}, which this task reads; "
                f"it is for {choices(KINDS[each] for each in readers)}"
            )
    given = config.path or config.dataset
    if given is None and kind in ("pairs", "spans"):
        raise ConfigError(
            f"this task reads {KINDS[kind]}: give data.path"
            + (" and data.target_path" if kind == "pairs" else "")
            + " or data.dataset"
        )
    if given is None and config.text_pair_column is not None:
        raise ConfigError(
            f"data.text_pair_column = {config.text_pair_column!r} needs data.path or data.dataset"
        )
    if kind == "pairs":
        _check_pair(config, "path", "target_path")
        _check_pair(config, "validation_path", "validation_target_path")


def _check_pair(config: DataConfig, field: str, target_field: str) -> None:
    """Targets are in a file of their own exactly where the sources are lines of text."""
    path, target = getattr(config, field), getattr(config, target_field)
    lines = path is not None and not path.endswith((".jsonl", ".parquet"))
    if lines and target is None:
        raise ConfigError(
            f"data.{field} = {path!r} holds one half of the pairs; give the other as "
            f"data.{target_field}, or use a .jsonl or .parquet file with both"
        )
    if target is not None and not lines:
        raise ConfigError(
            f"data.{target_field} = {target!r} goes with lines of text in data.{field}, which is "
            f"{path!r}; of other sources data.target_column names the targets"
        )


def cache_root(config: DataConfig) -> Path:
    """The folder of the token caches: `cache_dir`, or `postnorm-zoo` under XDG_CACHE_HOME."""
    if config.cache_dir is not None:
        return Path(config.cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postnorm-zoo"
