"""Imports point one way, nothing heavy comes with the first of them, and nothing that runs what it reads is in the tree."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [file for top in ("agent", "tuning", "tools") for file in sorted((ROOT / top).rglob("*.py"))]
TREES = {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
OURS = ("agent", "tuning", "tools", "domains", "tests")
# A room and the rooms that it may import; the longest name that fits counts.
MAY_IMPORT = {
    "tools": ("tools",),
    "agent": ("agent", "tools"),
    "tuning": ("tuning", "agent", "tools"),
    "agent.surfaces": ("agent.surfaces", "tuning", "agent", "tools"),
}


def room(module: str) -> str:
    """`agent.surfaces` for what lies in it, else the first name."""
    return "agent.surfaces" if module == "agent.surfaces" or module.startswith("agent.surfaces.") else module.partition(".")[0]


def imports(file: str) -> Iterator[str]:
    """Every module that a file imports, at the top or inside a function; `from a import b` gives a.b."""
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = Path(file).with_suffix("").parts
            base = ".".join((*parts[:len(parts) - node.level], *filter(None, [node.module]))) if node.level else node.module
            yield from (f"{base}.{alias.name}" for alias in node.names)


def calls(file: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a file with its dotted name, such as `torch.load`."""
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node


def test_the_tree_is_there() -> None:
    assert {"agent/agent.py", "agent/surfaces/cli.py", "tuning/train.py", "tools/orders.py"} <= set(TREES)


@pytest.mark.parametrize("file", TREES)
def test_imports_point_one_way(file: str) -> None:
    here = room(file.removesuffix(".py").replace("/", "."))
    wrong = [name for name in imports(file) if name.partition(".")[0] in OURS and room(name) not in MAY_IMPORT[here]]
    assert wrong == [], f"{file} belongs to {here}, which may import {', '.join(MAY_IMPORT[here])}"


def test_domains_hold_data_alone() -> None:
    code = [file for file in (ROOT / "domains").rglob("*.py") if file.name != "__init__.py" or file.read_text(encoding="utf-8")]
    assert code == []


def test_tests_do_not_shadow_the_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []
    assert not {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} & {"agent", "tuning", "tools", "domains"}


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    told = subprocess.run([sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], cwd=ROOT, capture_output=True,
                          text=True, check=True)
    return {name.partition(".")[0] for name in told.stdout.split()}


HEAVY = {"torch", "transformers", "peft", "trl", "onnxruntime", "langchain_core", "textual", "faiss", "sklearn", "tokenizers",
         "fastapi", "huggingface_hub", "openvino", "scipy", "pandas", "opentelemetry", "prometheus_client", "mcp"}


@pytest.mark.parametrize("code", ["import agent", "import agent.agent", "import agent.domain, agent.registry, agent.settings"])
def test_an_import_of_the_agent_loads_no_heavy_library(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()


def test_an_import_of_the_package_alone_loads_no_library_at_all() -> None:
    libraries = {"numpy", "sqlalchemy", "onnx", "pydantic", "rich", "typer", "alembic", "jinja2"} | HEAVY
    assert loaded_by("import agent") & libraries == set()


def test_an_import_reads_no_environment_and_writes_nothing_below_the_home(tmp_path: Path) -> None:
    home = tmp_path / "never"
    code = ("import os; asked = []; real = os.environ.__class__.__getitem__\n"
            "os.environ.__class__.__getitem__ = lambda self, key: (asked.append(key), real(self, key))[1]\n"
            f"os.environ['RETUNE_HOME'] = {str(home)!r}\nimport agent.agent\n"
            "assert not [key for key in asked if key.startswith('RETUNE')], asked")
    loaded_by(code)
    assert not home.exists()


RUNS_WHAT_IT_READS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "ruamel"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.save", "torch.jit.load", "pandas.read_pickle",
                   "os.system", "os.popen"}


@pytest.mark.parametrize("file", TREES)
def test_nothing_is_read_that_could_run_code(file: str) -> None:
    assert [name for name in imports(file) if name.partition(".")[0] in RUNS_WHAT_IT_READS] == []
    assert [name for name, _ in calls(file) if name.removeprefix("self._").removeprefix("self.") in FORBIDDEN_CALLS] == []
    for name, call in calls(file):
        told = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in ("np.load", "numpy.load"):
            assert told.get("allow_pickle") == "False", f"{file}: {name} without allow_pickle=False"
        assert told.get("shell", "False") == told.get("trust_remote_code", "False") == "False", f"{file}: {ast.unparse(call)}"


def described_by_fields(node: ast.AST) -> bool:
    """Whether a class holds a tool's arguments: pydantic fields, each with a description of its own (see the tools' test)."""
    return isinstance(node, ast.ClassDef) and any(ast.unparse(base) in ARGUMENTS for base in node.bases)


ARGUMENTS = {"BaseModel"} | {node.name for file, tree in TREES.items() if file.startswith("tools/") for node in tree.body
                             if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "BaseModel" for base in node.bases)}


def undocumented(body: list[ast.stmt], before: str = "") -> Iterator[str]:
    """Public functions, classes and methods without a docstring; what is inside a function is nobody's business."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield before + node.name
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node.body, f"{before}{node.name}.")


@pytest.mark.parametrize("file", TREES)
def test_what_is_public_says_what_it_is(file: str) -> None:
    tree = TREES[file]
    assert ast.get_docstring(tree) or not tree.body, f"{file} does not say what it knows"
    body = [node for node in tree.body if not (file.startswith("tools/") and described_by_fields(node))]
    assert list(undocumented(body)) == []
