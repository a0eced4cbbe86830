"""Fine-tuning methods: how each one changes a base model. One file per family; `registry` has them by name."""

from bench.methods.method import Method, MethodFacts, MethodOptions
from bench.methods.registry import METHODS, get

__all__ = ["METHODS", "Method", "MethodFacts", "MethodOptions", "get"]
