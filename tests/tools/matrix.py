"""`make test-matrix`: run the tests on every supported Python and PostgreSQL of this machine.

Each Python runs with the embedded PostgreSQL 18, each other PostgreSQL with the Python of `.venv`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.tools.postgres_cluster import running_cluster

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
POSTGRES = (15, 16, 17)
TESTS = ("tests/unit", "tests/store", "tests/api")
PYTEST = ("-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile")


def main() -> int:
    """Run what is installed, print a table; return 1 if a run failed."""
    rows = [(f"Python {version}, PostgreSQL 18", run_python(version)) for version in PYTHONS]
    rows += [(f"PostgreSQL {major}", run_postgres(major)) for major in POSTGRES]
    print("\n| version | result |\n|---|---|")
    for name, result in rows:
        print(f"| {name} | {result} |")
    return int(any(result == "failed" for _, result in rows))


def run_python(version: str) -> str:
    """Run the tests in a virtual environment of this Python and return the result."""
    interpreter = find_python(version)
    if interpreter is None:
        return f"skipped: no python{version} in PATH or pyenv"
    python = Path(f".venv-{version}/bin/python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    for command in (
        [interpreter, "-m", "venv", "--clear", python.parent.parent],
        [*pip, "--require-hashes", "-r", "requirements-dev.lock"],
        [*pip, "--no-build-isolation", "-e", "."],
    ):
        if subprocess.run(command, check=False).returncode:
            return "failed"
    return run_tests(python, {"HARBORGUARD_TEST_PG": "embedded"})


def run_postgres(major: int) -> str:
    """Run the tests on the installed server of this major version and return the result."""
    programs = Path(f"/usr/lib/postgresql/{major}/bin")
    if not (programs / "postgres").exists():
        return f"skipped: {programs} has no PostgreSQL server"
    with running_cluster(programs) as url:
        return run_tests(Path(sys.executable), {"HARBORGUARD_TEST_DATABASE_URL": url})


def find_python(version: str) -> str | None:
    """Return the interpreter of a minor version from pyenv, else from PATH."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for interpreter in sorted(root.glob(f"versions/{version}.*/bin/python")):
        return str(interpreter)
    return shutil.which(f"python{version}")


def run_tests(python: Path, settings: dict[str, str]) -> str:
    """Run the tests and return `passed` or `failed`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HARBORGUARD_TEST_")}
    environment = inherited | settings
    run = subprocess.run([python, *PYTEST, *TESTS], env=environment, check=False)
    return "failed" if run.returncode else "passed"


if __name__ == "__main__":
    sys.exit(main())
