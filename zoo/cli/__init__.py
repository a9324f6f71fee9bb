"""The `zoo` command: one module per subcommand, imported when it is called.

Exit codes: 0 done, 2 bad input (one line on stderr), 3 diverged, 75 preempted and saved,
130 interrupted, 1 anything else.
"""

from __future__ import annotations

import importlib
import io
import os
import sys

from zoo.errors import ConfigError, ZooError, near_matches

# Subcommand -> (module of this package, what it does). Each module has `run(args) -> code`.
COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("train", "train a model; the same command again resumes"),
    "compare": ("compare", "norm placements on equal terms: each tuned, with intervals"),
    "evaluate": ("evaluate", "figures of a checkpoint: held-out text, perplexity, sentence pairs"),
    "generate": ("generate", "continue a prompt with a trained model"),
    "export": ("export", "write a run or a checkpoint as a folder, with a model card"),
    "verify": ("verify", "compare a checkpoint with transformers, or with another"),
    "surgery": ("surgery", "put a checkpoint under another placement or vocabulary"),
    "diagnose": ("diagnose", "what flows through each sublayer, and what a step does to it"),
    "data": ("data", "show the text that a config trains on, as the model will see it"),
    "describe": ("describe", "one norm placement in full: wiring, constants, recipe, paper"),
    "list": ("listing", "names of variants, models, families or tasks"),
    "env": ("env", "versions, devices and caches, for a bug report"),
}


def main(argv: list[str] | None = None) -> None:
    """Run the command line and leave through `SystemExit(code)`.

    Args:
        argv: the words after `zoo`; those of the process when None.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a character shows a question mark; that is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    raise SystemExit(_guarded(sys.argv[1:] if argv is None else argv))


def _guarded(argv: list[str]) -> int:
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
        return code
    except ZooError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (`zoo list variants | head`) has seen enough; Python would complain
        # once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(importlib.import_module("zoo").__version__)
        return 0
    name, *args = argv
    if name not in COMMANDS:
        hint = near_matches(name, COMMANDS)
        raise ConfigError(f"no command {name!r}{hint}; commands: {', '.join(COMMANDS)}")
    module, _ = COMMANDS[name]
    return int(importlib.import_module(f"zoo.cli.{module}").run(args))


def _help() -> str:
    lines = [
        "usage: zoo COMMAND [options]",
        "",
        "Every norm placement, on every Transformer.",
        "",
        "commands:",
        *(f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()),
        "",
        "first steps:",
        "  zoo train --config configs/default.py --workdir runs/a --model.variant deep_norm",
        '  zoo generate --from runs/a --prompt "def "',
        "  zoo describe deep_norm --num-layers 100",
        "",
        "zoo COMMAND --help shows a command's options.",
    ]
    return "\n".join(lines)
