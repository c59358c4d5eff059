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
IMPURE = {"asyncio", "os", "random", "secrets", "socket", "subprocess", "threading", "time", "uuid"}
#: `datetime` and `zoneinfo` have types that the waves' data are made of. What reads the clock, the machine's
#: zone or its settings there is one of these, by whatever name its class was imported.
CLOCK = {"now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp"}
#: These read the machine's zone if they are not given one.
LOCAL = {"astimezone": 0, "fromtimestamp": 1}  # the place of the argument that gives it


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level module of each import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "(relative)" if node.level else (node.module or "").split(".")[0]


def clock_reads(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each use of a clock or of the machine's time zone: calls, and also the bare name
    (`default_factory=datetime.now`), attributes of any class or module, and names imported by themselves."""
    tree = ast.parse(source)
    given = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOCAL
        and (len(node.args) > LOCAL[node.func.attr] or any(k.arg == "tz" for k in node.keywords))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCK | LOCAL.keys() and id(node) not in given:
            if not _of_a_wave(node):
                yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, a.name) for a in node.names if a.name in CLOCK | {"*"})
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            named = [a.value for a in node.args if isinstance(a, ast.Constant)]
            yield from ((node.lineno, str(name)) for name in named if name in CLOCK)


def _of_a_wave(node: ast.Attribute) -> bool:
    """`wave.today` and a turn's `self.now` are fields of ours, read and never called."""
    return isinstance(node.value, ast.Name | ast.Attribute) and ast.unparse(node) in OURS


#: Fields of ours that are called like a clock.
OURS = {"wave.today", "turn.wave.today", "turn.now", "self.now"}


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
    wrong += [
        f"{path.relative_to(HERE)}:{line}: reads {name}"
        for path in files("flows")
        for line, name in clock_reads(path.read_text("utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "datetime.now(UTC)", "dt.datetime.utcnow()", "date.today()",
        "x = field(default_factory=datetime.now)",
        "from time import *", "datetime.fromtimestamp(at)", "at.astimezone()", "getattr(datetime, 'now')()",
        "wave.opening.today()", "D = datetime\nD.now()",
    ],
)  # fmt: skip
def test_a_clock_is_found_however_it_is_read(source: str) -> None:
    assert list(clock_reads(source))


@pytest.mark.parametrize(
    "source", ["from datetime import datetime, time", "at.astimezone(UTC)", "datetime.fromtimestamp(at, UTC)",
               "datetime.combine(day, at, zone)", "turn.wave.today or turn.wave"],
)  # fmt: skip
def test_time_as_data_is_not_a_clock(source: str) -> None:
    assert not list(clock_reads(source))


def test_only_main_reads_settings() -> None:
    """The command line's verbs are given them (`context`); nobody else looks at the environment."""
    readers = {
        f"{path.relative_to(HERE)}:{node.lineno}"
        for layer in MAY_IMPORT
        for path in files(layer)
        if path.name != "settings.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        # Settings out of nothing but a demonstration's own folder are no look at the environment.
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "environ.get")
    }
    assert not readers
