"""The API: the only room that speaks HTTP. Here is the list of all its resources."""

from flask import Blueprint, Flask, Response

from harborguard.api import auth, details, docs, health, images, openapi, scans
from harborguard.api.errors import register_error_handlers
from harborguard.api.json import OrjsonProvider
from harborguard.api.request_log import observe_requests
from harborguard.api.services import Services, release_connection

__all__ = ["Services", "init_api"]

RESOURCES = (images.blueprint, details.blueprint, scans.blueprint)


def init_api(app: Flask, services: Services) -> None:
    """Puts the API on an application; the pool may still be closed."""
    app.json = OrjsonProvider(app)
    app.extensions["harborguard"] = services
    app.teardown_request(release_connection)
    observe_requests(app)
    register_error_handlers(app)
    app.register_blueprint(_make_api())
    for resource in (health, openapi, *([docs] if services.config.docs else [])):
        app.register_blueprint(resource.blueprint, url_prefix="/api")


def _make_api() -> Blueprint:
    # The hooks sit on the parent, so that they run for every resource, and only where a route has
    # matched: 404 and 405 reach neither them nor the database.
    api = Blueprint("api", __name__, url_prefix="/api")
    api.before_request(auth.authenticate)
    api.after_request(_forbid_shared_caching)
    for resource in RESOURCES:
        api.register_blueprint(resource)
    return api


def _forbid_shared_caching(response: Response) -> Response:
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Vary"] = "Authorization, Cookie, X-API-Key"
    return response
