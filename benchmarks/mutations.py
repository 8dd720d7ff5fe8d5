"""Do the tests notice when the code is wrong? Changes one small thing at a time, and runs the tests that concern it.

100 seeded mutations over all packages: another comparison, constant or boolean operator, off by one, a statement left
out, a return without its value, two arguments swapped. Each is made in a copy of the checkout. Test files are run in
the order in which they are likely to notice: doctests of the module, files that name it, those of its package's folder,
the golden files, files that name what imports it, the rest. The first failure ends it; a test that fails without the
mutation too does not count.

    python benchmarks/mutations.py --sample 20                     # the first 20 of the 100, about ten minutes
    python benchmarks/mutations.py --seconds 3600 --out before.jsonl   # all, each until it is killed: a night
    python benchmarks/mutations.py --seconds 3600 --against before.jsonl   # exits 1 if one that was killed survives now

`survived` means that no test noticed within `--seconds`; the number of test files that were run stands beside it.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/explaineval"
SLOW = ("service", "browser", "endtoend", "recipes")
BATCH, BATCH_SECONDS = 5, 600.0
"""Test files of one call of pytest, and after how long a call is stopped as hanging."""
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One change: the bytes from `start` to `end` of a file become `after`."""

    path: str
    line: int
    kind: str
    before: str
    after: str
    start: int
    end: int


def candidates(path: Path) -> Iterator[Mutation]:
    """Yield every mutation of a file. Annotations, docstrings and imports for types are left alone."""
    data = path.read_bytes()
    begins = [0]
    for line in data.splitlines(keepends=True):
        begins.append(begins[-1] + len(line))
    for node in _nodes(ast.parse(data)):
        for kind, after in _changes(node):
            start = begins[node.lineno - 1] + node.col_offset
            end = begins[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            before = data[start:end].decode()
            yield Mutation(path.relative_to(ROOT).as_posix(), node.lineno, kind, before, after, start, end)


def _nodes(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Walk a tree without what a mutation cannot change the behaviour of."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr | ast.Import | ast.ImportFrom):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.expr | ast.stmt):
                yield child
            yield from _nodes(child)


def _changes(node: ast.expr | ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield the kind and the new text of each change of one node."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield "comparison", _text(ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators))
    elif isinstance(node, ast.BoolOp):
        yield "boolean", _text(ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "boolean", _text(node.operand)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        other = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}[type(node.op)]
        if not any(isinstance(side, ast.Constant | ast.JoinedStr | ast.List) for side in (node.left, node.right)):
            yield "arithmetic", _text(ast.BinOp(node.left, other(), node.right))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", repr(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ("off by one" if isinstance(node.value, int) else "constant"), repr(node.value + 1)
    elif isinstance(node, ast.Call) and len(node.args) >= 2 and not any(isinstance(a, ast.Starred) for a in node.args):
        swapped = [node.args[1], node.args[0], *node.args[2:]]
        if ast.dump(swapped[0]) != ast.dump(swapped[1]):
            yield "arguments", _text(ast.Call(node.func, swapped, node.keywords))
    elif isinstance(node, ast.Return) and node.value is not None:
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield "return", "return None"
    elif isinstance(node, ast.Raise | ast.AugAssign | ast.Continue | ast.Break) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
    ):
        yield "statement", "pass"


def _text(node: ast.expr) -> str:
    return f"({ast.unparse(ast.fix_missing_locations(node))})"


def draw(seed: int, count: int) -> list[Mutation]:
    """Return mutations: packages in turn, each kind of its changes with the same chance."""
    packages: dict[str, dict[str, list[Mutation]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        folder = path.relative_to(ROOT / PACKAGE).parts[0]
        for mutation in candidates(path):
            packages["modules" if folder.endswith(".py") else folder][mutation.kind].append(mutation)
    drawn: dict[Mutation, None] = {}
    for turn in range(10 * count):
        rng = random.Random(f"{seed}:{turn}")
        order = sorted(packages)
        random.Random(f"{seed}:packages:{turn // len(order)}").shuffle(order)
        kinds = packages[order[turn % len(order)]]
        drawn[rng.choice(kinds[rng.choice(sorted(kinds))])] = None
        if len(drawn) == count:
            break
    return list(drawn)


def tests_for(path: str) -> list[str]:
    """Return all test files, those first that are likely to notice a change of this module."""
    module = path.removeprefix("src/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    folder = module.split(".")[1] if module.count(".") > 1 else module.rpartition(".")[2]
    importers = {module, *(name for name in MODULES if re.search(rf"\b{re.escape(module)}\b", MODULES[name]))}
    ranked = []
    for file, text in TESTS.items():
        named = re.search(rf"\b{re.escape(module)}\b", text) is not None
        near = any(re.search(rf"\b{re.escape(name)}\b", text) for name in importers)
        rank = 0 if named else 1 if file.split("/")[1] == folder else 2 if "pinned" in file else 3 if near else 4
        ranked.append((rank + 5 * (file.split("/")[1] in SLOW and not named), file))
    return [file for _, file in sorted(ranked)]


@dataclass
class Copy:
    """A copy of the checkout, in which tests are run."""

    root: Path
    marks: str = ""
    """Which tests: an expression of pytest's -m."""

    def run(self, targets: list[str], seconds: float) -> tuple[str, str]:
        """Run tests: passed, failed or hanging, with the test that failed."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command += ["-m", self.marks]
        env = os.environ | {"PYTHONPATH": str(self.root / "src"), "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [*command, *targets], cwd=self.root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "hanging", " ".join(targets)
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", out, re.MULTILINE)
        return ("passed" if process.returncode in (0, 5) else "failed"), failed[1] if failed else "the start of pytest"

    def judge(self, mutation: Mutation, seconds: float) -> dict[str, object]:
        """Make a mutation, run tests until one notices or the time is over, and undo it."""
        path, start, files = self.root / mutation.path, time.monotonic(), tests_for(mutation.path)
        sound = path.read_bytes()
        wrong = sound[: mutation.start] + mutation.after.encode() + sound[mutation.end :]
        batches = [[mutation.path], *(files[at : at + BATCH] for at in range(0, len(files), BATCH))]
        run = 0
        for batch in batches:
            if time.monotonic() - start > seconds:
                break
            path.write_bytes(wrong)
            try:
                end, test = self.run(batch, BATCH_SECONDS)
            finally:
                path.write_bytes(sound)
            run += len(batch)
            if end != "passed":
                again = batch if test == "the start of pytest" or end == "hanging" else [test]
                if self.run(again, BATCH_SECONDS)[0] == "passed":  # without the mutation
                    result = "killed" if end == "failed" else "timed out"
                    return {"result": result, "test": test, "files": run, "seconds": round(time.monotonic() - start)}
        return {"result": "survived", "test": None, "files": run, "seconds": round(time.monotonic() - start)}


def main() -> int:
    """Draw, try, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100, help="mutations that are drawn")
    parser.add_argument("--sample", type=int, help="try only the first of them")
    parser.add_argument("--seconds", type=float, default=45, help="after which no further tests are begun for one")
    parser.add_argument("--short", action="store_true", help="only the tests that ./scripts/test runs without --all")
    parser.add_argument("--list", action="store_true", help="print the mutations and try none")
    parser.add_argument("--out", type=Path, help="write a JSON line for each")
    parser.add_argument("--against", type=Path, help="lines of an earlier --out: what was killed must be killed")
    options = parser.parse_args()
    earlier = [json.loads(line) for line in options.against.read_text().splitlines()] if options.against else []
    killed = {(row["path"], row["start"], row["after"]) for row in earlier if row["result"] != "survived"}
    counts: Counter[str] = Counter()
    lost = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = Copy(Path(directory) / "checkout", "not slow" if options.short else "")
        listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True)  # noqa: S607
        for name in listed.splitlines() if not options.list else ():
            (copy.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy.root / name)
        for number, mutation in enumerate(draw(options.seed, options.count)[: options.sample], 1):
            short = " → ".join(" ".join(text.split())[:50] for text in (mutation.before, mutation.after))
            print(f"{number:3} {mutation.path}:{mutation.line} {mutation.kind}: {short}", flush=True)
            if options.list:
                continue
            row = asdict(mutation) | copy.judge(mutation, options.seconds)
            print(f"    {row['result']} by {row['test']} ({row['files']} files, {row['seconds']} s)", flush=True)
            counts[str(row["result"])] += 1
            lost += row["result"] == "survived" and (mutation.path, mutation.start, mutation.after) in killed
            if options.out:
                with options.out.open("a") as lines:
                    lines.write(json.dumps(row) + "\n")
    print(", ".join(f"{count} {result}" for result, count in counts.most_common()))
    if lost:
        print(f"{lost} that were killed before survive now.")
    return 1 if lost else 0


MODULES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts): path.read_text("utf-8")
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}
TESTS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py"))
}

if __name__ == "__main__":
    sys.exit(main())
