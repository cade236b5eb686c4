"""Docs do what they say: examples run, links lead somewhere, no name of the client is missing."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import speckfarm
from speckfarm import (
    advice,
    benchmark,
    comparison,
    drawing,
    options,
    report,
    result,
    rows,
    settings,
    variation,
)
from speckfarm.side_by_side import measure_comparison
from tests.farm_process import FarmProcess

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
TEXTS = sorted({*PAGES, *ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md")})
REFERENCE = ROOT / "docs" / "reference" / "python.md"
FORMATS = ROOT / "docs" / "reference" / "formats.md"

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_ENTRY = re.compile(r"^- `([^`]+)`", re.MULTILINE)

PUBLIC = [getattr(speckfarm, name) for name in speckfarm.__all__ if name != "__version__"]
ERRORS = [each for each in PUBLIC if isinstance(each, type) and issubclass(each, Exception)]
# What methods of public classes return or take.
PARTS = [
    result.RecordingResult, result.LayerActivity, report.LayerReport, rows.Board, rows.Model,
    rows.Recording, rows.UsageRow, rows.LatencyRow, rows.ServerInfo, rows.ChipInfo,
    settings.SettingOptions, options.JobOptions, options.GridOptions, variation.Spread,
    variation.RecordingVariation, advice.AdviceStep, drawing.Picture, comparison.Figure,
    comparison.Lags, comparison.RecordingComparison,
]  # fmt: skip
CLASSES = [each for each in PUBLIC if isinstance(each, type) and each not in ERRORS] + PARTS


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _blocks(page: Path) -> list[str]:
    return _BLOCK.findall(page.read_text())


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page)], ids=_name)
def test_examples_of_a_page_run_one_after_the_other(
    page: Path, server: FarmProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECKFARM_SERVER", server.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", server.token)
    namespace: dict[str, object] = {"__name__": "__main__"}

    for number, block in enumerate(_blocks(page)):
        exec(compile(block, f"{_name(page)}, example {number}", "exec"), namespace)

    farm = namespace.get("farm")
    if isinstance(farm, speckfarm.Farm):
        farm.close()


@pytest.mark.parametrize("page", TEXTS, ids=_name)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    links = [
        link.partition("#")
        for link in _LINK.findall(_FENCE.sub("", page.read_text()))
        if not link.startswith(("http://", "https://"))
    ]

    broken = [
        f"{path}#{anchor}"
        for path, _, anchor in links
        if not _leads_somewhere(page.parent / path if path else page, anchor)
    ]

    assert broken == []


def test_every_page_of_the_docs_can_be_found_from_the_readme() -> None:
    found, new = set[Path](), {ROOT / "README.md"}
    while new:
        found |= new
        links = {
            (page.parent / link.partition("#")[0]).resolve()
            for page in new
            for link in _LINK.findall(page.read_text())
            if link.partition("#")[0].endswith(".md") and "://" not in link
        }
        new = links - found

    # Decisions are listed by their folder.
    missing = [_name(page) for page in PAGES if page not in found and "decisions" not in page.parts]
    assert missing == []


def test_the_python_reference_names_everything_that_the_package_does() -> None:
    named = set(re.findall(r"(?:`|^### )(\w+)", REFERENCE.read_text(), re.MULTILINE))

    assert sorted(set(speckfarm.__all__) - named) == []


@pytest.mark.parametrize("each", CLASSES, ids=lambda each: each.__name__)
def test_the_python_reference_has_every_member_and_its_types(each: type) -> None:
    members = sorted(map(_tight, _members(each)))
    untyped = {member for member in members if member.isidentifier()}

    documented = map(_tight, _ENTRY.findall(_section(each.__name__)))

    names = {entry: entry.partition(":")[0] for entry in documented}
    assert sorted(name if name in untyped else entry for entry, name in names.items()) == members


@pytest.mark.parametrize("function", [speckfarm.connect], ids=lambda each: each.__name__)
def test_the_python_reference_has_every_function_and_its_types(function: object) -> None:
    (node,) = ast.parse(inspect.getsource(function)).body  # type: ignore[arg-type]
    assert isinstance(node, ast.FunctionDef)

    documented = map(_tight, _ENTRY.findall(REFERENCE.read_text()))

    assert _tight(_signature(node)) in documented


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: each.__name__)
def test_the_python_reference_has_what_errors_carry(error: type) -> None:
    _, _, rest = REFERENCE.read_text().partition("\n## Errors\n")
    text = rest.partition("\n## ")[0]
    names = [entry.partition(":")[0].partition("(")[0] for entry in _members(error)]

    assert [name for name in [error.__name__, *names] if f"`{name}" not in text] == []


def test_the_table_of_a_benchmark_is_documented() -> None:
    text = _section("Benchmark")
    columns = re.findall(r'^        "(\w+)":', inspect.getsource(benchmark._row), re.MULTILINE)

    assert columns
    assert [name for name in columns if f"`{name}`" not in text] == []


@pytest.fixture(scope="module")
def answers(server: FarmProcess, digits_model: Path, one_digit: Path) -> dict[str, object]:
    """What `-o json` prints, by the heading that it stands under."""
    with server.connect() as farm:
        job = farm.run(digits_model, one_digit, decimator={0: 2}, monitor=[1])
        measured = job.wait()
        grid = farm.benchmark(digits_model, one_digit, sweep={"decimator.0": [None]}).wait()
        lists: dict[str, Sequence[rows.ListRow]] = {
            "boards": farm.boards(),
            "models": farm.models(),
            "recordings": farm.recordings(),
            "usage": farm.usage(),
            "latency": farm.latency(),
        }
        return {
            "check": farm.check(digits_model).to_dict(),
            "run": measured.to_dict(),
            "job": farm.job(job.id).to_dict(),
            "event": list(job.watch())[-1].to_dict(),
            "benchmark": grid.to_dict(),
            "advice": farm.advise(digits_model, one_digit).to_dict(),
            "variation": farm.vary(digits_model, one_digit, runs=1).wait().variation().to_dict(),
            # Of two runs on simulated boards: no real one is needed to see the keys.
            "comparison": measure_comparison([measured], measured).to_dict(),
            "rows": {name: found[0].to_dict() for name, found in lists.items()},
            "info": farm.info().to_dict(),
        }


HEADINGS = [
    "check", "run", "job", "event", "benchmark", "variation", "comparison", "advice", "rows",
    "info",
]  # fmt: skip


@pytest.mark.parametrize("heading", HEADINGS)
def test_json_has_the_documented_keys(heading: str, answers: dict[str, object]) -> None:
    _, _, rest = FORMATS.read_text().partition(f"\n### {heading}\n")
    block = re.search(r"^```json\n(.*?)^```", rest, re.MULTILINE | re.DOTALL)
    assert block is not None

    documented = json.loads(block[1])

    assert list(_differences(documented, answers[heading], heading)) == []


def _differences(documented: object, actual: object, path: str) -> Iterator[str]:
    """Paths of keys on one side only; an empty object or list in the docs may hold anything."""
    if isinstance(documented, list) and isinstance(actual, (list, tuple)):
        for left, right in zip(documented[:1], actual[:1], strict=False):
            yield from _differences(left, right, f"{path}[]")
    elif isinstance(documented, dict) and isinstance(actual, dict) and documented:
        names = {name for name in documented.keys() | actual.keys() if _is_name(name)}
        yield from (f"{path}.{name}" for name in names if name not in documented)
        yield from (f"{path}.{name} (gone)" for name in names if name not in actual)
        for name in documented.keys() & actual.keys():
            yield from _differences(documented[name], actual[name], f"{path}.{name}")


def _is_name(key: str) -> bool:
    """Not a layer's number, nor a setting that is swept."""
    return key.isidentifier()


def _leads_somewhere(path: Path, anchor: str) -> bool:
    if not path.exists():
        return False
    return not anchor or anchor in {_slug(text) for text in _HEADING.findall(path.read_text())}


def _slug(heading: str) -> str:
    """As GitHub makes anchors."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _section(name: str) -> str:
    _, _, rest = REFERENCE.read_text().partition(f"\n### {name}\n")
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]


def _tight(entry: str) -> str:
    return re.sub(r"\s", "", entry).replace("'", '"')


def _members(each: type) -> list[str]:
    """Public members as they are written in the source: `name: type` or `name(...) -> type`."""
    tree = ast.parse(inspect.getsource(each))
    (node,) = (part for part in ast.walk(tree) if isinstance(part, ast.ClassDef))
    found = dict(pair for part in node.body for pair in _described(part))
    return [entry for name, entry in found.items() if not name.startswith("_")]


def _described(node: ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, f"{node.target.id}: {ast.unparse(node.annotation)}"
    elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
        yield from _attributes(node)
    elif isinstance(node, ast.FunctionDef) and "property" in _decorators(node):
        assert node.returns is not None
        yield node.name, f"{node.name}: {ast.unparse(node.returns)}"
    elif isinstance(node, ast.FunctionDef):
        yield node.name, _signature(node)


def _attributes(constructor: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """What a constructor puts on the object; the type only where it is written."""
    for node in constructor.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            yield node.target.attr, f"{node.target.attr}: {ast.unparse(node.annotation)}"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            yield node.targets[0].attr, node.targets[0].attr


def _decorators(node: ast.FunctionDef) -> str:
    return " ".join(ast.unparse(decorator) for decorator in node.decorator_list)


def _signature(node: ast.FunctionDef) -> str:
    arguments = re.sub(r"^self(, )?", "", ast.unparse(node.args))
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"{node.name}({arguments}){returns}"
