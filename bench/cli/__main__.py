"""`python -m bench.cli` is `bench`."""

from bench.cli import app

app()
