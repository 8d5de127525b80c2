"""The page: one HTML file that shows a study and explains it, and asks the network for nothing."""

import math
import re
from collections.abc import Callable, Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxopt_lec.lab.compare import Comparison, Mean, Result
from jaxopt_lec.lab.figures import (
    COLOURS,
    DASHES,
    INK,
    draw_effective_learning_rate,
    draw_sensitivity,
    draw_training_loss,
    draw_update_to_weight,
    draw_validation,
    svg,
)
from jaxopt_lec.lab.statistics import LEVEL, Difference, Verdict
from jaxopt_lec.lab.training import evaluation_steps
from jaxopt_lec.lab.wording import (
    amount,
    budget_words,
    cost_words,
    count,
    diverged_words,
    duration,
    edge_words,
    label,
    plus_minus,
    ranked,
    shown,
)

__all__ = ["html_report"]

CHART, PANEL = (5.6, 3.5), (3.0, 2.1)  # inches


def html_report(
    comparison: Comparison, settings: Mapping[str, Any], machine: Mapping[str, Any], versions: Mapping[str, str | None]
) -> str:
    """Return the page.

    Args:
        comparison: the study.
        settings: what it was asked for.
        machine: what it ran on.
        versions: of the packages that its numbers depend on.
    """
    budget = comparison.budget
    names = count(len(comparison.results), "optimizer")
    template = Template(resources.files("jaxopt_lec.lab").joinpath("html_report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{comparison.workload}: {names} compared"),
        heading=escape(f"{names.capitalize()} on {comparison.workload}"),
        facts=prose(
            "{}. {:,} parameters; {:,} training, {:,} validation and {:,} test examples; mini-batches of {:,}.".format(
                budget_words(comparison), comparison.parameters, *comparison.examples, budget.batch_size
            )
        ),
        findings="\n".join(f'<p class="finding">{words}</p>' for words in findings(comparison)),
        ranking=ranking_table(comparison),
        caption=prose(
            f"Learning rate: the best of {len(budget.learning_rates)} on validation data. ±: standard error over "
            f"{count(budget.seeds, 'fresh seed')}. Each optimizer: {budget_words(comparison)}."
        ),
        course=prose(
            f"Each optimizer at its chosen learning rate, over {count(budget.seeds, 'fresh seed')}. "
            "Point at an optimizer, or press it, to see it alone."
        ),
        legend="".join(legend_item(i, result) for i, result in enumerate(comparison.results)),
        charts="\n".join(charts(comparison)),
        sensitivity=prose(
            f"Validation {label(comparison.score)} at the last step against the learning rate. Each point is one of "
            f"{count(budget.seeds, 'seed')}, the line their mean; the circle is the chosen rate, a cross marks a rate at "
            "which some seed diverged. Grey: the other optimizers. A broad top forgives a badly chosen rate."
        ),
        panels="\n".join(sensitivity_panel(comparison, i, result) for i, result in enumerate(comparison.results)),
        budget=prose(
            f"What each optimizer was given: {budget_words(comparison)}. A step is one call of the optimizer. Those that "
            "evaluate the loss themselves look at a mini-batch more than once in a step; what that costs is in the seconds."
        ),
        spent=budget_table(comparison),
        reading="\n".join(f"<div><h3>{escape(h)}</h3><p>{prose(text)}</p></div>" for h, text in reading(comparison)),
        machine=definitions({key.replace("_", " "): value for key, value in machine.items()})
        + definitions({name: v or "not installed" for name, v in versions.items()}),
        settings=definitions({key.replace("_", " "): value for key, value in settings.items()}),
    )


def prose(text: str) -> str:
    """Escape a text, and keep numbers and their unit on one line."""
    return escape(text).replace(" %", "\N{NO-BREAK SPACE}%")


def breakable(name: str) -> str:
    """Escape a name, and let long ones be broken where their parts meet."""
    return re.sub(r"([._:/])(?=\w)", r"\1<wbr>", escape(name))


def definitions(values: Mapping[str, Any]) -> str:
    """Return what a mapping holds as terms and definitions; what is not set is left out."""
    parts = []
    for key, value in values.items():
        if value is None or value is False:
            continue
        text = "yes" if value is True else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        parts.append(f"<dt>{escape(key)}</dt><dd>{escape(text)}</dd>")
    return "".join(parts)


# --- words -------------------------------------------------------------------------------------------------------------


def findings(comparison: Comparison) -> list[str]:
    """Say what came out, in two or three sentences, as HTML."""
    best = ranked(comparison)[0]
    if math.isnan(best.score.mean):
        return ["Every test lane diverged, so there is nothing to rank."]
    score, baseline = comparison.score, escape(comparison.baseline)
    percent = "\N{NO-BREAK SPACE}%" if score.percent else ""
    said = [
        f"<strong>{escape(best.name)}</strong> ranks first, with a mean test {escape(score.name)} of "
        f"{plus_minus(score, best.score)}{percent}."
    ]
    if comparison.differences:
        verdicts = [difference.verdict for difference in comparison.differences.values()]
        words = {
            Verdict.BETTER: "better",
            Verdict.WORSE: "worse",
            Verdict.UNCLEAR: "not distinguishable from it",
            Verdict.UNTESTED: "without a test",
        }
        parts = [f"{verdicts.count(v)} {text}" for v, text in words.items() if v in verdicts]
        said[0] += f" Against the baseline, <strong>{baseline}</strong>: {', '.join(parts)}."
    if comparison.target is not None:
        medians = {r.name: comparison.reached(r).median for r in comparison.results}
        there = {name: steps for name, steps in medians.items() if steps is not None}
        target = prose(f"a validation {score.name} of {amount(score, comparison.target)}")
        if there:
            least = min(there.values())
            *others, last = (f"<strong>{escape(n)}</strong>" for n, steps in there.items() if steps == least)
            first = f"{', '.join(others)} and {last}" if others else last
            said.append(f"Soonest at {target}: {first}, in {least:g} steps.")
        else:
            said.append(f"No optimizer came to {target} with most of its seeds.")
    return said


def reading(comparison: Comparison) -> list[tuple[str, str]]:
    """Explain what stands on the page, as headings and texts."""
    budget, score, plan = comparison.budget, comparison.score, comparison.plan
    direction = "higher" if score.higher_is_better else "lower"
    told = [
        (
            "Pairing",
            "A seed decides the initial parameters, the order of the examples and the dropout masks, and nothing else does. "
            "All optimizers and all learning rates see the same of each, so that differences are taken seed by seed.",
        ),
        (
            "Three sets of data",
            f"The learning rate is the one with the best mean {score.name} ({direction} is better) on validation data, over "
            f"{count(budget.seeds, 'seed')}. Fresh seeds then train at that rate; validation data watch them on their way, "
            "and only the end is scored on test data.",
        ),
        (
            "±, intervals and verdicts",
            f"± is the standard error over fresh seeds. The difference is the optimizer’s test {score.name} minus the "
            f"baseline’s on the same seeds, with its own {100 * (1 - LEVEL):g} % confidence interval by Student’s t. The "
            "verdict is a paired t test, corrected after Holm for all comparisons of this page: the chance that any "
            f"“better” or “worse” here is a false alarm is at most {100 * LEVEL:g} %. p is corrected so, too. “Not "
            "distinguishable” is not “equal”: more seeds may tell. The test takes differences to be roughly normal, and "
            "speaks of seeds, not of other data.",
        ),
        (
            "Target",
            (
                "It was given."
                if comparison.given_target is not None
                else f"It is what {comparison.baseline} reached with every fresh seed: the worst over seeds of its best "
                f"validation {score.name}."
            )
            + " The step is the first evaluation at which a run is there, without interpolation; of these the median over "
            "seeds, where a run that never was there counts as later than any. If the median falls on such a run there "
            "is none.",
        ),
        (
            "Seconds",
            "A second is this machine’s, shared among the lanes that it runs side by side. After compilation, full rounds "
            f"of {count(plan.round, 'lane')} ({count(len(plan.devices), 'device')}, groups of {plan.group}) were timed, "
            "optimizer by optimizer in turns; the median counts. What starting and scoring take is subtracted, and the rest "
            "divided by steps and lanes. So it is what a step costs on a full machine, not how long a lone run waits for "
            "it.",
        ),
        (
            "Effective learning rate, update-to-weight ratio",
            "‖u‖/‖g‖ is the rate at which plain SGD would take a step as long as this one; ‖u‖/‖θ‖ is by how much of itself "
            "the model changes in a step. Norms are over all parameters, at the evaluation steps; medians over seeds. By "
            "layer they are in results.json.",
        ),
        (
            "Diverged",
            "A lane whose training loss or final score was not finite. It is left out of means and pairs, counts as worse "
            "than any other in the choice of the learning rate and in the ranking, and never reaches a target.",
        ),
        ("What this is not", "A ranking on one workload is a ranking on that workload."),
    ]
    notes = [*edge_words(comparison), *diverged_words(comparison)]
    if notes:
        told.append(("In this study", " ".join(note.removeprefix("* ") for note in notes)))
    told.append(("How it ran", cost_words(comparison)))
    return told


# --- tables ------------------------------------------------------------------------------------------------------------


def ranking_table(comparison: Comparison) -> str:
    """Return the results, best test score first."""
    score = comparison.score
    target = "target" if comparison.target is None else f"target {amount(score, comparison.target)}"
    heads = [
        ("optimizer", ' class="name"'),
        ("learning rate", ""),
        (f"validation {label(score)}", ""),
        (f"test {label(score)}", ""),
        (f"against {comparison.baseline}", ' class="name" colspan="2"'),
        (f"steps to {target}", ""),
        ("seconds to target", ""),
    ]
    head = "".join(f'<th scope="col"{attributes}>{prose(text)}</th>' for text, attributes in heads)
    reach = widest(list(comparison.differences.values()))
    rows = []
    place = {result.name: i for i, result in enumerate(comparison.results)}
    for rank, result in enumerate(ranked(comparison)):
        lanes = (*result.tuning, *result.fresh)
        diverged = sum(run.diverged for run in lanes)
        lost = f"<small>{diverged} of {count(len(lanes), 'lane')} diverged</small>" if diverged else ""
        name = name_cell(place[result.name], result, lost)
        if result.selection is None:
            rows.append(f'<tr>{name}<td colspan="7"></td></tr>')
            continue
        best = "" if rank else ' class="best"'
        edge = f"<small>{result.selection.edge} of the grid</small>" if result.selection.edge else ""
        rows.append(
            f"<tr>{name}<td>{result.selection.learning_rate:g}{edge}</td>"
            f"<td>{shown(score, result.selection.score)}</td>"
            f"<td{best}>{plus_minus(score, result.score)}<small>loss {plus_minus(None, result.loss)}</small></td>"
            f"{against(comparison, result, reach)}"
            f"<td>{target_cell(comparison, result)}</td>"
            f"<td>{duration(comparison.seconds_to_target(result))}</td></tr>"
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def name_cell(place: int, result: Result, note: str = "") -> str:
    """Return the cell that a row of an optimizer begins with."""
    return f'<th scope="row" class="name">{swatch(place)}<span class="id">{breakable(result.name)}</span>{note}</th>'


def against(comparison: Comparison, result: Result, reach: float) -> str:
    """Return two cells: a statement with the numbers behind it, and the confidence interval as a picture."""
    if result.name == comparison.baseline:
        return '<td class="words">the baseline</td><td></td>'
    difference = comparison.differences.get(result.name)
    if difference is None:
        return '<td class="words">–</td><td></td>'
    kind = difference.verdict.value if difference.verdict in (Verdict.BETTER, Verdict.WORSE) else "soft"
    score = comparison.score
    numbers = [shown(score, difference.mean, "+")] if difference.pairs else []
    if not math.isnan(difference.low):
        numbers[0] += f" [{shown(score, difference.low, '+')}, {shown(score, difference.high, '+')}]"
    if difference.p_holm is not None:
        numbers.append("p < 0.001" if difference.p_holm < 0.001 else f"p = {difference.p_holm:.2g}")
    if difference.dropped:
        numbers.append(f"{count(difference.dropped, 'pair')} dropped")
    small = f"<small>{escape(', '.join(numbers))}</small>" if numbers else ""
    words = escape(difference.words(comparison.baseline))
    return f'<td class="words"><span class="{kind}">{words}</span>{small}</td><td>{interval(difference, reach)}</td>'


def widest(differences: list[Difference]) -> float:
    """Return how far from 0 the pictures of intervals have to reach; one that dwarfs the others is cut."""
    ends = sorted(max(abs(d.low), abs(d.high)) for d in differences if not math.isnan(d.low))
    return min(ends[-1], 4 * ends[len(ends) // 2]) if ends else 0.0


def interval(difference: Difference, reach: float) -> str:
    """Draw a confidence interval around its mean, with a line at 0; an arrow's end where it is cut."""
    if not reach or math.isnan(difference.low):
        return ""

    def x(value: float) -> float:
        return 66 + 62 * max(-1.0, min(1.0, value / reach))

    kind = difference.verdict.value
    colour = f"var(--{kind})" if kind in ("better", "worse") else "var(--soft)"
    mean = f'<circle cx="{x(difference.mean):.1f}" cy="9" r="3.4" fill="{colour}"/>' if abs(difference.mean) <= reach else ""
    low, high = x(difference.low), x(difference.high)
    cut = arrow(low, -1, colour) if difference.low < -reach else ""
    cut += arrow(high, 1, colour) if difference.high > reach else ""
    return (
        '<svg class="interval" viewBox="0 0 132 18" aria-hidden="true">'
        '<line x1="66" x2="66" y1="-8" y2="32" stroke="var(--line)"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="9" y2="9" stroke="{colour}" stroke-width="1.6"/>{mean}'
        f"{cut}</svg>"
    )


def arrow(x: float, direction: int, colour: str) -> str:
    """Draw an arrow's end."""
    return f'<path d="M{x:.1f} 9l{-5 * direction} -4v8z" fill="{colour}"/>'


def target_cell(comparison: Comparison, result: Result) -> str:
    """Return the median step and how many of the seeds were there."""
    reached = comparison.reached(result)
    if comparison.target is None or not reached.steps:
        return "–"
    median = "not reached" if reached.median is None else f"{reached.median:g}"
    return f"{median}<small>{reached.count} of {count(len(reached.steps), 'seed')}</small>"


def budget_table(comparison: Comparison) -> str:
    """Return what every optimizer was given, and what it took."""
    budget = comparison.budget
    heads = ["learning rates", "seeds", "steps", "runs", "examples in tuning", "fresh seeds", "examples in testing"]
    heads += ["µs per step", "compiling, s", "running, s"]
    head = '<th scope="col" class="name">optimizer</th>' + "".join(f'<th scope="col">{text}</th>' for text in heads)
    rows = []
    for i, result in enumerate(comparison.results):
        each = result.seconds_per_step
        cells = [
            f"{len(budget.learning_rates)}",
            f"{budget.seeds}",
            f"{budget.steps:,}",
            f"{len(result.tuning)}",
            f"{budget.tuning_examples:,}",
            f"{len(result.fresh)}",
            f"{len(result.fresh) * budget.lane_examples:,}",
            "–" if each is None else f"{1e6 * each:.3g}",
            f"{result.compile_seconds:.1f}",
            f"{result.run_seconds:.1f}",
        ]
        rows.append(f"<tr>{name_cell(i, result)}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


# --- figures -----------------------------------------------------------------------------------------------------------


def swatch(place: int) -> str:
    """Draw the line of an optimizer as the figures have it."""
    dash = DASHES[place // len(COLOURS) % len(DASHES)]
    dashes = "" if isinstance(dash, str) else f' stroke-dasharray="{" ".join(str(2 * x) for x in dash[1])}"'
    return (
        '<svg class="swatch" viewBox="0 0 24 8" aria-hidden="true"><line x1="0" x2="24" y1="4" y2="4" '
        f'stroke="var(--series-{place % len(COLOURS)})" stroke-width="2.4"{dashes}/></svg>'
    )


def legend_item(place: int, result: Result) -> str:
    """Return an optimizer's button."""
    rate = "" if result.selection is None else f", {result.selection.learning_rate:g}"
    return (
        f'<li><button type="button" data-series="{place}" aria-pressed="false">{swatch(place)}'
        f"<span>{breakable(result.name)}{rate}</span></button></li>"
    )


def draw(drawing: Callable[[Axes], None], size: tuple[float, float], name: str, description: str) -> str:
    """Draw a figure for the page."""
    with mpl.rc_context(
        {"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK}
    ):
        figure = Figure(figsize=size, layout="constrained")
        drawing(figure.subplots())
        return svg(figure, name, description)


def charts(comparison: Comparison) -> list[str]:
    """Return the figures against the step."""
    score = comparison.score
    seen = {
        r.name: (r.evaluations, r.finished) for r in comparison.results if r.evaluations is not None and r.finished.any()
    }
    target = "" if comparison.target is None else f" The dashed line is the target, {amount(score, comparison.target)}."
    looks = count(len(evaluation_steps(comparison.budget.steps)), "evaluation")
    losses = {r.name: float(r.training_loss[-1]) for r in comparison.results if len(r.training_loss)}
    scores = {name: float(e.score[f, -1].mean()) for name, (e, f) in seen.items()}
    rates = {name: float(np.median(e.effective_learning_rate[f, -1])) for name, (e, f) in seen.items()}
    ratios = {name: float(np.median(e.update_to_weight[f, -1])) for name, (e, f) in seen.items()}
    healthy = "about 10⁻³ is usual in healthy training"

    def chart(drawing: Callable[[Axes, Comparison], None], name: str, title: str, caption: str, alt: str) -> str:
        picture = draw(lambda axes: drawing(axes, comparison), CHART, name, f"Line chart: {title} against the step. {alt}")
        return f"<figure><h3>{escape(title)}</h3>{picture}<figcaption>{prose(caption)}</figcaption></figure>"

    cut = " The axis leaves out where curves begin." if score.percent else ""
    at_all = f"Mean over seeds, at {looks}.{target}{cut}"
    return [
        chart(draw_training_loss, "loss", "Training loss", "Of the mini-batches, mean over seeds.", ends(losses)),
        chart(draw_validation, "validation", f"Validation {score.name}", at_all, ends(scores) + target),
        chart(
            draw_effective_learning_rate,
            "rate",
            "Effective learning rate",
            "‖u‖/‖g‖ over all parameters, median over seeds.",
            ends(rates),
        ),
        chart(
            draw_update_to_weight,
            "ratio",
            "Update-to-weight ratio",
            f"‖u‖/‖θ‖ over all parameters, median over seeds; {healthy}.",
            ends(ratios),
        ),
    ]


def ends(last: Mapping[str, float]) -> str:
    """Say in words where curves end."""
    if not last:
        return "Every lane diverged."
    low, high = min(last, key=last.__getitem__), max(last, key=last.__getitem__)
    return f"At the last step the lowest is {low} at {last[low]:.3g}, the highest {high} at {last[high]:.3g}."


def sensitivity_panel(comparison: Comparison, place: int, result: Result) -> str:
    """Return one optimizer's figure against the learning rate."""
    score = comparison.score
    finished = Mean.of([run.score for run in result.tuning if not run.diverged])
    said = f"Chart: validation {score.name} of {result.name} against the learning rate. "
    if result.selection is None:
        said += "Every lane diverged."
    else:
        said += f"The best, {amount(score, result.selection.score)}, is at {result.selection.learning_rate:g}; "
        said += f"the mean over all lanes that did not diverge is {amount(score, finished.mean)}."
    picture = draw(lambda axes: draw_sensitivity(axes, comparison, result), PANEL, f"panel{place}", said)
    return f"<figure><h3>{breakable(result.name)}</h3>{picture}</figure>"
