"""The pages on variants: their table, the support matrix and the gallery.

    python scripts/docs.py                         # writes whatever has changed
    python scripts/docs.py --check                 # says what is stale, changes nothing
    python -m pytest tests/models tests/test_decoding.py --junitxml passed.xml
    python scripts/docs.py --tests passed.xml      # takes a test run into the support matrix

Everything comes from the registry, apart from two tables of results: results/profiles.jsonl
(gradients and updates at the start, measured here for what has no row yet, some seconds a
variant) and results/support.json (which tests have passed).
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import jax
from _diagram import diagram
from _profiles import LAYERS, LEARNING_RATE, WIDTH, Profiles, chart
from _support import Passed, matrix

import zoo
from zoo.layers import weight
from zoo.layers.weight import ROLES
from zoo.models.config import ModelConfig
from zoo.models.presets import list_models, preset
from zoo.models.transformer import declare
from zoo.variants.describe_text import cited, ends_rows, multiplier_text, recipe_text, start_text
from zoo.variants.placement import Multiplier, Placement, StackPlacement, Start
from zoo.variants.plain import PLAIN
from zoo.variants.registry import get_variant
from zoo.variants.segments import Column, matrices, segments, span
from zoo.variants.streams import STREAM_VARIANTS
from zoo.variants.variant import SUBLAYERS, Variant

ROOT = Path(__file__).resolve().parent.parent
NAMES = [variant.name for variant in (*PLAIN, *STREAM_VARIANTS)]
DEPTHS = (12, 100)
_MADE = "<!-- Made by `python scripts/docs.py`; edit the registry, not this page. -->"


def pages(profiles: Profiles, passed: Passed) -> dict[str, str]:
    """Every page by its path under the root."""
    made = {
        "docs/variants.md": variants_page(),
        "docs/support.md": support_page(passed),
        "docs/gallery.md": gallery_page(profiles),
    }
    for variant in map(get_variant, NAMES):
        made[f"docs/gallery/{variant.name}.svg"] = diagram(_resolved(variant, 12), variant.name)
        row = profiles.find(variant.name)
        if row is not None:
            made[f"docs/gallery/{variant.name}_start.svg"] = chart(row)
    return made


def _resolved(variant: Variant, layers: int) -> Placement:
    return zoo.describe(variant, num_layers=layers).placement


def _stack(variant: Variant, layers: int = 12) -> StackPlacement:
    return _resolved(variant, layers).stack("decoder")


# The table of variants


def variants_page() -> str:
    variants = [get_variant(name) for name in NAMES]
    lines = [
        "# Variants",
        "",
        _MADE,
        "",
        *_paragraph(
            f"""{len(variants)} placements. Which of them was seen to run on which architecture:
            [support](support.md); pictures: [gallery](gallery.md); everything about one:
            `zoo describe NAME --num-layers N`. N(·) is the norm of the architecture, F a sublayer
            (attention or MLP), x its input and x' what it leaves, y what goes to the head.
            Constants are those of a decoder with d_model 512, at {DEPTHS[0]} and at {DEPTHS[1]}
            layers; a … b is from the first to the last layer. † marks equations that were read
            in other texts than the paper or its code. Names of models in `code` are presets."""
        ),
        "## Equations",
        "",
        *_table(
            ("variant", "equation", "norms of a sublayer", "ends", "paper"),
            [
                (
                    f"[`{each.name}`](gallery.md#{each.name}){_mark(each)}",
                    _code(each.equation),
                    _norms(each),
                    _ends(each),
                    f"[{each.paper.arxiv or each.paper.year}]({each.paper.link})",
                )
                for each in variants
            ],
        ),
        "",
        "## Constants, what is learned, and training",
        "",
        *_table(
            (
                "variant",
                f"constants, {DEPTHS[0]} layers",
                f"{DEPTHS[1]} layers",
                "learned, and where it starts",
                "recipe",
                "used by",
            ),
            [
                (
                    f"`{each.name}`",
                    *("; ".join(_constants(each, depth)) or "–" for depth in DEPTHS),
                    _brief("; ".join(_learned(each))) or "–",
                    recipe_text(dataclasses.replace(each.recipe, source="")),
                    ", ".join(_users(each)) or "–",
                )
                for each in variants
            ],
        ),
        "",
        "## Papers",
        "",
        *(
            f"- `{each.name}`{_mark(each)}: {cited(each.paper)}, <{each.paper.link}>"
            for each in variants
        ),
        "",
    ]
    return "\n".join(lines)


def _mark(variant: Variant) -> str:
    return " †" if variant.provenance == "second_hand" else ""


def _norms(variant: Variant) -> str:
    """The slots that hold a norm, by wiring."""
    found = {}
    for segment in segments(_stack(variant)):
        for column in segment.columns():
            slots = ", ".join(column[0].slots()) or "none"
            kind = column[0].sublayer.replace("_", "-")
            found.setdefault(slots, {}).setdefault(kind, []).extend(segment.layers)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(
        f"{slots} ({', '.join(f'{kind} {span(sorted(own))}' for kind, own in kinds.items())})"
        for slots, kinds in found.items()
    )


def _ends(variant: Variant) -> str:
    stack = _stack(variant)
    words = {"required": "yes", "forbidden": "no", "free": "free"}
    norms = f"embedding norm {words[stack.embedding_norm]}, final norm {words[stack.final_norm]}"
    return "; ".join([norms, *list(ends_rows(stack))[1:]])


def _constants(variant: Variant, depth: int) -> Iterator[str]:
    """Multipliers, scales, gains and init gains that are not 1."""
    yield from dict.fromkeys(_numbers(_stack(variant, depth)))


def _numbers(stack: StackPlacement) -> Iterator[str]:
    for segment in segments(stack):
        columns = segment.columns()
        said = [list(_column(column)) for column in columns]
        for text in dict.fromkeys(itertools.chain(*said)):
            kinds = [
                each[0].sublayer for each, own in zip(columns, said, strict=True) if text in own
            ]
            # A sublayer is named where the others have another number.
            apart = f" ({', '.join(kinds).replace('_', '-')})" if len(kinds) < len(columns) else ""
            yield f"{text}{apart}"
        drawn: dict[str, list[str]] = {}
        for column in columns:
            for role in matrices(column):
                gains = [site.init_gain(role) for site in column]
                if any(gain != 1.0 for gain in gains):
                    drawn.setdefault(_span(gains), []).append(role)
        for factor, roles in drawn.items():
            yield f"{', '.join(dict.fromkeys(roles))} drawn × {factor}"


def _column(column: Column) -> Iterator[str]:
    """Factors of one sublayer over the layers of a segment that are not 1."""
    for letter, part in (("a", "skip"), ("b", "branch")):
        every = [site.multipliers()[part] for site in column]
        if every[0].learned is None and any(each != Multiplier() for each in every):
            yield f"{letter} = {_brief(multiplier_text(every))}"
    for role in column[0].slots():
        slots = [site.slots()[role] for site in column]
        for name, values in (
            ("scale", [slot.scale for slot in slots]),
            ("gain", [slot.gain for slot in slots]),
        ):
            if any(value != 1.0 for value in values):
                yield f"{name} of {role} {_span(values)}"


def _learned(variant: Variant) -> Iterator[str]:
    """Learned arrays of the placement's own, apart from norms: their shape and where they start."""
    model = declare(
        ModelConfig(variant=variant.name, num_layers=DEPTHS[0], d_model=512, num_heads=8)
    )
    _, weights = weight.split(model)
    found: dict[str, list[tuple[int, Start]]] = {}
    leaves = jax.tree.leaves(weights)
    shifted = {own.role for own in leaves if own.kind in ("gain", "matrix")}
    for own in leaves:
        if own.kind == "multiplier" or (own.kind == "bias" and own.role not in shifted):
            shape = _SHAPES.get(len(own.axes), "array")
            starts = model.placement.initial(own)
            layers = own.layers or range(len(starts))
            found.setdefault(f"{own.role} ({shape})", []).extend(zip(layers, starts, strict=True))
        elif own.kind == "matrix" and own.role not in ROLES:
            found.setdefault(f"{own.role} (matrix)", [])
    for role, starts in found.items():
        ordered = [start for _, start in sorted(starts, key=lambda pair: pair[0])]
        yield f"{role} from {start_text(ordered)}" if ordered else role


_SHAPES = {0: "scalar", 1: "vector"}


def _users(variant: Variant) -> list[str]:
    """Published models, and the architectures here that have it."""
    generic = tuple(f"{architecture}-".replace("_", "-") for architecture in SUBLAYERS)
    named = [name for name in list_models() if not name.startswith(generic)]
    own = [name for name in named if get_variant(preset(name).variant).name == variant.name]
    return [*variant.used_by, *(f"`{name}`" for name in own)]


def _brief(text: str) -> str:
    return text.replace(" (first)", "").replace(" (last)", "")


def _span(values: list[float]) -> str:
    shown = [f"{value:.4g}" for value in (values[0], values[-1])]
    return shown[0] if shown[0] == shown[1] else " … ".join(shown)


# The support matrix


def support_page(passed: Passed) -> str:
    return "\n".join(
        [
            "# What runs with what",
            "",
            _MADE,
            "",
            *_paragraph(
                """E encoder, D decoder, P encoder-decoder pair, V vision: a letter stands where a
                test has passed with just this variant and architecture (results/support.json), on
                a model of three layers. Nothing stands where none was run or it did not pass.
                Generation is for decoders and pairs, windows for text."""
            ),
            "- runs: a finite loss and a finite first gradient;",
            "- trains: six steps of AdamW move all that a gradient reaches, in every layer;",
            "- scan = loop: one scan over the layers gives what a Python loop over them gives;",
            "- checkpoint: parameters come back bit for bit, and the placement with them;",
            "- rematerialised, bfloat16, windows (of 3 tokens, every second layer), dropout (also "
            "of whole branches), RMS norm with a gated MLP: loss and gradient are finite, and "
            "scan = loop;",
            "- generate: greedy tokens are those of whole forward passes;",
            "- export: written in our own format and read back, bit for bit.",
            "",
            *matrix(passed, NAMES),
            "",
        ]
    )


# The gallery


def gallery_page(profiles: Profiles) -> str:
    lines = [
        "# Gallery",
        "",
        _MADE,
        "",
        *_paragraph(
            """Each variant as a decoder of 12 layers, drawn upwards from its resolved placement:
            the start of the stack, one layer of each wiring, the end. Blue: norms, dashed where the
            architecture decides whether there is one. Amber: learned numbers. "drawn × 0.5" is a
            factor on the deviation of the base initialisation. Streams other than the plain x are
            lanes: the lower box is what F reads, the upper one what is written, with f = F(…)."""
        ),
        *_paragraph(
            f"""The charts show the start: a byte-level decoder of {LAYERS} layers with d_model
            {WIDTH}, one gradient on random bytes, and the first step of AdamW at a rate of
            {LEARNING_RATE:g} for all, without decay or clipping; schedules of branches stand at
            their end, profiled skips are profiled. Update / weight is the norm of the step over
            that of the matrices. What is 0 is left out. `zoo diagnose` does the same for a model
            of your own."""
        ),
        ", ".join(f"[{name}](#{name})" for name in NAMES),
        "",
    ]
    for variant in map(get_variant, NAMES):
        lines += [
            f"## {variant.name}",
            "",
            f"{variant.summary}{_mark(variant)}",
            "",
            f"    {variant.equation}",
            "",
            f"![{variant.name}](gallery/{variant.name}.svg)",
            "",
        ]
        if profiles.find(variant.name) is not None:
            picture = f"gallery/{variant.name}_start.svg"
            lines += [f"![gradients and updates of {variant.name} at the start]({picture})", ""]
    return "\n".join(lines)


def _paragraph(text: str) -> list[str]:
    return [*textwrap.wrap(" ".join(text.split()), 100, break_on_hyphens=False), ""]


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    cells = [header, ("---",) * len(header), *rows]
    return [f"| {' | '.join(row)} |" for row in cells]


# The command


def stale(made: dict[str, str], root: Path = ROOT) -> list[str]:
    """Pages under a root that are not as they are made now, and pictures of nothing."""
    found = [path for path, text in made.items() if _read(root / path) != text]
    pictures = sorted((root / "docs" / "gallery").glob("*.svg"))
    return found + [
        path for path in (str(p.relative_to(root)) for p in pictures) if path not in made
    ]


def unmeasured() -> list[str]:
    """Variants whose placement has no row of gradients and updates."""
    profiles, _ = results()
    return [name for name in NAMES if profiles.find(name) is None]


def results() -> tuple[Profiles, Passed]:
    """What was measured and what has passed."""
    folder = ROOT / "results"
    return Profiles(folder / "profiles.jsonl"), Passed.read(folder / "support.json")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def write() -> None:
    """Measure what has no row, and write the pages that have changed."""
    profiles, passed = results()
    profiles.ensure(NAMES)
    made = pages(profiles, passed)
    for path in sorted((ROOT / "docs" / "gallery").glob("*.svg")):
        if str(path.relative_to(ROOT)) not in made:
            path.unlink()
    for name, text in made.items():
        path = ROOT / name
        if _read(path) != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when something is stale")
    parser.add_argument("--tests", type=Path, help="a JUnit XML file of pytest")
    options = parser.parse_args()
    if options.tests is not None:
        _, passed = results()
        passed.with_run(options.tests).write(ROOT / "results" / "support.json")
    if options.check:
        found = [f"stale: {each}" for each in stale(pages(*results()))]
        found += [f"not measured: {each}" for each in unmeasured()]
        print("\n".join(found) or "nothing is stale")
        sys.exit(1 if found else 0)
    write()


if __name__ == "__main__":
    main()
