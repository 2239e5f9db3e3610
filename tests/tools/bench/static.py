"""The limit of the server: Flask returns the bytes of one response from memory."""

import os
from pathlib import Path

from flask import Flask, Response

application = Flask("static")
_BODY = Path(os.environ["BENCH_BODY"]).read_bytes()


@application.get("/api/images")
def list_images() -> Response:
    """Return a response that the service made earlier."""
    return Response(_BODY, mimetype="application/json")
