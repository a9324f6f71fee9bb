"""`zoo export`: a run as a folder to hand on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoo
from tests.hf.test_families import write
from tests.training.conftest import TINY, with_values, write_text
from zoo.cli import main
from zoo.data.tokenizers import load_tokenizer, vocabulary
from zoo.errors import CheckpointError
from zoo.layers import weight
from zoo.models.tower import Transformer
from zoo.training.config import TrainConfig
from zoo.training.export import export
from zoo.training.loop import train

IDS = jnp.asarray([[1, 2, 3, 4], [9, 8, 7, 6]])
SMALL = TINY | {"steps": 3, "eval_every": 3, "log_every": 3}
# What BERT's family has words for.
BERT = {
    "task": "masked_lm",
    "data.tokenizer": "bpe",
    "data.vocab_size": 300,
    "model.architecture": "encoder",
    "model.variant": "post_norm",
    "model.type_vocab_size": 2,
    "model.embedding_norm": True,
    "model.embedding_scale": False,
    "model.tie_embeddings": True,
    "model.init": "normal",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


def trained(place: Path, name: str, **settings: Any) -> Path:
    places = {
        "workdir": str(place / name),
        "data.path": str(write_text(place / "secret" / "text.txt", seed=2)),
        "data.cache_dir": str(place / "cache"),
    }
    train(with_values(TrainConfig(), SMALL | places | settings))
    return place / name


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """A run in the middle of its schedule, which no family has words for."""
    (place / "secret").mkdir(exist_ok=True)
    return trained(place, "run", **{"model.variant": "pro_res(base='post_norm', steps=5)"})


@pytest.fixture(scope="module")
def bert(place: Path) -> Path:
    (place / "secret").mkdir(exist_ok=True)
    return trained(place, "bert", **BERT)


def same(one: Transformer, two: Transformer) -> None:
    jax.tree.map(np.testing.assert_array_equal, weight.split(one)[0], weight.split(two)[0])
    np.testing.assert_array_equal(one(IDS), two(IDS))


def test_a_run_that_no_family_says_reads_back_bit_for_bit(run: Path, tmp_path: Path) -> None:
    written = export(run, tmp_path / "out")
    assert written.family == "postnorm_zoo"
    assert written.declined is not None
    assert "the nearest, has none for" in written.declined
    assert str(written).count("\n") == 1
    model = zoo.load_pretrained(run)
    again = zoo.load_pretrained(tmp_path / "out")
    assert (again.config, again.placement) == (model.config, model.placement)
    same(again, model)
    # The byte tokenizer comes along.
    assert load_tokenizer(tmp_path / "out").fingerprint == "bytes"


def test_a_copy_of_an_export_keeps_what_lies_beside_the_weights(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    (tmp_path / "out" / "tokenizer.json").write_text("{}")
    family = zoo.save_pretrained(zoo.load_pretrained(tmp_path / "out"), tmp_path / "copy")
    assert family == "postnorm_zoo"
    for name in ("byte_tokenizer.json", "tokenizer.json"):
        there = tmp_path / "out" / name
        assert (tmp_path / "copy" / name).read_bytes() == there.read_bytes()
    same(zoo.load_pretrained(tmp_path / "copy"), zoo.load_pretrained(run))


def test_names_of_labels_go_along_with_their_own_head(tmp_path: Path) -> None:
    model = zoo.create_model(
        "encoder-tiny", variant="pro_res", head="sequence_classification", num_labels=3, rngs=0
    )
    zoo.save_pretrained(model, tmp_path / "out")
    (tmp_path / "out" / "labels.json").write_text('["a", "b", "c"]')
    zoo.save_pretrained(zoo.load_pretrained(tmp_path / "out"), tmp_path / "copy")
    assert (tmp_path / "copy" / "labels.json").read_text() == '["a", "b", "c"]'
    zoo.save_pretrained(zoo.load_pretrained(tmp_path / "out", num_labels=4), tmp_path / "four")
    assert not (tmp_path / "four" / "labels.json").exists()


def test_the_card_states_placement_data_recipe_and_figures(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: postnorm-zoo\n")
    assert "\n- pro_res\n" in card
    summary = json.loads((run / "summary.json").read_text())
    for said in (
        "placement `pro_res(base='post_norm', steps=5)`",
        "x' = ",
        "| layers (decoder) | 2 |",
        "| data | text.txt |",
        "| optimizer | adamw |",
        "| steps | 3 |",
        f"| eval_bits_per_byte | {summary['eval_bits_per_byte']:.6g} |",
        'zoo.load_pretrained("out")',
        'zoo.load_tokenizer("out")',
    ):
        assert said in card
    # Where it lay on the author's machine is nobody's business.
    assert "secret" not in card
    assert "from transformers" not in card


def test_a_run_that_a_family_says_is_written_in_its_words(bert: Path, tmp_path: Path) -> None:
    written = export(bert, tmp_path / "out")
    assert (written.family, written.declined) == ("bert", None)
    same(zoo.load_pretrained(tmp_path / "out"), zoo.load_pretrained(bert))
    assert (
        "from transformers import AutoTokenizer, BertForMaskedLM"
        in (tmp_path / "out" / "README.md").read_text()
    )
    # The mask token, which stands behind the run's own vocabulary, has a name now.
    ours, theirs = load_tokenizer(bert), load_tokenizer(tmp_path / "out")
    text = b"def f(x): return x"
    np.testing.assert_array_equal(theirs.encode(text), ours.encode(text))
    wanted = vocabulary(ours, ("mask",))
    assert theirs.token_id("[MASK]") == wanted.mask == ours.vocab_size
    assert vocabulary(theirs, ("mask",)) == wanted
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert (config["mask_token"], config["eos_token"]) == ("[MASK]", "<|endoftext|>")


def test_labels_keep_their_names(place: Path, tmp_path: Path) -> None:
    (place / "secret").mkdir(exist_ok=True)
    rows = [{"text": f"this is {word}", "label": word} for word in ("one", "two", "three")] * 20
    file = place / "labelled.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "task": "sequence_classification",
        "model.head": "sequence_classification",
        "model.pooler": "tanh",
        "data.tokenizer": "bytes",
        "workdir": str(place / "labelled"),
        "data.path": str(file),
        "data.cache_dir": str(place / "cache"),
    }
    left_out = {"data.vocab_size": 8192}
    train(with_values(TrainConfig(), SMALL | BERT | settings | left_out))
    assert export(place / "labelled", tmp_path / "out").family == "bert"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "one", "1": "three", "2": "two"}
    assert config["label2id"] == {"one": 0, "three": 1, "two": 2}
    same(zoo.load_pretrained(tmp_path / "out"), zoo.load_pretrained(place / "labelled"))


def test_bytes_have_a_tokenizer_json_of_the_same_ids() -> None:
    import tokenizers

    from zoo.data.tokenizers import ByteTokenizer, tokenizer_json

    made = tokenizers.Tokenizer.from_str(tokenizer_json(ByteTokenizer(), ("begin", "end")))
    text = "".join(map(chr, range(0x20, 0x250))) + "\n\t\x00 あ😀  x"
    assert made.encode(text).ids == list(text.encode())
    assert made.decode(list(text.encode())) == text
    assert made.token_to_id("[CLS]") == 256
    assert made.token_to_id("<|endoftext|>") == 257


def test_a_family_can_be_asked_for(run: Path, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gpt2 cannot express this model"):
        export(run, tmp_path / "out", family="gpt2")
    assert not (tmp_path / "out").exists()
    assert export(bert, tmp_path / "out", family="postnorm_zoo").declined == "as asked for"
    same(zoo.load_pretrained(tmp_path / "out"), zoo.load_pretrained(bert))


def test_a_workdir_is_never_replaced(run: Path) -> None:
    with pytest.raises(CheckpointError, match="something else than a checkpoint"):
        export(run, run)
    assert (run / "checkpoints").is_dir()


def test_a_checkpoint_keeps_what_lay_beside_it(tmp_path: Path) -> None:
    write("gpt2", tmp_path / "theirs")
    (tmp_path / "theirs" / "generation_config.json").write_text('{"eos_token_id": 3}')
    (tmp_path / "theirs" / "merges.txt").write_text("#version: 0.2\n")
    written = export(tmp_path / "theirs", tmp_path / "out")
    assert written.family == "gpt2"
    assert {"generation_config.json", "merges.txt", "README.md"} <= set(written.files)
    # And through our own format back again.
    export(tmp_path / "theirs", tmp_path / "own", family="postnorm_zoo")
    assert export(tmp_path / "own", tmp_path / "back").family == "gpt2"
    assert (tmp_path / "back" / "generation_config.json").is_file()
    same(zoo.load_pretrained(tmp_path / "back"), zoo.load_pretrained(tmp_path / "theirs"))


def test_end_tokens_are_told_to_whoever_generates(tmp_path: Path, place: Path) -> None:
    (place / "secret").mkdir(exist_ok=True)
    settings = {"data.tokenizer": "bpe", "data.vocab_size": 300, "model.variant": "deep_norm"}
    workdir = trained(place, "decoder", **settings)
    export(workdir, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert said == {"eos_token_id": load_tokenizer(workdir).eos_id}


class Hub:
    """What is asked of the hub."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self) -> Hub:
        return self

    def create_repo(self, repo: str, *, exist_ok: bool) -> Any:
        self.calls.append(("create", repo, exist_ok))

        class Url(str):
            repo_id = repo

        return Url(f"https://hub/{repo}")

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.calls.append(("upload", repo_id, sorted(f.name for f in folder_path.iterdir())))


def zoo_export(
    capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["export", *words])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_pushing_says_first_what_it_will_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    write("gpt2", tmp_path / "a")
    words = ("--from", str(tmp_path / "a"), "--out", str(tmp_path / "b"), "--push", "me/mine")
    code, out, _ = zoo_export(capsys, *words)
    assert code == 0
    files = ["README.md", "config.json", "model.safetensors"]
    assert hub.calls == [("create", "me/mine", True), ("upload", "me/mine", files)]
    wrote, form, uploading, uploaded = out.splitlines()
    assert wrote == f"wrote {tmp_path / 'b'}: {', '.join(files)}"
    assert form == "format: gpt2, which transformers loads"
    assert "3 files" in uploading
    assert "me/mine" in uploading
    assert uploaded == "uploaded: https://hub/me/mine"


def test_a_push_that_cannot_be_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("gpt2", tmp_path / "a")
    words = ("--from", str(tmp_path / "a"), "--out", str(tmp_path / "b"), "--push")
    code, out, err = zoo_export(capsys, *words, "not a repo")
    assert (code, out) == (2, "")
    assert "use 'owner/name'" in err
    assert not (tmp_path / "b").exists()
    # The suite runs offline.
    code, out, err = zoo_export(capsys, *words, "me/mine")
    assert code == 2
    assert err.count("\n") == 1
    assert "nothing was uploaded" in err
    assert (tmp_path / "b" / "model.safetensors").is_file()


def test_a_card_of_stages_tells_the_sizes_of_each(tmp_path: Path) -> None:
    write("swinv2", tmp_path / "theirs")
    export(tmp_path / "theirs", tmp_path / "ours")
    text = (tmp_path / "ours" / "README.md").read_text()
    rows = ("| d_model | 8, 16 |", "| d_ff | 32, 64 |")
    heads = "| heads | 2 (2 for keys and values), 4 (4 for keys and values) |"
    for row in (*rows, heads):
        assert row in text
