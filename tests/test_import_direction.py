"""Imports go one way through the rooms, and what is heavy is imported late and in few places."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import effnas

PACKAGE = Path(effnas.__file__).parent

# From left to right: a room imports from itself and from the rooms before it.
ROOMS = [
    "errors", "config", "arch", "data", "space", "trials", "train", "timing", "controllers",
    "scaling", "evaluation", "search", "workflows", "report", "export", "integrations", "",
    "testing", "cli",
    "__main__",
]  # fmt: skip
LEVELS = {name: level for level, name in enumerate(ROOMS)}

#: Rooms where torch may be imported when a module is; elsewhere a function imports it.
TORCH_AT_THE_TOP = {"train", "timing", "scaling", "evaluation", "workflows", "export"}
TORCH_MODULES = {"arch.models", "arch.weights", "controllers.reinforce"}
TIMM = {"arch", "train", "timing", "evaluation", "data", "workflows"}
HEAVY = {
    "torch", "torchvision", "timm", "ray", "numpy", "pandas", "sklearn", "plotly", "optuna", "onnx",
    "tensorboard", "mlflow", "wandb",
}  # fmt: skip


class Import(NamedTuple):
    """One import, of a name from a module, by a module of effnas."""

    by: str
    module: str
    name: str = ""
    at_the_top: bool = True
    for_types: bool = False

    @property
    def distribution(self) -> str:
        """What has to be installed."""
        return self.module.split(".")[0]

    @property
    def target(self) -> str | None:
        """The module of effnas that is imported, without the package's name; None for others."""
        if self.distribution != "effnas":
            return None
        module = self.module.removeprefix("effnas").removeprefix(".")
        if f"{module}.{self.name}".removeprefix(".") in modules():
            return f"{module}.{self.name}".removeprefix(".")  # from effnas import counts
        if module or not self.name or self.name in LEVELS:
            return module or self.name
        home = effnas._HOMES.get(self.name, "effnas")  # from effnas import count
        return home.removeprefix("effnas").removeprefix(".")


def room_of(module: str) -> str:
    return module.split(".")[0]


def imports_below(
    node: ast.AST, by: str, at_the_top: bool = True, for_types: bool = False
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(by, alias.name, "", at_the_top, for_types)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{by}:{child.lineno}: imports are absolute"
            for alias in child.names:
                yield Import(by, child.module or "", alias.name, at_the_top, for_types)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from imports_below(child, by, at_the_top and not inside, for_types or types)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, str]:
    """The source of each module."""
    return {module_name(path): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def all_imports() -> tuple[Import, ...]:
    trees = ((name, ast.parse(text)) for name, text in modules().items())
    return tuple(found for name, tree in trees for found in imports_below(tree, name))


def at_run_time() -> list[Import]:
    return [found for found in all_imports() if not found.for_types]


def wrong_way(imports: list[Import]) -> list[Import]:
    return [
        found
        for found in imports
        if (target := found.target) is not None
        and room_of(target) != room_of(found.by)
        and LEVELS[room_of(target)] >= LEVELS[room_of(found.by)]
    ]


# -- the order of rooms


def test_nothing_imports_from_a_later_room() -> None:
    assert {room_of(module) for module in modules()} == LEVELS.keys()
    assert wrong_way(at_run_time()) == []


@pytest.mark.parametrize(
    ("by", "source", "is_wrong"),
    [
        ("arch.counts", "from effnas.space.search_space import SearchSpace", True),
        ("arch.counts", "import effnas.space.search_space", True),
        ("arch.counts", "def f():\n    from effnas import space", True),
        ("arch.counts", "from effnas import SearchSpace", True),
        ("arch.counts", "import effnas", True),
        ("arch.counts", "from effnas.errors import ConfigError", False),
        ("search.search", "from effnas import arch, SearchSpace", False),
        ("space.search_space", "from effnas.space.reader import read_space", False),
        ("cli.app", "import effnas, os", False),
    ],
)
def test_the_rule_sees_every_kind_of_import(by: str, source: str, is_wrong: bool) -> None:
    assert bool(wrong_way(list(imports_below(ast.parse(source), by)))) is is_wrong


def test_no_modules_import_each_other_in_a_circle_nowhere() -> None:
    graph: dict[str, set[str]] = {}
    for found in all_imports():
        if found.target not in (None, "", found.by):
            graph.setdefault(found.by, set()).add(str(found.target))
    TopologicalSorter(graph).prepare()  # raises CycleError


# -- modules


def test_no_module_is_long() -> None:
    lengths = {name: text.count("\n") for name, text in modules().items()}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_a_page_names_are_there(page: str) -> None:
    """A name without a folder is that of a module of the room that the paragraph is about."""
    top, absent = Path(__file__).parents[1], []
    for paragraph in (top / page).read_text().split("\n\n"):
        room = re.match(r"\*\*`(\w+)`\*\*", paragraph)
        home = PACKAGE / room[1] if room else PACKAGE
        for name in re.findall(r"[`(]([a-z][\w/]*\.(?:py|md|yaml))[`)]", paragraph):
            in_home = "/" not in name and any(home.rglob(name))
            if not (in_home or (top / name).exists() or (PACKAGE / name).exists()):
                absent.append(name)
    assert absent == []


def test_options_of_the_command_line_are_named_by_the_command_line_alone() -> None:
    option = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
    found = [
        f"{name}:{node.lineno}: {node.value[:60]!r}"
        for name, text in modules().items()
        if room_of(name) not in ("cli", "testing")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if option.search(node.value)
    ]
    assert found == []


# -- heavy packages


def test_torch_is_imported_at_the_top_of_few_modules() -> None:
    torch = [found for found in at_run_time() if found.distribution == "torch"]
    early = {found.by for found in torch if LEVELS[room_of(found.by)] < LEVELS["train"]}
    assert early | {"controllers.reinforce"} <= TORCH_MODULES
    top = {found.by for found in torch if found.at_the_top}
    assert {room_of(by) for by in top - TORCH_MODULES} <= TORCH_AT_THE_TOP


def test_timm_has_its_homes() -> None:
    timm = [found for found in at_run_time() if found.distribution == "timm"]
    assert {room_of(found.by) for found in timm} <= TIMM
    in_data = [found for found in timm if room_of(found.by) == "data"]
    assert {(found.by, found.at_the_top) for found in in_data} == {("data.named", False)}


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("ray", {"evaluation.ray", "workflows.train.distributed", "integrations.ray_tune"}),
        ("optuna", {"controllers.optuna", "integrations.optuna"}),
        ("tensorboard", {"workflows.trackers"}),
        ("mlflow", {"workflows.trackers"}),
        ("wandb", {"workflows.trackers"}),
        ("onnx", {"export.programs"}),
    ],
)
def test_a_package_that_may_be_missing_or_is_slow_has_its_homes(
    package: str, homes: set[str]
) -> None:
    own = [f for f in at_run_time() if package in f.module.split(".") and f.target is None]
    assert {found.by for found in own} == homes
    users = {f.by for f in at_run_time() if f.target in homes and f.at_the_top}
    assert users <= homes or not any(found.at_the_top for found in own)


def test_the_test_part_is_read_in_one_place() -> None:
    users = {found.by for found in at_run_time() if found.name == "load_test_part"}
    assert users == {"evaluation.training", "workflows.train.worker"}


def loaded_by(*arguments: str) -> set[str]:
    """The top-level modules that a new interpreter imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 2), run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    return {line.split("|")[-1].strip().split(".")[0] for line in lines}


COUNTED = "import effnas; effnas.count(effnas.SearchSpace.load('v2').reference, 224)"
CONTROLLERS = """
import effnas.controllers.registry as c; from effnas import SearchSpace
for name in c.CONTROLLERS:
    if name != 'reinforce' and not name.startswith('optuna:'):
        c.make_controller(name, SearchSpace.load('tiny')).ask(0)
"""


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (("-c", "import effnas"), HEAVY),
        (("-c", "import effnas.workflows.train.mailbox"), HEAVY),
        (("-m", "effnas", "--help"), HEAVY),
        (("-m", "effnas", "search", "--help"), HEAVY),
        (("-c", COUNTED), HEAVY),
        (("-c", CONTROLLERS), {"torch", "optuna"}),
        (("-m", "effnas", "train", "nowhere:best"), {"torch", "timm", "ray"}),
    ],
    ids=["package", "mailbox", "help", "help of search", "counts", "controllers", "wrong network"],
)
def test_what_must_be_quick_loads_nothing_heavy(
    arguments: tuple[str, ...], absent: set[str]
) -> None:
    loaded = loaded_by(*arguments)
    assert "effnas" in loaded
    assert not loaded & absent
