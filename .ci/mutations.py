"""The changes that `mutants.py` makes: each a span of a file's bytes and what replaces it."""

import ast
import copy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """`begin` to `end` (bytes) of `path` becomes `text`; `scope` is the line its function begins
    at, as in a code object, or 0; `name` tells it from others whatever their lines."""

    path: str
    line: int
    scope: int
    begin: int
    end: int
    text: str
    name: str

    def applied(self, content):
        return content[: self.begin] + self.text.encode() + content[self.end :]


def changes(root, path):
    """All changes to a file, in the order of the text."""
    content = Path(root, path).read_bytes()
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    names, found = Counter(), []
    for node, replaced, scope, function in _visited(ast.parse(content), 0, "module"):
        name = f"{path} {function}: {_short(node)} -> {_short(replaced)}"
        names[name] += 1
        if names[name] > 1:
            name += f" #{names[name]}"
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        text = ast.unparse(replaced)
        found.append(Change(path, node.lineno, scope, begin, end, text, name))
    return found


def _short(node):
    return " ".join(ast.unparse(node).split())


def _visited(node, scope, function):
    """Nodes and what replaces them; nothing of annotations, messages, decorators and texts."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        scope = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        function = node.name if function == "module" else f"{function}.{node.name}"
    elif isinstance(node, ast.ClassDef):
        function = node.name if function == "module" else f"{function}.{node.name}"
    for old, new in _replacements(node):
        yield old, new, scope, function
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params", "type"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _visited(child, scope, function)


def _replacements(node):
    def altered(**fields):
        changed = copy.copy(node)
        for name, value in fields.items():
            setattr(changed, name, value)
        return changed

    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            other = COMPARISONS[type(operator)]()
            yield node, altered(ops=[*node.ops[:i], other, *node.ops[i + 1 :]])
    elif isinstance(node, ast.BoolOp):
        yield node, altered(op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        if not _is_text(node.left) and not _is_text(node.right) and not _is_type(node):
            yield node, altered(op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        other = not node.value if isinstance(node.value, bool) else node.value + 1
        yield node, ast.Constant(other)
    elif isinstance(node, ast.If | ast.IfExp):
        refuses = isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise)
        no = ast.Constant(False) if refuses else ast.UnaryOp(ast.Not(), node.test)
        yield node.test, no
    elif isinstance(node, ast.comprehension):
        for condition in node.ifs:
            yield condition, ast.Constant(True)
    elif isinstance(node, ast.Return) and not isinstance(node.value, ast.Constant | None):
        yield node, ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield node, ast.Pass()
    elif isinstance(node, ast.Call):
        for i, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                yield node, altered(keywords=node.keywords[:i] + node.keywords[i + 1 :])


def _is_text(node):
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _is_type(node):
    """`int | float`, as in `isinstance`."""
    return (
        isinstance(node.op, ast.BitOr)
        and all(
            isinstance(side, ast.Name | ast.Attribute | ast.BinOp)
            for side in (node.left, node.right)
        )
        and any(isinstance(leaf, ast.Name) and leaf.id in TYPES for leaf in ast.walk(node))
    )


TYPES = {"int", "float", "str", "bytes", "dict", "list", "tuple", "bool", "Path", "None"}
