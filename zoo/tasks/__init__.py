"""Tasks: batch format, loss as (sum, count), metrics. A new task is one file and one entry here."""

from zoo.tasks.base import Batch, Loss, Task
from zoo.tasks.language_model import LANGUAGE_MODEL

TASKS: dict[str, Task] = {"language_model": LANGUAGE_MODEL}

__all__ = ["TASKS", "Batch", "Loss", "Task"]
