"""Which versions of the libraries and of this harness are at work."""

from __future__ import annotations

import functools
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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


def package_versions() -> dict[str, str | None]:
    """The recorded packages with their versions; None for one that is not installed."""
    return {name: package_version(name) for name in RECORDED_PACKAGES}


def package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@functools.cache
def harness_commit() -> str | None:
    """The harness's own commit as the run began, with `-dirty` where its code was changed (results, which a run writes,
    are none); None outside a checkout."""
    return commit_of(Path(__file__).parent)


def commit_of(code: Path) -> str | None:
    """The commit of the checkout that a folder of code is in, with `-dirty` where files in that folder differ from it;
    None where git knows none of them."""

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
