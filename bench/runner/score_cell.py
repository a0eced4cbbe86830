"""Scores a trained cell: merges it, scores what is not scored yet, and times its generation."""

from __future__ import annotations

import dataclasses
import time
from typing import Literal, cast

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from bench.costs import Meter, PassFlops, count_flops, release_memory
from bench.data.sweep_data import SweepData
from bench.data.templates import make_template
from bench.errors import out_of_memory
from bench.evaluation import protocols, scoring
from bench.evaluation.development import development_accuracy, development_loss, development_questions
from bench.evaluation.latency import time_generation
from bench.evaluation.loglikelihood_protocol import choice_loglikelihoods
from bench.evaluation.merge_check import MergeOutcome, merge_and_compare, probe, probe_batch
from bench.evaluation.open_answers import answer_questions
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.evaluation.stored_rows import stored_rows
from bench.evaluation.workload import LATENCY_BATCHES
from bench.judging import similarity
from bench.models.hooks import drop_prompt_mask
from bench.runner.cell_costs import add_evaluation_costs, scoring_costs
from bench.runner.cell_run import CellRun
from bench.store.damage import CorruptFile
from bench.store.records import AnswersRecord, EvaluationRecord, Scores, ScoringCosts
from bench.sweep.evaluation_identity import AnswersIdentity, EvaluationIdentity

UNTOUCHED = "its logits equal the untuned model's bit for bit: its adapter was not applied, or training changed nothing"
TIMED_QUESTIONS = 64
"""Questions whose texts the timed prompts are cut from."""


class UnreadableAdapter(Exception):
    """The saved adapter cannot be loaded into its base."""


def score_cell(run: CellRun) -> None:
    """Score what is not scored yet, merged if the sweep says so and the method can.

    A model whose answers change by merging is scored unmerged: the score is of the model that was trained. Raises
    UnreadableAdapter if what was saved cannot be loaded.
    """
    # All evaluations of a cell are of the merged model, or none is.
    wants_merged = any(wanted.merged for wanted in (*run.planned.every_evaluation, *run.planned.answers))
    if wants_merged:
        lm = _merged_lm(run)
        if lm is not None:
            _time_merged(run, lm)
            _score(run, lm, merged=True)
            return
        release_memory()
    model = _load_trained(run)
    lm = _unmerged_lm(run, model)
    if run.cell.data is not None:
        time_answers(run, "unmerged", lm)
    _score(run, lm, merged=False)
    if not wants_merged and not run.planned.pilot:
        try:  # only measured: the scores count, whatever happens here
            merged_lm = _merge(run, model, None)
            if merged_lm is not None:
                _time_merged(run, merged_lm)
        except (RuntimeError, MemoryError) as error:
            run.record.merge_max_abs_diff = None
            run.record.merge_reason = f"could not be measured: {error}"


def _load_trained(run: CellRun) -> PreTrainedModel:
    """The trained model from what was saved, so that the scores are the same after a restart."""
    base, trained = run.load_base(), run.cell.data is not None
    batch = probe_batch(run.data, run.tokenizer, run.planned.training) if trained else {}
    plain = {name: value for name, value in batch.items() if name != "prompt_mask"}
    untuned = probe(base, plain, run.cell.base.dtype) if trained else None
    try:
        model = run.method.load(base, run.folder.adapter, run.cell)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if out_of_memory(error):
            raise
        raise UnreadableAdapter(f"{type(error).__name__}: {error}") from error
    drop_prompt_mask(model)
    if untuned is not None and torch.equal(untuned, probe(model.eval(), batch, run.cell.base.dtype)):
        run.warn([UNTOUCHED])
    return cast(PreTrainedModel, model)  # a method's wrapper (PEFT's, say) is called and configured like one


def _unmerged_lm(run: CellRun, model: PreTrainedModel) -> LanguageModel:
    dtype, batch_size = run.cell.base.dtype, run.sweep.evaluation.batch_size
    return LanguageModel(model, run.tokenizer, batch_size, run.facts.shared_prefix, dtype, run.facts.pads_left)


def _merged_lm(run: CellRun) -> LanguageModel | None:
    """The merged model, ready to be scored; nothing of the unmerged one is left in memory. None if merging changes the
    model's answers."""
    model = _load_trained(run)
    if run.cell.data is not None:
        time_answers(run, "unmerged", _unmerged_lm(run, model))
    lm = _merge(run, model, run.sweep.evaluation.batch_size)
    if lm is None and not run.facts.mergeable:
        raise ValueError(f"{run.cell.name} is to be scored merged, and its method cannot merge")
    return lm


def _merge(run: CellRun, model: PreTrainedModel, batch_size: int | None) -> LanguageModel | None:
    """The merged model, compared with the unmerged one; None if the method cannot merge, or merging changes the model's
    answers. Takes `model` apart.

    Whether merging is exact depends on the method and its setting, hardly on the seed: one seed of each setting is
    compared in full, and another one only if merging moves its logits.
    """
    start = time.perf_counter()
    planned, in_full = run.planned, run.planned.merge_compared

    def compare(model: PreTrainedModel, in_full: bool) -> MergeOutcome:
        return merge_and_compare(
            model, run.method, run.cell, planned.training, run.data, run.tokenizer, batch_size, in_full
        )

    outcome = compare(model, in_full)
    if outcome.changed and not in_full and not planned.pilot:
        del model
        release_memory()
        outcome = compare(_load_trained(run), True)
    run.costs.merging_seconds = round(time.perf_counter() - start, 2)
    run.warn(outcome.warnings)
    if outcome.lm is None:
        run.record.merge_max_abs_diff, run.record.merge_reason = None, outcome.reason
    elif outcome.flips is not None or run.record.merge_flips is None:  # what was compared in full stays
        run.record.merge_max_abs_diff = dict(outcome.max_abs_diff or {})
        run.record.merge_flips = outcome.flips
        run.record.development = run.record.development or outcome.development  # of the model that was scored
    if outcome.changed:
        _score_unmerged_instead(run, outcome)
        return None
    return outcome.lm


def _score_unmerged_instead(run: CellRun, outcome: MergeOutcome) -> None:
    """Record that merging changes the model's answers, and forget scores of the merged model by earlier versions."""
    run.record.merge_reason = f"{outcome.changed}; the scores are of the unmerged model"
    run.record.development = outcome.development
    for evaluation in run.planned.every_evaluation:
        if evaluation.id in run.record.evaluations and run.record.evaluations[evaluation.id].merged:
            del run.record.evaluations[evaluation.id]
    for answers in run.planned.answers:
        if answers.id in run.record.answers and run.record.answers[answers.id].merged:
            del run.record.answers[answers.id]
    run.listener.line(f"{run.cell.name}: {run.record.merge_reason}")


def _time_merged(run: CellRun, lm: LanguageModel) -> None:
    if run.cell.data is not None:
        time_answers(run, "merged", lm)


def _score(run: CellRun, lm: LanguageModel, merged: bool) -> None:
    """Score the model on everything that is not recorded yet."""
    if run.record.development is None and not run.planned.pilot:  # merging records it for the merged model
        start, questions = time.perf_counter(), development_questions(run.data)
        loglikelihoods = choice_loglikelihoods(lm, questions) if questions else []
        run.record.development = development_accuracy(questions, loglikelihoods)
        run.costs.development_seconds = round(time.perf_counter() - start, 2)
    if run.planned.development_rows and run.record.development_loss is None:
        lm.advance = run.listener.stage(f"{run.cell.name} scoring development answers")
        run.record.development_loss = development_loss(lm, run.data, run.tokenizer)
        run.save()
    for data, evaluations in (
        (run.data.development_view, run.planned.development),
        (run.data, run.planned.evaluations),
    ):
        for evaluation in evaluations:
            if evaluation.id not in run.record.evaluations:
                _evaluate(run, lm, data, evaluation, merged)
    for answers in run.planned.answers:
        if answers.id not in run.record.answers:
            _answer(run, lm, answers, merged)


def _evaluate(run: CellRun, lm: LanguageModel, data: SweepData, evaluation: EvaluationIdentity, merged: bool) -> None:
    """Score one task by one protocol; rows that an earlier run has written are used, without costs. The record says
    whether the model was merged, also where the plan wants it otherwise."""
    wanted, evaluation = evaluation, evaluation.of(merged)
    metric = protocols.primary_metric(data, evaluation)
    scores, costs, batch_tokens = _earlier_scores(run, evaluation, metric), ScoringCosts(), None
    if scores is None:
        lm.advance = run.listener.stage(f"{run.cell.name} scoring {evaluation.task}")
        before = dataclasses.replace(lm.counts)
        lm.limit.begin()
        with Meter(run.level) as meter:
            rows = protocols.evaluate_task(lm, data, evaluation)
        costs = scoring_costs(meter.reading, before, lm.counts, _work(run, merged))
        batch_tokens = tuple(lm.limit.used)
        run.folder.write_items(evaluation.file, rows)
        scores = scoring.compute_scores(rows, metric)
    run.record.evaluations[wanted.id] = EvaluationRecord(
        **evaluation.model_dump(),
        **scores.model_dump(),
        **costs.model_dump(),
        file=evaluation.file,
        batch_tokens=batch_tokens,
    )
    if lm.sharing_check is not None:
        run.record.sharing_check = lm.sharing_check
    run.warn(lm.warnings)
    # What a choice costs is no cost of the method.
    development = {wanted.id for wanted in run.planned.development} if run.planned.evaluations else set()
    scored = [of for id, of in run.record.evaluations.items() if id not in development]
    if scored:
        add_evaluation_costs(run.costs, scored)
    run.save()


def _earlier_scores(run: CellRun, evaluation: EvaluationIdentity, metric: str) -> Scores | None:
    """The scores of rows that an earlier run has written, and was ended before it recorded them; None without any.
    Damaged rows are set aside."""
    try:
        rows = stored_rows(run.folder, evaluation.file, evaluation)
        return None if rows is None else scoring.compute_scores(rows, metric)
    except CorruptFile as error:
        run.folder.set_aside(f"items/{evaluation.file}")
        run.listener.line(f"{run.cell.name}: its items/{evaluation.file} is corrupt ({error.reason}); it is made again")
        return None


def _answer(run: CellRun, lm: LanguageModel, planned: AnswersIdentity, merged: bool) -> None:
    """Answer a set of open questions, and have the offline judge score the answers that have references."""
    wanted = planned.of(merged)
    questions = run.data.open_questions[wanted.set]
    advance = run.listener.stage(f"{run.cell.name} answering {wanted.set}")
    before = dataclasses.replace(lm.counts)
    template = make_template(wanted.template, run.tokenizer)
    resumed = run.folder.answers(wanted.file).is_file()
    with Meter(run.level) as meter:
        answers = answer_questions(lm, questions, template, wanted, run.cell.seed, run.folder, advance)
    costs = scoring_costs(meter.reading, before, lm.counts, _work(run, merged))
    tokens = [len(run.tokenizer.encode(text, add_special_tokens=False)) for turns in answers.values() for text in turns]
    run.record.answers[planned.id] = AnswersRecord(
        **wanted.model_dump(),
        # The cost of answers from a run that was killed is not known.
        **(ScoringCosts() if resumed else costs).model_dump(),
        file=wanted.file,
        n=len(tokens),
        cut=sum(count >= wanted.max_new_tokens - 1 for count in tokens),
        new_tokens=sum(tokens),
    )
    similarity.rate_cell(run.folder, wanted, questions, answers)
    run.save()


def _work(run: CellRun, merged: bool) -> PassFlops:
    return count_flops(None if merged else run.cell, run.skeleton, "forward")


def time_answers(run: CellRun, model: Literal["base", "unmerged", "merged"], lm: LanguageModel) -> None:
    """Time the generation of a model, once, if the cell is a timed one."""
    timings = run.costs.inference
    if not run.planned.timed or timings is None or model in timings:
        return
    task = next(iter(run.data.questions), None)
    rendered = run.data.rendered(task)[:TIMED_QUESTIONS] if task else []
    texts = [text.contexts[0] for _, text in rendered]
    texts = texts or [example.prompt for example in run.data.subset(max(LATENCY_BATCHES), 0, run.tokenizer)]
    start = time.perf_counter()
    timings[model] = time_generation(lm, texts, run.listener.stage(f"{run.cell.name} timing answers, {model}"))
    seconds = run.costs.inference_seconds or 0.0
    run.costs.inference_seconds = round(seconds + time.perf_counter() - start, 2)
    run.save()
