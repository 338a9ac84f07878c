"""The official conformance suite as a command: installed, run with what a revision requires, judged by what it writes.

What counts, of servers and of clients: every scored scenario of the revision, and some unscored ones, each without a
failure or a warning and with at least one success, because some scenarios pass on nothing.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
PACKAGES: Final = ("node@22", "@modelcontextprotocol/conformance@0.2.0-alpha.12")


@dataclass(frozen=True)
class Requirements:
    """What a revision demands of one side.

    Attributes:
        leg: ``server`` or ``client``, as the suite calls it.
        revision: the specification's.
        scored: how many scenarios it scores.
        also: which others must hold too.
        selection: the suite's own options that run them; by default the revision's requirements.
        excepted: which of the scored ones cannot hold, for a reason that is written down; they must not.
        extra: what else must be true of a scenario, whose folder it is given; the complaint, or nothing.
    """

    leg: str
    revision: str
    scored: int
    also: tuple[str, ...]
    selection: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    extra: Callable[[str, Path], str] = field(default=lambda _name, _folder: "")

    def options(self) -> tuple[str, ...]:
        """How the suite is told to run them."""
        return self.selection or ("--requirements", self.revision)


def installed() -> Path:
    """The folder with the suite's commands, installed with npm where it is not yet there."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "erlmcp-conformance" / re.sub(r"[^\w.]+", "-", "-".join(PACKAGES)).strip("-")
    commands = folder / "node_modules" / ".bin"
    if not (folder / "complete").exists():
        npm = shutil.which("npm")
        if npm is None:
            sys.exit("npm is needed to install the conformance suite, and is not on PATH")
        print(f"installing {' and '.join(PACKAGES)} in {folder}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"name": "erlmcp-conformance", "private": true}\n')
        install = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", *PACKAGES]
        subprocess.run(install, cwd=folder, check=True, timeout=900)
        (folder / "complete").touch()
    return commands


def scored(commands: Path, required: Requirements) -> list[str]:
    """The names of the scored scenarios, as the suite's own requirements file lists them."""
    if not required.scored:
        return []
    package = commands.parent / "@modelcontextprotocol" / "conformance"
    text = (package / "requirements" / f"{required.revision}.yaml").read_text()
    found = re.search(rf"^{required.leg}:\n((?:[ ]+-.*\n|[ ]*#.*\n)+)", text, re.MULTILINE)
    if found is None:
        sys.exit(f"{package} has no {required.leg} requirements for {required.revision}")
    return re.findall(r"^\s+-\s+(\S+)", found[1], re.MULTILINE)


def results(folder: Path, names: list[str], leg: str) -> dict[str, list[Path]]:
    """The folders with the checks of each scenario: ``server-NAME-TIME`` or ``NAME-TIME``, where names have slashes."""
    found: dict[str, list[Path]] = {}
    for path in folder.rglob("checks.json"):
        part = str(path.parent.relative_to(folder)).removeprefix("server-" if leg == "server" else "")
        matching = [name for name in names if re.fullmatch(re.escape(name) + r"(-\d{4}-.*)?", part)]
        if matching:
            found.setdefault(max(matching, key=len), []).append(path.parent)
    return found


def judge(folders: list[Path]) -> tuple[bool, str, list[str]]:
    """Whether a scenario holds, its counts in words, and what went wrong in it."""
    checks: list[dict[str, Any]] = []
    for folder in folders:
        checks += json.loads((folder / "checks.json").read_text())
    if not checks:
        return False, "did not run", []
    counts = Counter(check["status"] for check in checks)
    told = ", ".join(f"{number} {status.lower()}" for status, number in sorted(counts.items()))
    wrong = [
        f"{check['status']} {check['id']}: {check.get('errorMessage') or check.get('description')}"
        for check in checks
        if check["status"] in {"FAILURE", "WARNING"}
    ]
    return not wrong and counts["SUCCESS"] > 0, told, wrong


def hold(
    commands: Path, subject: list[str], required: Requirements, folder: Path, **environment: str
) -> bool:
    """Run the suite against a subject, and print a table of it; whether all of it holds.

    Args:
        commands: the folder with the suite's commands.
        subject: the options that name who is tested.
        required: what must hold.
        folder: for what the suite writes.
        **environment: more variables for it.
    """
    title = f"{required.leg} {required.revision}"
    none_expected = folder / "none.yml"
    none_expected.write_text("server: []\nclient: []\n")
    output = Path(tempfile.mkdtemp(prefix=f"checks-{title.replace(' ', '-')}-", dir=folder))
    command = [str(commands / "conformance"), required.leg, *subject, *required.options()]
    command += ["--expected-failures", str(none_expected), "-o", str(output)]
    path = f"{commands}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": path, **environment},
        timeout=900,
        check=False,
        capture_output=True,
    )
    told = done.stdout + done.stderr
    (folder / f"suite-{title.replace(' ', '-')}.log").write_bytes(told)
    names = scored(commands, required)
    found = results(output, [*names, *required.also], required.leg)
    passed = dict.fromkeys(names, False)
    others = dict.fromkeys(required.also, False)
    print(f"requirements {title}")
    for name in [*names, *required.also]:
        good, counts, wrong = judge(found.get(name, []))
        complaints = [required.extra(name, one) for one in found.get(name, [])]
        wrong += filter(None, complaints)
        good = good and not any(complaints)
        word = "ok    " if good else "FAILED"
        if name in required.excepted:
            word = "HOLDS " if good else "except"
            wrong = ["it is no exception any more"] if good else []
            good = not good
        (passed if name in passed else others)[name] = good
        print(f"{word} {name:<48} {counts}")
        for line in wrong:
            print(f"         {line}")
    print(
        f"{title}: {sum(passed.values()) - len(required.excepted)} of {len(passed)} scored scenarios, "
        f"{sum(others.values())} of {len(others)} others"
        f"{f'; {len(required.excepted)} argued exceptions' if required.excepted else ''}\n",
        flush=True,
    )
    if done.returncode and not required.excepted:
        print(f"the suite itself exits with {done.returncode}:\n{told.decode()[-3000:]}")
    complete = len(passed) == required.scored and all(passed.values()) and all(others.values())
    return complete and (not done.returncode or bool(required.excepted))
