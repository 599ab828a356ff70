"""Imports point one way: the architecture of DESIGN.md, read from the source itself."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "one_kvm_migrate"
L0 = {"errors", "units", "model", "deadline", "secret", "__init__"}
# Each folder may import from the folders named here, from itself, and from L0.
ALLOWED = {
    "tools": set(),
    "disks": {"tools"},
    "sources": {"tools", "disks"},
    "guest": {"tools", "disks"},
    "opennebula": {"tools", "guest"},
    "proof": {"tools", "opennebula"},
    "pipeline": {"tools", "disks", "sources", "guest", "opennebula", "proof"},
    "sim": {"tools"},
    "lab": {"tools", "disks", "proof"},
    "vmm": set(),
    "__main__": {"cli"},
    "cli": {"tools", "disks", "sources", "guest", "opennebula", "proof", "pipeline", "sim", "lab"},
}
# The host driver starts in milliseconds and ships without the front-end's libraries.
DRIVER_L0 = {"errors", "units", "deadline", "__init__"}
DRIVER_FOREIGN = {"libvirt", "libvirt_qemu"}


def imports(path: Path) -> set[str]:
    """Dotted names of all modules *path* imports, at the top or inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> str | None:
    """Folder (or L0 module) below our package that *module* lies in, None if foreign."""
    parts = module.split(".")
    if parts[0] != "one_kvm_migrate":
        return None
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p)[len(str(PACKAGE)) + 1 :]
)
def test_imports_point_down(path: Path) -> None:
    where = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    ours = {name for name in map(layer, imports(path)) if name is not None}
    known = set(ALLOWED) | L0
    # "from one_kvm_migrate import __version__" also yields that name; only modules count.
    used = {name for name in ours if name in known}
    if where in L0:
        assert used <= L0
    else:
        assert used <= ALLOWED[where] | {where} | L0


@pytest.mark.parametrize("path", sorted((PACKAGE / "vmm").rglob("*.py")), ids=lambda p: p.name)
def test_the_host_driver_needs_only_libvirt(path: Path) -> None:
    import sys

    names = imports(path)
    tops = {name.split(".")[0] for name in names} - {"one_kvm_migrate"}
    assert tops <= set(sys.stdlib_module_names) | DRIVER_FOREIGN
    used = {name for name in map(layer, names) if name is not None and name in L0 | set(ALLOWED)}
    assert used <= DRIVER_L0 | {"vmm"}


def test_every_folder_has_a_layer() -> None:
    folders = {
        path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert folders == set(ALLOWED) - {"__main__"}


@pytest.mark.parametrize(
    "path",
    sorted([*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("tests/**/*.py")]),
    ids=lambda p: str(p.relative_to(PACKAGE.parent)),
)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 50, node.name
