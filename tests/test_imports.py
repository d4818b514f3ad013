"""Imports point one way, each library has one door, and the browser is asked for nothing from elsewhere."""

import ast
import functools
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module imports only from lines above its own.
LADDER = """
explorer explorer.pictures explorer.recording explorer.program explorer.limits explorer.layout explorer.formulas
explorer.facades explorer.datasets explorer.examples explorer.confine explorer.turns explorer.history
explorer.summaries explorer.policy explorer.narrate
explorer.handwriting explorer.layers explorer.weights
explorer.look explorer.network_figures
explorer.check explorer.explain explorer.engine explorer.fold explorer.draw explorer.plot
explorer.names explorer.dot explorer.figures explorer.points explorer.expressions explorer.optimizers
explorer.regression explorer.landscape explorer.network
explorer.loss_surface explorer.race
explorer.tracer
explorer.transcript
explorer.control
explorer.recorder
explorer.worker explorer.runner
explorer.host
explorer.__main__
explorer.ui explorer.ui.completions explorer.ui.views explorer.ui.visitors
explorer.ui.editor explorer.ui.graph explorer.ui.plot explorer.ui.canvas
explorer.ui.training
explorer.ui.session explorer.ui.pace
explorer.ui.frame explorer.ui.panels explorer.ui.regression explorer.ui.race explorer.ui.digits
explorer.ui.bench
app pages
"""
RUNG = {module: height for height, line in enumerate(LADDER.strip().splitlines()) for module in line.split()}

# The one module that may import a library.
DOORS = {"torchviz": "explorer.dot", "pygraphviz": "explorer.layout", "plotly": "explorer.plot"}
DOORS |= {"pooch": "explorer.datasets", "PIL": "explorer.pictures", "safetensors": "explorer.weights"}
DOORS |= {"landlock": "explorer.confine", "pyseccomp": "explorer.confine"}

# Libraries through which a worker could have the server run code of its choice.
UNSAFE = {"pickle", "marshal", "shelve", "dill", "multiprocessing", "concurrent"}


def find_modules() -> dict[str, Path]:
    """Every module of ours by its name, but for the programs of the gallery."""
    found = {"app": ROOT / "app.py"}
    for path in sorted([*ROOT.glob("explorer/**/*.py"), *ROOT.glob("pages/*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith("explorer.examples."):
            found[name] = path
    return found


MODULES = find_modules()


@functools.cache
def read_imports(path: Path) -> list[str]:
    """The dotted names that a file imports, anywhere in it; ``from a import b`` is ``a.b`` where that is a module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name for name in inner if name in MODULES] or [node.module]
    return found


def rung_of(module: str) -> int:
    """The height of a module on the ladder; every page stands on the same rung."""
    name = "pages" if module.startswith("pages.") else module
    assert name in RUNG, f"{module} has no place on the ladder in {Path(__file__).name}"
    return RUNG[name]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    for imported in read_imports(MODULES[module]):
        if imported.split(".")[0] in ("explorer", "pages", "app") and imported != "explorer":
            assert rung_of(imported) < rung_of(module), f"{module} imports {imported}"


def test_only_the_ui_package_pages_and_the_frame_import_streamlit() -> None:
    users = {name for name, path in MODULES.items() if any(i.split(".")[0] == "streamlit" for i in read_imports(path))}
    assert users
    assert all(name == "app" or name.startswith(("explorer.ui", "pages.")) for name in users), users


def test_pages_and_the_frame_import_neither_torch_nor_numpy() -> None:
    for name, path in MODULES.items():
        if name == "app" or name.startswith(("pages.", "explorer.ui")):
            assert not {imported.split(".")[0] for imported in read_imports(path)} & {"torch", "numpy"}, name


def test_each_library_is_imported_by_one_module() -> None:
    users = defaultdict(set)
    for name, path in MODULES.items():
        for imported in read_imports(path):
            users[imported.split(".")[0]].add(name)
    assert {library: users[library] for library in DOORS} == {library: {door} for library, door in DOORS.items()}


def test_private_names_of_torch_are_imported_by_one_module() -> None:
    private = re.compile(r"torch\.(\w+\.)*_[A-Za-z]")
    users = {name for name, path in MODULES.items() if any(private.match(i) for i in read_imports(path))}
    assert users == {"explorer.engine"}


def test_nothing_that_can_run_code_is_read_from_a_worker() -> None:
    for name, path in MODULES.items():
        assert not {imported.split(".")[0] for imported in read_imports(path)} & UNSAFE, name


def imported_by(*modules: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after importing these."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (
            (
                "recording",
                "program",
                "runner",
                "explain",
                "fold",
                "draw",
                "formulas",
                "confine",
                "examples",
                "history",
                "__main__",
            ),
            {"torch", "numpy", "streamlit", "plotly", "pygraphviz", "torchviz"},
        ),
        (("worker",), {"torch", "streamlit", "plotly"}),
        (("recorder", "tracer", "worker"), {"streamlit", "plotly", "pygraphviz"}),
        (("plot", "figures", "loss_surface"), {"torch", "streamlit"}),
        (("regression", "landscape", "race"), {"torch", "numpy", "streamlit", "plotly"}),
        (("ui.views", "ui.completions"), {"torch", "numpy"}),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else None,
)
def test_a_fresh_interpreter_loads_no_more_than_it_needs(modules: tuple[str, ...], absent: set[str]) -> None:
    assert not imported_by(*(f"explorer.{module}" for module in modules)) & absent


BROWSER_FILES = sorted(path for kind in ("js", "css", "html") for path in ROOT.glob(f"explorer/ui/**/*.{kind}"))
NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


@pytest.mark.parametrize("path", BROWSER_FILES, ids=lambda path: path.name)
def test_files_for_the_browser_name_no_other_address(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:https?|wss?)://[^\s\"'`)<>]+", text)) <= NAMESPACES
    assert not re.search(r"(?:src|href|url\(|import)\W{1,3}//", text)


def test_there_are_files_for_the_browser() -> None:
    assert {path.suffix for path in BROWSER_FILES} == {".js", ".css", ".html"}


def test_scripts_set_no_markup_from_strings() -> None:
    """Names, values and messages come from people's programs: they are set as text."""
    for path in BROWSER_FILES:
        if path.suffix == ".js":
            found = re.findall(
                r"\b(?:insertAdjacentHTML|document\.write|outerHTML|eval|new Function)\b", path.read_text()
            )
            assert not found, path
