"""The HTTP API, in Flask. RESOURCES lists the blueprints whose routes need a credential."""

from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter

from harborguard.api import (
    audit,
    auth,
    changes,
    docs,
    exports,
    health,
    images,
    openapi,
    page,
    registries,
    scans,
    vulnerabilities,
)
from harborguard.api.errors import register_error_handlers
from harborguard.api.request_log import observe_requests
from harborguard.api.responses import OrjsonProvider
from harborguard.api.services import Services, release_connection

__all__ = ["Services", "init_api"]

RESOURCES = (
    images.blueprint,
    changes.blueprint,
    exports.blueprint,
    scans.blueprint,
    audit.blueprint,
    registries.blueprint,
    vulnerabilities.blueprint,
)


class _IdConverter(BaseConverter):
    """A segment of a path, except the names of routes beside `/api/images/<image_id>`.

    Otherwise `Allow` of these routes has the method DELETE of an image.
    """

    regex = "(?!(?:changes|export|lookup|summary)$)[^/]+"
    part_isolating = True


def init_api(app: Flask, services: Services) -> None:
    """Register the API on an application. The services' pool may still be closed."""
    app.json = OrjsonProvider(app)
    app.extensions["harborguard"] = services
    app.url_map.converters["default"] = _IdConverter
    app.teardown_request(release_connection)
    observe_requests(app)
    app.before_request(_reject_leading_slashes)
    register_error_handlers(app)
    app.register_blueprint(_make_api())
    app.register_blueprint(health.blueprint)
    app.register_blueprint(openapi.blueprint)
    if services.config.docs:
        app.register_blueprint(docs.blueprint)
    if services.config.page:
        app.register_blueprint(page.blueprint)


def _reject_leading_slashes() -> None:
    """Raise NotFound for a path like `//api/images`, which Werkzeug routes as `/api/images`.

    Flask calls this hook before it runs a view or raises the error of a path without a route.
    """
    if request.environ["PATH_INFO"].startswith("//"):
        # The hooks of blueprints, the log and the metrics must not see the route.
        request.url_rule = None
        raise NotFound


def _make_api() -> Blueprint:
    # The hooks run for each route of RESOURCES, but not for 404 and 405, where no route matches:
    # those responses need no database.
    api = Blueprint("api", __name__, url_prefix="/api")
    api.before_request(auth.authenticate)
    api.after_request(_add_headers)
    for resource in RESOURCES:
        api.register_blueprint(resource)
    return api


def _add_headers(response: Response) -> Response:
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Authorization, Cookie, X-API-Key"
    if ignored := g.get("ignored_parameters"):
        response.headers["X-Ignored-Parameters"] = ignored
    return response
