"""Jinja2 templates restricted to what prompts need, so that a stranger's template cannot run for ever.

Templates come from the user, and with bundles from people whom nobody knows. Jinja2's sandbox keeps them from the
machine, but not from its time: `{{ 9 ** 9 ** 9 }}` is never finished. So each template is parsed and held against an
allow-list before it is compiled: values, their items, conditions, a few filters and tests, loops over given lists,
includes by name. Nothing of that makes a text longer, except by repetition, and that is counted: steps, which are
known before a loop begins, and the characters written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import CodeType
from typing import Any, NamedTuple

from jinja2 import BaseLoader, StrictUndefined, TemplateSyntaxError, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context

MOST_CHARACTERS = 2_000_000
"""The longest text that a template may write (about 500,000 tokens), and the most that its values may hold together."""

MOST_SOURCE = 100_000
"""Characters of one template's source."""

MOST_STEPS = 100_000
"""What one rendering may take: a node of a template is one step, a filter or a comparison `TEXT_STEPS`."""

TEXT_STEPS = 200
MOST_DEPTH = 25
"""How deeply constructs may be nested: far below what the parser and the compiler themselves can take."""

MOST_BRANCHES = 50
MOST_LOOPS = 3
MOST_INCLUDES = 5
LONGEST_MESSAGE = 250
MOST_LITERAL = 1000
"""Characters of a text between quotes in a template."""

FILTERS: Mapping[str, int] = {
    "label": 0, "trim": 0, "upper": 0, "lower": 0, "capitalize": 0, "length": 0, "count": 0, "first": 0, "last": 0,
    "join": 1, "default": 1,
}  # fmt: skip
"""The filters that a template may use, each with the most arguments that it takes."""

TESTS = frozenset({"defined", "undefined", "none", "string", "mapping", "odd", "even"})
METHODS = frozenset({"items", "keys", "values"})

_ITEM = 50  # what an item of a list counts as among the characters of the values
_STEPS = "_steps"  # templates cannot name these two: a name that begins with "_" is refused
_LOOP = "_loop"
_RESERVED = frozenset({"self", "super", "caller", "varargs", "kwargs"})
_KINDS: tuple[tuple[tuple[type[nodes.Node], ...], str], ...] = (
    ((nodes.Concat,), "the operator ~"),
    ((nodes.BinExpr, nodes.UnaryExpr), "arithmetic"),
    ((nodes.Call,), "a call (only .items(), .keys() and .values() are)"),
    ((nodes.List, nodes.Tuple, nodes.Dict), "a list or dictionary of its own"),
    ((nodes.Assign, nodes.AssignBlock), "{% set %}"),
    ((nodes.Macro, nodes.CallBlock), "{% macro %} or {% call %}"),
    ((nodes.Import, nodes.FromImport), "{% import %}"),
    ((nodes.Extends, nodes.Block), "{% extends %} or {% block %}"),
    ((nodes.FilterBlock,), "{% filter %}"),
    ((nodes.With,), "{% with %}"),
)


class TemplateRefusedError(TemplateSyntaxError):
    """A template holds what no prompt needs, or would take or write too much."""


class Cost(NamedTuple):
    """What a part of a template takes: steps with each loop run once, and how many loops and includes it nests."""

    steps: int = 0
    loops: int = 0
    includes: int = 0

    def beside(self, other: Cost) -> Cost:
        """Both, one after the other."""
        return Cost(self.steps + other.steps, max(self.loops, other.loops), max(self.includes, other.includes))


class RestrictedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, for templates that hold only what prompts need.

    `parse` raises TemplateRefusedError for any other, with the name of the file and the line, and so does everything
    that compiles: it parses first.
    """

    def __init__(self, loader: BaseLoader, label: Callable[[str], str]) -> None:
        super().__init__(
            loader=loader,
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,  # all prompts of a run come from one state of its files
        )
        self.globals.clear()
        self.filters.update({"label": label, "join": _join, _LOOP: _enter_loop})
        self._costs: dict[str, Cost] = {}
        self._open: list[str] = []  # the templates being checked, each included by the one before it

    def parse(self, source: str, name: str | None = None, filename: str | None = None) -> nodes.Template:
        """The template as a tree, checked with all that it includes; its loops count their steps."""
        if len(source) > MOST_SOURCE:
            raise TemplateRefusedError(f"it is longer than {MOST_SOURCE:,} characters", 1, name, filename)
        try:
            tree = super().parse(source, name, filename)
        except (RecursionError, ValueError):  # ValueError: a number of thousands of digits
            line = 1 + len(source[: len(source) - len(source.lstrip())].splitlines())
            raise TemplateRefusedError(
                "it is nested too deeply, or holds a number too long", line, name, filename
            ) from None
        self._open.append(name or "")
        try:
            cost = _Check(self, name, filename).block(tree.body, 0, 0)
        finally:
            self._open.pop()
        if name is not None:
            self._costs[name] = cost
        return tree

    def compile(  # type: ignore[override] # its overloads tell apart what it returns
        self,
        source: str | nodes.Template,
        name: str | None = None,
        filename: str | None = None,
        raw: bool = False,
        defer_init: bool = False,
    ) -> CodeType | str:
        """As in Jinja2, of a template that was checked."""
        tree = self.parse(source, name, filename) if isinstance(source, str) else source
        return super().compile(tree, name, filename, raw, defer_init)  # type: ignore[call-overload,no-any-return]

    def write(self, name: str, values: Mapping[str, object]) -> str:
        """The text that a template makes of `values`. Raises Jinja2's errors and those of Python's operators."""
        template = self.get_template(name)
        if _size(values) > MOST_CHARACTERS:
            raise TemplateRefusedError(f"it is given more than {MOST_CHARACTERS:,} characters", 1, name)
        pieces: list[str] = []
        length = 0
        for piece in template.generate(values, **{_STEPS: [MOST_STEPS]}):
            pieces.append(piece)
            length += len(piece)
            if length > MOST_CHARACTERS:
                raise TemplateRefusedError(f"it writes more than {MOST_CHARACTERS:,} characters", 1, name)
        return "".join(pieces)

    def check(self, name: str) -> nodes.Template:
        """The tree of a file's template, checked with all that it includes."""
        assert self.loader is not None  # noqa: S101 - given in __init__
        source, filename, _ = self.loader.get_source(self, name)
        return self.parse(source, name, filename)

    def included(self, name: str) -> Cost | None:
        """What an included template costs; None where it includes, by whatever way, itself."""
        if name in self._open:
            return None
        if name not in self._costs:
            self.check(name)
        return self._costs[name]

    @property
    def depth(self) -> int:
        """How many templates are being checked, each included by the one before it."""
        return len(self._open)


class _Check:
    """Walks one parsed template, refuses what is not allowed, counts the rest and marks its loops."""

    def __init__(self, environment: RestrictedEnvironment, name: str | None, filename: str | None) -> None:
        self._environment, self._name, self._filename = environment, name, filename

    def block(self, body: Sequence[nodes.Node], depth: int, loops: int) -> Cost:
        """The cost of statements that stand within `loops` loops."""
        cost = Cost()
        for node in body:
            cost = cost.beside(self._statement(node, depth + 1, loops))
        if cost.steps > MOST_STEPS:
            self._refuse(body[-1], f"it takes more than {MOST_STEPS:,} steps")
        return cost

    def _statement(self, node: nodes.Node, depth: int, loops: int) -> Cost:
        self._bound_depth(node, depth)
        if isinstance(node, nodes.Output):
            return self._all([one for one in node.nodes if not isinstance(one, nodes.TemplateData)], depth, loops)
        if isinstance(node, nodes.If):
            if len(node.elif_) > MOST_BRANCHES:
                self._refuse(node, f"it has more than {MOST_BRANCHES} branches")
            branches = [self.block(part, depth, loops) for part in (node.body, node.elif_, node.else_)]
            return _sum([self._expression(node.test, depth, loops), *branches])
        if isinstance(node, nodes.For):
            return self._loop(node, depth, loops)
        if isinstance(node, nodes.Include):
            return self._include(node, loops)
        return self._refuse_kind(node)

    def _loop(self, node: nodes.For, depth: int, loops: int) -> Cost:
        targets = node.target.items if isinstance(node.target, nodes.Tuple) else [node.target]
        if node.recursive or not all(isinstance(target, nodes.Name) for target in targets):
            self._refuse(node, "a loop may be neither recursive nor over more than names side by side")
        for target in targets:
            self._bound_name(target)
        over = self._given(node.iter, depth, loops)
        body = self.block(node.body, depth, loops + 1)
        if node.test is not None:
            body = body.beside(self._expression(node.test, depth, loops + 1))
        if loops + 1 + body.loops > MOST_LOOPS:
            self._refuse(node, f"more than {MOST_LOOPS} loops are nested in each other")
        weight: list[nodes.Expr] = [nodes.Const(value) for value in (body.steps + 1, self._name or "", node.lineno)]
        node.iter = nodes.Filter(node.iter, _LOOP, weight, [], None, None, lineno=node.lineno)
        node.iter.set_environment(self._environment)
        inside = Cost(body.steps + 1, body.loops + 1, body.includes)
        return _sum([over, inside, self.block(node.else_, depth, loops)])

    def _include(self, node: nodes.Include, loops: int) -> Cost:
        template = node.template
        if not isinstance(template, nodes.Const) or not isinstance(template.value, str):
            return self._refuse(node, "{% include %} takes the name of one file in quotes")
        if node.ignore_missing or not node.with_context:
            self._refuse(node, "{% include %} takes the name of a file and nothing else")
        if self._environment.depth > MOST_INCLUDES:
            self._refuse(node, f"templates include each other more than {MOST_INCLUDES} deep")
        cost = self._environment.included(template.value)
        if cost is None:
            return self._refuse(node, f"it includes itself ({_clip(template.value)})")
        if cost.includes + 1 > MOST_INCLUDES:
            self._refuse(node, f"templates include each other more than {MOST_INCLUDES} deep")
        if cost.loops + loops > MOST_LOOPS:
            self._refuse(node, f"more than {MOST_LOOPS} loops are nested in each other")
        return Cost(cost.steps + 1, cost.loops, cost.includes + 1)

    def _given(self, node: nodes.Node, depth: int, loops: int) -> Cost:
        """What a loop may run over: a value that was given, a part of it, or its items."""
        if isinstance(node, (nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Call)):
            return self._expression(node, depth, loops)
        return self._refuse(node, "a loop runs over a list that was given to the template, and over nothing else")

    def _all(self, expressions: Sequence[nodes.Node], depth: int, loops: int) -> Cost:
        return _sum([self._expression(one, depth, loops) for one in expressions])

    def _expression(self, node: nodes.Node, depth: int, loops: int) -> Cost:
        depth += 1
        self._bound_depth(node, depth)
        parts: Sequence[nodes.Node | None]
        steps = 1
        match node:
            case nodes.Const():
                self._bound_literal(node)
                parts = ()
            case nodes.Name():
                self._bound_name(node)
                if node.name == "loop" and not loops:
                    self._refuse(node, "`loop` is known inside of a loop only")
                parts = ()
            case nodes.Getattr():
                self._bound_attribute(node, node.attr)
                if node.attr in METHODS:
                    self._refuse(node, f"write .{node.attr}() with brackets")
                parts = (node.node,)
            case nodes.Getitem():
                parts = (node.node, *self._index(node.arg))
            case nodes.Call(node=nodes.Getattr(attr=name) as method) if name in METHODS and not _arguments(node):
                parts = (method.node,)
            case nodes.Filter(node=nodes.Node() as filtered):
                self._bound_filter(node)
                parts, steps = (filtered, *node.args), TEXT_STEPS
            case nodes.Test():
                if node.name not in TESTS or _arguments(node):
                    self._refuse(node, f"the test {_clip(node.name)!r} is not among those allowed: {_names(TESTS)}")
                parts = (node.node,)
            case nodes.Compare():
                parts = (node.expr, *(operand.expr for operand in node.ops))
                steps = TEXT_STEPS * len(node.ops)
            case nodes.And() | nodes.Or():
                parts = (node.left, node.right)
            case nodes.Not():
                parts = (node.node,)
            case nodes.CondExpr():
                parts = (node.test, node.expr1, node.expr2)
            case _:
                return self._refuse_kind(node)
        cost = self._all([part for part in parts if part is not None], depth, loops)
        return cost._replace(steps=cost.steps + steps)

    def _index(self, node: nodes.Node) -> Sequence[nodes.Node]:
        """The parts of what stands in square brackets: a constant, a name, or a slice of constants."""
        bounds = [node.start, node.stop, node.step] if isinstance(node, nodes.Slice) else [node]
        plain = [one.node if isinstance(one, nodes.Neg) else one for one in bounds if one is not None]
        for one in plain:
            if isinstance(one, nodes.Const) and isinstance(one.value, str):
                self._bound_attribute(one, one.value)
            elif not isinstance(one, (nodes.Const, nodes.Name)) or (isinstance(one, nodes.Name) and len(bounds) > 1):
                self._refuse(one, "in square brackets stands a name, a number, a text, or a slice of numbers")
        return plain

    def _bound_filter(self, node: nodes.Filter) -> None:
        most = FILTERS.get(node.name)
        if most is None:
            self._refuse(node, f"the filter {_clip(node.name)!r} is not among those allowed: {_names(FILTERS)}")
        elif len(node.args) > most or len(_arguments(node)) > len(node.args):
            self._refuse(node, f"the filter {node.name!r} takes no such arguments")
        elif node.name == "join" and not all(isinstance(one, nodes.Const) for one in node.args):
            self._refuse(node, "the filter 'join' takes a text in quotes")

    def _bound_literal(self, node: nodes.Const) -> None:
        if isinstance(node.value, str) and len(node.value) > MOST_LITERAL:
            self._refuse(node, f"a text in quotes is longer than {MOST_LITERAL:,} characters")

    def _bound_name(self, node: nodes.Node) -> None:
        name = str(getattr(node, "name", ""))
        if name.startswith("_") or name in _RESERVED:
            self._refuse(node, f"the name {_clip(name)!r} is not one that a prompt is given")

    def _bound_attribute(self, node: nodes.Node, name: str) -> None:
        if name.startswith("_") or len(name) > MOST_LITERAL:
            self._refuse(node, f"{_clip(name)!r} is no part of a value that a prompt is given")

    def _bound_depth(self, node: nodes.Node, depth: int) -> None:
        if depth > MOST_DEPTH:
            self._refuse(node, f"constructs are nested more than {MOST_DEPTH} deep")

    def _refuse_kind(self, node: nodes.Node) -> Cost:
        what = next((words for kinds, words in _KINDS if isinstance(node, kinds)), type(node).__name__.lower())
        return self._refuse(
            node,
            f"{what} is not allowed in a prompt's template, which shows values, tests them, loops over given lists "
            "and includes other files",
        )

    def _refuse(self, node: nodes.Node, why: str) -> Cost:
        raise TemplateRefusedError(why, node.lineno or 1, self._name, self._filename)


def describe(exc: TemplateSyntaxError, name: str) -> str:
    """An error of a template's own in words: its file (`name` where it does not say), its line, and what is wrong."""
    return f"{exc.name or name}, line {exc.lineno}: {shorten(exc.message or 'it is no template')}."


def shorten(text: str) -> str:
    """A foreign message on one line, of bounded length, without its full stop."""
    plain = " ".join(text.split())
    return (plain if len(plain) <= LONGEST_MESSAGE else plain[:LONGEST_MESSAGE] + "…").rstrip(".")


def _sum(costs: Sequence[Cost]) -> Cost:
    total = Cost()
    for cost in costs:
        total = total.beside(cost)
    return total


def _arguments(node: nodes.Call | nodes.Filter | nodes.Test) -> list[object]:
    """All arguments of a call, however they are written."""
    starred = [one for one in (node.dyn_args, node.dyn_kwargs) if one is not None]
    return [*node.args, *node.kwargs, *starred]


def _names(allowed: Collection[str]) -> str:
    return ", ".join(sorted(allowed))


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"


def _size(value: object) -> int:
    """Characters of a value, and of all that it holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_ITEM + _size(key) + _size(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(_ITEM + _size(item) for item in value)
    return 0


@pass_context
def _enter_loop(context: Context, value: Any, steps: int, name: str, line: int) -> Any:
    """The list itself, once its steps are taken from those that are left."""
    if isinstance(value, (str, bytes)):
        raise TemplateRefusedError("a loop runs over a list, not over the signs of a text", line, name)
    left: list[int] = context[_STEPS]
    left[0] -= steps * len(value)
    if left[0] < 0:
        raise TemplateRefusedError(f"the loops take more than {MOST_STEPS:,} steps", line, name)
    return value


def _join(value: Any, separator: str = "") -> str:
    """The items of a list side by side, with the separator between them."""
    if isinstance(value, (str, bytes)):
        raise TypeError("join takes a list, not a text")
    pieces = [str(item) for item in value]
    if sum(map(len, pieces)) + len(separator) * len(pieces) > MOST_CHARACTERS:
        raise TypeError(f"join writes more than {MOST_CHARACTERS:,} characters")
    return separator.join(pieces)
