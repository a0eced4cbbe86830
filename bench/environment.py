"""The processes of this harness: what each sets for its libraries, and which versions it runs."""

from __future__ import annotations

import functools
import gc
import logging
import os
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

RECORDED_PACKAGES = (
    "bench-peft",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "lm-eval",
    "datasets",
    "numpy",
    "pyreft",
    "galore-torch",
    "bitsandbytes",
)


PROCESS_VARIABLES = {
    # The libraries' telemetry.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    # No process here forks after it has tokenized. This silences the tokenizers' warning about it.
    "TOKENIZERS_PARALLELISM": "true",
    # The harness shows its own progress.
    "TQDM_DISABLE": "1",
}
"""What `quiet_process` sets unless the user has set it."""


def quiet_process() -> None:
    """Switch off the libraries' telemetry, progress bars and needless warnings, for the whole process.

    Called where a process of the harness's own begins (the command line, a worker, a distributed process), before it
    imports the libraries, some of which read the variables at import. Never called by `import bench` or by what a
    user's program calls.
    """
    for name, value in PROCESS_VARIABLES.items():
        os.environ.setdefault(name, value)
    # If it is installed, peft imports bitsandbytes, which on a CPU warns of a kernel that the harness does not use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # peft 0.21.2 asks transformers 5.23 for a property under its old name.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)


STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What a cluster, a container or a closed terminal sends to end a process, before SIGKILL."""


def handle_stop_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    """Have SIGTERM and SIGHUP handled by `handler`. A signal that the process ignores (under nohup) stays ignored."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def as_interrupt(number: int, frame: FrameType | None) -> None:
    """Handle a signal as Ctrl-C is handled at that moment."""
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(number, frame)


@contextmanager
def without_collection() -> Iterator[None]:
    """Load libraries without collecting garbage. They make millions of objects that stay, and every collection visits
    all of them, which takes a quarter of the time of a plan. Afterwards these objects are left out of collections."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.collect()
            gc.freeze()
            gc.enable()


def package_versions() -> dict[str, str | None]:
    """The recorded packages with their versions; None for one that is not installed."""
    return {name: package_version(name) for name in RECORDED_PACKAGES}


def package_version(package: str) -> str | None:
    """The installed version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@functools.cache
def harness_commit() -> str | None:
    """The harness's commit when the process started, with `-dirty` if its code differs from the commit (results do not
    count). None outside a checkout."""
    return commit_of(Path(__file__).parent)


def commit_of(code: Path) -> str | None:
    """The commit of the checkout that contains a folder of code, with `-dirty` if files in the folder differ from it.
    None if git tracks none of them."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(code), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changed = git("rev-parse", "--short=12", "HEAD"), git("status", "--porcelain", "--", ".")
    if not commit or changed is None or not git("ls-files", "."):
        return None
    return f"{commit}-dirty" if changed else commit


@contextmanager
def errors_only(library: str) -> Iterator[None]:
    """While entered, a library logs errors only. Also a decorator: `@errors_only("lm_eval")`."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
