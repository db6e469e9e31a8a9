"""What every command shares: how params are given, and how an error reaches a person."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from vtn import config

LOCKS = Path("work")


@contextmanager
def explained(*, debug: bool) -> Iterator[None]:
    """Turn the errors a user can mend into their message and exit code 1; `debug` keeps the traceback."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where this one stopped")
    except (ValueError, OSError, SafetensorError) as error:
        if debug:
            raise
        # safetensors wraps the system's error in one of its own.
        full = "No space left" in str(error) or "Disk quota exceeded" in str(error)
        remedy = (
            "make room and run the same command again: it goes on where this one stopped\n" if full else ""
        )
        sys.exit(f"error: {error}\n{remedy}(--debug or VTN_DEBUG=1 shows where)")


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Add --debug, which the environment variable VTN_DEBUG also switches on."""
    parser.add_argument(
        "--debug", action="store_true", default=bool(os.environ.get("VTN_DEBUG")), help="show tracebacks"
    )


def add_params(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose and override params."""
    parser.add_argument(
        "--params", type=Path, default=config.PARAMS_FILE, help="the file to read (params.yaml)"
    )
    parser.add_argument(
        "-S",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a dotted key, for example train.epochs=3; may be repeated",
    )


def run_stage(main: Callable[..., None], *arguments: str, tell_asked: bool = False) -> None:
    """Run one pipeline stage on params.yaml; `main`'s docstring is the help text.

    `main` takes the params, then the text of each positional argument named in `arguments`, and with
    `tell_asked` as `asked` the dotted keys that -S overrides. A stage outlives a `dvc repro` that is killed alone;
    the next one waits for it, since both would write the same files.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in arguments:
        parser.add_argument(name)
    add_params(parser)
    add_debug(parser)
    options = parser.parse_args()
    with explained(debug=options.debug):
        params = config.load(options.params, options.overrides)
        further = {"asked": asked_keys(options.overrides)} if tell_asked else {}
        with _alone(main.__name__):
            main(params, *(getattr(options, name) for name in arguments), **further)


def asked_keys(overrides: Iterable[str]) -> list[str]:
    """The dotted keys of -S options."""
    return [config.parse_assignment(text)[0] for text in overrides]


@contextmanager
def _alone(stage: str) -> Iterator[None]:
    """Hold the stage's one turn in this directory; the system frees it if this process dies."""
    LOCKS.mkdir(exist_ok=True)
    lock = FileLock(LOCKS / f"{stage}.lock")
    try:
        turn = lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is at {stage} in this directory: waiting for it to end", flush=True)
        turn = lock.acquire()
    with turn:
        yield
