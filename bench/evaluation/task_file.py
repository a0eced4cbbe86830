"""An lm-eval task file, read without running anything: what it holds, and which code lm-eval would run for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.errors import UserError, first_line


class _Function(str):
    """The name after `!function`."""


class _Loader(yaml.SafeLoader):
    """YAML with lm-eval's tag `!function`, which stays a name."""


def _function(loader: yaml.SafeLoader, node: yaml.Node) -> _Function:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.YAMLError("!function takes the name of a function")
    return _Function(loader.construct_scalar(node))


_Loader.add_constructor("!function", _function)


@dataclass(frozen=True)
class TaskFile:
    """A task file with the files that it includes."""

    content: dict[str, object]
    """Its keys and those of the files that it includes; its own win."""
    code: tuple[str, ...]
    """What lm-eval would run: functions with their files, and metrics that are programs of the evaluate library. Also
    those of included files that the file itself replaces: lm-eval imports them all the same."""

    @property
    def children(self) -> list[str]:
        """Names of the tasks of a group; empty for a single task."""
        listed = self.content.get("task")
        if not isinstance(listed, list):
            return []
        return [str(item.get("task", item.get("group"))) if isinstance(item, dict) else str(item) for item in listed]


def read_task_file(path: Path) -> TaskFile:
    """Raises UserError for a file that is missing or is not a YAML mapping, itself or one that it includes."""
    content, functions = _read(path, ())
    metrics = content.get("metric_list")
    programs = [
        f"metric {metric['metric']} of the evaluate library"
        for metric in (metrics if isinstance(metrics, list) else [])
        if isinstance(metric, dict) and _is_program(metric)
    ]
    return TaskFile(content, tuple(dict.fromkeys([*functions, *programs])))


def _read(path: Path, seen: tuple[Path, ...]) -> tuple[dict[str, object], list[str]]:
    """The content of a file with what it includes, and the functions of all of them."""
    shown, path = path, path.expanduser().resolve()
    if path in seen:
        raise UserError(f"the task file {path} includes itself", "Remove one of the `include` lines.")
    try:
        local = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(
            f"evaluation.tasks: there is no file {shown}", "Give lm_eval:NAME or lm_eval:PATH.yaml."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"cannot read the task file {path}: {first_line(error)}", "It must be YAML.") from None
    if not isinstance(local, dict):
        raise UserError(f"the task file {path} holds no task", "An lm-eval task file is a mapping with `task: NAME`.")
    functions = [f"{name}, from {path.parent}" for name in _functions(local)]
    included = local.pop("include", [])
    content: dict[str, object] = {}
    for name in included if isinstance(included, list) else [included]:
        below, more = _read(path.parent / str(name), (*seen, path))
        content |= below
        functions += more
    return content | local, functions


def _functions(content: object) -> list[str]:
    """The names after `!function`, in their order. A list or mapping that occurs several times, or within itself, by
    aliases is looked at once."""
    names: list[str] = []
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Function):
            names.append(str(value))
        elif isinstance(value, (dict, list)) and id(value) not in seen:
            seen.add(id(value))
            children = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            waiting.extend(reversed(children))
    return names


def _is_program(metric: dict[str, object]) -> bool:
    """Whether lm-eval takes a metric from the evaluate library, which downloads a program, or runs one of the disk."""
    import lm_eval.api.metrics  # noqa: F401  # registers lm-eval's own
    from lm_eval.api.registry import METRIC_REGISTRY

    name = metric.get("metric")
    is_name = isinstance(name, str) and not isinstance(name, _Function)
    return is_name and (metric.get("hf_evaluate") is True or name not in METRIC_REGISTRY)
