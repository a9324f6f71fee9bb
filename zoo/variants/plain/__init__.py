"""The tables of plain placements: one entry each.

Every entry is `x' = N_out(a x + b N_branch(F(N_in(x))))` with its own slots,
multipliers and init gains. In comments and laws, N counts layers unless
"sublayers" is said. To add one: write its law, append its `Variant` to one of the tables. Its
`Paper` may stand in the entry; those of the first entries are in `papers.py`, so that laws and
wiring can be seen at once.
"""

from zoo.variants.plain.classic import CLASSIC
from zoo.variants.plain.scaled import SCALED
from zoo.variants.plain.scheduled import SCHEDULED, scheduled_around
from zoo.variants.plain.small_start import SMALL_START
from zoo.variants.variant import Variant

# What can be put around another placement sees these, and not each other.
_BASES: tuple[Variant, ...] = (*CLASSIC, *SCALED, *SMALL_START)

PLAIN: tuple[Variant, ...] = (*_BASES, *SCHEDULED, *scheduled_around(_BASES))

__all__ = ["PLAIN"]
