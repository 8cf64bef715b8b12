"""What the documents promise: what they link, name and show is there."""

import ast
import builtins
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from documents import DOCUMENTS, ROOMS, name_of, text_of

from common.config import APP_ROOT
from common.methods import METHODS, methods_for

README = text_of("README.md")
TO_BE_MADE = {"common/methods/smoothed.py", "client_app/methods/smoothed.py"}  # by whoever adds a method
MARKED = re.compile(r"`([^`\n]+)`")
OTHERS = {"trusted-entities", *dir(builtins)}  # words of Flower and Python
SOURCES = [
    path
    for room in (*ROOMS, "Makefile", "pyproject.toml")
    for path in ((APP_ROOT / room).rglob("*") if (APP_ROOT / room).is_dir() else [APP_ROOT / room])
    if path.suffix in (".py", ".yaml", ".yml", ".toml") or path.name in ("env", "Dockerfile", "Makefile")
]
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)


def anchors(path: Path) -> set[str]:
    """Return the names under which a page's headings are linked."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(path), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def defined(path: Path) -> set[str]:
    """Return the names that a Python file defines at its top or in a class."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_the_documents_are_found() -> None:
    names = {name_of(path) for path in DOCUMENTS}
    assert {"README.md", "SECURITY.md", "docker/README.md", "tests/benchmarks/results/README.md"} <= names
    linked = {name for name in names if f"]({name})" in README or name in ("README.md", "docker/site/INSTRUCTIONS.md")}
    assert names - linked == set(), "the README's table of documents lacks them"


@each_document
def test_what_a_document_links_exists(path: Path) -> None:
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        file, _, anchor = link.partition("#")
        if link.startswith("http"):
            continue
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


@each_document
def test_the_files_that_a_document_names_exist(path: Path) -> None:
    """`common/…`, `server_app/…` and so on from the project's folder; modules of Python and what is in them."""
    places = [re.sub(r"[…*<{].*", "", word) for word in MARKED.findall(text_of(path))]
    places = [word for word in places if re.fullmatch(rf"({'|'.join(ROOMS)})/[\w./-]+", word)]
    assert [word for word in places if word not in TO_BE_MADE and not (APP_ROOT / word).exists()] == []
    for word in MARKED.findall(text_of(path)):
        if re.fullmatch(r"(common|server_app|client_app)(\.\w+)+", word):
            module, _, name = word.rpartition(".")
            if not (APP_ROOT / f"{word.replace('.', '/')}").is_dir():
                assert Path(f"{word.replace('.', '/')}.py").exists() or hasattr(import_module(module), name), word


@each_document
def test_what_a_document_names_in_a_file_is_in_it(path: Path) -> None:
    """`NAME` in `common/file.py`."""
    for name, file in re.findall(r"`(\w+)` (?:in|of) `([\w/]+\.py)`", text_of(path)):
        assert name in defined(APP_ROOT / file), f"{file}: {name}"


@cache
def words() -> frozenset[str]:
    """Return every word of the sources; keys with hyphens are written with _ in Python."""
    own = "tests/unit/test_documents.py"
    texts = (path.read_text(encoding="utf-8") for path in SOURCES if name_of(path) != own)
    found = {word for text in texts for word in re.findall(r"[A-Za-z][\w-]*", text)}
    return frozenset(found | {word.replace("_", "-") for word in found})


@each_document
def test_the_keys_options_and_identifiers_that_a_document_names_exist(path: Path) -> None:
    text = re.sub(r"```.*?```", "", text_of(path), flags=re.DOTALL)
    named = [re.sub(r"[=:] ?.*|^--", "", word) for word in MARKED.findall(text)]
    looks = re.compile(r"[a-z]+(-[a-z]+)+|[a-z]+(_[a-z]+)+|[A-Z]{2,}(_[A-Z]+)*|[A-Z][a-z]+([A-Z][a-z]+)+")
    assert {word for word in named if looks.fullmatch(word)} - words() - OTHERS == set()


@each_document
def test_a_document_is_finished(path: Path) -> None:
    assert re.findall(r"@[A-Z]+@|TODO|TBD", text_of(path).replace("@ADDING@", "")) == []


def test_the_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 130] == []


def test_every_method_has_its_row() -> None:
    """In the README by family and by labels, and in the table of methods."""
    rows = dict(re.findall(r"^\| (generic|personal|long-tailed|multilabel) \| (.+) \|$", README, re.MULTILINE))
    own, _, also = rows["multilabel"].partition("; also ")
    several = {method.name for method in METHODS.values() if method.family == "multilabel"}
    for family, names in {**rows, "multilabel": own}.items():
        assert set(MARKED.findall(names)) == {m.name for m in METHODS.values() if m.family == family}
    whole = {method.name for method in METHODS.values() if re.search(rf"\b{method.family}\b", also)}
    assert whole | set(MARKED.findall(also)) == set(methods_for("many")) - several
    table = re.findall(r"^\| `(\w+)`(?: [¹²³])? \|", text_of("client_app/methods/README.md"), re.MULTILINE)
    assert sorted(table) == sorted(METHODS)


def test_every_experiment_is_named() -> None:
    page = text_of("configs/README.md")
    assert [p.name for p in (APP_ROOT / "configs").glob("*.yaml") if f"]({p.name})" not in page] == []


def test_the_citation_has_what_the_format_asks_for() -> None:
    """Of the schema of CFF 1.2.0: the keys that it requires, and of its own words only those that it knows."""
    cff = yaml.safe_load(text_of("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= set(cff)
    assert (cff["cff-version"], cff["license"], cff["type"]) == ("1.2.0", "Apache-2.0", "software")
    assert f'version = "{cff["version"]}"' in text_of("pyproject.toml")
    for reference in cff["references"]:
        assert {"type", "title", "authors"} <= set(reference)
        assert all(set(person) <= {"family-names", "given-names"} for person in reference["authors"])
        (identifier,) = reference["identifiers"]
        assert reference["url"].removeprefix("https://arxiv.org/abs/") == identifier["value"].removeprefix("arXiv:")
