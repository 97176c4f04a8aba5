"""A fingerprint of code, so that a result says which code made it.

It is made of the syntax tree, so comments, docstrings and layout do not count. It cannot see the
versions of packages or the processor: those are in ``environment.json``.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What these say is in a run's configuration, or decides no result: values, texts, files, the process.
WITHOUT_CONSEQUENCE = frozenset(
    f"common.{name}"
    for name in (
        "datasets.archives",
        "datasets.download",
        "environment",
        "errors",
        "experiment",
        "files",
        "fingerprint",
        "saved_network",
        "tensorflow_setup",
    )
)


def code_fingerprint(modules: Iterable[str], alone: Iterable[str] = ()) -> dict[str, str]:
    """The modules and all modules of the suite that they import, directly or not; and others, alone.

    Packages do not count, only modules: a package lists what there is, and a new entry changes no result.

    Args:
        modules: such as "common.models.basenet".

    Returns:
        By file, relative to the project: 12 hexadecimal digits.
    """
    found: dict[str, str] = {}
    waiting = sorted(set(modules))
    while waiting:
        name = waiting.pop()
        path = ROOT / f"{name.replace('.', '/')}.py"
        file = path.relative_to(ROOT).as_posix()
        if file not in found and path.is_file() and name not in WITHOUT_CONSEQUENCE:
            found[file], imported = _read(path)
            waiting += imported
    for name in alone:
        path = ROOT / f"{name.replace('.', '/')}.py"
        found[path.relative_to(ROOT).as_posix()], _ = _read(path)
    return dict(sorted(found.items()))


@cache
def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """The digest of a file, and the names that may be modules of the suite which it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    digest = hashlib.sha256(_dump(tree).encode()).hexdigest()[:12]
    return digest, tuple(sorted(name for name in imported if name.split(".")[0] == "common"))


def _dump(node) -> str:
    """A syntax tree as text, the same in every version of Python (``ast.dump`` is not)."""
    if isinstance(node, ast.JoinedStr):  # whose constants some versions split
        texts = [each.value if isinstance(each, ast.Constant) else "\0" for each in node.values]
        values = [each for each in node.values if not isinstance(each, ast.Constant)]
        return f"JoinedStr({''.join(map(str, texts))!r}, {_dump(values)})"
    if isinstance(node, ast.AST):
        fields = [f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({', '.join(fields)})"
    return f"[{', '.join(map(_dump, node))}]" if isinstance(node, list) else repr(node)
