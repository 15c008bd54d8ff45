# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which small faults can be made in a module, each of which some test should notice.

Annotations, decorators and docstrings stay, and so do texts with a blank in them: they are for people.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

Faults = Iterator[tuple[str, ast.AST]]

_COMPARED: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_CALLED: Final = {
    "any": "all", "all": "any", "min": "max", "max": "min", "sorted": "list", "lower": "upper", "upper": "lower",
    "fullmatch": "match", "search": "match", "partition": "rpartition", "rpartition": "partition",
    "removeprefix": "removesuffix", "removesuffix": "removeprefix", "startswith": "endswith", "setdefault": "get",
}  # fmt: skip
_LEFT_ALONE: Final = ("annotation", "returns", "decorator_list", "type_params", "format_spec", "type_ignores")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: `old` becomes `new` where `field` of `parent` (at `index`, where that holds several) has it.

    `function` is the qualified name of the outermost function around it; None outside of any.
    """

    kind: str
    function: str | None
    old: ast.AST
    new: ast.AST
    parent: ast.AST
    field: str
    index: int | None

    def put(self) -> None:
        """Changes the tree in which it was found."""
        for each in ast.walk(self.new):
            if not hasattr(each, "lineno"):
                ast.copy_location(each, self.old)
        if self.index is None:
            setattr(self.parent, self.field, self.new)
        else:
            getattr(self.parent, self.field)[self.index] = self.new
        ast.fix_missing_locations(self.parent)

    def __str__(self) -> str:
        old, new = (" ".join(ast.unparse(each).split())[:100] for each in (self.old, self.new))
        line = getattr(self.old, "lineno", None) or getattr(self.parent, "lineno", 0)
        return f"{line}: {self.function or 'outside'}: {self.kind}: {old} -> {new}"


def mutants(parent: ast.AST, function: str | None = None, classes: tuple[str, ...] = ()) -> Iterator[Mutant]:
    """Gives the faults that can be made in `parent`, a module to begin with."""
    for field, index, node in _children(parent):
        for kind, new in (*_conditions(node, parent, field), *_expressions(node), *_calls(node), *_statements(node)):
            yield Mutant(kind, function, node, new, parent, field, index)
        if isinstance(node, ast.ClassDef) and function is None:
            yield from mutants(node, None, (*classes, node.name))
        elif isinstance(node, ast.FunctionDef) and function is None:
            yield from mutants(node, ".".join((*classes, node.name)))
        else:
            yield from mutants(node, None if isinstance(parent, ast.FunctionDef) and field == "args" else function)


def _children(parent: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    is_sentence = isinstance(parent, ast.JoinedStr) and " " in ast.unparse(parent)
    for field, value in ast.iter_fields(parent):
        for index, node in enumerate(value) if isinstance(value, list) else ((None, value),):
            is_text = isinstance(node, ast.Constant) and (is_sentence or isinstance(parent, ast.Expr))
            if field not in _LEFT_ALONE and isinstance(node, ast.AST) and not is_text:
                yield field, index, node


def _conditions(node: ast.AST, parent: ast.AST, field: str) -> Faults:
    if field in ("test", "ifs", "guard") and not isinstance(node, ast.UnaryOp | ast.Compare):
        yield "negated", ast.UnaryOp(ast.Not(), node)  # type: ignore[arg-type]
    if field == "ifs" or (field == "test" and isinstance(parent, ast.IfExp)):
        yield "always", ast.Constant(True)
    if field == "test" and isinstance(parent, ast.IfExp):
        yield "never", ast.Constant(False)


def _expressions(node: ast.AST) -> Faults:
    match node:
        case ast.Compare(left, ops, others):
            for n, op in enumerate(ops):
                for other in _COMPARED[type(op)]:
                    yield "compared", ast.Compare(left, [*ops[:n], other(), *ops[n + 1 :]], others)
        case ast.BoolOp(op, values):
            yield "and/or", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for n in range(len(values)):
                rest = values[:n] + values[n + 1 :]
                yield "dropped", rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.UnaryOp(_, operand):
            yield "dropped", operand
        case ast.BinOp(left, op, right) if type(op) in _COMPUTED:
            yield from (("dropped", left), ("dropped", right))
            yield "computed", ast.BinOp(left, _COMPUTED[type(op)](), right)
        case ast.Constant(bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield from (("constant", ast.Constant(value + step)) for step in (1, -1) if value + step >= 0)
        case ast.Constant(str(value)) if " " not in value:
            yield "constant", ast.Constant(f"XX{value}")
        case ast.Slice(lower, upper, step):
            if lower is not None:
                yield "slice", ast.Slice(None, upper, step)
            if upper is not None:
                yield "slice", ast.Slice(lower, None, step)
        case ast.Starred(_, ast.Load()):
            yield "starred", ast.Starred(ast.Tuple([], ast.Load()), ast.Load())


def _calls(node: ast.AST) -> Faults:
    if not isinstance(node, ast.Call):
        return
    of, args, keywords = node.func, node.args, node.keywords
    for n in range(1, len(args)):
        yield "argument", ast.Call(of, args[:n] + args[n + 1 :], keywords)
    for n in range(len(keywords)):
        yield "argument", ast.Call(of, args, keywords[:n] + keywords[n + 1 :])
    match of:
        case ast.Attribute(value, name, context) if name in _CALLED:
            yield "called", ast.Call(ast.Attribute(value, _CALLED[name], context), args, keywords)
        case ast.Name(name, context) if name in _CALLED:
            yield "called", ast.Call(ast.Name(_CALLED[name], context), args, keywords)


def _statements(node: ast.AST) -> Faults:
    match node:
        case ast.Return(ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return", ast.Return(ast.Constant(None))
        case ast.Expr(ast.Yield() | ast.YieldFrom()):
            yield "left out", ast.Expr(ast.YieldFrom(ast.Tuple([], ast.Load())))
        case ast.Continue():
            yield from (("left out", ast.Pass()), ("break", ast.Break()))
        case ast.Assign([ast.Name() | ast.Tuple(), *_]):
            pass
        case ast.Expr(ast.Call()) | ast.Assign() | ast.AugAssign() | ast.Raise() | ast.Break():
            yield "left out", ast.Pass()
        case ast.match_case(pattern, _, body) if not isinstance(pattern, ast.MatchAs) or pattern.pattern is not None:
            yield "case", ast.match_case(pattern, ast.Constant(False), body)
