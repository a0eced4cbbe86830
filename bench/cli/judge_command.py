"""`bench judge`: rates the open answers in a results folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.app import SOME_FAILED, ResultsFolder, app, examples, exits_on_user_error, split_list
from bench.errors import UserError, unknown

if TYPE_CHECKING:
    from bench.store.folder import Results


@app.command(
    "judge",
    epilog=examples(
        "bench judge results/chat --judge openai --model gpt-4o --check",
        "bench judge results/chat --judge openai --model my-judge --base-url http://localhost:8000/v1",
        "bench judge results/chat --judge openai --model gpt-4o --pairwise baseline",
        "bench judge results/chat --import FastChat/fastchat/llm_judge/data/mt_bench",
    ),
)
@exits_on_user_error
def judge_command(
    folder: ResultsFolder,
    judge: Annotated[
        str, typer.Option(help="reference (similarity to reference answers, offline) or openai (a model's ratings).")
    ] = "reference",
    model: Annotated[str | None, typer.Option(help="The judging model's name at its endpoint.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Address of an OpenAI-compatible endpoint; default: OpenAI's.", metavar="URL")
    ] = None,
    key_variable: Annotated[
        str | None,
        typer.Option(
            help="Environment variable that holds the key; the key is never stored. Default: OPENAI_API_KEY for "
            "OpenAI's endpoint, no key for any other.",
            metavar="NAME",
        ),
    ] = None,
    sets: Annotated[str, typer.Option(help="Sets of questions, separated by commas; default: all.")] = "",
    cells: Annotated[str, typer.Option(help="Judge only cells whose names match, e.g. 'dora-*-n4000-*'.")] = "*",
    repeats: Annotated[int, typer.Option(min=1, help="Ratings of each answer.")] = 1,
    check: Annotated[
        bool,
        typer.Option("--check", help="Also check whether the judge rates gold answers above others, and how noisily."),
    ] = False,
    pairwise: Annotated[
        str, typer.Option(help="Also compare answers in pairs: none, baseline (each cell with the baseline) or all.")
    ] = "none",
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum number of tokens in a reply, a reasoning model's thoughts included.")
    ] = 2048,
    token_limit: Annotated[
        str,
        typer.Option(
            help="Name of that parameter at the endpoint: max_tokens or max_completion_tokens. Default: the first, and "
            "the second where it is refused.",
            metavar="NAME",
        ),
    ] = "max_tokens",
    temperature: Annotated[
        str, typer.Option(help="Temperature of the judge, or none to leave it to the endpoint.", metavar="NUMBER")
    ] = "0",
    concurrency: Annotated[int, typer.Option(min=1, help="Maximum number of requests in flight.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds from a request to its complete reply.")] = 120.0,
    price_in: Annotated[float | None, typer.Option(min=0, help="Dollars per million prompt tokens.")] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="Dollars per million completion tokens.")] = None,
    spending_limit: Annotated[
        float | None, typer.Option(min=0, help="Dollars that this command may spend; needs both prices.")
    ] = None,
    import_from: Annotated[
        Path | None,
        typer.Option(
            "--import",
            help="Ask no judge: read FastChat's judgments of these answers from DIR/model_judgment.",
            metavar="DIR",
        ),
    ] = None,
    export_to: Annotated[
        Path | None,
        typer.Option("--export", help="Ask no judge: write answers and judgments as FastChat's files.", metavar="DIR"),
    ] = None,
) -> None:
    """Have a judge rate the open answers in a results folder. Needs no models of the sweep.

    Each judgment is written as it arrives, with the judge's raw reply; run the same command to resume. Another judge,
    or another judging model, adds its scores beside those that are there. Exit code 1: some judgments failed.
    """
    from bench.judging.endpoint_settings import Endpoint, parse_token_limit
    from bench.judging.judge_folder import JudgingOptions, judge_folder, parse_pairs
    from bench.judging.judges import EndpointJudge, SimilarityJudge
    from bench.progress import Progress
    from bench.report import write_report
    from bench.store.folder import Results

    if import_from is not None or export_to is not None:
        _exchange(Results(folder), import_from, export_to, split_list(sets))
        return
    if judge not in ("reference", "openai"):
        raise unknown("judge", judge, ("reference", "openai"))
    pairs = parse_pairs(pairwise)
    if judge == "openai" and model is None:
        raise UserError("--judge openai needs the name of a model", "For example --model gpt-4o.")
    if spending_limit is not None and None in (price_in, price_out):
        raise UserError(
            "--spending-limit needs both prices", "Give --price-in and --price-out, in dollars per million tokens."
        )
    endpoint = Endpoint(
        model=model or "",
        base_url=base_url,
        key_variable=key_variable,
        temperature=_temperature(temperature),
        max_tokens=max_tokens,
        token_limit=parse_token_limit(token_limit),
        concurrency=concurrency,
        timeout=timeout,
        price_in=price_in,
        price_out=price_out,
        spending_limit=spending_limit,
    )
    if key_variable is None and endpoint.is_openai:  # another server gets no key that was not named for it
        endpoint = replace(endpoint, key_variable="OPENAI_API_KEY")
    results = Results(folder)
    options = JudgingOptions(cells=cells, sets=split_list(sets), repeats=repeats, check=check, pairs=pairs)
    with Progress() as progress:
        by = EndpointJudge(endpoint) if judge == "openai" else SimilarityJudge()
        summary = judge_folder(results, by, options, progress)
    print(*summary.lines(), sep="\n")
    print(f"report: {write_report(results)}")
    if summary.failed:
        raise typer.Exit(SOME_FAILED)


def _temperature(text: str) -> float | None:
    """Raises UserError for a text that is neither a number nor `none`."""
    try:
        return None if text.strip().lower() == "none" else float(text)
    except ValueError:
        raise UserError(f"--temperature {text!r} is not a number", "Give a number from 0, or none.") from None


def _exchange(results: Results, import_from: Path | None, export_to: Path | None, sets: tuple[str, ...]) -> None:
    """Read FastChat's judgments, write FastChat's files, or both."""
    from bench.judging.fastchat_files import export_fastchat
    from bench.judging.fastchat_import import import_fastchat
    from bench.report import write_report

    if import_from is not None:
        print(*import_fastchat(results, import_from, sets), sep="\n")
        print(f"report: {write_report(results)}")
    if export_to is not None:
        print(*export_fastchat(results, export_to), sep="\n")
