"""lm-eval's templates in a sandbox.

lm-eval renders the templates of a task file (`doc_to_text` and others) in a jinja environment in which a template can
reach any attribute of any object, and so run any program. The sandbox renders the same texts and refuses such access.
"""

from __future__ import annotations

import lm_eval.utils
from jinja2 import Environment
from jinja2.sandbox import SandboxedEnvironment

from bench.models.compat import require

UPSTREAM = "https://github.com/EleutherAI/lm-evaluation-harness/blob/v0.4.13/lm_eval/utils.py"


def sandbox_templates() -> None:
    """From now on, lm-eval's templates of this process are rendered in the sandbox."""
    environment = getattr(lm_eval.utils, "env", None)
    require(isinstance(environment, Environment), "lm-eval", "lm_eval.utils.env", UPSTREAM)
    if not isinstance(environment, Environment) or isinstance(environment, SandboxedEnvironment):
        return
    sandbox = SandboxedEnvironment(
        loader=environment.loader,
        undefined=environment.undefined,
        keep_trailing_newline=environment.keep_trailing_newline,
    )
    sandbox.filters.update(environment.filters)
    lm_eval.utils.env = sandbox
