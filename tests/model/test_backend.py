"""The backend of this environment, and that every backend has the whole interface."""

import ast
from pathlib import Path

import pytest

from sqlora.model import backend

FOLDER = Path(backend.__file__).parent


def test_the_backend_is_the_one_whose_transformers_is_installed():
    assert backend.backend.NAME == backend.BACKENDS[backend.LEGACY]


@pytest.mark.parametrize("name", backend.BACKENDS.values())
def test_a_backend_has_what_the_interface_names(name):
    # Read, not imported: the two backends need different versions of transformers.
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    values = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in ast.walk(node.targets[0])
        if isinstance(target, ast.Name)
    }
    interface = ast.parse(Path(backend.__file__).read_text())
    protocol = next(node for node in interface.body if isinstance(node, ast.ClassDef))
    for wanted in protocol.body:
        if isinstance(wanted, ast.AnnAssign):
            assert wanted.target.id in values
        if isinstance(wanted, ast.FunctionDef):
            arguments = [argument.arg for argument in wanted.args.args[1:]]
            assert [argument.arg for argument in defined[wanted.name].args.args] == arguments
