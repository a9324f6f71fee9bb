"""Tasks: batch format, loss as (sum, count), metrics. A new task is one file and one entry here."""

from zoo.tasks.base import Batch, Loss, Metric, Task
from zoo.tasks.image_classification import IMAGE_CLASSIFICATION
from zoo.tasks.language_model import LANGUAGE_MODEL
from zoo.tasks.masked_lm import MASKED_LM
from zoo.tasks.probes import PROBE_TASKS
from zoo.tasks.seq2seq import SEQ2SEQ
from zoo.tasks.sequence_classification import SEQUENCE_CLASSIFICATION
from zoo.tasks.span import SPAN
from zoo.tasks.token_classification import TOKEN_CLASSIFICATION

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        LANGUAGE_MODEL,
        MASKED_LM,
        SEQ2SEQ,
        SEQUENCE_CLASSIFICATION,
        TOKEN_CLASSIFICATION,
        SPAN,
        IMAGE_CLASSIFICATION,
        *PROBE_TASKS,
    )
}

__all__ = ["TASKS", "Batch", "Loss", "Metric", "Task"]
