"""The rules of the house: imports point one way, nothing looks at sys.argv twice, every file says what it is."""

import ast

import pytest
from conftest import ROOT

MAY_IMPORT = {
    "util": set(),
    "networks": {"util"},
    "models": {"util", "networks"},
    "data": {"util"},
    "options": {"util", "networks", "models", "data"},
}
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    if path.name == "__main__.py":
        return  # a script, as train.py is
    package = path.relative_to(ROOT).parts[0]
    ours = set(imported_packages(path)) & {*MAY_IMPORT, "train", "test"}
    assert ours <= MAY_IMPORT[package] | {package}


@pytest.mark.parametrize("path", [*FILES, ROOT / "train.py", ROOT / "test.py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_and_public_function_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    if path.parent.name in ("models", "data") or path.parent == ROOT:
        return  # plugins repeat methods that their base documents
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}: {node.name}"


def test_networks_never_see_opt():
    for path in (ROOT / "networks").glob("*.py"):
        names = {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.arg)}
        assert "opt" not in names, path


def test_checkpoints_are_read_without_running_code():
    loads = [
        (path, {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords})
        for path in [*FILES, ROOT / "train.py", ROOT / "test.py"]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("torch.load", "np.load", "pickle.load", "yaml.load")
    ]
    assert {path.name for path, _ in loads} == {"checkpoint.py", "reading.py", "config_file.py"}
    for path, keywords in loads:
        assert keywords.get("weights_only") is True or keywords.get("allow_pickle") is False or "Loader" in keywords, (
            path
        )


def test_no_code_from_strings():
    for path in FILES:
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"eval", "exec"}, path
