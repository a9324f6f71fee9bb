"""One hub, one desk and one trained run, shared by the pages."""

from __future__ import annotations

import dataclasses
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import tyro

from tests.docs.blocks import ROOT, commands, cut, fewer, run
from tests.docs.stand_ins import fill_desk, fill_hub, fill_library
from zoo.cli import compare
from zoo.variants import registry


@dataclasses.dataclass(frozen=True)
class Around:
    """The Hub's cache, the standard library, and where tokens are kept."""

    hub: Path
    library: Path
    caches: Path


@pytest.fixture(scope="session")
def around(tmp_path_factory: pytest.TempPathFactory) -> Around:
    """What lies outside of a reader's folder."""
    return Around(
        hub=fill_hub(tmp_path_factory.mktemp("hub")),
        library=fill_library(tmp_path_factory.mktemp("library")),
        caches=tmp_path_factory.mktemp("caches"),
    )


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, around: Around) -> Path:
    """A folder to sit in, with `runs/a` trained as the pages say."""
    folder = fill_desk(tmp_path_factory.mktemp("desk"), ROOT)
    with pytest.MonkeyPatch.context() as patch:
        _sit(patch, folder, around)
        (words,) = commands("zoo train --config configs/default.py --workdir runs/a")
        code, printed = run(words)
    assert code == 0, printed
    return folder


@pytest.fixture
def seat(monkeypatch: pytest.MonkeyPatch, desk: Path, around: Around, tmp_path: Path) -> Path:
    """A copy of the desk, to be worked in."""
    folder = shutil.copytree(desk, tmp_path / "desk")
    _sit(monkeypatch, folder, around)
    return folder


def _sit(patch: pytest.MonkeyPatch, folder: Path, around: Around) -> None:
    patch.chdir(folder)
    patch.setenv("XDG_CACHE_HOME", str(around.caches))
    patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(around.hub))
    places = {"stdlib": str(around.library)}
    place = sysconfig.get_path
    patch.setattr(
        sysconfig,
        "get_path",
        lambda name, *more, **kw: places.get(name) or place(name, *more, **kw),
    )
    # A page may register a variant; the next one must not see it.
    patch.setattr(registry, "_registered", dict(registry._registered))
    parsed = tyro.cli

    def cli(*args: Any, **more: Any) -> Any:
        return cut(parsed(*args, **more))

    patch.setattr(tyro, "cli", cli)
    settings = compare.settings
    patch.setattr(compare, "settings", lambda *given: fewer(settings(*given)))
