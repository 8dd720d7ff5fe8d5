"""Jinja2 templates restricted to what prompts need, so that a template by somebody else cannot run for ever.

Templates come from users and, with bundles, from strangers. Jinja2's sandbox protects the machine, but not its time:
`{{ 9 ** 9 ** 9 }}` never ends. So each template is parsed and checked against an allow-list before it is compiled:
values, their items, conditions, a few filters and tests, loops over given lists, includes by name. None of these makes
a text longer except by repetition, and repetition is bounded: the steps, which are known before a loop begins, and the
characters written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import reduce
from types import CodeType
from typing import Any, NamedTuple, NoReturn

from jinja2 import BaseLoader, StrictUndefined, TemplateSyntaxError, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context

MOST_CHARACTERS = 2_000_000  # of the text that a template writes (about 500,000 tokens), and of all its values together
MOST_SOURCE = 100_000  # characters of one template
MOST_STEPS = 100_000  # of one rendering: a node of a template is one step, a filter or a comparison is `TEXT_STEPS`
TEXT_STEPS = 200
MOST_DEPTH = 25  # nested constructs: far below what Jinja2's parser and compiler can take
MOST_BRANCHES = 50
MOST_LOOPS = 3
MOST_INCLUDES = 5
MOST_LITERAL = 1000  # characters between quotes in a template
LONGEST_MESSAGE = 250

FILTERS: Mapping[str, int] = {
    "label": 0, "trim": 0, "upper": 0, "lower": 0, "capitalize": 0, "length": 0, "count": 0, "first": 0, "last": 0,
    "join": 1, "default": 1,
}  # fmt: skip
"""The filters that a template may use, and how many arguments each takes at most."""

TESTS = frozenset({"defined", "undefined", "none", "string", "mapping", "odd", "even"})
METHODS = frozenset({"items", "keys", "values"})

_ITEM = 50  # how many characters an item of a list counts for
_STEPS = "_steps"  # templates cannot name these two, since names that begin with "_" are refused
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
    """A template holds something that no prompt needs, or would take too many steps or write too much."""


class Cost(NamedTuple):
    """The steps of a part of a template, with each loop run once, and how many loops and includes it nests."""

    steps: int = 0
    loops: int = 0
    includes: int = 0

    def beside(self, other: Cost) -> Cost:
        """The cost of both parts, one after the other."""
        return Cost(self.steps + other.steps, max(self.loops, other.loops), max(self.includes, other.includes))


class RestrictedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, for templates that hold only what prompts need.

    `parse` raises TemplateRefusedError for any other template, with the name of its file and the line. Everything that
    compiles a template parses it first.
    """

    def __init__(self, loader: BaseLoader, label: Callable[[str], str]) -> None:
        super().__init__(
            loader=loader,
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,  # all prompts of a run come from one state of the files
        )
        self.globals.clear()
        self.filters.update({"label": label, "join": _join, _LOOP: _enter_loop})
        self._costs: dict[str, Cost] = {}
        self._open: list[str] = []  # the templates being checked, each included by the one before it

    def parse(self, source: str, name: str | None = None, filename: str | None = None) -> nodes.Template:
        """Parse a template, check it with everything that it includes, and make its loops count their steps."""
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
        """Compile a template, after checking it."""
        tree = self.parse(source, name, filename) if isinstance(source, str) else source
        return super().compile(tree, name, filename, raw, defer_init)  # type: ignore[call-overload,no-any-return]

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The item of a mapping or the attribute of another value; undefined if it is a method that is not allowed."""
        if isinstance(obj, Mapping) and attribute not in METHODS:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        value = super().getattr(obj, attribute)
        return value if attribute in METHODS else self._no_method(value, obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """The item of a value; undefined if Jinja2 takes the name of a method for an item."""
        return self._no_method(super().getitem(obj, argument), obj, argument)

    def _no_method(self, value: Any, obj: Any, name: Any) -> Any:
        return self.undefined(obj=obj, name=name) if callable(value) else value

    def write(self, name: str, values: Mapping[str, object]) -> str:
        """Render a template with `values`. Raises the errors of Jinja2 and of Python's operators."""
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
        """Parse and check the template of a file, with everything that it includes."""
        assert self.loader is not None  # noqa: S101 - given in __init__
        source, filename, _ = self.loader.get_source(self, name)
        return self.parse(source, name, filename)

    def included(self, name: str) -> Cost | None:
        """The cost of an included template; None if it includes itself, directly or through others."""
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
    """Checks one parsed template: refuses what is not allowed, adds up the cost, and makes loops count their steps."""

    def __init__(self, environment: RestrictedEnvironment, name: str | None, filename: str | None) -> None:
        self._environment, self._name, self._filename = environment, name, filename

    def block(self, body: Sequence[nodes.Node], depth: int, loops: int) -> Cost:
        """The cost of statements that stand within `loops` loops."""
        cost = _sum(self._statement(node, depth + 1, loops) for node in body)
        if cost.steps > MOST_STEPS:
            self._refuse(body[-1], f"it takes more than {MOST_STEPS:,} steps")
        return cost

    def _statement(self, node: nodes.Node, depth: int, loops: int) -> Cost:
        self._require(depth <= MOST_DEPTH, node, f"constructs are nested more than {MOST_DEPTH} deep")
        match node:
            case nodes.Output():
                return self._all(
                    [part for part in node.nodes if not isinstance(part, nodes.TemplateData)], depth, loops
                )
            case nodes.If():
                self._require(len(node.elif_) <= MOST_BRANCHES, node, f"it has more than {MOST_BRANCHES} branches")
                branches = [self.block(part, depth, loops) for part in (node.body, node.elif_, node.else_)]
                return _sum([self._expression(node.test, depth, loops), *branches])
            case nodes.For():
                return self._loop(node, depth, loops)
            case nodes.Include():
                return self._include(node, loops)
        return self._refuse_kind(node)

    def _loop(self, node: nodes.For, depth: int, loops: int) -> Cost:
        targets = node.target.items if isinstance(node.target, nodes.Tuple) else [node.target]
        plain = not node.recursive and all(isinstance(target, nodes.Name) for target in targets)
        self._require(plain, node, "a loop may be neither recursive nor over more than names side by side")
        for target in targets:
            self._check_name(target)
        given = isinstance(node.iter, (nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Call))
        self._require(given, node.iter, "a loop runs over a list that was given to the template, and over nothing else")
        over = self._expression(node.iter, depth, loops)
        body = self.block(node.body, depth, loops + 1)
        if node.test is not None:
            body = body.beside(self._expression(node.test, depth, loops + 1))
        self._require(
            loops + 1 + body.loops <= MOST_LOOPS, node, f"more than {MOST_LOOPS} loops are nested in each other"
        )
        weight: list[nodes.Expr] = [nodes.Const(value) for value in (body.steps + 1, self._name or "", node.lineno)]
        node.iter = nodes.Filter(node.iter, _LOOP, weight, [], None, None, lineno=node.lineno)
        node.iter.set_environment(self._environment)
        inside = Cost(body.steps + 1, body.loops + 1, body.includes)
        return _sum([over, inside, self.block(node.else_, depth, loops)])

    def _include(self, node: nodes.Include, loops: int) -> Cost:
        template = node.template
        if not isinstance(template, nodes.Const) or not isinstance(template.value, str):
            return self._refuse(node, "{% include %} takes the name of one file in quotes")
        bare = node.with_context and not node.ignore_missing
        self._require(bare, node, "{% include %} takes the name of a file and nothing else")
        too_deep = f"templates include each other more than {MOST_INCLUDES} deep"
        self._require(self._environment.depth <= MOST_INCLUDES, node, too_deep)
        cost = self._environment.included(template.value)
        if cost is None:
            return self._refuse(node, f"it includes itself ({_clip(template.value)})")
        self._require(cost.includes < MOST_INCLUDES, node, too_deep)
        self._require(cost.loops + loops <= MOST_LOOPS, node, f"more than {MOST_LOOPS} loops are nested in each other")
        return Cost(cost.steps + 1, cost.loops, cost.includes + 1)

    def _all(self, expressions: Sequence[nodes.Node], depth: int, loops: int) -> Cost:
        return _sum(self._expression(expression, depth, loops) for expression in expressions)

    def _expression(self, node: nodes.Node, depth: int, loops: int) -> Cost:
        depth += 1
        self._require(depth <= MOST_DEPTH, node, f"constructs are nested more than {MOST_DEPTH} deep")
        parts: Sequence[nodes.Node | None]
        steps = 1
        match node:
            case nodes.Const():
                long = isinstance(node.value, str) and len(node.value) > MOST_LITERAL
                self._require(not long, node, f"a text in quotes is longer than {MOST_LITERAL:,} characters")
                parts = ()
            case nodes.Name():
                self._check_name(node)
                self._require(node.name != "loop" or loops > 0, node, "`loop` is known inside of a loop only")
                parts = ()
            case nodes.Getattr():
                self._check_attribute(node, node.attr)
                self._require(node.attr not in METHODS, node, f"write .{node.attr}() with brackets")
                parts = (node.node,)
            case nodes.Getitem():
                parts = (node.node, *self._index(node.arg))
            case nodes.Call(node=nodes.Getattr(attr=name) as method) if name in METHODS and not _arguments(node):
                parts = (method.node,)
            case nodes.Filter(node=nodes.Node() as filtered):
                self._check_filter(node)
                parts, steps = (filtered, *node.args), TEXT_STEPS
            case nodes.Test():
                allowed = node.name in TESTS and not _arguments(node)
                self._require(
                    allowed, node, f"the test {_clip(node.name)!r} is not among those allowed: {_names(TESTS)}"
                )
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
        parts = [bound.node if isinstance(bound, nodes.Neg) else bound for bound in bounds if bound is not None]
        for part in parts:
            if isinstance(part, nodes.Const) and isinstance(part.value, str):
                self._check_attribute(part, part.value)
            plain = isinstance(part, nodes.Const) or (isinstance(part, nodes.Name) and len(bounds) == 1)
            self._require(plain, part, "in square brackets stands a name, a number, a text, or a slice of numbers")
        return parts

    def _check_filter(self, node: nodes.Filter) -> None:
        allowed = f"the filter {_clip(node.name)!r} is not among those allowed: {_names(FILTERS)}"
        self._require(node.name in FILTERS, node, allowed)
        plain = len(node.args) <= FILTERS[node.name] and len(_arguments(node)) == len(node.args)
        self._require(plain, node, f"the filter {node.name!r} takes no such arguments")
        constant = node.name != "join" or all(isinstance(argument, nodes.Const) for argument in node.args)
        self._require(constant, node, "the filter 'join' takes a text in quotes")

    def _check_name(self, node: nodes.Node) -> None:
        name = str(getattr(node, "name", ""))
        allowed = not name.startswith("_") and name not in _RESERVED
        self._require(allowed, node, f"the name {_clip(name)!r} is not one that a prompt is given")

    def _check_attribute(self, node: nodes.Node, name: str) -> None:
        allowed = not name.startswith("_") and len(name) <= MOST_LITERAL
        self._require(allowed, node, f"{_clip(name)!r} is no part of a value that a prompt is given")

    def _refuse_kind(self, node: nodes.Node) -> Cost:
        what = next((words for kinds, words in _KINDS if isinstance(node, kinds)), type(node).__name__.lower())
        return self._refuse(
            node,
            f"{what} is not allowed in a prompt's template, which shows values, tests them, loops over given lists "
            "and includes other files",
        )

    def _require(self, allowed: bool, node: nodes.Node, reason: str) -> None:
        """Refuse the template for `reason` unless the node is allowed."""
        if not allowed:
            self._refuse(node, reason)

    def _refuse(self, node: nodes.Node, reason: str) -> NoReturn:
        raise TemplateRefusedError(reason, node.lineno or 1, self._name, self._filename)


def describe(exc: TemplateSyntaxError, name: str) -> str:
    """The error of a template in words: its file (`name` if the error does not say), its line, and what is wrong."""
    return f"{exc.name or name}, line {exc.lineno}: {shorten(exc.message or 'it is no template')}."


def shorten(text: str) -> str:
    """A message of another library on one line, with bounded length and without its full stop."""
    plain = " ".join(text.split())
    return (plain if len(plain) <= LONGEST_MESSAGE else plain[:LONGEST_MESSAGE] + "…").rstrip(".")


def _sum(costs: Iterable[Cost]) -> Cost:
    return reduce(Cost.beside, costs, Cost())


def _arguments(node: nodes.Call | nodes.Filter | nodes.Test) -> list[object]:
    """All arguments of a call, starred ones included."""
    starred = [argument for argument in (node.dyn_args, node.dyn_kwargs) if argument is not None]
    return [*node.args, *node.kwargs, *starred]


def _names(allowed: Collection[str]) -> str:
    return ", ".join(sorted(allowed))


def _clip(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"


def _size(value: object) -> int:
    """How many characters a value holds, with everything inside it."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_ITEM + _size(key) + _size(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(_ITEM + _size(item) for item in value)
    return 0


@pass_context
def _enter_loop(context: Context, value: Any, steps: int, name: str, line: int) -> Any:
    """The list that a loop runs over, after taking the loop's steps from those that are left."""
    if isinstance(value, (str, bytes)):
        raise TemplateRefusedError("a loop runs over a list, not over the characters of a text", line, name)
    left: list[int] = context[_STEPS]
    left[0] -= steps * len(value)
    if left[0] < 0:
        raise TemplateRefusedError(f"the loops take more than {MOST_STEPS:,} steps", line, name)
    return value


def _join(value: Any, separator: str = "") -> str:
    """The items of a list as one text, with the separator between them."""
    if isinstance(value, (str, bytes)):
        raise TypeError("join takes a list, not a text")
    pieces = [str(item) for item in value]
    if sum(map(len, pieces)) + len(separator) * len(pieces) > MOST_CHARACTERS:
        raise TypeError(f"join writes more than {MOST_CHARACTERS:,} characters")
    return separator.join(pieces)
