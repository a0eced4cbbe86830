"""Evaluation of a model: protocols, log-likelihoods, generated answers, open answers, latency, and the merge check.

Every question of a task keeps a row that holds all that its score was computed from.
"""
