"""Runs a test set through `explain` and scores it, beside constant, shuffled and template baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median, pstdev
from typing import Any

import numpy as np

from edgegen import scores, tasks
from edgegen.domain import Lang
from edgegen.engine.loop import Engine
from edgegen.evaluation import cases as texts_of
from edgegen.evaluation import features, likelihood, measures, slot_error, verdicts, worst
from edgegen.evaluation.cases import Case, Reference, Told
from edgegen.evaluation.measures import Figure, Measure
from edgegen.evaluation.slot_error import SlotErrors
from edgegen.evaluation.worst import Bad
from edgegen.explain import Explainer, ExplainOptions, Explanation
from edgegen.progress import Progress, silent
from edgegen.slots import Prompt

__all__ = ["Case", "Reference", "Row", "Scored", "evaluate"]

_GROUPED = ("template_share", "grounded", "slot_error", "rouge_l", "bleu")
Measures = dict[str, dict[str, Measure]]
"""By score, then by whose texts: model, unchecked, template, shuffled, constant, reference."""
Systems = Mapping[str, Sequence[Told]]


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one task and language; shares are 0 to 1, BLEU and ROUGE 0 to 100, times in seconds.

    `ungrounded_before` is the share with an untrue claim, `rejected_before` with any fault, of what the model writes when no
    sentence is checked on the way (one candidate a case). `coverage` is the share of required facts that the shown texts
    mention. `accuracy` is given for tasks that choose. `figures` are all scores by name and by whose texts they are, with
    intervals where there are any; docs/evaluation.md defines them.
    """

    task: str
    lang: str
    texts: int
    model_share: float
    wrong_values: int
    ungrounded_after: int
    ungrounded_before: float
    rejected_before: float
    coverage: float
    usr: float
    repeated_4grams: float
    median_s: float
    bleu: dict[str, float]
    rouge_l: dict[str, float]
    accuracy: float | None = None
    figures: dict[str, dict[str, Figure]] = field(default_factory=dict)
    categories: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of each category of products: `texts`, and scores of the model's."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(replace(self, figures={})) | {"figures": measures.as_json(self.figures)}


@dataclass(frozen=True, slots=True)
class Scored:
    """A row, what it was made of, and the texts with something against them, the worst first."""

    row: Row
    cases: Sequence[Case]
    answers: list[Explanation]
    measures: Measures
    bad: list[Bad]


@dataclass(frozen=True, slots=True)
class _Run:
    """What was written for the cases: `answers` as shown, `drafts` without a check on the way."""

    lang: Lang
    cases: Sequence[Case]
    answers: list[Explanation]
    drafts: list[Explanation]
    references: list[list[Told]]
    """Empty where a case has none."""
    systems: Systems
    """By whose texts they are: the model's, the baselines', and the references themselves; empty for a task that chooses."""
    faults: list[set[str]]
    """The rules that each draft breaks, of those that wrote anything."""


def evaluate(
    explainer: Explainer, task: str, lang: Lang, cases: Sequence[Case], options: ExplainOptions, *,
    engine: Engine | None = None, tokenize: str | None = None, progress: Progress = silent,
) -> Scored:  # fmt: skip
    """Explain every case and score the answers. Cases must not be empty, nor hold a request twice.

    `engine` is the explainer's, for perplexity; `tokenize` is BLEU's, see `scores.References`; `progress` counts texts, two a
    case. Raises MissingExtraError where there are references and the libraries that compare with them are not installed.
    """
    found = [texts_of.references(case) for case in cases]
    references = found if all(found) else []
    against = scores.References([[t.text for t in several] for several in references], lang, tokenize) if references else None
    asked = [(case, options) for case in cases] + [(case, replace(options, n=1, rewrite=False)) for case in cases]
    written: list[Explanation] = []
    for case, how in asked:
        written.append(explainer.explain(case.request, how))
        progress(f"{task}/{lang}", len(written), len(asked))
    answers, drafts = written[: len(cases)], written[len(cases) :]
    chooses = tasks.get(task).choices
    faults = [broken for draft in drafts if (broken := verdicts.of_draft(draft)) is not None]
    run = _Run(lang, cases, answers, drafts, references, {} if chooses else _systems(answers, drafts, cases, references), faults)
    errors = _slot_errors(run)
    of_all = _measures(run, errors, against, engine)
    return Scored(_row(run, task, of_all), cases, answers, of_all, worst.of(answers, drafts, references, errors.get("model", ())))


def _row(run: _Run, task: str, found: Measures) -> Row:
    texts = [answer.text for answer in run.answers]
    accuracy = found.get("accuracy")
    return Row(
        task=task,
        lang=run.lang,
        texts=len(texts),
        model_share=_mean([answer.source == "model" for answer in run.answers]),
        wrong_values=sum(map(verdicts.wrong_values, run.answers)),
        ungrounded_after=sum(map(verdicts.untrue, run.answers)),
        ungrounded_before=_mean([bool(broken - verdicts.FORM_RULES) for broken in run.faults]),
        rejected_before=_mean([bool(broken) for broken in run.faults]),
        coverage=_mean([verdicts.coverage(answer) for answer in run.answers]),
        usr=features.usr(texts),
        repeated_4grams=scores.repeated_4grams(texts),
        median_s=median(answer.timings["total_s"] for answer in run.answers),
        bleu=_of_readme(found, "bleu"),
        rouge_l=_of_readme(found, "rouge_l"),
        accuracy=accuracy["model"].value if accuracy else None,
        figures=_figures(run, found),
        categories=_categories(run, found),
    )


def _of_readme(found: Measures, score: str) -> dict[str, float]:
    return {system: measure.value for system, measure in found.get(score, {}).items() if system != "unchecked"}


# --- the scores


def _measures(
    run: _Run, errors: Mapping[str, list[SlotErrors]], against: scores.References | None, engine: Engine | None
) -> Measures:
    found: Measures = {
        "template_share": {"model": measures.mean([answer.source == "template" for answer in run.answers])},
        "grounded": {"model": measures.mean([not verdicts.untrue(answer) for answer in run.answers])},
        "coverage": {"model": measures.mean([verdicts.coverage(answer) for answer in run.answers])},
    }
    if run.faults:
        found["grounded"]["unchecked"] = measures.mean([not broken - verdicts.FORM_RULES for broken in run.faults])
    if not run.systems:
        pairs = zip(run.answers, run.references, strict=True) if run.references else ()
        right = [any(answer.text == told.text for told in several) for answer, several in pairs]
        return found | ({"accuracy": {"model": measures.mean(right)}} if right else {})
    found["slot_error"] = {
        system: measures.ratio([e.count if e.asked else 0 for e in several], [e.asked for e in several])
        for system, several in errors.items() if any(e.asked for e in several)
    }  # fmt: skip
    for name, of in (("repeated_4grams", scores.repeated_share), ("length", _length)):
        found[name] = {system: measures.mean([of(told.text) for told in texts]) for system, texts in run.systems.items()}
    if against is not None:
        _compared(run, against, found)
        if engine is not None:
            found["perplexity"] = {"reference": measures.perplexity(likelihood.losses(engine, run.cases))}
    return found


def _length(text: str) -> float:
    return float(len(scores.tokens(text)))


def _systems(
    answers: Sequence[Explanation], drafts: Sequence[Explanation], cases: Sequence[Case], references: Sequence[Sequence[Told]]
) -> dict[str, Sequence[Told]]:
    found: dict[str, Sequence[Told]] = {"model": [texts_of.told(answer.segments, answer.prompt) for answer in answers]}
    if all(draft.candidates for draft in drafts):  # not where the template alone speaks, as of a bare name
        found["unchecked"] = [_drafted(draft) for draft in drafts]
    found |= texts_of.baselines(cases, references)
    return found | ({"reference": [several[0] for several in references]} if references else {})


def _compared(run: _Run, against: scores.References, found: Measures) -> None:
    """What is scored against references is added to `found`."""
    wanted = [next(iter(several[0].features), None) for several in run.references]
    for system, texts in run.systems.items():
        found.setdefault("fmr", {})[system] = features.fmr([told.features for told in texts], wanted)
        if system != "reference":
            for name, measure in against.measures([told.text for told in texts]).items():
                found.setdefault(name, {})[system] = measure


def _slot_errors(run: _Run) -> dict[str, list[SlotErrors]]:
    """Of the model and of its drafts against what they were asked to tell; of others against what `_asked` says."""
    counted: dict[str, list[SlotErrors]] = {}
    for i, (answer, draft) in enumerate(zip(run.answers, run.drafts, strict=True) if run.systems else ()):
        case, asked = run.cases[i], _asked(answer.prompt, run.cases[i])
        for system, texts in run.systems.items():
            if system == "unchecked":
                continue  # counted below, of every draft that wrote
            wanted = _shown(answer.prompt) if system == "model" else asked
            own = system not in texts_of.BORROWED or texts[i].of == case.request
            counted.setdefault(system, []).append(slot_error.errors(texts[i], wanted, run.lang, own=own))
        if draft.candidates:
            counted.setdefault("unchecked", []).append(slot_error.errors(_drafted(draft), _shown(draft.prompt), run.lang))
    return counted


def _drafted(draft: Explanation) -> Told:
    return texts_of.told(draft.candidates[0] or (), draft.prompt)


def _shown(prompt: Prompt) -> slot_error.Asked:
    """The facts that a prompt shows for its text to tell."""
    sections, given = prompt.request.sections, tasks.get(prompt.request.task).given
    return [(i, fact) for i, facts in enumerate(prompt.plan) if sections[i].label not in given for fact in facts]


def _asked(prompt: Prompt, case: Case) -> slot_error.Asked:
    """What any text on a request is to tell: all of it where the model was shown all, else what the reference chose to tell."""
    shown = _shown(prompt)
    if len(shown) == len(_shown(tasks.get(prompt.request.task).prompt(prompt.request))):
        return shown
    return _shown(texts_of.prompted(case.request, case.references[0].text)[0]) if case.references else ()


def _figures(run: _Run, found: Measures) -> dict[str, dict[str, Figure]]:
    out = {name: {system: measures.figure(measure) for system, measure in by.items()} for name, by in found.items()}
    seconds = [answer.timings["total_s"] for answer in run.answers]
    out["latency_s"] = {"median": Figure(median(seconds)), "p95": Figure(float(np.percentile(seconds, 95)))}
    if not run.systems:
        return out | {"usr": {"model": Figure(features.usr([answer.text for answer in run.answers]))}}
    known = {feature for several in run.references for told in several for feature in told.features}
    of: dict[str, Callable[[Sequence[Told]], float]] = {
        "usr": lambda texts: features.usr([told.text for told in texts]),
        "distinct_1": lambda texts: scores.distinct([told.text for told in texts], 1),
        "distinct_2": lambda texts: scores.distinct([told.text for told in texts], 2),
        "length_sd": lambda texts: pstdev(_length(told.text) for told in texts),
    }
    if known:
        of["fcr"] = lambda texts: features.fcr([told.features for told in texts], known)
        of["div"] = lambda texts: features.div([told.features for told in texts], known)
    return out | {name: {system: Figure(score(texts)) for system, texts in run.systems.items()} for name, score in of.items()}


def _categories(run: _Run, found: Measures) -> dict[str, dict[str, float]]:
    """The model's scores by category of product, those with most texts first."""
    groups: dict[str, list[int]] = {}
    for i, case in enumerate(run.cases):
        groups.setdefault(texts_of.category(case.request, run.lang), []).append(i)
    model = {name: found[name]["model"] for name in _GROUPED if "model" in found.get(name, {})}
    return {
        category: {"texts": len(at)} | {name: Measure(m.stats[at], m.score).value for name, m in model.items()}
        for category, at in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
