"""Text in, batches of token rows out: sources, tokenizers, the indexed cache and the loader."""

from zoo.data.base import Budget, Data, RowSpec
from zoo.data.config import DataConfig
from zoo.data.loader import open_data
from zoo.data.preview import preview
from zoo.data.text import TextData
from zoo.data.tokenizers import Tokenizer, load_tokenizer

__all__ = [
    "Budget",
    "Data",
    "DataConfig",
    "RowSpec",
    "TextData",
    "Tokenizer",
    "load_tokenizer",
    "open_data",
    "preview",
]
