"""The second limit: PostgreSQL alone, asked the same prepared statement by its own bench."""

import re
import subprocess
import tempfile

from harborguard.config import Config
from harborguard.listing import ImageCriteria, Page
from harborguard.model import Scope
from harborguard.store.connection import request_settings
from harborguard.store.images.query import ImageQuery
from tests.support.postgres import program


def transactions_a_second(url: str, organization_id: str, clients: int, seconds: int) -> float:
    """The first page's statement, prepared, over the same socket, with the service's settings."""
    text, parameters = ImageQuery(Scope(organization_id), ImageCriteria()).early_page(Page())
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        # \set takes numbers only; a text is given as it would be typed.
        script.write(f"\\set limit {parameters['limit']}\n\\set offset {parameters['offset']}\n")
        statement = text.replace("%(organization_id)s", f"'{organization_id}'")
        # A colon before a letter is a variable of its own, even in a literal.
        statement = statement.replace("HH24:MI:SS", 'HH24":"MI":"SS')
        script.write(re.sub(r"%\((\w+)\)s", r":\1", " ".join(statement.split())) + ";\n")
        script.flush()
        command = [
            program("pgbench"), "-n", "-M", "prepared", f"-c{clients}", "-j1", f"-T{seconds}",
            "-f", script.name, url,
        ]  # fmt: skip
        options = request_settings(Config(database_url=url))["options"]
        said = subprocess.run(
            command, env={"PGOPTIONS": options}, check=True, capture_output=True, text=True
        ).stdout
    [rate] = re.findall(r"tps = ([\d.]+) \(without", said)
    return float(rate)
