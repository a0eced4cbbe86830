"""Scores for open answers: similarity to reference answers (offline), or a model behind an OpenAI-compatible endpoint.

Judging needs no model of the sweep: answers in a results folder can be judged again, or by another judge. Scores of two
judges never share a column, an axis or an average. A judgment that failed, or that holds no rating, is missing.
"""
