"""Imports go one way through the layers, and what is heavy is imported late and in few places."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import effnas

PACKAGE = Path(effnas.__file__).parent

# From left to right: a room imports from itself and from the rooms before it.
ROOMS = [
    "errors", "config", "arch", "data", "space", "trials", "train", "timing", "controllers",
    "scaling", "evaluation", "search", "workflows", "export", "", "testing", "cli", "__main__",
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


@dataclass(frozen=True)
class Import:
    """One import in the source: of a name from a module, by a module of effnas."""

    by: str
    line: int
    module: str
    name: str
    at_the_top: bool

    @property
    def layer(self) -> str:
        """The layer of the importing module."""
        return layer_of(self.by)

    @property
    def distribution(self) -> str:
        """What has to be installed."""
        return self.module.split(".")[0]


def layer_of(module: str) -> str:
    return module.split(".")[0]


def is_type_checking(node: ast.If) -> bool:
    test = node.test
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def imports_below(node: ast.AST, by: str, at_the_top: bool = True) -> Iterator[Import]:
    """All imports below a node, those for type checkers left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(by, child.lineno, alias.name, "", at_the_top)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{by}:{child.lineno}: imports are absolute"
            for alias in child.names:
                yield Import(by, child.lineno, child.module or "", alias.name, at_the_top)
        elif isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield from imports_below(ast.Module([other], []), by, at_the_top)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from imports_below(child, by, at_the_top and not inside)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> tuple[str, ...]:
    return tuple(sorted(module_name(path) for path in PACKAGE.rglob("*.py")))


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(
        found
        for path in sorted(PACKAGE.rglob("*.py"))
        for found in imports_below(ast.parse(path.read_text(), str(path)), module_name(path))
    )


def target(found: Import) -> str | None:
    """The module of effnas that is imported, without the package's name; None for others."""
    if found.distribution != "effnas":
        return None
    module = found.module.removeprefix("effnas").removeprefix(".")
    if module or not found.name:
        return module
    if any(layer_of(known) == found.name for known in modules()):
        return found.name  # from effnas import counts
    home = effnas._HOMES.get(found.name, "effnas")  # from effnas import count
    return home.removeprefix("effnas").removeprefix(".")


def wrong_way(imports: tuple[Import, ...]) -> list[str]:
    wrong = []
    for found in imports:
        imported = target(found)
        if imported is None or layer_of(imported) == found.layer:
            continue
        if LEVELS[layer_of(imported)] >= LEVELS[found.layer]:
            wrong.append(f"{found.by}:{found.line} imports {imported or 'effnas'}")
    return wrong


def test_every_module_stands_in_a_room() -> None:
    assert {layer_of(module) for module in modules()} == LEVELS.keys()


def test_nothing_imports_from_a_later_room() -> None:
    assert wrong_way(all_imports()) == []


@pytest.mark.parametrize(
    ("by", "source"),
    [
        ("arch.counts", "from effnas.space.search_space import SearchSpace"),
        ("arch.counts", "import effnas.space.search_space"),
        ("arch.counts", "def f():\n    from effnas import space"),
        ("arch.counts", "from effnas import SearchSpace"),
        ("arch.counts", "import effnas"),
        (
            "space",
            "if TYPE_CHECKING:\n    pass\nelse:\n    from effnas import Search",
        ),
    ],
)
def test_the_rule_sees_every_kind_of_import(by: str, source: str) -> None:
    assert len(wrong_way(tuple(imports_below(ast.parse(source), by)))) == 1


@pytest.mark.parametrize(
    ("by", "source"),
    [
        ("arch.counts", "if TYPE_CHECKING:\n    from effnas.search.search import Search"),
        ("arch.counts", "from effnas.errors import ConfigError"),
        ("search.search", "from effnas import arch, SearchSpace"),
        ("space.search_space", "from effnas.space.reader import read_space"),
        ("cli.app", "import effnas, os"),
    ],
)
def test_the_rule_allows_imports_from_earlier_rooms(by: str, source: str) -> None:
    assert wrong_way(tuple(imports_below(ast.parse(source), by))) == []


def test_torch_is_imported_at_the_top_of_few_modules() -> None:
    torch = {found.by for found in all_imports() if found.distribution == "torch"}
    early = {by for by in torch if LEVELS[layer_of(by)] < LEVELS["train"]}
    assert early | {"controllers.reinforce"} <= TORCH_MODULES
    top = {f.by for f in all_imports() if f.distribution == "torch" and f.at_the_top}
    assert {layer_of(by) for by in top - TORCH_MODULES} <= TORCH_AT_THE_TOP


def test_timm_has_its_homes() -> None:
    timm = [found for found in all_imports() if found.distribution == "timm"]
    assert {found.layer for found in timm} <= TIMM
    assert {found.by for found in timm if found.layer == "data"} == {"data.named"}
    assert not any(found.at_the_top for found in timm if found.layer == "data")


def test_ray_has_its_homes() -> None:
    homes = {"evaluation.ray", "workflows.train.distributed"}
    assert {f.by for f in all_imports() if f.distribution == "ray"} == homes
    inside = [f for f in all_imports() if target(f) in homes]
    assert {found.by for found in inside if found.at_the_top} <= homes


def test_optuna_has_one_home() -> None:
    assert {f.by for f in all_imports() if f.distribution == "optuna"} == {"controllers.optuna"}
    inside = [f for f in all_imports() if target(f) == "controllers.optuna"]
    assert not any(found.at_the_top for found in inside)


def test_onnx_has_one_home_and_may_be_missing() -> None:
    onnx = [f for f in all_imports() if f.distribution in ("onnx", "onnxruntime", "onnxscript")]
    assert {found.by for found in onnx} == {"export.programs"}
    assert not any(found.at_the_top for found in onnx)


@pytest.mark.parametrize("package", ["tensorboard", "mlflow", "wandb"])
def test_trackers_have_one_home_and_may_be_missing(package: str) -> None:
    found = [f for f in all_imports() if package in f.module.removeprefix("effnas").split(".")]
    ours = [f for f in found if f.distribution != "effnas"]
    assert {f.by for f in ours} == {"workflows.trackers"}
    assert not any(f.at_the_top for f in ours)


def test_controllers_are_imported_without_optuna() -> None:
    assert "optuna" not in loaded_by("-c", "import effnas.controllers")


def test_the_test_part_is_read_in_one_place() -> None:
    users = {found.by for found in all_imports() if found.name == "load_test_part"}
    assert users == {"evaluation.training", "workflows.train.worker"}


def loaded_by(*arguments: str) -> set[str]:
    """The top-level modules that a new interpreter imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    return {line.split("|")[-1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "import effnas"),
        ("-c", "import effnas.workflows.train.mailbox"),
        ("-m", "effnas", "--help"),
        ("-m", "effnas", "search", "--help"),
        ("-m", "effnas", "--version"),
    ],
    ids=" ".join,
)
def test_what_must_answer_at_once_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    loaded = loaded_by(*arguments)
    assert "effnas" in loaded
    assert not loaded & HEAVY


def test_controllers_that_need_no_torch_do_not_load_it() -> None:
    program = (
        "import effnas.controllers.registry as c; from effnas import SearchSpace\n"
        "for name in c.CONTROLLERS:\n"
        "    if name != 'reinforce':\n"
        "        c.make_controller(name, SearchSpace.load('tiny')).ask(0)"
    )
    assert "torch" not in loaded_by("-c", program)


def test_a_space_is_read_and_counted_without_torch() -> None:
    program = "import effnas; effnas.count(effnas.SearchSpace.load('v2').reference, 224)"
    loaded = loaded_by("-c", program)
    assert {"effnas", "yaml"} <= loaded
    assert not loaded & HEAVY
