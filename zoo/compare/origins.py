"""What runs are made of that their names do not say: the data of now, and how it is scored."""

from __future__ import annotations

from typing import Any

from zoo.compare.config import CompareConfig
from zoo.compare.plan import Spec, test_data
from zoo.compare.results import Origin
from zoo.tasks import TASKS
from zoo.training.config import TrainConfig
from zoo.training.setup import open_run_data


class Origins:
    """The `Origin` of each run of a comparison; data that several runs read is opened once."""

    def __init__(self, config: CompareConfig) -> None:
        self._config = config
        self._fingerprints: dict[Any, str] = {}

    def of(self, spec: Spec) -> Origin:
        """What a run would be made of now."""
        scores: dict[str, Any] = {}
        if spec.row.phase == "final":
            unseen = self._fingerprint(test_data(self._config, spec.config))
            scores = made_with(self._config, spec.config, unseen)
        return Origin(self._fingerprint(spec.config), scores)

    def _fingerprint(self, run: TrainConfig) -> str:
        # All that it depends on: the seed shuffles rows, and changes none.
        key = (run.task, run.data, run.model.type_vocab_size)
        if key not in self._fingerprints:
            self._fingerprints[key] = open_run_data(run).fingerprint
        return self._fingerprints[key]


def made_with(config: CompareConfig, run: TrainConfig, unseen: str) -> dict[str, Any]:
    """What the `test_` figures of a run depend on beside the run itself.

    Args:
        unseen: fingerprint of the data that no choice has seen, opened by its settings alone: it
            tells texts apart, whichever tokenizer the run then reads them with.
    """
    beams = config.num_beams if TASKS[run.task].searches else 1
    return {"data": unseen, "num_beams": beams}
