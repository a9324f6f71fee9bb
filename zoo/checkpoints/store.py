"""The folder of a run's checkpoints: one sub-folder a step, complete or not there at all.

A save goes through `.unfinished/STEP`: Orbax copies the arrays to the host and returns; a thread
waits for its files, adds `checksums.json`, and only then renames the folder to `STEP`. A process
killed at any moment leaves complete steps and, at most, litter in `.unfinished`.

This uses Orbax's AsyncCheckpointer and not its CheckpointManager, which still changes a file of
the checkpoint after its last callback (so not every file could be checksummed), counts a failed
save among those to keep, and deletes in place (a kill half-way leaves a broken step). The result
has the manager's layout: `CheckpointManager(folder).restore(step)` reads it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp

from zoo.checkpoints import tensors
from zoo.checkpoints.checksums import find_problems, read_metric, write_checksums
from zoo.checkpoints.identity import FORMAT_VERSION, check_format
from zoo.errors import CheckpointError, ConfigError, choices

UNFINISHED = ".unfinished"


class Checkpoints:
    """Save, verify and restore the checkpoints of one folder; one writer at a time.

    Args:
        folder: made when it is missing, unless `read_only`.
        keep: how many of the newest steps stay; older ones go when a newer one is complete.
        keep_best: the step with the lowest metric stays as well.
        asynchronous: `save` returns once the arrays are copied; False: once all is on disk.
        read_only: never writes, cleans or renames anything.

    Raises:
        CheckpointError: the folder cannot be written, or is missing and `read_only`.
        ConfigError: `keep` below 1.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        keep: int = 3,
        keep_best: bool = True,
        asynchronous: bool = True,
        read_only: bool = False,
    ) -> None:
        if keep < 1:
            raise ConfigError(f"checkpoint.keep = {keep}; use 1 or more")
        self.folder = Path(folder).absolute()
        self._keep, self._keep_best = keep, keep_best
        self._asynchronous, self._read_only = asynchronous, read_only
        self._verified: set[int] = set()
        self._pending: Future[None] | None = None
        self._pending_step = 0
        self._worker: ThreadPoolExecutor | None = None
        self._saver: Any = None
        if read_only:
            if not self.folder.is_dir():
                raise CheckpointError(f"no checkpoints at {self.folder}: no such folder")
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Asked of the system, since a mount can be read-only even for root.
            if not os.access(self.folder, os.W_OK):
                raise PermissionError(errno.EACCES, "the folder cannot be written")
        except OSError as error:
            raise self._cannot_write(self.folder, error) from error
        self._clean()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> None:
        self.close()

    # Writing

    def save(
        self,
        step: int,
        arrays: Any,
        meta: dict[str, Any],
        *,
        metric: float | None = None,
        wait: bool = False,
    ) -> None:
        """Save `arrays` (a dict tree, or any pytree of arrays) and `meta` (JSON) as `step`.

        Waits for the save before it. On return the arrays are copied, or held so that XLA does
        not reuse their memory: they may be donated or overwritten at once. `metric` (lower is
        better) decides which step is the best. A step that is already there is replaced.
        `format_version` is added to `meta`.

        Raises:
            CheckpointError: this save, or the one before it, could not be written (the steps that
                were complete stay); or a leaf is no array that a restore would give back.
        """
        self.wait()
        if self._read_only:
            raise CheckpointError(f"checkpoints at {self.folder} were opened read-only")
        tree = tensors.storable(arrays)
        content = json.loads(json.dumps({**meta, "format_version": FORMAT_VERSION}))
        ocp = _orbax()
        if self._saver is None:
            # Folders made in Orbax's background would leave threads behind on a disk that refuses
            # them: they wait five minutes for the folder, and the process with them at its end.
            options = ocp.AsyncOptions(create_directories_asynchronously=False)
            self._saver = ocp.AsyncCheckpointer(
                ocp.CompositeCheckpointHandler(), async_options=options
            )
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(content)
        )
        try:
            _probe(self.folder / UNFINISHED)
            self._saver.save(self.folder / UNFINISHED / str(step), args=items, force=True)
        except (OSError, ValueError, RuntimeError) as error:
            self._give_up()
            raise self._cannot_write(self.folder / str(step), error) from error
        self._pending_step = step
        self._pending = self._worker.submit(self._finish, step, metric)
        if wait or not self._asynchronous:
            self.wait()

    def wait(self) -> None:
        """Block until the save under way is complete.

        Raises:
            CheckpointError: it could not be written; said once.
        """
        if self._pending is None:
            return
        error = self._pending.exception()
        self._pending = None
        if error is not None:
            self._give_up()
            raise self._cannot_write(self.folder / str(self._pending_step), error) from error

    def close(self) -> None:
        """Wait for the save under way and end the threads; the object can still be read from.

        Raises:
            CheckpointError: the save under way could not be written.
        """
        try:
            self.wait()
        finally:
            if self._worker is not None:
                self._worker.shutdown()
            if self._saver is not None:
                self._saver.close()
            self._worker = self._saver = None
            with contextlib.suppress(OSError):
                (self.folder / UNFINISHED).rmdir()

    def _give_up(self) -> None:
        """After a failure: give a full disk its space back, and start with a new saver.

        The old one may raise the same failure again at its next use.
        """
        assert self._worker is not None
        self._worker.submit(self._saver.close).exception()
        self._saver = None
        self._clean()

    def _finish(self, step: int, metric: float | None) -> None:
        """In the thread: from Orbax's files to a complete step, then drop what is too old."""
        self._saver.wait_until_finished()
        unfinished, final = self.folder / UNFINISHED, self.folder / str(step)
        write_checksums(unfinished / str(step), step=step, metric=metric)
        self._verified.discard(step)
        if final.exists():
            final.rename(unfinished / f"{step}.replaced")
        (unfinished / str(step)).rename(final)
        for old in self._too_old():
            (self.folder / str(old)).rename(unfinished / f"{old}.retired")
        for path in unfinished.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def _too_old(self) -> list[int]:
        steps = self.steps()
        kept = set(steps[-self._keep :])
        best = self.best()
        if self._keep_best and best is not None:
            kept.add(best)
        return [step for step in steps if step not in kept]

    def _clean(self) -> None:
        """Remove what a killed or failed save left; a step is never touched."""
        shutil.rmtree(self.folder / UNFINISHED, ignore_errors=True)
        for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    # Reading

    def steps(self) -> list[int]:
        """The steps on disk in increasing order, sound or not."""
        names = [path.name for path in self.folder.iterdir() if path.is_dir()]
        return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]*", name))

    def latest(self) -> int | None:
        """The newest step on disk, sound or not; None without one."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """The step with the lowest metric, the newer of two equal ones; None without a metric."""
        metrics = {step: read_metric(self.folder / str(step)) for step in self.steps()}
        known = [(metric, -step) for step, metric in metrics.items() if metric is not None]
        return -min(known)[1] if known else None

    def verify(self, step: int) -> list[str]:
        """Read all files of `step`: a line per damaged one, saying what is wrong; empty: sound."""
        problems = find_problems(self.folder / str(step), step)
        if not problems:
            self._verified.add(step)
        return problems

    def newest_sound(self, report: Callable[[str], None]) -> int | None:
        """The newest step whose files are all as they were written; None without one.

        Each damaged one before it is named through `report` and renamed to `STEP.damaged`, so
        that it is neither found again nor counted among those to keep (not when `read_only`).

        Raises:
            CheckpointError: a damaged one cannot be renamed.
        """
        for step in reversed(self.steps()):
            problems = self.verify(step)
            if not problems:
                return step
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            aside = "" if self._read_only else f"; set aside as {step}.damaged"
            report(
                f"checkpoint {self.folder / str(step)} is damaged: {problems[0]}{more}{aside}; "
                "using the one before it"
            )
            if not self._read_only:
                self._set_aside(step)
        return None

    def restore(self, step: int, template: Any, *, part: str | None = None) -> Any:
        """The arrays of `step`, in the structure of `template` and with its shardings.

        Args:
            template: a pytree of `jax.ShapeDtypeStruct` (or arrays). A leaf with a sharding is
                placed by it, whatever devices wrote the file; one without goes to the default
                device, uncommitted.
            part: restore only this entry of the saved tree; `template` is then that entry's.

        Raises:
            CheckpointError: no such step, damaged files, a newer format, or a tensor that is
                missing, extra, or of another shape or dtype; names it and both values.
        """
        path = self._existing(step)
        problems = [] if step in self._verified else self.verify(step)
        if problems:
            raise CheckpointError(f"checkpoint {path} is damaged: {'; '.join(problems[:3])}")
        self.read_meta(step)
        ocp = _orbax()
        reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
        saved = tensors.flatten(reader.metadata(path / "state").item_metadata.tree)
        prefix: tensors.Names = () if part is None else (part,)
        wanted = {(*prefix, *name): leaf for name, leaf in tensors.flatten(template).items()}
        tensors.compare(
            {name: leaf for name, leaf in saved.items() if name[: len(prefix)] == prefix},
            wanted,
            path,
        )
        item = tensors.nest({name: _abstract(leaf) for name, leaf in wanted.items()})
        items = ocp.args.PyTreeRestore(
            item,
            restore_args=ocp.checkpoint_utils.construct_restore_args(item),
            partial_restore=part is not None,
        )
        restored = tensors.flatten(reader.restore(path / "state", args=items))
        leaves = [_on_device(restored[name]) for name in wanted]
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    def read_meta(self, step: int) -> dict[str, Any]:
        """The `meta` of `step` as it was saved, with `format_version`; loads no Orbax.

        Raises:
            CheckpointError: no such step, unreadable, or written by a newer release.
        """
        path = self._existing(step)
        try:
            meta = json.loads((path / "meta" / "metadata").read_bytes())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"checkpoint {path} is damaged: {step}/meta/metadata: {error}"
            ) from error
        if not isinstance(meta, dict):
            raise CheckpointError(f"checkpoint {path} is damaged: {step}/meta/metadata: no object")
        check_format(meta, path)
        return meta

    def _existing(self, step: int) -> Path:
        path = self.folder / str(step)
        if not path.is_dir():
            steps = self.steps()
            there = f"it has {choices(steps)}" if steps else "it has none"
            raise CheckpointError(f"no checkpoint of step {step} in {self.folder}; {there}")
        return path

    def _set_aside(self, step: int) -> None:
        path, aside = self.folder / str(step), self.folder / f"{step}.damaged"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        except OSError as error:
            raise self._cannot_write(path, error) from error

    def kept(self) -> str:
        """What the message of a failure can say of what is left; empty where nothing is."""
        last = self.latest() if self.folder.is_dir() else None
        return "" if last is None else f"; the checkpoint of step {last} is still there"

    def _cannot_write(self, path: Path, error: BaseException) -> CheckpointError:
        kept = self.kept()
        return CheckpointError(f"cannot write checkpoint to {path}: {_reason(error)}{kept}")


def _probe(folder: Path) -> None:
    """Make `folder` and fail here, in one plain call, where nothing at all can be written.

    Orbax makes its folders from several threads, which complain on the terminal when that fails.
    """
    folder.mkdir(exist_ok=True)
    probe = folder / "probe"
    probe.write_bytes(b"x" * 2**17)
    probe.unlink()


def _reason(error: BaseException) -> str:
    """The system's own words where there are some; Orbax wraps them in paragraphs."""
    seen: BaseException | None = error
    while seen is not None:
        found = re.search(r"(?:OS error |os_error_code=')(\d+)", str(seen))
        number = seen.errno if isinstance(seen, OSError) else found and int(found[1])
        if number:
            return os.strerror(number)
        seen = seen.__cause__ or seen.__context__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _on_device(leaf: Any) -> jax.Array:
    # Orbax gives NumPy arrays where no sharding was asked for. Copied, so that they can be donated.
    return leaf if isinstance(leaf, jax.Array) else jnp.array(leaf)


def _orbax() -> Any:
    """Orbax, imported at first use (a quarter of a second) and kept from printing tracebacks."""
    import orbax.checkpoint as ocp

    # Its failures reach the user as a CheckpointError; what else goes to these logs is left alone.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_not_from_orbax)
    if not isinstance(sys.unraisablehook, _LateCallbacks):
        sys.unraisablehook = _LateCallbacks(sys.unraisablehook)
    return ocp


class _LateCallbacks:
    """Passes over what the threads of a failed save still report to its closed event loop.

    Nobody can catch it: it is raised in a callback of tensorstore's and ends on the terminal.
    """

    def __init__(self, before: Callable[[Any], Any]) -> None:
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            self._before(unraisable)


def _not_from_orbax(record: logging.LogRecord) -> bool:
    files = [record.pathname]
    if record.exc_info:
        error, trace = record.exc_info[1:]
        files += [frame.filename for frame in traceback.extract_tb(trace)]
        # Where several writes fail, tensorstore leaves all but the first in futures that nobody
        # raises: they have no frames, but their text names the file.
        if trace is None and f"/{UNFINISHED}/" in str(error):
            return False
    return not any("orbax" in Path(file).parts for file in files)
