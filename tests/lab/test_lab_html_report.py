"""The page: one file, everything escaped, every figure described, and whole in a real browser, wide and narrow."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import in_browser, needs_browser

from jaxopt_lec.lab.compare import Comparison
from jaxopt_lec.lab.html_report import html_report
from jaxopt_lec.lab.workloads import Score

ATTACK = '<script>alert("&")</script>'
VOID = {"meta", "wbr", "link", "img", "input", "hr"}


def page_of(comparison: Comparison) -> str:
    return html_report(comparison, {"workload": "made-up", "l2": None}, {"cores": 2}, {"jax": "1.2.3", "optax": None})


class Balance(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)


def text_of(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return re.sub(r"\s+", " ", "".join(parser.text))


def renamed(comparison: Comparison, name: Callable[[str], str]) -> Comparison:
    results = tuple(replace(result, name=name(result.name)) for result in comparison.results)
    return replace(comparison, results=results, baseline=name(comparison.baseline), workload=name(comparison.workload))


def test_it_is_one_file_that_asks_the_network_for_nothing(comparison: Comparison) -> None:
    page = page_of(comparison)
    # xmlns are names; nothing is loaded from there.
    assert not re.search(
        r"https?:|src=|@import|url\((?!#)|<link|fetch\(|XMLHttpRequest", re.sub(r'xmlns[:\w]*="[^"]*"', "", page)
    )
    assert "default-src 'none'" in page
    assert "$" not in re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # no placeholder was forgotten


def test_it_says_what_came_out(regression: Comparison) -> None:
    text = text_of(page_of(regression))
    assert "good ranks first, with a mean test squared error of 0.226 ± 0.011." in text
    assert "Against the baseline, base: 1 better, 1 worse, 1 not distinguishable from it." in text
    assert "better than base" in text
    assert "worse than base" in text
    assert "not distinguishable from base at 5 seeds" in text
    assert "Soonest at a validation squared error of 0.165: base, good and alike, in 5 steps." in text
    assert "5 of 5 seeds" in text
    assert "not reached" in text  # bad
    assert "accuracy" not in text
    assert "2 learning rates × 5 seeds × 20 steps of tuning (25,600 examples), then 5 fresh seeds" in text
    assert "jax1.2.3" in text
    assert "l2" not in text  # what was not set is not listed
    assert "−0.102 [−0.104, −0.1], p < 0.001" in text


def test_shares_are_in_percent_and_what_diverged_is_said(comparison: Comparison) -> None:
    text = text_of(page_of(comparison)).replace("\N{NO-BREAK SPACE}", " ")
    assert "plain ranks first, with a mean test accuracy of 70.00 ± 10.00 %." in text
    assert "1 of 2 seeds" in text
    assert "no test: 1 seed in common with plain+30.00, 1 pair dropped" in text
    assert "wild: every lane diverged, so nothing was tested" in text
    assert "4 of 4 lanes diverged" in text
    assert "The highest of the grid, 1; the best may lie beyond: edgy." in text


def test_a_study_of_which_nothing_is_left(comparison: Comparison, make_comparison) -> None:
    lost = make_comparison(comparison.budget, list(comparison.results[2:]), "wild")
    text = text_of(page_of(lost))
    assert "Every test lane diverged, so there is nothing to rank." in text
    assert page_of(lost).count("<figure>") == 5


def test_names_are_text_wherever_they_stand(comparison: Comparison) -> None:
    plain = page_of(comparison)
    hostile = page_of(renamed(comparison, lambda name: f'{name}{ATTACK}" onload="x'))
    assert hostile.count("<script") == plain.count("<script") == 1
    assert "alert(" in text_of(hostile)
    assert not re.search(r'<[^>]*" onload="x', hostile)
    score = replace(comparison, score=Score(ATTACK, higher_is_better=True))
    assert page_of(score).count("<script") == 1
    settings = html_report(comparison, {ATTACK: ATTACK}, {ATTACK: [ATTACK]}, {ATTACK: ATTACK})
    assert settings.count("<script") == 1


def test_every_figure_is_described_and_takes_the_colours_of_the_page(comparison: Comparison) -> None:
    pictures = re.findall(r"<svg (?!class).*?</svg>", page_of(comparison), flags=re.DOTALL)
    assert len(pictures) == 4 + 3
    for picture in pictures:
        ElementTree.fromstring(picture.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
        assert re.search(r'role="img" aria-label="[^"]{40,}"', picture)
        assert "var(--ink)" in picture
        assert not re.search(r"#[0-9a-f]{6}", re.sub(r'(url\(|href=")#[^)"]*', "", picture))
        assert "font:" not in picture
    assert "the lowest is plain at 0.1" in pictures[0]
    assert "The dashed line is the target, 60.00 %" in pictures[1]
    identifiers = re.findall(r'\bid="([^"]*)"', page_of(comparison))
    assert len(identifiers) == len(set(identifiers))


# The page stands in a frame as wide as the screen, as a browser's own window has a least width.
SEEN = """
    const frame = document.createElement("iframe");
    frame.style.cssText = "width: WIDTHpx; height: 800px; border: 0";
    document.body.append(frame);
    const page = frame.contentDocument, view = frame.contentWindow, errors = [];
    page.open();
    view.onerror = (message) => errors.push(message);
    view.console.error = (...messages) => errors.push(messages.join(" "));
    page.addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
    page.write(PAGE);
    page.close();
    const size = (element) => { const { width, height } = element.getBoundingClientRect(); return [width, height]; };
    const all = (selector) => [...page.querySelectorAll(selector)];
    setTimeout(() => done({
        errors,
        width: page.documentElement.scrollWidth,
        view: page.documentElement.clientWidth,
        tables: all("table").map(size),
        figures: all("figure > svg").map(size),
        lines: all('g[id$="-line0"] path').map((path) => path.getTotalLength()),
        paper: view.getComputedStyle(page.body).backgroundColor,
        ink: view.getComputedStyle(page.querySelector("figure svg text")).fill,
    }), 1000);
"""


def long(name: str) -> str:
    return f"{name}.{'a_very_long_module.' * 4}{'Factory' * 9}"


@needs_browser
@pytest.mark.parametrize("name", [str, long])
@pytest.mark.parametrize("width", [1200, 400])
def test_it_is_whole_in_a_browser(comparison: Comparison, tmp_path: Path, name: Callable[[str], str], width: int) -> None:
    text = json.dumps(page_of(renamed(comparison, name))).replace("</", "<\\/").replace("<!--", "<\\!--")
    host = f"<html><body><script>const PAGE = {text};</script></body></html>"
    seen = in_browser(host, SEEN.replace("WIDTH", str(width)), tmp_path)
    assert seen["errors"] == []
    assert seen["view"] == pytest.approx(width, abs=20)  # but for a scroll bar
    assert seen["width"] <= seen["view"]  # wide tables scroll inside, the page does not
    assert len(seen["tables"]) == 2
    assert all(w > 300 and h > 80 for w, h in seen["tables"])
    assert len(seen["figures"]) == 7
    assert all(w > 120 and h > 60 for w, h in seen["figures"])
    assert len(seen["lines"]) == 4
    assert all(length > 50 for length in seen["lines"])
    assert seen["paper"] == "rgb(255, 255, 255)"
    assert seen["ink"] == "rgb(31, 35, 40)"


@needs_browser
def test_one_optimizer_can_be_seen_alone(comparison: Comparison, tmp_path: Path) -> None:
    script = """
        const [first, second] = document.querySelectorAll("button[data-series]");
        const opacity = (series) => getComputedStyle(document.querySelector(`g[id="loss-line${series}"]`)).opacity;
        const seen = [], look = () => seen.push([opacity(0), opacity(1), first.ariaPressed, second.ariaPressed]);
        document.head.insertAdjacentHTML("beforeend", "<style>* { transition: none !important; }</style>");
        look();
        first.click(); look();
        second.click(); look();
        first.dispatchEvent(new PointerEvent("pointerenter")); look();
        first.dispatchEvent(new PointerEvent("pointerleave")); look();
        second.click(); look();
        done(seen);
    """
    assert in_browser(page_of(comparison), script, tmp_path) == [
        ["1", "1", "false", "false"],
        ["1", "0.13", "true", "false"],
        ["0.13", "1", "false", "true"],
        ["1", "0.13", "false", "true"],
        ["0.13", "1", "false", "true"],
        ["1", "1", "false", "false"],
    ]
