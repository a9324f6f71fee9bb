"""Which tests have passed for which variant and architecture, and the matrix made of them."""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

_CASE = re.compile(r"(?P<test>test_\w+)\[(?P<case>.+)\]")
# Letters of the architectures, as the ids of tests name them.
ARCHITECTURES = {"encoder": "E", "decoder": "D", "encoder_decoder": "P", "vision": "V"}
_EVERY = tuple(ARCHITECTURES)
_PAIR = ("test_a_pair_runs_and_trains_and_comes_back",)
_SETTING = ("test_another_setting_goes_with_the_pair", "test_every_setting_goes_with_every_pair")
_EXPORT = ("test_a_pair_is_exported_and_comes_back",)
_DECODING = ("test_a_pair_decodes_what_its_logits_say",)


@dataclasses.dataclass(frozen=True)
class Column:
    """One capability.

    Attributes:
        tests: any of which shows it, with the case `variant-architecture` and then `setting`.
        architectures: that it means something for.
    """

    name: str
    tests: tuple[str, ...]
    setting: str = ""
    architectures: tuple[str, ...] = _EVERY


COLUMNS = (
    Column("runs", _PAIR),
    Column("trains", _PAIR),
    Column("scan = loop", _PAIR),
    Column("checkpoint", _PAIR),
    Column("rematerialised", _SETTING, "remat"),
    Column("bfloat16", _SETTING, "bfloat16"),
    # The images of the tests are seen whole: the setting changes nothing there.
    Column("windows", _SETTING, "window", ("encoder", "decoder", "encoder_decoder")),
    Column("dropout", _SETTING, "dropout"),
    Column("RMS norm, gated MLP", _SETTING, "rms norm"),
    Column("generate", _DECODING, "", ("decoder", "encoder_decoder")),
    Column("export", _EXPORT),
    Column("pipelines", ()),
)


@dataclasses.dataclass(frozen=True)
class Passed:
    """Cases that passed, by test."""

    cases: dict[str, frozenset[str]]

    @classmethod
    def read(cls, path: Path) -> Passed:
        data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return cls({test: frozenset(cases) for test, cases in data.items()})

    def with_run(self, path: Path) -> Passed:
        """With the outcome of a run of pytest, which overrules what was known of its cases."""
        cases = {test: set(own) for test, own in self.cases.items()}
        known = {test for column in COLUMNS for test in column.tests}
        for each in ElementTree.parse(path).iter("testcase"):
            match = _CASE.fullmatch(each.get("name", ""))
            if match is None or match["test"] not in known:
                continue
            own = cases.setdefault(match["test"], set())
            failed = any(each.find(kind) is not None for kind in ("failure", "error", "skipped"))
            (own.discard if failed else own.add)(match["case"])
        return Passed({test: frozenset(own) for test, own in cases.items()})

    def write(self, path: Path) -> None:
        data = {test: sorted(own) for test, own in sorted(self.cases.items())}
        path.write_text(json.dumps(data, indent=0) + "\n", encoding="utf-8")

    def holds(self, column: Column, variant: str, architecture: str) -> bool:
        case = "-".join(part for part in (variant, architecture, column.setting) if part)
        return any(case in self.cases.get(test, ()) for test in column.tests)


def matrix(passed: Passed, variants: Sequence[str]) -> list[str]:
    """A row a variant, a column a capability; letters are the architectures that were seen."""
    header = ("variant", *(column.name for column in COLUMNS))
    rows = [
        (f"`{variant}`", *(_cell(passed, column, variant) for column in COLUMNS))
        for variant in variants
    ]
    return [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)]


def _cell(passed: Passed, column: Column, variant: str) -> str:
    if not column.tests:
        return "not yet"
    seen = [name for name in column.architectures if passed.holds(column, variant, name)]
    return " ".join(ARCHITECTURES[name] for name in seen)
