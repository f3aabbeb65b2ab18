"""Hooks of the documentation site: pages outside docs/, links, the notebook, the API reference.

`mkdocs.yml` names this file. Pages stay where GitHub shows them: README files beside their code are
added to the site when it is built, and their links are rewritten for it. The build warns, and so
fails with --strict, when a public name of the package has no docstring.
"""

import json
import logging
import posixpath
import re
import shutil
from pathlib import Path

import griffe
import try_page
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PACKAGE = "speechbrain_music"
API_SOURCE = ROOT / "build" / "api"  # the package as it is installed: data_prep/ is part of it
SECTIONS = {  # of the site's navigation: where their pages lie in the repository
    "Recipes": ["recipes/README.md", "recipes/*/README.md", "experiments/**/README.md"],
    "Shipped encoder": ["speechbrain_music/models/shipped/README.md"],
    "Data and speed": ["data_prep/README.md", "data_prep/*/README.md", "perf/README.md"],
    "Results": ["docs/results/README.md", "docs/results/*.md", "docs/results/*/**/*.md"],
}
OTHER_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "", "CHANGELOG.md": ""}
NOTEBOOK = "docs/tutorial.ipynb"
LINK = re.compile(r"(\]\(|\bsrc=\")([^)\s#\":]+)(?=[)#\" ])")
FENCE_TAG = re.compile(r"^(```\w+) .*$", re.MULTILINE)  # what the tests read: run, run-slow
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)

API_PAGE = "# {0}\n\n::: {0}\n    options: {{show_root_heading: false, show_root_toc_entry: false}}"
log = logging.getLogger("mkdocs.hooks")
API_SOURCE.mkdir(parents=True, exist_ok=True)  # mkdocstrings drops a path that does not exist


def on_config(config):
    """Copies the package for the API reference and completes the navigation."""
    shutil.rmtree(API_SOURCE, ignore_errors=True)
    only_python = shutil.ignore_patterns("__pycache__", "*.json", "*.yaml", "*.md")
    shutil.copytree(ROOT / PACKAGE, API_SOURCE / PACKAGE, ignore=only_python)
    shutil.copytree(ROOT / "data_prep", API_SOURCE / PACKAGE / "data_prep", ignore=only_python)
    for title, patterns in SECTIONS.items():
        paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
        pages = dict.fromkeys(site_path(path.relative_to(ROOT).as_posix()) for path in paths)
        config.nav.append({title: [in_navigation(page) for page in pages]})
    config.nav.append({"API reference": [f"api/{name}.md" for name in subpackages()]})
    guides = next(entry["Guides"] for entry in config.nav if "Guides" in entry)
    others = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in guides)
    config.nav.append({"Project": [*others, "CONTRIBUTING.md", "CHANGELOG.md"]})
    return config


def in_navigation(page):
    """A page of a folder of results by its path: titles of tables are alike. Others by title."""
    path = Path(page)
    if len(path.parts) < 3 or path.parts[0] != "results":
        return page
    name = path.stem.removeprefix(path.parent.name).strip("-").replace("-", " ")
    return {(path.parent.name.capitalize() + f": {name}" * bool(name)): page}


def on_files(files, config):
    """Adds the pages that do not lie in docs/, and the files of the page docs/try.md."""
    for path in outside_pages():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, site_path(path), content=text))
    notebook = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))
    files.append(File.generated(config, "tutorial.md", content=render_notebook(notebook)))
    setup, paths = try_page.try_page_files()
    if setup["missing"]:
        log.info(f"the page try/ is built without the encoder: {setup['missing']}")
    files.append(File.generated(config, "try/setup.json", content=json.dumps(setup)))
    for path in paths:
        files.append(File.generated(config, f"try/{path.name}", abs_src_path=str(path)))
    package = griffe.load(PACKAGE, search_paths=[API_SOURCE], try_relative_path=False)
    for name in undocumented(package):
        log.warning(f"{name} is public and has no docstring: write one, or begin its name with _")
    for name in subpackages():
        modules = [m.path for m in package[name].modules.values() if not m.name.startswith("_")]
        blocks = [API_PAGE.format(package[name].path), *(f"::: {path}" for path in sorted(modules))]
        text = "\n\n".join(blocks) + "\n"
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def on_page_markdown(markdown, page, config, **_):
    """Rewrites links between files of the repository; removes the tests' tags of code blocks."""
    source = repository_path(page.file.src_uri)
    if source is None:
        return markdown

    def rewrite(link):
        return link[1] + site_link(source, link[2], page.file.src_uri, config.repo_url)

    parts = CODE.split(FENCE_TAG.sub(r"\1", markdown))  # every other part is code
    return "".join(part if at % 2 else LINK.sub(rewrite, part) for at, part in enumerate(parts))


def outside_pages():
    """Paths in the repository of the pages that do not lie in docs/."""
    found = (path for patterns in SECTIONS.values() for p in patterns for path in ROOT.glob(p))
    paths = dict.fromkeys(path.relative_to(ROOT).as_posix() for path in found)
    return [p for p in (*OTHER_PAGES, *paths) if not p.startswith("docs/") and (ROOT / p).exists()]


def site_path(path):
    """Path in the site of a file of the repository: docs/ is the site's root."""
    return OTHER_PAGES.get(path) or path.removeprefix("docs/")


def repository_path(site):
    """The reverse of `site_path`; None for a generated page."""
    if site == "tutorial.md" or site.startswith("api/"):
        return None
    first = {name: path for path, name in OTHER_PAGES.items() if name}.get(site)
    return first or (f"docs/{site}" if (ROOT / "docs" / site).exists() else site)


def site_link(source, link, page, repository):
    """A link of a file of the repository as a link of its page in the site."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if target == NOTEBOOK:
        target = "docs/tutorial.md"
    if target.startswith("docs/") or target in outside_pages():
        return posixpath.relpath(site_path(target), posixpath.dirname(page) or ".")
    if target.rstrip("/") and (ROOT / target).exists():
        return f"{repository}/blob/main/{target}"
    return link  # mkdocs says that it leads nowhere


def render_notebook(notebook):
    """A notebook as Markdown: its text, code, printed lines and pictures."""
    parts = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = data["image/png"].strip()
                parts.append(f"![result of the code above](data:image/png;base64,{picture})")
            elif lines := output.get("text") or data.get("text/plain"):
                parts.append("```text\n" + "".join(lines).rstrip() + "\n```")
    return "\n\n".join(parts) + "\n"


def subpackages():
    """Names of the package's parts, one page each."""
    return sorted(path.parent.name for path in (API_SOURCE / PACKAGE).glob("*/__init__.py"))


def undocumented(item):
    """Dotted names of public modules, classes, functions and methods without a docstring."""
    if not item.docstring and not overrides(item):
        yield item.path
    for member in item.members.values():
        code = not member.is_alias and (member.is_module or member.is_class or member.is_function)
        if code and not member.name.startswith("_"):
            yield from undocumented(member)


def overrides(item):
    """Whether a method takes the place of one that a class of the package documents."""
    if not (item.is_function and item.parent.is_class):
        return False
    return item.name == "train" or any(item.name in base.members for base in item.parent.mro())
