"""What mkdocs can't say in mkdocs.yml: links to files outside docs/, and pages of the nav that are yet to come."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)]*)?\)")
COPIES = "checkout"
EXPECTED = {"scaling.md"}
"""Pages that stand in the nav as soon as they exist."""


def on_config(config: Any) -> Any:
    """Leave out of the nav what does not exist yet."""
    missing = {name for name in EXPECTED if not (Path(config["docs_dir"]) / name).is_file()}
    config["nav"] = _without(config["nav"], missing)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Copy into the site the files of the checkout that pages link to.

    Raises:
        PluginError: a link to a file that is not there.
    """
    wanted: set[str] = set()
    for page in filter(_at_the_top, files.documentation_pages()):
        for path, _ in LINK.findall(Path(str(page.abs_src_path)).read_text(encoding="utf-8")):
            if not (CHECKOUT / path).is_file():
                raise PluginError(f"{page.src_path} links to ../{path}, which is not in the checkout")
            wanted.add(path)
    for path in sorted(wanted):
        text = (CHECKOUT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, f"{COPIES}/{_name(path)}", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links that leave docs/ at those copies."""
    if not _at_the_top(page.file):
        return markdown
    return LINK.sub(lambda found: f"]({COPIES}/{_name(found[1])})", markdown)


def _at_the_top(file: File) -> bool:
    """From a page in a folder of docs/, `../` leads to docs/ itself."""
    return "/" not in file.src_uri


def _name(path: str) -> str:
    """A Markdown file is copied as text: a page of the site it is not."""
    return path.replace("/", "-") + (".txt" if path.endswith((".md", ".py", ".sh")) else "")


def _without(nav: Any, missing: set[str]) -> Any:
    if isinstance(nav, list):
        return [kept for kept in (_without(part, missing) for part in nav) if kept not in (None, {}, [])]
    if isinstance(nav, dict):
        return {name: kept for name, part in nav.items() if (kept := _without(part, missing)) is not None}
    return None if nav in missing else nav
