"""One cell from start to finish, in reading order: base model, method, training, scores, costs, record.

A cell can be run anywhere and any number of times: what is recorded already is not done again, and whatever
moment the process is killed at, the next run goes on from the last whole file.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench import methods
from bench.costs import Meter, ModelFlops, Occupancy, Reading, matmul_speed, model_bytes, release_memory, resident_level
from bench.data.examples import Example
from bench.data.sweep_data import SweepData
from bench.data.templates import make_template
from bench.errors import CellProblem, UserError, out_of_memory
from bench.evaluation import protocols, scoring
from bench.evaluation.continuation_scorer import TokenCounts
from bench.evaluation.development import development_accuracy, development_questions
from bench.evaluation.latency import time_generation
from bench.evaluation.loglikelihood_protocol import choice_loglikelihoods
from bench.evaluation.merge_check import merge_and_compare
from bench.evaluation.open_answers import answer_questions
from bench.evaluation.prefix_sharing_lm import LanguageModel
from bench.judging import similarity
from bench.methods.method import Method
from bench.models.device import compute_device
from bench.models.hooks import drop_prompt_mask
from bench.models.load import load_model, load_skeleton, load_tokenizer
from bench.models.locate import find_base
from bench.planning.plan import PlannedCell
from bench.progress import Progress
from bench.runner.cell_environment import environment
from bench.store.files import write_json, write_text
from bench.store.folder import CellFolder
from bench.store.record_json import content_of
from bench.sweep.identity import AnswersIdentity, EvaluationIdentity
from bench.sweep.schema import Sweep
from bench.sweep.sections import TrainingConfig
from bench.training import checkpoint, distributed
from bench.training.trainer import TrainingResult, micro_batches, train


def run_cell(planned: PlannedCell, data: SweepData, folder: CellFolder, sweep: Sweep, progress: Progress) -> None:
    """Train and score one cell and record it in its folder.

    Raises whatever went wrong; what was whole by then is kept (the runner records the reason).
    """
    level = resident_level()
    with Occupancy() as occupancy:
        run = _Run(planned, data, folder, sweep, progress, level, occupancy)
        run.train()
        run.score()
    run.metrics |= {"status": "done", "reason": "", "traceback": []}
    folder.write_metrics(run.metrics)


class _Run:
    """A cell as it is run: the model as it stands, and what is recorded so far."""

    def __init__(
        self,
        planned: PlannedCell,
        data: SweepData,
        folder: CellFolder,
        sweep: Sweep,
        progress: Progress,
        level: int,
        occupancy: Occupancy,
    ) -> None:
        self.planned, self.data, self.folder, self.sweep, self.progress = planned, data, folder, sweep, progress
        self.cell, self.level, self.occupancy = planned.cell, level, occupancy
        self.begun = time.perf_counter()
        self.method: Method = methods.get(self.cell.method)
        self.facts = self.method.facts_for(self.cell.options)
        self.base = find_base(planned.base.id, planned.base.revision)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self.base)
        self.metrics = folder.metrics()
        self.before: Mapping[str, Any] = dict(self.metrics.get("costs", {}))
        self.model: nn.Module | None = None
        write_json(folder.path / "cell.json", self.cell.model_dump(mode="json"))

    @functools.cached_property
    def skeleton(self) -> PreTrainedModel:
        """The base without weights."""
        return load_skeleton(self.planned.base.id, self.planned.base.revision)

    def load(self, method_kwargs: Mapping[str, object] | None = None) -> PreTrainedModel:
        """The base anew, as the cell's method loads it if its keywords are given."""
        attention = self.planned.training.attn_implementation
        return load_model(self.base, self.cell.base.dtype, attention, method_kwargs=method_kwargs, seed=self.cell.seed)

    def train(self) -> None:
        """Leaves the model with what was saved on it, now and after any restart."""
        if "costs" not in self.metrics:  # written when the training was whole, kept whatever came after
            for made in ("items", "answers"):  # by another training's weights
                shutil.rmtree(self.folder.path / made, ignore_errors=True)
            write_json(self.folder.path / "environment.json", environment(self.base, self.data, self.planned))
            costs = self._trained()
            self.metrics = {"status": "trained", "costs": costs}
            self._note_circumstances()
            self.folder.write_metrics(self.metrics)
            shutil.rmtree(self.folder.work, ignore_errors=True)
        elif self.cell.data is not None and not self.folder.adapter.is_dir():
            raise CellProblem(
                f"{self.folder.path.name} is trained but its adapter was not kept, so it cannot be scored on more "
                "tasks",
                "Remove its folder to train it again.",
            )
        self.model = None
        release_memory()
        if self.planned.timed and "inference" not in self.metrics["costs"]:
            self.metrics["costs"]["inference"] = {}
            self._time("base", LanguageModel(self.load(), self.tokenizer, None, "any"))
            release_memory()
        self.model = self.method.load(self.load(self.method.load_kwargs(self.cell)), self.folder.adapter, self.cell)
        drop_prompt_mask(self.model)

    def _trained(self) -> dict[str, Any]:
        """Train and save; returns what it cost. When memory runs out it begins anew with smaller micro-batches: the
        batches, their order and the weights at the start are the same."""
        config = self.planned.training
        found = checkpoint.latest(self.folder.work)
        first = config.micro_batch
        if found is not None and config.devices == 1:
            first = min(found.so_far["micro_batch"], first or config.per_device)
            self.begun -= found.so_far["cost"]["seconds"]
        for micro in micro_batches(config.per_device, first):
            model = self.load(self.method.load_kwargs(self.cell))
            base_bytes = model_bytes(model)
            self.model = self.method.attach(model, self.cell)
            costs = self._sizes(base_bytes)
            if self.cell.data is None:
                return costs
            try:
                result = self._train(config.model_copy(update={"micro_batch": micro}))
                break
            except Exception as error:
                if micro == 1 or not out_of_memory(error):
                    raise
                self.progress.line(f"{self.cell.name}: out of memory with {micro} examples at a time; with fewer")
            self.model = model = None  # before the next is loaded
            release_memory()
            shutil.rmtree(self.folder.work, ignore_errors=True)  # its checkpoints are of other micro-batches
        costs |= self._training_costs(result)
        if config.devices == 1:
            self.folder.save_adapter(lambda part: self.method.save(self.model, part))
        costs["adapter_bytes"] = sum(path.stat().st_size for path in self.folder.adapter.rglob("*.safetensors"))
        return costs

    def _sizes(self, base_bytes: int) -> dict[str, Any]:
        trainable = sum(one.numel() for one in self.model.parameters() if one.requires_grad)
        # A quantized base packs several weights into a number, so the plan's count is taken.
        total = self.planned.total + trainable - self.planned.trainable
        self.work = ModelFlops.of(self.skeleton, self.model, total)
        base = sum(one.numel() for one in self.skeleton.parameters())
        return {
            "trainable": trainable,
            "total": total,
            "base_parameters": base,
            "percent_of_base": round(100 * trainable / base, 6),
            "percent_of_total": round(100 * trainable / total, 6),
            "base_bytes": base_bytes,
        }

    def _train(self, config: TrainingConfig) -> TrainingResult:
        """Train, or go on from the last checkpoint, keeping the log in memory until it is whole. What is there to go on
        from stays where the training is stopped or the disk is full."""
        lines: list[str] = []

        def log(row: dict[str, Any]) -> None:
            lines.append(json.dumps(row))
            write_text(self.folder.path / "training.jsonl", "\n".join(lines) + "\n")

        work = self.folder.work
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(self.folder.path / "tensorboard")
        try:
            examples = self.data.subset(self.cell.samples, self.cell.seed, self.tokenizer)
            advance = self.progress.stage(f"{self.cell.name} training")
            if config.devices > 1:
                return self._train_on_several(config, examples, log, advance)
            meter = Meter(self.level)
            given = (self.model, self.tokenizer, self.method, self.cell, config, examples)
            return train(*given, work, log, advance, meter)
        except Exception as error:
            if not isinstance(error, UserError) or isinstance(error, CellProblem):
                shutil.rmtree(work, ignore_errors=True)
            raise

    def _train_on_several(
        self, config: TrainingConfig, examples: Sequence[Example], log: Any, advance: Any
    ) -> TrainingResult:
        """Train and save in processes of their own, for which the model here makes room."""
        self.model = None
        release_memory()
        shutil.rmtree(self.folder.work, ignore_errors=True)
        saved = self.folder.work / "adapter"
        saved.mkdir(parents=True)
        job = distributed.Job(self.cell, config, self.base, tuple(examples), self.folder.work, saved)
        result = distributed.train(job, log, advance)
        self.folder.save_adapter(
            lambda part: shutil.copytree(saved, part, copy_function=shutil.move, dirs_exist_ok=True)
        )
        return result

    def _training_costs(self, result: TrainingResult) -> dict[str, Any]:
        speed = matmul_speed(self.cell.base.dtype)
        if compute_device().type == "cuda":  # of all together; processes of a CPU share what was measured
            speed *= self.planned.training.devices
        flops = self.work.training(result.tokens, result.supervised, result.pairs)
        return {
            "steps": result.steps,
            "devices": self.planned.training.devices,
            "micro_batch": result.micro_batch,
            "resumed": result.resumed,
            **_read("training", result.cost),
            "training_tokens": result.tokens,
            "training_padding_tokens": result.padding,
            "tokens_per_second": round(result.tokens_per_second, 1),
            "training_flops": flops,
            "training_utilisation": round(flops / result.cost.seconds / speed, 4),
            "matmul_flops_per_second": round(speed),
            "final_loss": result.final_loss,
            "best_step": result.best_step,
            "validation_loss": result.validation_loss,
            "truncated_examples": result.truncated,
            "optimizer_bytes": result.optimizer_bytes,
        }

    def score(self) -> None:
        """Score what is not scored yet, merged where the sweep says so and the method can."""
        lm = LanguageModel(
            self.model,
            self.tokenizer,
            self.sweep.evaluation.batch_size,
            self.facts.shared_prefix,
            self.cell.base.dtype,
            self.facts.pads_left,
        )
        if self.cell.data is not None:
            self._time("unmerged", lm)
        # Two evaluations of one cell never differ in being merged: the sweep says it, and a method can or cannot.
        merged = any(one.merged for one in (*self.planned.evaluations, *self.planned.answers))
        if merged:
            del lm
            lm = self._merge(self.sweep.evaluation.batch_size)
        self.metrics.setdefault("evaluations", {})
        if "development" not in self.metrics and not self.planned.trial:  # of what was not merged
            begun, asked = time.perf_counter(), development_questions(self.data)
            scored = development_accuracy(asked, choice_loglikelihoods(lm, asked) if asked else [])
            self.metrics["development"] = scored.model_dump(mode="json")
            self.metrics["costs"]["development_seconds"] = round(time.perf_counter() - begun, 2)
        for identity in self.planned.evaluations:
            if identity.id not in self.metrics["evaluations"]:
                self._evaluate(lm, identity, merged)
        for identity in self.planned.answers:
            if identity.id not in self.metrics.setdefault("answers", {}):
                self._answer(lm, identity, merged)
        if not merged and not self.planned.trial:  # only to be measured: the scores stand, whatever comes of it
            try:
                self._merge(None)
            except (RuntimeError, MemoryError) as error:
                self.metrics |= {"merge_max_abs_diff": None, "merge_reason": f"could not be measured: {error}"}
        self._note_circumstances()

    def _note_circumstances(self) -> None:
        """How long the cell has taken so far and who else was on its device, earlier parts of its run included."""
        spent = self.before.get("wall_seconds", 0.0) + time.perf_counter() - self.begun
        self.metrics["costs"] |= {
            "wall_seconds": round(spent, 2),
            "shared": self.before.get("shared", False) or self.occupancy.shared,
            "others_cpu": round(max(self.before.get("others_cpu", 0.0), self.occupancy.others_cpu), 3),
        }

    def _merge(self, batch_size: int | None) -> LanguageModel | None:
        """The merged model, timed and ready to be scored; None where the method cannot merge."""
        begun = time.perf_counter()
        outcome = merge_and_compare(
            self.model,
            self.method,
            self.cell,
            self.planned.training,
            self.data,
            self.tokenizer,
            batch_size,
            self.planned.trial,
        )
        self.metrics["costs"]["merging_seconds"] = round(time.perf_counter() - begun, 2)
        self._warn(outcome.warnings)
        if outcome.lm is None:
            self.metrics |= {"merge_max_abs_diff": None, "merge_reason": outcome.reason}
        elif outcome.flips is not None and outcome.development is not None:  # not of a trial
            self.metrics |= {"merge_max_abs_diff": outcome.max_abs_diff, "merge_flips": outcome.flips.model_dump()}
            self.metrics.setdefault("development", outcome.development.model_dump())  # of the model that was scored
        lm, self.model = outcome.lm, None  # taken apart; what is scored holds the merged one
        if lm is not None and self.cell.data is not None:
            self._time("merged", lm)
        return lm

    def _evaluate(self, lm: LanguageModel, identity: EvaluationIdentity, merged: bool) -> None:
        items, costs = self.folder.items(identity.file), {}
        if items is None:
            lm.advance = self.progress.stage(f"{self.cell.name} scoring {identity.task}")
            before = dataclasses.replace(lm.counts)
            with Meter(self.level) as meter:
                items = protocols.evaluate_task(lm, self.data, identity)
            costs = self._scoring_costs(meter.reading, before, lm.counts, merged)
            self.folder.write_items(identity.file, items)
        self.metrics["evaluations"][identity.id] = {
            **identity.model_dump(mode="json"),
            "file": identity.file,
            **content_of(scoring.compute_scores(items, protocols.primary_metric(self.data, identity))),
            "seconds": None,
            **costs,
        }
        if lm.sharing_check:
            self.metrics["sharing_check"] = lm.sharing_check.model_dump(mode="json")
        self._warn(lm.warnings)
        self.metrics["costs"] |= _over_evaluations(self.metrics["evaluations"].values())
        self._note_circumstances()
        self.folder.write_metrics(self.metrics)

    def _answer(self, lm: LanguageModel, identity: AnswersIdentity, merged: bool) -> None:
        """Answer a set of open questions, and have the judge that needs no model of its own score what it can."""
        questions = self.data.open_questions[identity.set]
        advance = self.progress.stage(f"{self.cell.name} answering {identity.set}")
        before = dataclasses.replace(lm.counts)
        words = make_template(identity.template, self.tokenizer)
        path = self.folder.answers(identity.file)
        resumed = path.is_file()
        with Meter(self.level) as meter:
            found = answer_questions(lm, questions, words, identity, self.cell.seed, self.folder, advance)
        costs = self._scoring_costs(meter.reading, before, lm.counts, merged)
        texts = [text for turns in found.values() for text in turns]
        self.metrics["answers"][identity.id] = {
            **identity.model_dump(mode="json"),
            "file": identity.file,
            "n": len(texts),
            "cut": sum(self._tokens(text) >= identity.max_new_tokens - 1 for text in texts),
            "new_tokens": sum(map(self._tokens, texts)),
            # Some were there from a run that was killed: what those took is not known.
            **(dict.fromkeys(costs) if resumed else costs),
        }
        similarity.rate_cell(self.folder, identity, questions, found)
        self._note_circumstances()
        self.folder.write_metrics(self.metrics)

    def _tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def _scoring_costs(self, reading: Reading, before: TokenCounts, after: TokenCounts, merged: bool) -> dict[str, Any]:
        tokens = after.tokens - before.tokens
        work = ModelFlops.of(self.skeleton, total=None if merged else self.planned.total)
        return {
            **_read("", reading),
            "tokens": tokens,
            "flops": work.forward(tokens, after.at_head - before.at_head, after.pairs - before.pairs),
        }

    def _time(self, what: str, lm: LanguageModel) -> None:
        """Time a model's answers, once."""
        found = self.metrics["costs"].get("inference")
        if self.planned.timed and found is not None and what not in found:
            task = next(iter(self.data.questions), None)
            shown = self.data.rendered(task)[:64] if task else []
            texts = [rendered.contexts[0] for _, rendered in shown]
            texts = texts or [one.prompt for one in self.data.subset(8, 0, self.tokenizer)]
            begun = time.perf_counter()
            advance = self.progress.stage(f"{self.cell.name} timing answers, {what}")
            found[what] = {
                str(batch): timing.model_dump() for batch, timing in time_generation(lm, texts, advance).items()
            }
            spent = self.metrics["costs"].get("inference_seconds", 0.0) + time.perf_counter() - begun
            self.metrics["costs"]["inference_seconds"] = round(spent, 2)
            self.folder.write_metrics(self.metrics)

    def _warn(self, texts: Any) -> None:
        self.metrics["warnings"] = list(dict.fromkeys([*self.metrics.get("warnings", []), *texts]))


def _read(what: str, reading: Reading) -> dict[str, Any]:
    """A reading as it is recorded, its keys beginning with what was read."""
    prefix = f"{what}_" if what else ""
    return {
        f"{prefix}seconds": round(reading.seconds, 2),
        f"{prefix}peak_bytes": reading.peak_bytes,
        f"{prefix}reserved_bytes": reading.reserved_bytes,
        f"{prefix}joules": None if reading.joules is None else round(reading.joules, 1),
    }


def _over_evaluations(recorded: Any) -> dict[str, Any]:
    """Costs of all evaluations of a cell together: sums, and the highest peak; None where one was not measured."""
    found: list[Mapping[str, Any]] = list(recorded)

    def over(key: str, take: Any) -> Any:
        values = [one.get(key) for one in found]
        return None if None in values else take(values)

    seconds, tokens, flops = (over(key, sum) for key in ("seconds", "tokens", "flops"))
    measured = bool(seconds) and tokens is not None
    return {
        "evaluation_seconds": None if seconds is None else round(seconds, 2),
        "evaluation_tokens": tokens,
        "evaluation_tokens_per_second": round(tokens / seconds, 1) if measured else None,
        "evaluation_peak_bytes": over("peak_bytes", max),
        "evaluation_reserved_bytes": over("reserved_bytes", max),
        "evaluation_joules": over("joules", sum),
        "evaluation_flops": flops,
    }
