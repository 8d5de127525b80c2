"""Run a page in a real browser, without a screen."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is no browser: apt-get install chromium")


def in_browser(page: str, script: str, folder: Path) -> Any:
    """Open a page, run a script in it, and return what the script calls `done` with, as JSON carries it."""
    probe = f"""<script>
        window.onerror = (message) => {{ document.body.dataset.error = message; }};
        const done = (result) => {{ document.body.dataset.result = JSON.stringify(result); }};
    </script><script>(() => {{ {script} }})();</script>"""
    path = folder / "probe.html"
    path.write_text(page.replace("</body>", probe + "</body>"), encoding="utf-8")
    # All timers that a page sets for the next minute run at once.
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--window-size=1280,960"]
    command = [BROWSER, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    body = re.search(r"<body[^>]*>", ran.stdout)[0]
    assert "data-error" not in body, body
    return json.loads(html.unescape(re.search(r'data-result="([^"]*)"', body)[1]))
