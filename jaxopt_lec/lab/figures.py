"""The figures of a study: as PNG files, and as SVG that takes its colours from the page it stands in."""

import io
import re
from collections.abc import Sequence
from html import escape
from itertools import cycle, islice
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxopt_lec.lab.compare import Comparison, Mean, Result
from jaxopt_lec.lab.wording import amount, count
from jaxopt_lec.lab.workloads import Score

__all__ = [
    "COLOURS",
    "DASHES",
    "draw_effective_learning_rate",
    "draw_sensitivity",
    "draw_training_loss",
    "draw_update_to_weight",
    "draw_validation",
    "learning_rates",
    "logarithmic",
    "loss_curves",
    "png",
    "power_of_ten",
    "running_mean",
    "styles",
    "svg",
    "tidy",
]

# Okabe & Ito's colours, told apart with any colour vision; from the ninth optimizer on the line style differs too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)))
INK, GRID, OTHERS = "#1F2328", "#E2E4E7", "#D7D9DC"
SMOOTHED = 0.04  # the share of the steps that the loss curves' running mean spans
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# A page can give these their own values, for a dark background for example.
VARIABLES = {INK: "--ink", GRID: "--grid", OTHERS: "--others"} | {c: f"--series-{i}" for i, c in enumerate(COLOURS)}


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def svg(figure: Figure, name: str, description: str) -> str:
    """Return a figure as an SVG element whose colours and font are the page's.

    Args:
        figure: drawn with the colours of this module.
        name: letters and digits, its own on the page: all identifiers begin with it.
        description: what it shows, in words, for those who do not see it.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\bfont: (?:\w+ )*?([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in VARIABLES.items():
        text = re.sub(re.escape(colour), f"var({variable})", text, flags=re.IGNORECASE)
    start, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', start)
    assert box is not None
    return f'<svg {box[0]} role="img" aria-label="{escape(description)}">{rest.strip()}'


def styles(n: int) -> list[dict[str, Any]]:
    """Return n line styles that can be told apart."""
    lines = [{"color": colour, "linestyle": dash} for dash in DASHES for colour in COLOURS]
    return list(islice(cycle(lines), n))


def style_of(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Return the line style of every optimizer."""
    names = [result.name for result in comparison.results]
    # By this identifier a page finds the line.
    looks = (look | {"gid": f"line{i}"} for i, look in enumerate(styles(len(names))))
    return dict(zip(names, looks, strict=True))


# --- against the step --------------------------------------------------------------------------------------------------


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Return the mean over the last `width` values, fewer at the start."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)


def smoothing(comparison: Comparison) -> int:
    """Return how many steps the running mean of the training loss spans."""
    return max(1, round(SMOOTHED * comparison.budget.steps))


def draw_training_loss(axes: Axes, comparison: Comparison) -> None:
    """Draw the training loss against the step, each optimizer at its chosen learning rate."""
    width, style = smoothing(comparison), style_of(comparison)
    drawn = [r for r in comparison.results if r.selection is not None and len(r.training_loss)]
    # In a legend the optimizers stand in the order of the curves' right ends.
    for result in sorted(drawn, key=lambda r: -running_mean(r.training_loss, width)[-1]):
        assert result.selection is not None
        axes.plot(
            np.arange(1, len(result.training_loss) + 1),
            running_mean(result.training_loss, width),
            label=f"{result.name}, {result.selection.learning_rate:g}",
            linewidth=1.6,
            **style[result.name],
        )
    lines = [line.get_ydata() for line in axes.lines]
    if all(np.min(y) > 0 for y in lines):
        logarithmic(axes)
    axes.set_ylabel("training loss" + (f" (running mean over {width} steps)" if width > 1 else ""))
    over_steps(axes)


def draw_validation(axes: Axes, comparison: Comparison) -> None:
    """Draw the validation score at the evaluation steps, mean over the fresh lanes that finished, and the target."""
    score, factor = comparison.score, scale(comparison.score)
    curves = {r.name: factor * r.evaluations.score[r.finished] for r in comparison.results if r.evaluations is not None}
    draw_evaluations(axes, comparison, curves, np.mean)
    if comparison.target is not None:
        axes.axhline(factor * comparison.target, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
        axes.annotate(
            f"target {amount(score, comparison.target)}",
            (0, factor * comparison.target),
            (4, 3 if score.higher_is_better else -3),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="left",  # where curves have not arrived yet
            va="bottom" if score.higher_is_better else "top",
            fontsize=9,
        )
    axes.set_ylabel(f"validation {unit(score)}")
    if not score.percent:
        limit(axes, score, np.concatenate([np.zeros(0), *(line.get_ydata() for line in axes.lines)]))
    elif curves:
        focus(axes, score, np.array([np.asarray(line.get_ydata())[-1] for line in axes.lines if line.get_gid()]))


def draw_effective_learning_rate(axes: Axes, comparison: Comparison) -> None:
    """Draw ‖u‖/‖g‖ at the evaluation steps, median over the fresh lanes that finished."""
    curves = {
        r.name: r.evaluations.effective_learning_rate[r.finished] for r in comparison.results if r.evaluations is not None
    }
    draw_evaluations(axes, comparison, curves, np.median)
    logarithmic(axes)
    axes.set_ylabel("effective learning rate ‖u‖/‖g‖")


def draw_update_to_weight(axes: Axes, comparison: Comparison) -> None:
    """Draw ‖u‖/‖θ‖ at the evaluation steps, median over the fresh lanes that finished."""
    curves = {r.name: r.evaluations.update_to_weight[r.finished] for r in comparison.results if r.evaluations is not None}
    draw_evaluations(axes, comparison, curves, np.median)
    logarithmic(axes)
    axes.set_ylabel("update-to-weight ratio ‖u‖/‖θ‖")


def draw_evaluations(axes: Axes, comparison: Comparison, curves: dict[str, np.ndarray], average: Any) -> None:
    """Draw a line for each optimizer through an average over seeds of [seed, evaluation]; what is not finite is a gap."""
    style = style_of(comparison)
    for result in comparison.results:
        values = curves.get(result.name)
        if values is None or not len(values):
            continue
        assert result.evaluations is not None
        line = average(values, 0)
        line = np.where(np.isfinite(line), line, np.nan)
        look = style[result.name] | {"marker": "o" if len(line) == 1 else None, "markersize": 4, "linewidth": 1.6}
        axes.plot(result.evaluations.steps, line, label=result.name, **look)
    over_steps(axes)


def over_steps(axes: Axes) -> None:
    """Finish a plot against the step."""
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(6, integer=True))
    tidy(axes)
    axes.margins(x=0.01)
    if not axes.lines:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, "every lane diverged", transform=axes.transAxes, ha="center")


def loss_curves(comparison: Comparison) -> Figure:
    """Plot the training loss against the step, with a legend."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.subplots()
    draw_training_loss(axes, comparison)
    axes.set_title(f"{comparison.workload}: mean over {count(comparison.budget.seeds, 'fresh seed')}", parse_math=False)
    if axes.lines:
        legend = figure.legend(title="optimizer, learning rate", loc="outside right center", frameon=False, handlelength=3)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


# --- against the learning rate -----------------------------------------------------------------------------------------


def draw_sensitivity(axes: Axes, comparison: Comparison, result: Result) -> None:
    """Draw one optimizer's validation score against the learning rate, each seed a point; the others in grey behind it."""
    score, factor = comparison.score, scale(comparison.score)
    rates = np.array(comparison.budget.learning_rates)
    curves = {other.name: factor * mean_by_rate(other, rates) for other in comparison.results}
    for other in curves.values():
        axes.plot(rates, other, color=OTHERS, linewidth=0.8, zorder=1)
    finished = [run for run in result.tuning if not run.diverged]
    axes.plot(
        [run.learning_rate for run in finished],
        [factor * run.score for run in finished],
        ".",
        color=COLOURS[0],
        alpha=0.4,
        markersize=4,
        label="one seed",
    )
    axes.plot(rates, curves[result.name], color=COLOURS[0], linewidth=1.6, label="mean of those not diverged")
    diverged = sorted({run.learning_rate for run in result.tuning if run.diverged})
    worst = 0.0 if score.higher_is_better else 1.0  # at the axis' worse end
    axes.plot(
        diverged,
        np.full(len(diverged), worst),
        "x",
        color=COLOURS[1],
        markersize=6,
        clip_on=False,
        label="some seed diverged",
        transform=axes.get_xaxis_transform(),
    )
    if result.selection is not None:
        chosen = result.selection.learning_rate
        at = curves[result.name][list(rates).index(chosen)]
        axes.plot(chosen, at, "o", markersize=8, markerfacecolor="none", color=INK, label="chosen")
    axes.set_xscale("log")
    tidy(axes)
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(power_of_ten))
    # The same range for every panel: that of all seeds.
    limit(axes, score, [run.score for r in comparison.results for run in r.tuning if not run.diverged])


def learning_rates(comparison: Comparison) -> Figure:
    """Plot the validation score against the learning rate, one panel per optimizer."""
    results = comparison.results
    columns = min(len(results), 4 if len(results) <= 8 else 5)
    rows = -(-len(results) // columns)
    figure, panels = grid_of_panels(rows, columns)
    for axes, result in zip(panels, results, strict=False):
        draw_sensitivity(axes, comparison, result)
        axes.set_title(result.name, fontsize=10, parse_math=False)
    for axes in panels[len(results) :]:
        axes.set_visible(False)
    for i, axes in enumerate(panels[: len(results)]):
        lowest = i + columns >= len(results)
        axes.tick_params(labelbottom=lowest, labelleft=i % columns == 0)
        if lowest:
            axes.set_xlabel("learning rate")
    figure.supylabel(f"validation {unit(comparison.score)}")
    grey = "; grey: the other optimizers" if len(results) > 1 else ""
    title = f"{comparison.workload}: {count(comparison.budget.seeds, 'seed')} per learning rate{grey}"
    figure.suptitle(title, fontsize=11, parse_math=False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def grid_of_panels(rows: int, columns: int) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with panels of one size, whatever their number; matplotlib's own layouts fail on few of them."""
    width, height, gap, title_and_labels = max(2.3, 7.2 / columns), 1.6, 0.2, 0.8  # inches
    left, right, bottom, top = 0.85, 0.25, 0.95, 0.7
    total_width = left + columns * width + (columns - 1) * gap + right
    total_height = bottom + rows * height + (rows - 1) * title_and_labels + top
    figure = Figure(figsize=(total_width, total_height))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=left / total_width,
        right=1 - right / total_width,
        bottom=bottom / total_height,
        top=1 - top / total_height,
        wspace=gap / width,
        hspace=title_and_labels / height,
    )
    return figure, list(panels.flat)


def mean_by_rate(result: Result, rates: np.ndarray) -> np.ndarray:
    """Return the mean over the lanes that did not diverge, NaN (a gap in the plot) where all did."""
    finished = [run for run in result.tuning if not run.diverged]
    return np.array([Mean.of([run.score for run in finished if run.learning_rate == rate]).mean for rate in rates])


# --- axes --------------------------------------------------------------------------------------------------------------


def scale(score: Score) -> float:
    """Return what scores are drawn in: shares in percent."""
    return 100.0 if score.percent else 1.0


def unit(score: Score) -> str:
    """Return how an axis calls a score."""
    return f"{score.name} (%)" if score.percent else score.name


def limit(axes: Axes, score: Score, drawn: Sequence[float] | np.ndarray) -> None:
    """Choose the range of a score: all shares, or all but what is far off the best.

    A learning rate just below divergence can leave a score that is worse by many orders of magnitude.
    """
    if score.percent:
        axes.set_ylim(0, 104)
        return
    values = np.asarray(drawn, float)
    values = values[np.isfinite(values)]
    if not values.size:
        return
    if values.min() > 0 and values.max() > 20 * values.min():
        logarithmic(axes)
        return
    best = values.max() if score.higher_is_better else values.min()
    far = np.abs(values - best)
    reach = min(far.max(), 5 * float(np.median(far))) or far.max() or abs(best) or 1.0
    worse = best - reach if score.higher_is_better else best + reach
    low, high = sorted((best, worse))
    axes.set_ylim(low - 0.06 * reach, high + 0.06 * reach)


def focus(axes: Axes, score: Score, last: np.ndarray) -> None:
    """Let the range of a share begin not far below the worst end of a curve: where curves begin, they are all alike."""
    bad, good = (1.0, -1.0) if score.higher_is_better else (0.0, 1.0)
    distance = np.nanmax(100 * bad + good * last) if np.isfinite(last).any() else 100.0  # of the worst from perfection
    reach = float(np.clip(2.5 * distance, 2, 100))
    low, high = (100 - reach, 100 + 0.04 * reach) if score.higher_is_better else (-0.04 * reach, reach)
    axes.set_ylim(low, high)


def logarithmic(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with powers of ten in plain text."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(power_of_ten))
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    low, high = axes.get_ylim()
    if high < 5 * low:  # of 1, 2 and 5 times a power of ten perhaps one
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    elif high < 100 * low:  # of powers of ten perhaps one
        axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))


def power_of_ten(value: float, place: int | None = None) -> str:
    """Return 0.01, 1, 10 or 10⁻⁶."""
    if 1e-4 <= value < 1e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return ("" if mantissa == "1" else f"{mantissa}·") + "10" + f"{int(exponent)}".translate(SUPERSCRIPTS)


def tidy(axes: Axes) -> None:
    """Give a plot a quiet grid and no box."""
    axes.grid(True, which="major", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
