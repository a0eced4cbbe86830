"""What judges say of open answers, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.judgments import JudgmentTables
from bench.analysis.result_tables import trained_cells
from bench.analysis.series import setting_labels
from bench.report.finding import comparisons, lowered, span
from bench.report.judge_panels import JudgePanel
from bench.store.records import PlanRecord
from bench.sweep.sections import MT_BENCH, ReportConfig

MT_BENCH_QUESTIONS = 80
"""Questions of MT-Bench."""
SAMPLING = ("temperature", "seed")
"""Parameters without which a judge says something else each time."""


def judged_finding(panels: Sequence[JudgePanel], rules: ReportConfig, plan: PlanRecord) -> list[str]:
    """What the judges say, a paragraph each."""
    paragraphs = []
    for panel in panels:
        if trained_cells(panel.cells).empty:
            continue
        questions = plan.open_questions.get(panel.set)
        part = (
            f"{questions.n} of its {MT_BENCH_QUESTIONS} questions, "
            if panel.set == MT_BENCH and questions and 0 < questions.n < MT_BENCH_QUESTIONS
            else ""
        )
        what = f"{part}likeness to a reference answer, which is not quality, " if panel.kind == "reference" else part
        sentences = [
            f"{panel.title} ({what}{panel.scale}): {lowered(span(panel.cells, digits=2))}",
            *_highest(panel),
            *comparisons(panel.differences, rules.tie_margin * panel.hundredth, digits=2),
            panel.doubt.strip(),
        ]
        paragraphs.append(" ".join(filter(None, sentences)))
    return paragraphs


def _highest(panel: JudgePanel) -> list[str]:
    """The setting with the highest mean over its seeds; there are no development questions to choose one by."""
    done = trained_cells(panel.cells)
    means = done.assign(label=setting_labels(done)).groupby("label", sort=False)["average"].mean()
    if len(means) < 2:
        return []
    return [f"The highest is {means.idxmax()} ({means.max():.2f}), chosen by the very answers that it is the mean of."]


def judge_warnings(panels: Sequence[JudgePanel], judgments: JudgmentTables) -> list[str]:
    """The reasons not to trust a judge's scores, and problems of reading them."""
    warnings = []
    for label, judge in judgments.judges.items():
        of_judge = [panel for panel in panels if panel.judge == label]
        checks = judgments.checks.get(label, [])
        if any(panel.failed_check for panel in of_judge):
            warnings.append(
                f"{judge.name} cannot tell gold answers from others (its check is below): none of its scores says "
                "anything"
            )
        elif not checks and of_judge:
            warnings.append(f"{judge.name} was not checked: `bench judge FOLDER --check` says whether it can judge")
        warnings += [
            f"the check of {judge.name} on {check.set} has {check.rated} of {check.wanted} judgments: `bench judge "
            "FOLDER --check` goes on"
            for check in checks
            if check.wanted and not check.complete and not check.failed
        ]
        warnings += [
            f"{judge.name} rated {count} questions of {name} that call for a reference answer (math, reasoning, "
            "coding) without one; FastChat refuses to judge them"
            for (of_label, name), count in judgments.without_reference.items()
            if of_label == label
        ]
        refused = [name for name in judgments.refused_parameters.get(label, []) if name in SAMPLING]
        if refused:
            warnings.append(
                f"the endpoint of {judge.name} refuses {' and '.join(refused)}: its ratings are sampled as the "
                "endpoint chooses, and may differ between requests"
            )
        models = judgments.served.get(label, [])
        if len(models) > 1:
            warnings.append(f"{judge.name} answered as {', '.join(models)}: these are several judges under one name")
        warnings += [
            f"{panel.title}: {', '.join(panel.partial[:3])}{' and others' if len(panel.partial) > 3 else ''} lack more "
            "than a fifth of their judgments and are not compared"
            for panel in of_judge
            if panel.partial
        ]
    return [*warnings, *judgments.problems]
