"""The limit of the database: pgbench executes the statement of the default page."""

import re
import subprocess
import tempfile

from harborguard.config import Config
from harborguard.listing import ImageCriteria, Page
from harborguard.model import Scope
from harborguard.store.connection import request_settings
from harborguard.store.images.query import ImageQuery
from tests.support.postgres import program


def transactions_per_second(url: str, organization_id: str, clients: int, seconds: int) -> float:
    """Execute the prepared statement over the service's socket, with its session settings."""
    text, parameters = ImageQuery(Scope(organization_id), ImageCriteria()).early_page(Page())
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        # pgbench's \set takes only numbers, so the id becomes a literal.
        script.write(f"\\set limit {parameters['limit']}\n\\set offset {parameters['offset']}\n")
        statement = text.replace("%(organization_id)s", f"'{organization_id}'")
        # pgbench takes a colon before a letter for a variable, even in a literal.
        statement = statement.replace("HH24:MI:SS", 'HH24":"MI":"SS')
        script.write(re.sub(r"%\((\w+)\)s", r":\1", " ".join(statement.split())) + ";\n")
        script.flush()
        command = [
            program("pgbench"), "-n", "-M", "prepared", f"-c{clients}", "-j1", f"-T{seconds}",
            "-f", script.name, url,
        ]  # fmt: skip
        options = request_settings(Config(database_url=url))["options"]
        output = subprocess.run(
            command, env={"PGOPTIONS": options}, check=True, capture_output=True, text=True
        ).stdout
    [rate] = re.findall(r"tps = ([\d.]+) \(without", output)
    return float(rate)
