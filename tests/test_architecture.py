"""ARCHITECTURE.md's promises about the house, read from the source with `ast`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "zoo"
# Each room may import from the rooms to its left, never from its right.
ORDER = (
    "errors",
    "files",
    "settings",
    "tables",
    "layers",
    "variants",
    "models",
    "checkpoints",
    "data",
    "environment",
    "decoding",
    "hf",
    "tasks",
    "training",
    "diagnosis",
    "evaluation",
    "compare",
    "cli",
)
# Rooms that know how a Transformer is built or trained, but not where its norms sit.
VARIANT_BLIND = ("layers", "models", "training", "tasks", "data", "diagnosis", "evaluation")
# A preset is data: `gpt2` is a set of choices, and its placement is one of them.
TABLES = ("models/presets.py",)
MOST_LINES = 450


def sources(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def room_of(path: Path, package: Path) -> str:
    return path.relative_to(package).with_suffix("").parts[0]


def imported_modules(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import in a file, inside functions and TYPE_CHECKING too."""
    parents = ("zoo", *path.relative_to(package).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = parents[: len(parents) - node.level + 1] if node.level else ()
            module = ".".join(part for part in (*above, node.module) if part)
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def wrong_way_imports(package: Path) -> list[str]:
    """Every import that points right, or reaches a room through the public namespace."""
    found = []
    for path in sources(package):
        if path == package / "__init__.py":
            continue
        room = room_of(path, package)
        for line, module in imported_modules(path, package):
            parts = module.split(".")
            if parts[0] != "zoo":
                continue
            where = f"{path.relative_to(package.parent)}:{line} imports {module}"
            if len(parts) < 2 or parts[1] not in ORDER:
                found.append(f"{where}: name the room, one of {', '.join(ORDER)}")
            elif ORDER.index(parts[1]) > ORDER.index(room):
                found.append(f"{where}: {parts[1]} stands to the right of {room}")
    return found


def fold(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


def named_variants(path: Path, names: set[str]) -> list[str]:
    """String literals that are a variant, with or without options.

    Docstrings are left alone, and so is the default of a setting `variant: str`: a choice that
    a user can make otherwise, on which no code depends.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        or (isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "variant")
    }
    return [
        f"{path.name}:{node.lineno} names {node.value!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in prose
        and fold(node.value.split("(")[0]) in names
    ]


def test_every_room_has_a_place_in_the_order() -> None:
    rooms = {room_of(path, PACKAGE) for path in sources(PACKAGE)} - {"__init__", "__main__"}
    assert rooms <= set(ORDER), f"no place in ORDER and ARCHITECTURE.md: {rooms - set(ORDER)}"


def test_no_room_imports_from_its_right() -> None:
    assert wrong_way_imports(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("layers/norms.py", "from zoo.variants import registry"),
        ("layers/norms.py", "from zoo import training"),
        ("layers/norms.py", "import zoo.models.stack"),
        ("layers/norms.py", "def f():\n    from ..models import stack"),
        ("data/config.py", "from typing import *\nfrom zoo.training.config import TrainConfig"),
        ("errors.py", "import zoo"),
        ("models/stack.py", "from zoo.helpers import anything"),
    ],
)
def test_an_import_from_the_right_is_found(tmp_path: Path, file: str, line: str) -> None:
    package = tmp_path / "zoo"
    (package / file).parent.mkdir(parents=True)
    (package / file).write_text(line)
    assert len(wrong_way_imports(package)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("layers/norms.py", "import jax\nfrom zoo.errors import ConfigError"),
        ("layers/norms.py", "from .weight import Weight\nfrom ..errors import ZooError"),
        ("training/loop.py", "from zoo import checkpoints, data\nimport zoo.tasks.language"),
    ],
)
def test_an_import_from_the_left_is_allowed(tmp_path: Path, file: str, line: str) -> None:
    package = tmp_path / "zoo"
    (package / file).parent.mkdir(parents=True)
    (package / file).write_text(line)
    assert wrong_way_imports(package) == []


def test_no_layer_model_or_trainer_names_a_variant() -> None:
    import zoo

    names = {fold(name) for name in zoo.list_variants()}
    assert {"postnorm", "deepnorm"} <= names
    files = [
        path
        for path in sources(PACKAGE)
        if room_of(path, PACKAGE) in VARIANT_BLIND and str(path.relative_to(PACKAGE)) not in TABLES
    ]
    assert [found for path in files for found in named_variants(path, names)] == []


def test_a_named_variant_is_found_and_a_docstring_is_not(tmp_path: Path) -> None:
    file = tmp_path / "stack.py"
    file.write_text(
        '"""deep_norm"""\n'
        "class C:\n    variant: str = 'mix_norm'\n    'mix_norm'\n"
        "if name == 'deep_norm' or name == 'Mix-Norm(fraction=0.5)': pass\n"
    )
    found = named_variants(file, {"deepnorm", "mixnorm"})
    assert [line.split(" names ")[1] for line in found] == [
        "'deep_norm'",
        "'Mix-Norm(fraction=0.5)'",
    ]


def test_no_file_has_grown_into_two_ideas() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources(PACKAGE)
    }
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_import_zoo_stays_light() -> None:
    """Heavy libraries are imported by the function that needs them."""
    heavy = {"grain", "datasets", "tokenizers", "matplotlib", "tensorboardX", "orbax", "pyarrow"}
    found = []
    for path in sources(PACKAGE):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            found += [f"{path.name}: {name}" for name in modules if name.split(".")[0] in heavy]
    assert found == []
