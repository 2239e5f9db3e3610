"""The first limit: the same bytes from memory, by the same server and framework."""

import os
from pathlib import Path

from flask import Flask, Response

application = Flask("static")
_BODY = Path(os.environ["BENCH_BODY"]).read_bytes()


@application.get("/api/images")
def answer() -> Response:
    """What the list answered once."""
    return Response(_BODY, mimetype="application/json")
