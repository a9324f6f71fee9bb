"""`zoo evaluate --text`: against the model itself, one token at a time, and closed forms."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from flax import nnx

import zoo
from tests.hf.test_families import write
from zoo.cli import main
from zoo.data.tokenizers import ByteTokenizer, train_bpe
from zoo.errors import ConfigError, DataError
from zoo.evaluation.perplexity import evaluate_text, text_nats, windows
from zoo.models.tower import Transformer

IDS = np.random.default_rng(0).integers(0, 256, 37).astype(np.int32)


@pytest.fixture(scope="module")
def model() -> Transformer:
    return zoo.create_model("decoder-tiny", num_layers=1, d_model=16, max_length=16, rngs=0)


@nnx.jit
def forward(model: Transformer, ids: jax.Array) -> jax.Array:
    return model(ids)


def by_hand(model: Transformer, window: int, stride: int, begin: int | None) -> float:
    """Each token from its own context, which ends where its window's reading begins."""
    room = window - (begin is not None)
    nats, scored, end = 0.0, (0 if begin is not None else 1), room + 1
    while scored < len(IDS):
        end = min(end, len(IDS))
        for target in range(scored, end):
            context = IDS[max(0, end - 1 - room) : target]
            front = [] if begin is None else [begin]
            given = [*front, *context]
            # What stands behind a token changes nothing in front of it; one shape, one compilation.
            logits = forward(model, jnp.asarray([given + [0] * (16 - len(given))], jnp.int32))
            nats -= float(jax.nn.log_softmax(logits[0, len(given) - 1])[IDS[target]])
        scored, end = end, end + stride
    return nats


@pytest.mark.parametrize(
    ("window", "stride", "begin"), [(8, 4, None), (8, 8, None), (8, 3, 5), (8, 8, 5), (16, 1, 5)]
)
def test_nats_are_those_of_each_token_in_its_window(
    model: Transformer, window: int, stride: int, begin: int | None
) -> None:
    found = text_nats(model, IDS, window=window, stride=stride, begin=begin)
    # A sum of some 40 terms of order 5 in float32.
    assert found == pytest.approx(by_hand(model, window, stride, begin), rel=1e-5)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 5), (8, 1), (2, 2), (64, 7)])
def test_every_token_is_scored_once_with_enough_before_it(
    window: int, stride: int, begun: bool
) -> None:
    first = 0 if begun else 1
    scored: list[int] = []
    for own in windows(37, window, stride, begun=begun):
        for target in range(own.first, own.end):
            before = target - own.begin + begun
            assert before <= window
            # In the first window there may be less: the text begins there.
            assert own.begin == 0 or before >= window - stride
            scored.append(target)
    assert scored == list(range(first, 37))


def checkpoint(folder: Path, model: Transformer, tokenizer: Any) -> Path:
    zoo.save_pretrained(model, folder)
    tokenizer.save(folder)
    return folder


def test_a_model_that_knows_nothing_needs_eight_bits_a_byte(tmp_path: Path) -> None:
    model = zoo.create_model("decoder-tiny", num_layers=1, d_model=16, rngs=0)
    model.head.kernel[...] = jnp.zeros_like(model.head.kernel[...])
    folder = checkpoint(tmp_path / "a", model, ByteTokenizer())
    text = tmp_path / "text.bin"
    text.write_bytes(bytes(range(256)))  # no UTF-8, which bytes need not be
    found = evaluate_text(folder, text)
    assert found["eval_loss"] == pytest.approx(math.log(256), rel=1e-6)
    assert found["eval_perplexity"] == pytest.approx(256, rel=1e-5)
    assert found["eval_bits_per_byte"] == pytest.approx(8, rel=1e-6)
    assert (found["tokens"], found["bytes"], found["bos"]) == (255, 255, "none")
    assert (found["window"], found["stride"], found["unit"]) == (512, 256, "byte")


def test_bits_per_byte_count_the_bytes_of_what_is_scored(tmp_path: Path) -> None:
    words = b"the quick brown fox jumps over the lazy dog\n" * 20
    tokenizer = train_bpe([words], vocab_size=300)
    model = zoo.create_model(
        "decoder-tiny", num_layers=1, d_model=16, vocab_size=tokenizer.vocab_size, rngs=0
    )
    folder = checkpoint(tmp_path / "a", model, tokenizer)
    (tmp_path / "text.txt").write_bytes(words)
    found = evaluate_text(folder, tmp_path / "text.txt", window=32)
    ids = tokenizer.encode(words)
    first = len(tokenizer.decode(ids[:1]).encode())
    assert (found["tokens"], found["bytes"]) == (len(ids) - 1, len(words) - first)
    nats = text_nats(model, ids, window=32, stride=16)
    assert found["eval_loss"] == pytest.approx(nats / found["tokens"], rel=1e-6)
    bits = nats / math.log(2) / found["bytes"]
    assert found["eval_bits_per_byte"] == pytest.approx(bits, rel=1e-6)


def test_the_begin_token_is_the_checkpoints_own(tmp_path: Path) -> None:
    write("gpt2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"bos_token_id": 3}))
    ByteTokenizer().save(tmp_path)
    text = tmp_path / "text.txt"
    text.write_bytes(bytes([5, 6, 7, 8] * 9))
    model = zoo.load_pretrained(tmp_path)
    ids = np.asarray([5, 6, 7, 8] * 9, np.int32)
    with_bos = evaluate_text(tmp_path, text, window=8, stride=4)
    assert (with_bos["bos"], with_bos["tokens"]) == (3, 36)
    nats = text_nats(model, ids, window=8, stride=4, begin=3)
    assert with_bos["eval_loss"] == pytest.approx(nats / 36, rel=1e-6)
    without = evaluate_text(tmp_path, text, window=8, stride=4, bos=False)
    assert (without["bos"], without["tokens"]) == ("none", 35)


@pytest.mark.parametrize(
    ("settings", "error", "named"),
    [
        ({"window": 17}, ConfigError, "window = 17"),
        ({"window": 8, "stride": 9}, ConfigError, "stride = 9"),
        ({"stride": 0}, ConfigError, "stride = 0"),
        ({"bos": True}, ConfigError, "use --no-bos"),
        ({"file": "nowhere.txt"}, DataError, "nowhere.txt"),
        ({"text": b"a"}, DataError, "1 tokens"),
    ],
)
def test_what_cannot_be_measured_is_named(
    model: Transformer, tmp_path: Path, settings: dict[str, Any], error: type, named: str
) -> None:
    folder = checkpoint(tmp_path / "a", model, ByteTokenizer())
    (tmp_path / "text.txt").write_bytes(settings.pop("text", b"some text"))
    file = settings.pop("file", tmp_path / "text.txt")
    with pytest.raises(error, match=named):
        evaluate_text(folder, file, **settings)


def test_a_trunk_has_no_perplexity(tmp_path: Path) -> None:
    write("bert", tmp_path)
    ByteTokenizer().save(tmp_path)
    with pytest.raises(ConfigError, match="use a decoder"):
        evaluate_text(tmp_path, tmp_path / "config.json")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    write("gpt2", tmp_path)
    ByteTokenizer().save(tmp_path)
    with pytest.raises(DataError, match="the model knows 48"):
        evaluate_text(tmp_path, tmp_path / "config.json", bos=False)


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """A small BERT of letters, whose texts are framed."""
    write("bert_masked_lm", tmp_path / "bert")
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    inner.save(str(tmp_path / "bert" / "tokenizer.json"))
    (tmp_path / "text.txt").write_text("a b c d e f g h i j k")
    return tmp_path / "bert"


@pytest.mark.parametrize("framed", [True, False])
def test_a_masked_token_is_predicted_from_the_others_of_its_window(
    masked: Path, tmp_path: Path, framed: bool
) -> None:
    found = evaluate_text(masked, tmp_path / "text.txt", window=6, bos=framed)
    model, nats = zoo.load_pretrained(masked), 0.0
    room = 4 if framed else 6
    ids = list(range(5, 16))
    for start in range(0, len(ids), room):
        piece = ids[start : start + room]
        for place, target in enumerate(piece):
            given = [*piece[:place], 4, *piece[place + 1 :]]
            given = [1, *given, 2] if framed else given
            logits = forward(model, jnp.asarray([given], jnp.int32))[0, place + framed]
            nats -= float(jax.nn.log_softmax(logits)[target])
    assert found["eval_loss"] == pytest.approx(nats / 11, rel=1e-5)
    assert found["eval_pseudo_perplexity"] == pytest.approx(math.exp(nats / 11), rel=1e-5)
    assert (found["tokens"], found["window"], found["stride"]) == (11, 6, room)


def test_windows_of_masked_tokens_do_not_overlap(masked: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="do not overlap"):
        evaluate_text(masked, tmp_path / "text.txt", window=6, stride=2)
    with pytest.raises(ConfigError, match="3 to 20"):
        evaluate_text(masked, tmp_path / "text.txt", window=2)


def test_a_masked_model_needs_a_mask_token(masked: Path, tmp_path: Path) -> None:
    text = (masked / "tokenizer.json").read_text()
    (masked / "tokenizer.json").write_text(text.replace("[MASK]", "[HIDDEN]"))
    with pytest.raises(ConfigError, match="no mask token"):
        evaluate_text(masked, tmp_path / "text.txt")


def test_the_command_takes_any_checkpoint(
    model: Transformer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int | str | None, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["evaluate", "--from", str(folder), *words])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    folder = checkpoint(tmp_path / "a", model, ByteTokenizer())
    text = tmp_path / "text.txt"
    text.write_text("some text, and some more of it")
    code, out, _ = run("--text", str(text), "--window=16", "--stride", "8", "--no-bos", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(
        json.dumps(evaluate_text(folder, text, window=16, stride=8, bos=False))
    )
    assert "eval_bits_per_byte" in run("--text", str(text))[1]
    for words, named in (
        ((), "give --text FILE"),
        (("--stride", "4"), "give --text FILE"),
        (("--text", str(text), "--data.length", "8"), "--data.length has no effect with --text"),
        (("--text", str(text), "--max-batches", "8"), "--max-batches has no effect"),
        (("--task", "sentence_similarity"), "needs --pairs"),
    ):
        code, _, err = run(*words)
        assert (code, named in err) == (2, True), err
