"""Open answers scored by judges: one that compares with reference answers, offline, and any behind an OpenAI-compatible
endpoint.

Answering and judging are apart: what is in a results folder can be judged again, or by another judge, without the
models. Two judges never share a column, an axis or an average. A judgment that could not be had or read is missing.
"""
