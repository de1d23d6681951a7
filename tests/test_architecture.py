"""The arrow of imports, the length of files, and who may see a ConfigDict."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "fcam_jax"
LONGEST_FILE = 350

# A room may import those of the lines above its own; rooms of one line do not know each other.
ORDER = (
    {"fcam_jax", "types", "errors"},
    {"component"},
    {"runtime"},
    {"data", "models"},
    {"cams"},
    {"seeds"},
    {"losses"},
    {"methods"},
    {"training"},
    {"evaluation"},
    {"configuration"},
    {"runs"},
    {"cli"},
    {"main", "__main__"},
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
CONFIG_READERS = {
    "configuration/command_line.py",
    "configuration/components.py",
    "configuration/keys.py",
    *(f"runs/build{part}.py" for part in ("", "_classes", "_data", "_model")),
}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    return ".".join(("fcam_jax", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def imported(source, module, is_package=False):
    """Full names of all modules and objects that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - is_package
            here = module.split(".")[:-up] if up > 0 else module.split(".")
            base = ".".join([*(here if node.level else []), *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room_of(name):
    """The part of the package that a full name belongs to; None for other packages."""
    package, *rest = name.split(".")
    if package != "fcam_jax":
        return None
    room = rest[0] if rest else "fcam_jax"
    return "fcam_jax" if room == "__version__" else room


def backward(source, module, is_package=False):
    """Imports of a module that are against the arrow."""
    room = room_of(module)
    rooms = [(name, room_of(name)) for name in imported(source, module, is_package)]
    return [name for name, other in rooms if other not in (None, room) and RANK[other] >= RANK[room]]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("fcam_jax.data.folder", "from fcam_jax.training.loop import train"),
        ("fcam_jax.data.folder", "from fcam_jax.models import ENCODERS"),
        ("fcam_jax.models.resnet", "import fcam_jax.data.images"),
        ("fcam_jax.models.resnet", "from fcam_jax import cams"),
        ("fcam_jax.training.step", "def f():\n    from fcam_jax.evaluation import evaluator"),
        ("fcam_jax.training.step", "from ..evaluation import evaluator"),
        ("fcam_jax.training.step", "from .. import main"),
        ("fcam_jax.runs.experiment", "import json\nimport numpy, fcam_jax.cli.predict as b"),
        ("fcam_jax.types", "from fcam_jax.errors import InputError"),
    ],
)
def test_a_backward_arrow_is_found(module, line):
    assert len(backward(line, module)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("fcam_jax.cams.cam", "from fcam_jax.models.heads import WGAP"),
        ("fcam_jax.cams.cam", "from . import contract\nfrom .contract import Head"),
        ("fcam_jax.main", "from fcam_jax import runs, evaluation"),
        ("fcam_jax.runs.report.tables", "import fcam_jax.evaluation.metric, matplotlib.main"),
    ],
)
def test_a_forward_arrow_is_not(module, line):
    assert backward(line, module) == []


def test_every_module_is_in_a_room_of_the_order():
    assert {room_of(module_of(path)) for path in FILES} == RANK.keys()


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_follow_the_arrow(path):
    if path != PACKAGE / "__init__.py":  # the public face, which imports what is asked of it
        assert backward(path.read_text(), module_of(path), path.name == "__init__.py") == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.slow
def test_only_the_entrance_sees_a_config_dict():
    readers = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(name.split(".")[0] == "ml_collections" for name in imported(path.read_text(), module_of(path)))
    }
    assert readers == CONFIG_READERS


def test_no_variable_is_set_in_place():
    """`variable[...] = x` makes JAX walk through all that has been traced so far; `set_value` does not."""
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in PACKAGE.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\[\.\.\.\] *[-+*/]?= ", line)
    ]
    assert found == []


def undocumented(sources):
    """Public methods, as "Class.method", that neither have a docstring nor override one that has."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]

    def described(kind):
        own = {one.name for one in kind.body if isinstance(one, ast.FunctionDef) and ast.get_docstring(one)}
        bases = {base.id for base in kind.bases if isinstance(base, ast.Name)}
        return own.union(*(described(other) for other in classes if other.name in bases))

    for kind in (one for one in classes if not one.name.startswith("_")):
        names = {one.name for one in kind.body if isinstance(one, ast.FunctionDef)}
        public = {name for name in names if name == "__call__" or not name.startswith("_")}
        yield from (f"{kind.name}.{name}" for name in sorted(public - described(kind)))


def test_methods_without_a_docstring_are_found():
    base = "class A:\n    def f(self):\n        'f.'\n    def g(self): ...\n"
    derived = "class B(A):\n    def f(self): ...\n    def __call__(self): ...\n    def _own(self): ...\n"
    assert [*undocumented([base, derived])] == ["A.g", "B.__call__"]


@pytest.mark.slow
def test_every_method_has_a_docstring_or_overrides_one_that_has():
    assert [*undocumented(path.read_text() for path in FILES)] == []


def test_files_of_tests_have_names_of_their_own():
    # pytest imports them by these alone.
    names = [path.name for path in pathlib.Path(__file__).parent.rglob("test_*.py")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
