"""JSON as the service writes it: compact bytes, keys in the order they are given."""

from typing import Any

import orjson
from flask import Response
from flask.json.provider import JSONProvider


class OrjsonProvider(JSONProvider):
    """Flask's door to orjson, for whatever a view returns as a dict."""

    def dumps(self, obj: Any, **_: Any) -> str:
        """An object as JSON text."""
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        """JSON text or bytes as an object."""
        return orjson.loads(s)

    def response(self, *args: Any, **_: Any) -> Response:
        """An object as an `application/json` response."""
        [body] = args
        return json_response(body)


def json_response(body: Any) -> Response:
    """An object as an `application/json` response, for who adds headers to it."""
    return Response(orjson.dumps(body), content_type="application/json")
