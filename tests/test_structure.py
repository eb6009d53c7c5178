"""The rules of the house: imports point one way, nothing looks at sys.argv twice, every file says what it is."""

import ast

import pytest
from conftest import ROOT

# Folder -> folders that its files may import, besides itself.
MAY_IMPORT = {
    "util": set(),
    "networks": {"util"},
    "networks/fast": {"util", "networks"},
    "models": {"util", "networks", "models/engine"},
    "models/engine": {"util", "networks", "models"},
    "data": {"util", "data/loading"},
    "data/loading": {"util", "data"},
    "options": {"util", "networks", "models", "models/engine", "data", "data/loading"},
    "image_translation": {"util", "networks", "models", "models/engine", "data", "data/loading", "options"},
}
EXCEPT = {("models/engine/hardware.py", "networks/fast"),      # the only file that accelerates networks
          ("image_translation/export.py", "networks/fast")}    # which takes that back
BELOW = ("building", "state", "schedule", "ema", "saving", "hardware", "step")  # of models/engine: below base_model.py
FILES = [path for package in MAY_IMPORT if "/" not in package for path in sorted((ROOT / package).rglob("*.py"))]
SCRIPTS = [ROOT / "train.py", ROOT / "test.py"]


def imports(path):
    """Dotted names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder(name):
    """The longest folder of ours in a dotted name, or None."""
    path = name.replace(".", "/")
    found = [key for key in MAY_IMPORT if path == key or path.startswith(f"{key}/")]
    return max(found, key=len) if found else "script" if path in ("train", "test") else None


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    if path.name == "__main__.py":
        return  # a script, as train.py is
    here = str(path.relative_to(ROOT))
    own = folder(here.removesuffix(".py"))
    ours = {found for name in imports(path) if (found := folder(name))}
    assert ours <= MAY_IMPORT[own] | {own} | {there for file, there in EXCEPT if file == here}


def test_plugins_and_the_contract():
    models = {path.name for path in (ROOT / "models").glob("*.py")}
    assert {name for name in models if not name.endswith("_model.py")} == {"__init__.py", "networks.py"}
    for path in (ROOT / "models").glob("*_model.py"):
        known = {name.split(".")[2] for name in imports(path) if name.startswith("models.engine.")}
        assert known <= ({*BELOW} if path.name == "base_model.py" else set()), path
    for name in BELOW:
        assert not {"models.base_model", "models"} & set(imports(ROOT / "models" / "engine" / f"{name}.py")), name


def test_util_has_no_parameter_called_opt():
    for path in (ROOT / "util").rglob("*.py"):
        names = {node.arg for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.arg)}
        assert "opt" not in names, path


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_classes_and_functions_fit_in_the_eye(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        limit = 220 if isinstance(node, ast.ClassDef) else 40
        is_list = getattr(node, "name", "") == "initialize" and path.parent.name == "options"  # of options
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not is_list:
            assert node.end_lineno - node.lineno < limit, node.name


CHANGES = {"append", "add", "update", "clear", "pop", "setdefault", "extend", "insert", "remove", "discard"}


def is_class(name):
    return name.rpartition(".")[2].lstrip("_")[:1].isupper()


def mutable_state(path):
    """Top-level names of a module that functions rebind, change or cache in, and objects in lower case."""
    tree = ast.parse(path.read_text())
    targets = [(target, node.value) for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign))
               for target in (node.targets if isinstance(node, ast.Assign) else [node.target])]
    top = {target.id: value for target, value in targets if isinstance(target, ast.Name)}
    found = {name for name, value in top.items() if name == name.lower() and not name.startswith("__") and (
        isinstance(value, (ast.Dict, ast.List)) or (isinstance(value, ast.Call) and is_class(ast.unparse(value.func))))}
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        found |= {function.name for decorator in function.decorator_list if "cache" in ast.unparse(decorator)}
        for node in ast.walk(function):
            if isinstance(node, ast.Global):
                found |= set(node.names)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
                found |= {ast.unparse(node.func.value)} & top.keys()
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
                found |= {ast.unparse(node.value)} & top.keys()
    return {f"{path.relative_to(ROOT).with_suffix('')}:{name}" for name in found}


def test_what_changes_in_a_process_has_three_places():
    """Registries are filled by decorators when a module is imported; all else is in objects that a run makes."""
    assert set().union(*map(mutable_state, [*FILES, *SCRIPTS])) == {
        "util/distributed:share",               # this process's share of a step
        "util/notices:_seen",                   # what has been said; `fresh` restores it
        "data/loading/workers:_here",     # which data worker this is
    }


@pytest.mark.parametrize("path", [*FILES, *SCRIPTS], ids=lambda p: str(p.relative_to(ROOT)))
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
        for path in [*FILES, *SCRIPTS]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("torch.load", "np.load", "pickle.load", "yaml.load")
    ]
    assert {path.name for path, _ in loads} == {"checkpoint.py", "reading.py", "passes.py", "files.py"}
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
