"""The layers of sqlora/, read from its imports: no circle, no arrow up, and what each layer must do without."""

import ast
from pathlib import Path

import pytest

SQLORA = Path(__file__).parents[1] / "sqlora"
LAYERS = (  # each imports only from those before it
    "system",
    "storage",
    "sql",
    "settings",
    "prompt",
    "databases",
    "evaluation",
    "data",
    "model",
    "training",
    "generation",
    "ask",
    "synthesis",
    "reports",
    "merge",
    "doctor",
)
APART = {("training", "generation"), ("generation", "training"), ("databases", "settings"), ("data", "databases")}
WITHOUT_TORCH = ("storage", "sql", "settings", "evaluation", "databases")  # nor any library that imports it
HEAVY = {"torch", "transformers", "peft", "accelerate", "bitsandbytes", "safetensors"}


def modules() -> dict[str, ast.Module]:
    """The syntax tree of every module, under its dotted name below sqlora."""
    return {
        ".".join(path.relative_to(SQLORA).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
        for path in SQLORA.rglob("*.py")
    }


def imported(tree: ast.AST) -> set[str]:
    """The dotted names that a module imports anywhere, those inside functions and for types among them."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def at_import(tree: ast.Module) -> set[str]:
    """The names that a module imports when it is itself imported: outside functions, and not for types alone."""
    statements = [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    for_types = [node for node in statements if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return set().union(*(imported(node) for node in statements if node not in for_types))


ALL = modules()
TARGETS = {
    module: {
        max((other for other in ALL if f"{name}.".startswith(f"sqlora.{other}.")), key=len)
        for name in imported(tree)
        if any(f"{name}.".startswith(f"sqlora.{other}.") for other in ALL)
    }
    for module, tree in ALL.items()
}


def layer(module: str) -> str:
    return module.split(".")[0]


def test_the_layers_are_the_folders():
    assert {path.name for path in SQLORA.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(LAYERS)


@pytest.mark.parametrize("module", sorted(ALL))
def test_imports_go_down(module):
    """A __main__ is a door: it may import what it likes, and nothing imports it."""
    for other in TARGETS[module]:
        assert not other.endswith("__main__"), f"{module} imports {other}"
        if not module.endswith("__main__") and layer(other) != layer(module):
            assert (layer(module), layer(other)) not in APART, f"{module} imports {other}"
            assert LAYERS.index(layer(other)) < LAYERS.index(layer(module)), f"{module} imports {other}"


def test_no_module_imports_itself_through_others():
    done: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in TARGETS[module]:
                follow(other, (*path, module))
            done.add(module)

    for module in ALL:
        follow(module, ())


def test_a_package_says_what_it_is_and_imports_nothing():
    for path in SQLORA.rglob("__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if path.parent != SQLORA:
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_scoring_and_databases_need_no_torch(package):
    for module, tree in ALL.items():
        if layer(module) == package:
            assert not {name.split(".")[0] for name in imported(tree)} & HEAVY, module
            assert {layer(other) for other in TARGETS[module]} <= {*WITHOUT_TORCH, "system"} or module.endswith(
                "__main__"
            )


def test_help_needs_no_torch():
    reached, open_modules = set(), ["settings.command_line", "system.shutdown", "system.errors", "system.distributed"]
    while open_modules:
        module = open_modules.pop()
        reached.add(module)
        names = at_import(ALL[module])
        assert not {name.split(".")[0] for name in names} & HEAVY, module
        open_modules += [
            other for other in TARGETS[module] - reached if any(f"{n}.".startswith(f"sqlora.{other}.") for n in names)
        ]


def test_the_wall_round_a_database_can_be_read_alone():
    behind = set().union(*(TARGETS[module] for module in ALL if layer(module) == "databases"))
    assert {layer(module) for module in behind} <= {"databases", "sql", "storage", "system"}
