"""What the site makes of the pages, which are written to be read in the repository too.

Formulas, in ```math fences, become MathML, which browsers draw without a script or a network. Links to files outside of
docs/ lead to the page of examples, which has their text, or are plain names. A page that would ask the network for something
is refused.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[(?P<text>[^\]\n]+)\]\((?:\.\./)+(?P<target>[^)\s]+)\)")
LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")


def formula(source: str, *_: Any, **__: Any) -> str:
    """Return TeX as MathML."""
    return convert(source, display="block")


def on_config(config: Any) -> Any:
    """Draw ```math fences as formulas."""
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [
        {"name": "math", "class": "math", "format": formula}
    ]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Resolve links that leave docs/, and fill the page of examples."""
    depth = page.file.src_uri.count("/")

    def resolved(link: re.Match[str]) -> str:
        if link[0].count("../") <= depth:
            return link[0]
        target = link["target"]
        if re.fullmatch(r"examples/\w+\.py", target):
            return f"[{link['text']}]({'../' * depth}examples.md#{Path(target).stem})"
        return f"[{link['text']}]({'../' * depth}examples.md)" if target == "examples" else link["text"]

    markdown = LINK.sub(resolved, markdown)
    markdown = re.sub(r"^<!-- examples -->$", lambda _: _examples(), markdown, flags=re.MULTILINE)
    return re.sub(r"^<!-- help: (\w+) -->$", lambda mark: _help(mark[1]), markdown, flags=re.MULTILINE)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse what a reader without a network lacks, and call Korean pages Korean."""
    if asked := LOADED.findall(output):
        raise PluginError(f"{page.file.src_uri} asks the network for {', '.join(asked)}")
    return output.replace('<html lang="en"', '<html lang="ko"', 1) if page.file.src_uri.startswith("ko/") else output


def _examples() -> str:
    files = sorted((ROOT / "examples").glob("*.py"))
    return "\n\n".join(f"## {file.name} {{ #{file.stem} }}\n\n```python\n{file.read_text()}```" for file in files)


def _help(command: str) -> str:
    # Rich reads the width and the colours from the environment when the command's module is imported.
    said = subprocess.run(
        [sys.executable, "-c", "from jaxopt_lec.cli import app; app(prog_name='jaxopt-lec')", command, "--help"],
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    return f"```text\n{said.strip()}\n```"
