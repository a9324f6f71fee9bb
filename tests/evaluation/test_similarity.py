"""`zoo evaluate --task sentence_similarity`."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from scipy import stats

import zoo
from tests.hf.test_families import write
from zoo.cli import main
from zoo.data.tokenizers import ByteTokenizer, load_tokenizer
from zoo.errors import ConfigError, DataError
from zoo.evaluation.similarity import embed, evaluate_pairs, read_pairs
from zoo.models.tower import Transformer

PAIRS = (
    ("a b c", "a b d", 4.5),
    ("a b c d e f g h i j k l m", "x", 0.5),
    ("x y", "y x z", 3.0),
    ("m n o", "c", 1.0),
)


def pairs_file(folder: Path, *, header: str = "sentence1\tsentence2\tscore\n") -> Path:
    file = folder / "pairs.tsv"
    file.write_text(header + "".join(f"{a}\t{b}\t{score}\n" for a, b, score in PAIRS))
    return file


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A folder of a small BERT whose tokenizer frames texts, fills them up and cuts them."""
    write("bert", tmp_path / "a")
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz"]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    inner.enable_truncation(4)
    inner.enable_padding(length=6)
    inner.save(str(tmp_path / "a" / "tokenizer.json"))
    return tmp_path / "a"


def test_a_file_that_cuts_and_fills_texts_gives_their_own_tokens(encoder: Path) -> None:
    tokenizer = load_tokenizer(encoder)
    np.testing.assert_array_equal(tokenizer.encode(b"a b c d e"), [4, 5, 6, 7, 8])
    assert [list(part) for part in tokenizer.frame] == [[1], [2]]
    # And is saved as it was.
    tokenizer.save(encoder / "again")
    stored = [json.loads((f / "tokenizer.json").read_text()) for f in (encoder, encoder / "again")]
    assert stored[0] == stored[1]


def vector(model: Transformer, text: str, folder: Path) -> np.ndarray:
    ids = np.asarray([1, *load_tokenizer(folder).encode(text.encode()), 2], np.int32)
    return np.asarray(model.hidden(jnp.asarray(ids)[None])[0].mean(0))


def test_vectors_are_means_over_each_texts_own_tokens(encoder: Path) -> None:
    model = zoo.load_pretrained(encoder)
    texts = [pair[0] for pair in PAIRS] * 10
    found, cut = embed(model, load_tokenizer(encoder), texts)
    expected = np.stack([vector(model, pair[0], encoder) for pair in PAIRS])
    np.testing.assert_allclose(found[:4], expected, atol=1e-5)
    np.testing.assert_array_equal(found[:4], found[-4:])
    assert cut == 0


def test_correlations_are_those_of_the_cosines(encoder: Path, tmp_path: Path) -> None:
    model = zoo.load_pretrained(encoder)
    cosines = []
    for one, two, _ in PAIRS:
        a, b = vector(model, one, encoder), vector(model, two, encoder)
        cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    scores = [score for _, _, score in PAIRS]
    found = evaluate_pairs(encoder, pairs_file(tmp_path))
    assert found["eval_pearson"] == pytest.approx(stats.pearsonr(cosines, scores)[0], abs=1e-5)
    assert found["eval_spearman"] == pytest.approx(stats.spearmanr(cosines, scores)[0], abs=1e-5)
    assert (found["count"], found["vector"]) == (4, "mean of tokens")


def test_a_sentence_encoder_gives_its_own_vectors(encoder: Path, tmp_path: Path) -> None:
    places = {"Transformer": "", "Pooling": "1_Pooling"}
    listed = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(places.items())
    ]
    (encoder / "modules.json").write_text(json.dumps(listed))
    (encoder / "1_Pooling").mkdir()
    (encoder / "1_Pooling" / "config.json").write_text(
        json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    )
    found = evaluate_pairs(encoder, pairs_file(tmp_path))
    assert found["vector"] == "first token"


def test_columns_are_found_by_name_or_by_place(tmp_path: Path) -> None:
    named = tmp_path / "named.tsv"
    named.write_text('score\tgenre\tsentence1\tsentence2\n1.5\tnews\ta "b\tc\n2\tnews\td\te\n')
    first, second, scores = read_pairs(named)
    assert (first, second, list(scores)) == (['a "b', "d"], ["c", "e"], [1.5, 2.0])
    assert read_pairs(pairs_file(tmp_path, header=""))[0] == [pair[0] for pair in PAIRS]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("a\tb\tc\n", "line 1"),
        ("sentence1\tsentence2\tscore\na\tb\n", "line 2"),
        ("a\tb\t1\nc\td\t1\n", "at least two"),
        ("a\tb\t1\nc\td\tnan\ne\tf\t2\n", "line 2: score = nan"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, named: str) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text(content)
    with pytest.raises(DataError, match=named):
        read_pairs(file)


def test_a_model_without_single_texts_is_refused(tmp_path: Path) -> None:
    model = zoo.create_model("encoder-decoder-tiny", num_layers=1, d_model=16, rngs=0)
    zoo.save_pretrained(model, tmp_path / "a")
    ByteTokenizer().save(tmp_path / "a")
    with pytest.raises(ConfigError, match="encoder_decoder"):
        evaluate_pairs(tmp_path / "a", pairs_file(tmp_path))


def test_the_command_prints_them(
    encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--task", "sentence_similarity", "--pairs", str(pairs_file(tmp_path))]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--from", str(encoder), *words])
    assert stop.value.code == 0
    assert "eval_spearman" in capsys.readouterr().out
