"""What a reader has and a test has not: files of their own, checkpoints of the Hub."""

from __future__ import annotations

import json
import shutil
import sysconfig
from pathlib import Path

import numpy as np

from tests.hf.test_families import write
from tests.training.conftest import write_text
from tests.word_pieces import write_tokenizer

# Repos named in the pages, and the case of tests/hf/cases whose tiny weights stand for each.
HUB = {
    "openai-community/gpt2": "gpt2",
    "google-bert/bert-base-uncased": "bert",
    "Helsinki-NLP/opus-mt-en-de": "marian",
    "sentence-transformers/all-MiniLM-L6-v2": "bert",
}


def fill_hub(cache: Path) -> Path:
    """The Hub's cache, as huggingface_hub lays it out."""
    for repo, case in HUB.items():
        folder = cache / f"models--{repo.replace('/', '--')}"
        snapshot = folder / "snapshots" / "0"
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0")
        write(case, snapshot)
        write_tokenizer(snapshot)
        _as_published(snapshot / "config.json")
        if repo.startswith("sentence-transformers/"):
            _pooled(snapshot)
    return cache


def _as_published(file: Path) -> None:
    """Ids that begin and end a text within the tiny vocabulary, and eps as published."""
    config = json.loads(file.read_text())
    if "layer_norm_eps" in config:
        config["layer_norm_eps"] = 1e-12
    for name in ("bos_token_id", "eos_token_id"):
        if (config.get(name) or 0) >= config["vocab_size"]:
            config[name] = 2
    file.write_text(json.dumps(config))


def _pooled(folder: Path) -> None:
    """A mean over the tokens behind the trunk, as sentence-transformers says it."""
    modules = {"": "Transformer", "1_Pooling": "Pooling"}
    listed = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules.items())
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')


def fill_library(folder: Path) -> Path:
    """A little of the Python standard library: the first files of its packages."""
    library = Path(sysconfig.get_path("stdlib"))
    for package in sorted(path.parent for path in library.glob("*/__init__.py")):
        if package.name not in ("site-packages", "test", "idlelib", "lib2to3"):
            (folder / package.name).mkdir()
            for file in sorted(package.glob("*.py"))[:3]:
                shutil.copy(file, folder / package.name)
    return folder


def fill_desk(folder: Path, root: Path) -> Path:
    """The repository's configs, and what the pages call files of the reader's own."""
    shutil.copytree(root / "configs", folder / "configs")
    (folder / "my-texts").mkdir()
    write_text(folder / "my-texts" / "one.txt", seed=1)
    write_text(folder / "my-texts" / "two.txt", seed=2)
    write_text(folder / "book.txt", seed=3, lines=12)
    for split, seed in (("train", 4), ("val", 5), ("test", 6)):
        for language in ("en", "de"):
            write_text(folder / f"{split}.{language}", seed=seed, lines=200)
    with (folder / "reviews.jsonl").open("w") as file:
        for i in range(200):
            file.write(json.dumps({"text": f"text {i} of {i % 3}", "label": i % 3}) + "\n")
    rng = np.random.default_rng(7)
    rows = [f"a b {i}\ta c {i}\t{rng.uniform(0, 5):.2f}" for i in range(8)]
    (folder / "sts.tsv").write_text("\n".join(rows))
    return folder
