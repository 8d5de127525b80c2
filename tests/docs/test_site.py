"""The site is read from files, without a server or a network."""

import shutil
from pathlib import Path

import pytest
from browser import in_browser, needs_browser

commands = pytest.importorskip("mkdocs.commands.build", reason="the site needs the extra [docs]")
config = pytest.importorskip("mkdocs.config", reason="the site needs the extra [docs]")

ROOT = Path(__file__).parents[2]
SEARCH = """
    const query = document.querySelector("[name=query]");
    query.focus();
    query.value = "%s";
    query.dispatchEvent(new KeyboardEvent("keyup"));
    setInterval(() => {
        const found = [...document.querySelectorAll(".md-search-result__link")];
        if (found.length) done(found.map((link) => new URL(link.href).pathname.split("/").pop()));
    }, 100);
"""


def build(texts, folder):
    """Build the site with these pages in place of its own."""
    shutil.copytree(ROOT / "docs" / "site", folder / "pages" / "site")
    for name, text in texts.items():
        (folder / "pages" / name).write_text(text, encoding="utf-8")
    site = folder / "out"
    commands.build(
        config.load_config(
            str(ROOT / "mkdocs.yml"),
            docs_dir=str(folder / "pages"),
            site_dir=str(site),
            nav=[{name: name} for name in texts],
        )
    )
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "pages" / "ko").mkdir(parents=True)
    return build(
        {"index.md": "# Home\n\nMomentum rolls.\n", "ko/momentum.md": "# 모멘텀\n\n학습률은 안에 있습니다.\n"}, folder
    )


@needs_browser
@pytest.mark.parametrize(("words", "page"), [("momentum", "index.html"), ("학습률", "momentum.html")])
def test_search_finds_what_is_on_pages_that_are_opened_as_files(site, words, page):
    assert page in in_browser((site / "index.html").read_text(), SEARCH % words, site)


def test_korean_pages_say_that_they_are(site):
    assert '<html lang="en"' in (site / "index.html").read_text()
    assert '<html lang="ko"' in (site / "ko" / "momentum.html").read_text()


def test_a_page_that_asks_the_network_for_something_is_refused(tmp_path, caplog):
    with pytest.raises(SystemExit):
        build({"index.md": '<img src="https://example.com/picture.png">\n'}, tmp_path)
    assert "index.md asks the network for https://example.com/picture.png" in caplog.text
