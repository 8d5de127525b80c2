"""Every Python block of the README and the documentation runs, in order, with one namespace for each page."""

import re
import sys
import textwrap
import types
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
KOREAN = sorted((ROOT / "docs" / "ko").rglob("*.md"))
# Pages whose blocks are studies and comparisons with frameworks, of up to a minute each.
STUDIES = {"compare.md", "sweep.md", "surfaces.md", "small_state.md", "coming_from_keras.md", "coming_from_pytorch.md"}
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Return the Python blocks of a page, each padded with empty lines so that a traceback names the line of the page."""
    text = page.read_text()
    return [
        "\n" * (text.count("\n", 0, match.start()) + 1) + textwrap.dedent(match[3])
        for match in FENCE.finditer(text)
        if match[2] == "python"
    ]


@pytest.fixture
def as_a_reader_finds_it(tmp_path, monkeypatch):
    """A reader has JAX's own defaults, and files they write go elsewhere."""
    monkeypatch.chdir(tmp_path)
    x64 = jax.config.jax_enable_x64
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_x64", x64)


@pytest.mark.usefixtures("as_a_reader_finds_it")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.thorough] if page.name in STUDIES else [])
        for page in PAGES
        if blocks(page) and page not in KOREAN
    ],
)
def test_python_blocks_run(page, monkeypatch):
    # A module of the namespace's name, so that classes defined in a block can be pickled and inspected as usual.
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for source in blocks(page):
        exec(compile(source, str(page), "exec"), module.__dict__)


@pytest.mark.parametrize("page", KOREAN, ids=lambda page: page.name)
def test_korean_pages_have_the_code_formulas_and_pictures_of_the_english_ones(page):
    english = ROOT / "docs" / page.relative_to(ROOT / "docs" / "ko")
    here, there = page.read_text(), english.read_text()
    assert [match[0] for match in FENCE.finditer(here)] == [match[0] for match in FENCE.finditer(there)]
    pictures = re.compile(r"images/(\w+\.png)\)")
    assert pictures.findall(here) == pictures.findall(there)


def test_the_lecture_has_the_same_pages_in_both_languages():
    pages = {page.name for page in (ROOT / "docs" / "lecture").glob("*.md")}
    assert pages == {page.name for page in (ROOT / "docs" / "ko" / "lecture").glob("*.md")}


def test_readme_has_its_two_commands():
    text = (ROOT / "README.md").read_text()
    assert re.findall(r"<!-- command: (\w+) -->\n```sh\n[^\n`]+\n```\n", text) == ["compare", "test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quoted_source_is_the_source(page):
    text = page.read_text()
    quotations = re.findall(r"<!-- source: (\S+) -->\n```py\n(.*?)```\n", text, re.DOTALL)
    assert len(quotations) == text.count("```py\n") == text.count("<!-- source: ")
    for source, quoted in quotations:
        lines = [line.strip() for line in (ROOT / source).read_text().splitlines()]
        wanted = [line.strip() for line in quoted.splitlines()]
        assert any(lines[i : i + len(wanted)] == wanted for i in range(len(lines))), f"not in {source}:\n{quoted}"
