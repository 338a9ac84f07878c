"""What README and docs show is run: Python, TOML, commands and their answers, and links lead somewhere.

A comment before a fenced block says what becomes of it:

- ``<!-- file: NAME -->``: Python that is added to a file of the page's folder, then imported.
- ``<!-- daemon -->``: a command that is started and must listen; it ends with the page, or with the next one.
- ``<!-- daemon: COMMAND -->``: the same for a command that the page shows elsewhere.
- ``<!-- run -->``: a command that must succeed.
- ``<!-- answer -->``: the JSON that the last command printed.

Without one, Python is executed, TOML must pass the configuration's check, JSON must parse; other blocks are to be read.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import TestCase

from tests.daemon import ROOT, Daemon, environment, free_port

BLOCK = re.compile(
    r"(?:^<!-- (?P<what>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
STANDALONE = re.compile(r"^<!-- (daemon: [^\n]*?) -->\n", re.MULTILINE)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
)
COMMANDS = {
    "twistd": "from twisted.scripts.twistd import run; run()",
    "erlmcp": "import sys; from erlmcp.cli import main; sys.exit(main())",
    "python": "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')",
}


class Block(NamedTuple):
    what: str
    argument: str
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page in order, and comments that stand for a command."""
    found: list[tuple[int, Block]] = []
    for match in BLOCK.finditer(page):
        what, _, argument = (match["what"] or "").partition(":")
        found.append((match.start(), Block(what.strip(), argument.strip(), match["language"], match["text"])))
    for match in STANDALONE.finditer(page):
        command = match[1].partition(":")[2].strip()
        found.append((match.start(), Block("daemon", "", "sh", command)))
    found.sort(key=lambda pair: pair[0])
    return (block for _, block in found)


class Page:
    """One page being acted out in a folder of its own, where ``.venv/bin`` leads to this interpreter."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.daemons = stack.enter_context(contextlib.ExitStack())
        self.ports: dict[str, int] = {}
        self.files: dict[str, str] = {}
        self.namespace: dict[str, Any] = {"__name__": "snippet"}
        self.printed = ""
        self.answered = 0
        shims = folder / ".venv" / "bin"
        shims.mkdir(parents=True)
        python = shlex.quote(sys.executable)
        for name, code in {**COMMANDS, "python": ""}.items():
            shim = shims / name
            shim.write_text(f'#!/bin/sh\nexec {python}{f" -c {shlex.quote(code)}" if code else ""} "$@"\n')
            shim.chmod(0o755)

    def act(self, block: Block) -> None:
        """Do what the block says."""
        if block.what == "daemon":
            self.start(block.text.strip())
        elif block.what == "run":
            self.run(block.text)
        elif block.what == "answer":
            self.compare(block.text)
        elif block.what == "file":
            self.add(block.argument, block.text)
        elif block.language == "python":
            exec(compile(block.text, "snippet", "exec"), self.namespace)
        elif block.language == "toml":
            self.check(block.text)
        elif block.language == "json":
            json.loads(block.text)

    def add(self, name: str, text: str) -> None:
        """Grow a module of the page, and see that it can be executed as a whole."""
        self.files[name] = self.files.get(name, "") + "\n\n" + text
        (self.folder / name).write_text(self.files[name])
        exec(compile(self.files[name], name, "exec"), {"__name__": "snippet"})

    def start(self, command: str) -> None:
        """Start a daemon on ports of the test's own; one that runs already is ended, as a reader would."""
        self.daemons.close()
        self.ports.clear()
        if "--listen" not in command and "--config" not in command:
            command += " --listen http:tcp:8765:interface=127.0.0.1"
        command = self.elsewhere(command)
        words = shlex.split(command)
        extra = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            extra[name] = str(self.folder) if value == "." else value
        if words[:3] != [".venv/bin/twistd", "-n", "erlmcp"]:
            raise AssertionError(f"not a daemon: {command}")
        path = os.pathsep.join(
            filter(None, [extra.get("PYTHONPATH"), str(ROOT), os.environ.get("PYTHONPATH")])
        )
        options = [
            re.sub(r"(?<==)(key\.pem|cert\.pem)", lambda match: str(self.folder / match[1]), word)
            for word in words[3:]
        ]
        ports = list(self.ports.values())
        self.daemons.enter_context(Daemon(options, ports, extra={**extra, "PYTHONPATH": path}))

    def run(self, command: str) -> None:
        """Run a command; it must succeed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.elsewhere(command, new=False)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.folder,
            env=environment(),
        )
        if done.returncode:
            raise AssertionError(f"exit {done.returncode}: {command}\n{done.stdout}{done.stderr}")
        self.printed = done.stdout
        if self.printed.startswith("{") and '"error"' in self.printed:
            raise AssertionError(f"{command}\nanswers {self.printed}")

    def compare(self, shown: str) -> None:
        """What the page shows as the answer is the answer."""
        self.answered += 1
        if json.loads(self.printed) != json.loads(shown):
            raise AssertionError(f"the page shows\n{shown}\nand the answer is\n{self.printed}")

    def check(self, text: str) -> None:
        """A configuration that ``erlmcp check`` accepts."""
        tomllib.loads(text)
        file = self.folder / "erlmcp.toml"
        file.write_text(text)
        self.run(".venv/bin/erlmcp check erlmcp.toml")

    def elsewhere(self, command: str, *, new: bool = True) -> str:
        """The command with the page's fixed ports replaced by free ones."""

        def port(match: re.Match[str]) -> str:
            if new and match[0] not in self.ports:
                self.ports[match[0]] = free_port()
            return str(self.ports.get(match[0], match[0]))

        return re.sub(r"(?<=:)(8765|8443)\b", port, command)


class SnippetTests(TestCase):
    """One test for each page, made below."""

    def act_out(self, page: Path) -> None:
        found = list(blocks(page.read_text()))
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="erlmcp-docs-")))
            acting = Page(folder, stack)
            for block in found:
                acting.act(block)

    def follow(self, page: Path) -> None:
        for target in LINK.findall(page.read_text()):
            if re.match(r"[a-z]+:", target) or target.startswith("#"):
                continue
            path = (page.parent / target.partition("#")[0]).resolve()
            self.assertTrue(path.exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there")


def _test(page: Path) -> Any:
    def test(self: SnippetTests) -> None:
        self.follow(page)
        self.act_out(page)

    return test


for _page in PAGES:
    _name = re.sub(r"\W+", "_", str(_page.relative_to(ROOT).with_suffix(""))).lower()
    setattr(SnippetTests, f"test_{_name}", _test(_page))


class LinkTests(TestCase):
    """Pages are found by reading, not by listing folders."""

    def test_every_page_is_reachable(self) -> None:
        seen: set[Path] = set()
        todo = [ROOT / "README.md"]
        while todo:
            page = todo.pop()
            if page in seen or not page.exists():
                continue
            seen.add(page)
            targets = [target.partition("#")[0] for target in LINK.findall(page.read_text())]
            todo += [
                (page.parent / target).resolve()
                for target in targets
                if target.endswith(".md") and not re.match(r"[a-z]+:", target)
            ]
        missing = sorted(str(page.relative_to(ROOT)) for page in set(PAGES) - seen)
        self.assertEqual(missing, [], "pages that nothing leads to")


class ReadmeTests(TestCase):
    """What the README promises about itself."""

    def test_two_setup_commands(self) -> None:
        readme = (ROOT / "README.md").read_text()
        setup = [block.text.strip() for block in blocks(readme) if "venv .venv" in block.text]
        self.assertEqual(len(setup), 2)
        for command in setup:
            self.assertNotIn("\n", command)

    def test_the_snippets_are_found(self) -> None:
        """A comment that is misspelt would leave its block untested."""
        found = [block.what for block in blocks((ROOT / "README.md").read_text())]
        self.assertEqual(found.count("run"), 2)
        self.assertEqual(found.count("daemon"), 3)
        self.assertEqual(found.count("answer"), 1)
        self.assertEqual(found.count("file"), 1)
        for page in PAGES:
            kinds = {block.what for block in blocks(page.read_text())}
            self.assertLessEqual(kinds, {"", "run", "daemon", "answer", "file", "tests"}, page)
