"""`zoo generate` on folders that no training of ours wrote, and how text is shown as it comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import zoo
from tests.hf.test_families import write
from zoo.cli import main
from zoo.cli.generate import _Printer
from zoo.data.tokenizers import ByteTokenizer, load_tokenizer
from zoo.decoding import Sampling

WORDS = ["<pad>", "<s>", "</s>", *(f"w{number}" for number in range(45))]


def ran(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["generate", *words])
    printed = capsys.readouterr()
    return stop.value.code, printed.out, printed.err


def with_words(folder: Path, *, after: str = "") -> Path:
    """A tokenizer.json of 48 words that puts <s> before a text."""
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(WORDS[:3])
    inner.post_processor = processors.TemplateProcessing(
        single=f"<s> $A {after}".strip(),
        special_tokens=[(word, WORDS.index(word)) for word in WORDS[:3]],
    )
    inner.save(str(folder / "tokenizer.json"))
    return folder


def test_a_decoder_of_transformers_goes_on_behind_its_begin_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("gpt2", tmp_path)
    with_words(tmp_path, after="</s>")
    code, out, _ = ran(
        capsys, "--from", str(tmp_path), "--prompt", "w7 w3", "--max-new-tokens", "6"
    )
    model = zoo.load_pretrained(tmp_path)
    made = zoo.generate(model, jnp.asarray([[1, 10, 6]]), max_new_tokens=6)[0, 1:].tolist()
    kept = [token for token in made if token > 2]
    assert (code, out) == (0, load_tokenizer(tmp_path).decode(kept) + "\n")


def test_an_answer_is_searched_with_beams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("marian", tmp_path)
    with_words(tmp_path, after="</s>")
    more = ("--num-beams", "3", "--max-new-tokens", "5", "--repetition-penalty", "1.5")
    code, out, _ = ran(capsys, "--from", str(tmp_path), "--prompt", "w7 w3", *more)
    made = zoo.generate(
        zoo.load_pretrained(tmp_path),
        jnp.asarray([[1, 10, 6, 2]]),
        max_new_tokens=5,
        sampling=Sampling(num_beams=3, repetition_penalty=1.5),
    )
    kept = [token for token in made[0, 1:].tolist() if token > 2]
    assert (code, out) == (0, load_tokenizer(tmp_path).decode(kept) + "\n")
    assert kept


def test_our_own_format_goes_on_in_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = zoo.create_model("decoder-tiny", variant="mix_norm", rngs=0, d_model=16, num_heads=2)
    zoo.save_pretrained(model, tmp_path / "own")
    ByteTokenizer().save(tmp_path / "own")
    words = ("--from", str(tmp_path / "own"), "--prompt", "on", "--max-new-tokens", "4")
    code, out, _ = ran(capsys, *words, "--temperature", "0.9", "--top-k", "3")
    assert code == 0
    assert out.startswith("on")
    assert ran(capsys, *words, "--temperature", "0.9", "--top-k", "3")[1] == out
    code, _, err = ran(capsys, *words, "--top-k", "3")
    assert code == 2
    assert "top_k = 3 with temperature = 0" in err


def test_a_character_is_shown_when_all_its_bytes_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = _Printer(ByteTokenizer(), (256,), list(b"caf"))
    shown = []
    for byte in [*"é!".encode(), 256, 0]:
        printer.add([byte])
        shown.append(capsys.readouterr().out)
    printer.finish([*"é!".encode(), 256, 0])
    assert [*shown, capsys.readouterr().out] == ["caf", "é", "!", "", "", "\n"]


def test_a_flag_that_is_refused_leaves_the_output_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("llama", tmp_path)
    words = ["--from", str(with_words(tmp_path)), "--prompt", "w1"]
    for flag, named in (("--max-new-tokens", "max_new_tokens = -1"), ("--temperature", "temper")):
        code, out, err = ran(capsys, *words, flag, "-1")
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {named}")
