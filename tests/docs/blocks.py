"""The code blocks of README and docs, run as a reader would: in order, in one folder.

sybil finds the blocks. Python runs in this process, all blocks of a page in one namespace; each
line of a `sh` block that is a command of ours runs through `zoo.cli.main`; a `console` block shows
what a command prints, `...` for what differs. A block below a comment `<!-- not run: why -->` is
only read: its Python must compile, its commands and flags must exist. Below `<!-- dry run: why -->`
a training command stops before its first step: config, data and shapes are made, nothing is learnt.

Lines stay as they are printed. What makes a run long is cut after its flags were parsed, in the
options themselves (`MOST`, `cut`), and repos of the Hub are tiny stand-ins in its cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import io
import itertools
import json
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from zoo.cli import main
from zoo.compare.config import CompareConfig, Range
from zoo.errors import ZooError
from zoo.tasks import TASKS
from zoo.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("python", "sh", "console", "text", "bibtex")
_REMARK = re.compile(r"<!-- (not run|dry run): [^>]+ -->\s*\Z")
_NEW_DESK = re.compile("<!-- new desk -->")

# The most that a command of a page gets of what decides how long it takes, by field of the run.
MOST: dict[str, int] = {
    "steps": 2,
    "eval_batches": 1,
    "sample_tokens": 8,
    "data.batch_size": 4,
    "optim.warmup": 1,
}
# The same for the size of a model, where it is not that of weights which are there already, for
# texts, and for a vocabulary that is trained.
SMALLEST: dict[str, int] = {
    "model.num_layers": 2,
    "model.d_model": 16,
    "model.num_heads": 2,
    "model.d_ff": 32,
}
LENGTH = {"data.length": 16}
WORDS = {"data.vocab_size": 300}


def pages() -> list[str]:
    """Every page with something to copy, relative to the repository."""
    docs = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
    return ["README.md", "CONTRIBUTING.md", *docs]


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def fences(page: str) -> list[str]:
    """The language of every block, in order."""
    marks = re.findall(r"^[ \t]*```(.*)$", text(page), re.M)
    return [language.strip() for language in marks[::2]]


def document(page: str) -> Document:
    """A page with its blocks, each of which can be evaluated."""
    parsers = (
        CodeBlockParser("python", _python),
        CodeBlockParser("sh", _shell),
        CodeBlockParser("console", _console),
    )
    made = Document.parse(str(ROOT / page), *parsers)
    made.namespace.update(results=results, table=table, cell=cell)
    return made


def parts(page: str) -> list[list[Example]]:
    """The blocks of a page up to each `<!-- new desk -->`, behind which nothing above is needed."""
    made = document(page)
    places = [0, *(mark.end() for mark in _NEW_DESK.finditer(made.text)), len(made.text)]
    examples = list(made)
    return [
        [example for example in examples if start <= example.start < end]
        for start, end in itertools.pairwise(places)
    ]


def results(name: str) -> list[dict[str, Any]]:
    """The lines of a file of `results/`, for what a page says of them."""
    lines = (ROOT / "results" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def table(page: str, column: str) -> list[list[str]]:
    """The cells of the table of a page that has such a column, its header left out."""
    return _table(page, column)[2:]


def cell(page: str, row: str, column: str) -> str:
    """One entry of a table, by what stands first in its row and the head of its column."""
    header, _, *rows = _table(page, column)
    return next(each[header.index(column)] for each in rows if each[0] == row)


def _table(page: str, column: str) -> list[list[str]]:
    for block in re.findall(r"(?:^\|.*\n)+", text(page), re.M):
        rows = [
            [entry.strip() for entry in line.strip("|").split("|")] for line in block.split("\n")
        ]
        if column in rows[0]:
            return rows[:-1]
    raise AssertionError(f"{page} has no table with a column {column!r}")


def commands(source: str) -> Iterator[list[str]]:
    """The words of each line, comments left out and continued lines joined."""
    for line in source.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def run(words: Sequence[str]) -> tuple[int, str]:
    """A command's exit code and what it printed; one that is not ours is checked instead."""
    own = of_zoo(words)
    if own is None:
        check_other(words)
        return 0, ""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            main(own)
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue()
    raise AssertionError("zoo returned instead of leaving")


def of_zoo(words: Sequence[str]) -> list[str] | None:
    """What comes after `zoo`, of which `python train.py` is a part."""
    if words[0] == "zoo":
        return list(words[1:])
    return ["train", *words[2:]] if words[:2] == ["python", "train.py"] else None


def check_spelling(words: Sequence[str]) -> None:
    """That command and flags exist, without running anything."""
    own = of_zoo(words)
    if own is None:
        return check_other(words)
    command, flags = own[0], [word for word in own[1:] if word.startswith("--")]
    assert command in help_of(), f"no command {command}"
    known = set(re.findall(r"--[\w.-]+", help_of(command)))
    missing = [flag for flag in flags if flag.partition("=")[0] not in known]
    assert missing == [], f"zoo {command} has no {missing}"


def check_other(words: Sequence[str]) -> None:
    """Commands around ours: the files, targets, extras and flags that they name exist."""
    match list(words):
        case ["make", *targets]:
            known = re.findall(r"^([a-z-]+):", text("Makefile"), re.M)
            assert set(targets) <= set(known), words
        case ["python", script, *rest]:
            path = ROOT / script / "__main__.py" if (ROOT / script).is_dir() else ROOT / script
            assert path.is_file(), f"no {script}"
            said = path.read_text(encoding="utf-8")
            assert [word for word in rest if word.startswith("--") and word not in said] == []
        case ["pip", "install", *rest]:
            extras = ",".join(re.findall(r"\[([\w,]+)\]", " ".join(rest)))
            known = re.findall(r"^(\w+) = \[", text("pyproject.toml"), re.M)
            assert set(extras.split(",")) <= {*known, ""}, words
        case ["source", ".venv/bin/activate"] | ["git", "clone", *_] | ["cd", *_]:
            pass
        case _:
            raise AssertionError(f"no way to check {shlex.join(words)!r}")


@functools.cache
def help_of(*command: str) -> str:
    code, page = run(["zoo", *command, "--help"])
    assert code == 0, page
    return page


def cut(options: Any) -> Any:
    """Options of a command with the run in them cut to seconds."""
    run = getattr(options, "run", None)
    if not isinstance(run, TrainConfig) or getattr(options, "from_", None):
        return options
    try:
        run.validate()
    except ZooError:
        return options  # to be refused as it stands
    return dataclasses.replace(options, run=small(run))


def small(run: TrainConfig) -> TrainConfig:
    """A run of seconds that differs in nothing but its size."""
    most = MOST if run.init_from else MOST | SMALLEST
    if TASKS[run.task].rows != "images":
        most = most | LENGTH | (WORDS if run.data.tokenizer == "bpe" else {})
    return _at_most(dataclasses.replace(run, eval_every=None, tensorboard=False), most)


def fewer(config: CompareConfig) -> CompareConfig:
    """A comparison of seconds: two of its variants at one depth, two points and two seeds."""
    some = {
        name: values if isinstance(values, Range) else tuple(values)[:2]
        for name, values in config.space.items()
    }
    return dataclasses.replace(
        config,
        variants=config.variants[:2],
        depths=(2,),
        space=some,
        trials=2,
        seeds=2,
        extend=0,
        layers=False,
        num_beams=1,
        workers=1,
        run=small(config.run),
        tasks={label: small(run) for label, run in config.tasks.items()},
    )


def _at_most(config: Any, most: dict[str, int]) -> Any:
    changes: dict[str, Any] = {}
    for dotted, limit in most.items():
        name, _, rest = dotted.partition(".")
        value = changes.get(name, getattr(config, name))
        if rest:
            changes[name] = _at_most(value, {rest: limit})
        elif value is not None:
            changes[name] = min(value, limit)
    return dataclasses.replace(config, **changes)


def _remark(example: Example) -> str | None:
    """What a comment above a block says about how it is tested."""
    found = _REMARK.search(example.document.text[: example.start])
    return None if found is None else found[1]


def _python(example: Example) -> None:
    if _remark(example) is None:
        PythonEvaluator()(example)
    else:
        compile(example.parsed, example.path, "exec")


def _shell(example: Example) -> str | None:
    remark = _remark(example)
    for words in commands(example.parsed):
        if remark == "not run":
            check_spelling(words)
            continue
        words += ["--dry-run"] * (remark == "dry run")
        code, printed = run(words)
        if code:
            return f"{shlex.join(words)} exits {code}:\n{printed[-2000:]}"
        missing = [name for name in written(words) if not Path(name).exists()]
        if missing:
            return f"{shlex.join(words)} did not write {missing}"
    return None


def written(words: Sequence[str]) -> list[str]:
    """The files that a command says it will write."""
    found = []
    for flag, value in itertools.pairwise(words):
        if flag == "--out":
            found.append(value)
        if flag == "--workdir" and "--dry-run" not in words and "data" not in words[:2]:
            name = "report.html" if words[1] == "compare" else "summary.json"
            found.append(f"{value}/{name}")
    return found


def _console(example: Example) -> str | None:
    shown = re.split(r"^\$ ", str(example.parsed), flags=re.M)
    assert not shown[0].strip(), "a console block begins with `$ `"
    for part in shown[1:]:
        line, _, expected = part.partition("\n")
        words = next(commands(line))
        if _remark(example) is not None:
            check_spelling(words)
            continue
        code, printed = run(words)
        if code and not expected.startswith("error: "):
            return f"{line} exits {code}:\n{printed[-2000:]}"
        if expected.strip() and not matches(expected, printed):
            return "\n".join(difflib.ndiff(expected.splitlines(), printed.splitlines()))
    return None


def matches(expected: str, printed: str) -> bool:
    """Whether text was printed as shown: `...` for anything, blanks alike, long lines wrapped."""
    words = (" ".join(textwrap.dedent(part).split()) for part in expected.split("..."))
    return re.search(".*?".join(map(re.escape, words)), " ".join(printed.split()), re.S) is not None
