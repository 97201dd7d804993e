"""What the build of the site adds to mkdocs."""

from importlib import resources
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Put Mermaid into the site: the theme uses one that is there, and else loads one from elsewhere."""
    script = resources.files("mermaidx") / "assets" / "mermaid.js"
    files.append(File.generated(config, "assets/mermaid.js", content=script.read_text(encoding="utf-8")))
    return files
