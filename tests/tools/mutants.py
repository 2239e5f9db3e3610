"""Mutate the query builder and the credential parser; print each mutant that no test detects.

mutmut changes one expression at a time and runs the tests that reach it. The modules and the tests
are listed in pyproject.toml. Arguments are names of mutants, for example
`harborguard.store.images.plan.*`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import postgres

ROOT = Path(__file__).parents[2]
WORKSPACE = ROOT / ".mutants"
COPIED = ["app.py", "pyproject.toml", "harborguard", "sql", "docs", "tests"]
MUTMUT = [sys.executable, "-m", "mutmut"]


def main() -> None:
    """Run mutmut on a copy of the project and print the difference of each surviving mutant."""
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    WORKSPACE.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, WORKSPACE / name)
    # mutmut starts pytest for every mutant; the server starts once.
    with postgres.server(postgres.choose()) as url:
        environment = {**os.environ, "HARBORGUARD_TEST_DATABASE_URL": url}
        run = [*MUTMUT, "run", *sys.argv[1:]]
        subprocess.run(run, cwd=WORKSPACE, env=environment, check=True)
    results = subprocess.run(
        [*MUTMUT, "results"], cwd=WORKSPACE, check=True, capture_output=True, text=True
    )
    survivors = [line.split(":")[0].strip() for line in results.stdout.splitlines() if ":" in line]
    for name in survivors:
        print(f"\n# {name}", flush=True)
        subprocess.run([*MUTMUT, "show", name], cwd=WORKSPACE, check=True)
    print(f"\n{len(survivors)} mutants survived")


if __name__ == "__main__":
    main()
