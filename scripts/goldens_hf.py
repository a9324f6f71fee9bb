"""Write what tiny models of transformers compute, for tests that run without torch.

    python scripts/goldens_hf.py            # those that are missing
    python scripts/goldens_hf.py bert gpt2  # those whose name begins so, again

Needs `pip install -e '.[parity]'`. A golden holds the config, the names and shapes of the tensors,
and the output for the inputs of its case; weights and inputs are drawn again by the test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from _hf_reference import make, run, shapes

from tests.hf.cases import all_cases

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "hf" / "goldens"


def main(prefixes: list[str]) -> None:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name, case in all_cases().items():
        path = FOLDER / f"{name}.npz"
        if not (name.startswith(tuple(prefixes)) if prefixes else not path.exists()):
            continue
        model = make(case)
        config = {
            **json.loads(model.config.to_json_string(use_diff=False)),
            "architectures": [case.cls],
        }
        np.savez_compressed(
            path,
            config=json.dumps(config, sort_keys=True),
            shapes=json.dumps(shapes(model, case), sort_keys=True),
            **run(model, case),
        )
        print(f"wrote {path.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
