"""The peers' own environments, made once in a cache folder outside the tree."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / "peers"

PYTHON_PEERS = {
    "sdk": ["mcp>=2.3,<3"],
    "sdk-standard": ["mcp>=2.3,<3", "uvicorn[standard]"],
    "fastmcp": ["fastmcp>=4,<5"],
    "mcp-proxy": ["mcp-proxy>=0.13,<1"],
}


def cache_folder() -> Path:
    """Where environments and logs are kept: under ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "erlmcp-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def python_peer(name: str, cache: Path) -> str:
    """The interpreter of a peer's environment, made with venv and pip where it does not exist."""
    requirements = PYTHON_PEERS[name]
    mark = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = cache / f"{name}-{mark}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"making the environment of {name} in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=300)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements]
        subprocess.run(install, check=True, timeout=900)
        (folder / "complete").touch()
    return str(python)


def typescript_peer(cache: Path) -> list[str] | None:
    """The command of the TypeScript peer without its argument; None where there is no Node or npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    package = (PEERS / "package.json").read_bytes()
    folder = cache / f"typescript-{hashlib.sha256(package).hexdigest()[:12]}"
    if not (folder / "complete").exists():
        print(f"making the environment of the TypeScript SDK in {folder}", file=sys.stderr)
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_bytes(package)
        install = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(install, cwd=folder, check=True, timeout=900)
        (folder / "complete").touch()
    # Node resolves packages from where the module lies, so the module goes beside them.
    shutil.copyfile(PEERS / "typescript_echo.mjs", folder / "typescript_echo.mjs")
    return [node, str(folder / "typescript_echo.mjs")]


def versions(python: str, *packages: str) -> str:
    """The installed versions of packages, for the report."""
    code = (
        "import sys, importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in sys.argv[1:]))"
    )
    return subprocess.run(
        [python, "-c", code, *packages], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
