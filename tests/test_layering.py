"""Imports run one way: main -> gateway -> storage -> flows -> the standard library."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent
#: Which of our own packages each layer may import.
MAY_IMPORT = {
    "flows": {"flows"},
    "storage": {"flows", "storage"},
    "gateway": {"flows", "storage", "gateway"},
}
#: Reading these in the dialogue would make it irreproducible.
IMPURE = {
    "asyncio",
    "datetime",
    "os",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uuid",
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level module of each import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "(relative)" if node.level else (node.module or "").split(".")[0]


def files(layer: str) -> list[Path]:
    return sorted((HERE / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_imports_run_one_way(layer: str) -> None:
    ours = {"main", "bench", "tests", *MAY_IMPORT}
    wrong = [
        f"{path.relative_to(HERE)}:{line}: imports {name}"
        for path in files(layer)
        for line, name in imports(path)
        if name == "(relative)" or (name in ours and name not in MAY_IMPORT[layer])
    ]
    assert files(layer) and not wrong, "\n".join(wrong)


def test_flows_need_nothing_but_the_standard_library() -> None:
    wrong = [
        f"{path.relative_to(HERE)}:{line}: imports {name}"
        for path in files("flows")
        for line, name in imports(path)
        if name != "flows" and name not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


def test_flows_read_no_clock_no_chance_and_no_environment() -> None:
    wrong = [
        f"{path.relative_to(HERE)}:{line}: imports {name}"
        for path in files("flows")
        for line, name in imports(path)
        if name in IMPURE
    ]
    assert not wrong, "\n".join(wrong)


def test_only_main_reads_settings() -> None:
    readers = {
        str(path.relative_to(HERE))
        for layer in MAY_IMPORT
        for path in files(layer)
        # The verbs in commands/ are given main.py's way of reading them.
        if path.name != "settings.py"
        and path.parent.name != "commands"
        and "gateway.settings" in path.read_text("utf-8")
    }
    assert not readers
