"""How much text is generated and how many questions are asked, where the figure is no setting of the sweep.

The estimate of a plan, the tables and the figures use these constants too. This module imports nothing.
"""

from __future__ import annotations

LATENCY_TOKENS = 64
"""New tokens of a timed answer."""
LATENCY_BATCHES = (1, 8)
"""Prompts that are answered at once, in each of the timings."""
LATENCY_REPEATS = 3
"""Timings of each batch size; the median is recorded."""
LATENCY_WARM_UP_TOKENS = 4
LATENCY_PROMPT_TOKENS = 32
"""Tokens of each timed prompt. Prompts of one length need no padding, which some methods do not support."""

PROTOCOL_TOKENS = 32
"""New tokens of an answer in the generative protocols."""

DEVELOPMENT_QUESTIONS = 60
"""Development questions, over all training sets, on which a model is compared before and after merging and on which
learning rates are chosen."""
