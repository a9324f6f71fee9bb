"""Claims of the literature, said before they are run and judged by a rule fixed before.

    python scripts/claims                      # every claim that is missing, then docs/claims.md
    python scripts/claims deep_norm_depth      # one of them, by name
    python scripts/claims --list               # what there is
    python scripts/claims --again NAME         # run it anew: is the verdict the same?
    python scripts/claims --scale 4            # four times the steps
    python scripts/claims --data FOLDER        # those too that need Multi30k's sentences

A claim's file, the settings of its runs and what judges it are hashed into
results/claims/registered.jsonl before its first run; a claim that has changed since is refused
until its runs are deleted. Each run is a line of results/claims/NAME.jsonl, each verdict one of
results/claims/verdicts.jsonl; what is there is not run again, so the command may be stopped at any
time. About 90 minutes in all on 2 cores, without those of translation.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # its neighbours' helpers

from _claim import ROOT, Claim
from _judging import Verdict

from zoo.compare.compare import compare
from zoo.compare.comparison import Comparison
from zoo.compare.work import Preempted
from zoo.environment import environment
from zoo.errors import choices
from zoo.files import dumps
from zoo.training.loop import EXIT_CODES

RESULTS, PAGE = ROOT / "results" / "claims", ROOT / "docs" / "claims.md"
PICTURES = ROOT / "docs" / "claims"
REGISTERED, VERDICTS = RESULTS / "registered.jsonl", RESULTS / "verdicts.jsonl"


def claims() -> dict[str, Claim]:
    """Every claim by name, from the files beside this one."""
    folder = Path(__file__).resolve().parent
    names = sorted(file.stem for file in folder.glob("[a-z]*.py"))
    return {name: importlib.import_module(name).CLAIM for name in names}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def lines_of(path: Path, claim: Claim, scale: float) -> list[dict[str, Any]]:
    return [line for line in lines(path) if (line["claim"], line["scale"]) == (claim.name, scale)]


def add(path: Path, line: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(dumps(line) + "\n")


def ledger(claim: Claim, scale: float) -> Path:
    """The file of a claim's runs, a line each."""
    return RESULTS / f"{claim.name}{'' if scale == 1 else f'-x{scale:g}'}.jsonl"


def register(claim: Claim, scale: float) -> None:
    """Write down what is claimed and how it will be judged, before anything is run.

    Raises:
        SystemExit: when runs were made under another text, rule or settings.
    """
    own, runs = lines_of(REGISTERED, claim, scale), ledger(claim, scale)
    if own and own[-1]["hash"] == claim.hash(scale):
        return
    if own and (lines(runs) or lines_of(VERDICTS, claim, scale)):
        raise SystemExit(
            f"{claim.name} has changed since its hash was recorded and runs were made: delete "
            f"{runs.relative_to(ROOT)} and its lines in {VERDICTS.relative_to(ROOT)} to register "
            "it anew"
        )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    words = {name: getattr(claim, name) for name in ("statement", "expectation", "metric", "rule")}
    line = {"claim": claim.name, "scale": scale, "hash": claim.hash(scale), "time": now}
    add(REGISTERED, line | {"commit": environment()["commit"]} | words)


def run(claim: Claim, scale: float, data: Path, *, record: bool = True) -> Verdict:
    """Make the runs of a claim that are missing, and judge it.

    Args:
        data: folder of the claim's files. Runs are made from within it and name them without it,
            so that a line of the results says the same wherever they lie.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(data):
        found: dict[str, Comparison] = {}
        for label, config in claim.comparisons(scale).items():
            place = Path(folder) / label.replace(" ", "-")
            config = dataclasses.replace(
                config,
                run=dataclasses.replace(config.run, workdir=str(place)),
                ledger=str(ledger(claim, scale)) if record else None,
            )
            found[label], files = compare(config)
            drawn = files["html"].parent / "report" / "losses.svg"
            if record and scale == 1 and drawn.is_file():
                PICTURES.mkdir(exist_ok=True)
                shutil.copy(drawn, picture(claim, label))
        return claim.judge(found)


def picture(claim: Claim, label: str) -> Path:
    """The losses of a comparison's final runs."""
    return PICTURES / f"{claim.name}-{re.sub(r'[^0-9a-z]+', '-', label)}.svg"


def judged(claim: Claim, scale: float) -> dict[str, Any] | None:
    """The verdict that stands, if there is one of this text and scale."""
    found, wanted = lines_of(VERDICTS, claim, scale), claim.hash(scale)
    return next((line for line in reversed(found) if line["hash"] == wanted), None)


def row(claim: Claim, scale: float, verdict: Verdict) -> dict[str, Any]:
    return {
        "claim": claim.name,
        "scale": scale,
        "hash": claim.hash(scale),
        "verdict": verdict.word,
        "figures": dict(verdict.figures),
        "interval": verdict.interval,
        "commit": environment()["commit"],
    }


def page(known: Mapping[str, Claim]) -> str:
    """docs/claims.md."""
    parts = [
        "# Claims of the literature, at this scale",
        "",
        "Made by `python scripts/claims`. Each claim's statement, metric and rule were hashed into",
        "`results/claims/registered.jsonl` before its first run; the runs are in",
        "`results/claims/`, a line each. The models are small, minutes of two processor cores: a",
        "claim that is not seen here may well hold at the scale it was made for. `--scale 4` runs",
        "any of them four times as long. The pictures show training losses of the final runs, the",
        "median of each variant bold.",
        "",
        "| claim | verdict | what was found | 95 % interval |",
        "|---|---|---|---|",
    ]
    for claim in sorted(known.values(), key=lambda claim: (claim.control, claim.name)):
        line = judged(claim, 1.0)
        word = "not run yet" if line is None else f"**{line['verdict']}**"
        figures = "" if line is None else "; ".join(_figures(line["figures"]))
        interval = line and line["interval"]
        shown = f"{interval[0]:+.3g} to {interval[1]:+.3g}" if interval else ""
        parts.append(f"| [`{claim.name}`](#{claim.name}) | {word} | {figures} | {shown} |")
    for claim in sorted(known.values(), key=lambda claim: (claim.control, claim.name)):
        command = f"python scripts/claims {claim.name}{' --data FOLDER' if claim.files else ''}"
        parts += [
            "",
            f"## {claim.name}",
            "",
            f"{claim.statement} ({claim.source})",
            "",
            f"- Expected: {claim.expectation}.",
            f"- Metric: {claim.metric}.",
            f"- Rule: {claim.rule}.",
            f"- Remake: `{command}`, about {claim.minutes} minutes; hash `{claim.hash(1.0)}`.",
        ]
        for label in claim.comparisons(1.0) if judged(claim, 1.0) else ():
            if (drawn := picture(claim, label)).is_file():
                parts += ["", f"![{label}: losses of the final runs](claims/{drawn.name})"]
    return "\n".join(parts) + "\n"


def _figures(figures: Mapping[str, Any]) -> list[str]:
    def shown(value: Any) -> str:
        if isinstance(value, str):
            return f": {value}"
        return " failed" if value is None else f" {value:.4g}"

    return [f"{name}{shown(value)}" for name, value in figures.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of claims; none: all")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--page", action="store_true", help="only write docs/claims.md")
    parser.add_argument("--again", action="store_true", help="run anew, compare the verdicts")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument("--data", type=Path, default=Path(), help="folder of Multi30k's files")
    options = parser.parse_args()
    known = claims()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no claim {unknown[0]!r}; there are {', '.join(known)}")
    chosen = {name: known[name] for name in options.names} or known
    if options.list:
        for claim in chosen.values():
            print(f"{claim.name:30} {claim.minutes:3} min  {claim.statement}")
        return 0
    different = 0
    for claim in {} if options.page else chosen.values():
        stands = judged(claim, options.scale)
        lacks = [name for name in claim.files if not (options.data / name).is_file()]
        if lacks and (stands is None or options.again):
            print(f"{claim.name}: left out, --data {options.data} has no {choices(lacks)}")
        elif options.again:
            fresh = run(claim, options.scale, options.data, record=False)
            same = stands is not None and stands["verdict"] == fresh.word
            different += not same
            print(f"{claim.name}: {fresh.word}, {'as before' if same else f'before: {stands}'}")
        elif stands is None:
            print(f"\n== {claim.name}: {claim.statement}", flush=True)
            register(claim, options.scale)
            try:
                verdict = run(claim, options.scale, options.data)
            except Preempted:
                print("stopped; runs that are over have their lines, the others begin anew")
                return EXIT_CODES["preempted"]
            add(VERDICTS, row(claim, options.scale, verdict))
            print(f"{claim.name}: {verdict.word}", flush=True)
        else:
            print(f"{claim.name}: {stands['verdict']}")
            undrawn = [
                each for each in claim.comparisons(1.0) if not picture(claim, each).is_file()
            ]
            if undrawn and options.scale == 1:  # of the lines that are there
                run(claim, options.scale, options.data)
    PAGE.write_text(page(known), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
