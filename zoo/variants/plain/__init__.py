"""The tables of plain placements: one entry each.

Every entry is `x' = N_out(a x + b N_branch(F(N_in(x))))` with its own slots,
multipliers and init gains. In comments and laws, N counts layers unless
"sublayers" is said. To add one: write its law, append its `Variant` to one of the tables. Its
`Paper` may stand in the entry; those of the first entries are in `papers.py`, so that laws and
wiring can be seen at once.
"""

from zoo.variants.plain.classic import CLASSIC
from zoo.variants.plain.initialised import INITIALISED
from zoo.variants.plain.inner import INNER
from zoo.variants.plain.learned import LEARNED, gated_around
from zoo.variants.plain.scaled import SCALED
from zoo.variants.plain.scheduled import SCHEDULED, scheduled_around
from zoo.variants.plain.small_start import SMALL_START
from zoo.variants.variant import Variant

# What can be put around another placement sees these, and not each other.
_BASES: tuple[Variant, ...] = (*CLASSIC, *SCALED, *SMALL_START, *INNER)

PLAIN: tuple[Variant, ...] = (
    *_BASES,
    *LEARNED,
    *INITIALISED,
    *SCHEDULED,
    *scheduled_around(_BASES),
    *gated_around(_BASES),
)

__all__ = ["PLAIN"]
