"""The HTTP face of the embedded API server: from a request to a verb and back, for every path that it serves.

A Flask application on vkcri.httpd; each connection's thread runs its requests one after another. Here: who asks
(authn), whether they may (authz), what it is about (routing), the body and the form of the answer (negotiate). What a
verb does is verbs.py's, what an object may be strategy's. Every failure leaves as a metav1.Status.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException

from vkcri.api import times
from vkcri.apiserver import (
    discovery,
    negotiate,
    openapi,
    proxy,
    requestoptions,
    routing,
    selection,
    stream,
    table,
    verbs,
)
from vkcri.apiserver.attributes import Attributes
from vkcri.apiserver.authn import Authenticator, User
from vkcri.apiserver.authz import Authorizer
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.negotiate import Form
from vkcri.apiserver.routing import Target
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store
from vkcri.apiserver.verbs import Call
from vkcri.config import ApiServerSettings
from vkcri.errors import Unavailable

log = logging.getLogger(__name__)
_METHODS: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_HEALTH: Final = frozenset({"/healthz", "/livez", "/readyz"})
_OBJECT: Final = frozenset({"Table", "PartialObjectMetadata"})
_LIST: Final = frozenset({"Table", "PartialObjectMetadataList"})
_AGGREGATED: Final = frozenset({"APIGroupDiscoveryList"})
_BODY_VERBS: Final = frozenset({"create", "update", "delete", "deletecollection"})
_WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_STREAMS: Final = frozenset({"exec", "attach", "portforward"})
_VERBS: Final[dict[str, Callable[[Call], tuple[int, dict[str, Any]]]]] = {
    "get": verbs.get,
    "list": verbs.list_,
    "create": verbs.create,
    "update": verbs.update,
    "patch": verbs.patch_,
    "delete": verbs.delete,
    "deletecollection": verbs.delete_collection,
}


class Api:
    """One server's application. `address`: host:port as clients reach it; `ready()`: None, or why it is not ready."""

    def __init__(
        self,
        store: Store,
        settings: ApiServerSettings,
        authenticator: Authenticator,
        authorizer: Authorizer,
        kubelet: proxy.Kubelet,
        *,
        address: str = "",
        ready: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._settings = settings
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._kubelet = kubelet
        self._address = address
        self._ready = ready
        self._clock = clock

    def app(self) -> Flask:
        """The WSGI application."""
        app = Flask("vkcri.apiserver", static_folder=None)
        app.url_map.merge_slashes = False
        app.add_url_rule("/", "root", self._serve, methods=_METHODS, defaults={"path": ""})
        app.add_url_rule("/<path:path>", "any", self._serve, methods=_METHODS)
        # Werkzeug matches a request to upgrade to WebSocket (exec, attach, port-forward) only with such a rule.
        app.add_url_rule("/<path:path>", "upgrade", self._serve, websocket=True)
        app.register_error_handler(Exception, self._failed)
        return app

    def _failed(self, error: Exception) -> Response:
        """Any failure as the Status that the client gets."""
        if isinstance(error, Unavailable):
            log.error("%s %s: %s", request.method, request.path, error)
            error = StatusError.unavailable(str(error))
        elif isinstance(error, RecursionError):
            error = StatusError.bad_request("the object is nested too deeply")
        elif isinstance(error, HTTPException):
            error = StatusError(error.code or 500, error.name.replace(" ", ""), error.description or error.name)
        elif not isinstance(error, StatusError):
            log.error("%s %s failed", request.method, request.path, exc_info=error)
            error = StatusError.internal(f"{type(error).__name__}: see the server's log")
        try:
            form = Form(negotiate.choose(request.headers.get("Accept", "")).media)
        except StatusError:
            form = Form()
        response = _response(form, error.code, error.as_status())
        if error.details and "retryAfterSeconds" in error.details:
            response.headers["Retry-After"] = str(error.details["retryAfterSeconds"])
        return response

    def _serve(self, path: str) -> Response:
        user = self._authenticator.authenticate(dict(request.headers), request.environ.get("vkcri.peer_certificate"))
        path = "/" + path
        try:
            target = routing.locate(request.method, path, watch=verbs.flag(request.args, "watch"))
        except StatusError:
            if user.username == "system:anonymous":
                self._authorizer.authorize(user, Attributes(request.method.lower(), path=path))
            raise
        if target is None:
            self._authorizer.authorize(user, Attributes(request.method.lower(), path=path))
            return self._serve_path(path)
        query = request.args.to_dict()
        self._authorizer.authorize(user, _attributes(target, query))
        return self._serve_resource(target, query, user)

    # Paths that are no resource's

    def _serve_path(self, path: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise StatusError.method_not_allowed()
        plain = path.rstrip("/") or "/"
        if plain in _HEALTH or plain.startswith(("/livez/", "/readyz/", "/healthz/")):
            return self._health(plain)
        if plain == "/openapi/v2":
            return _openapi_v2(request)
        if plain in ("/api", "/apis") and (found := self._aggregated(plain)) is not None:
            return found
        document = self._document(plain)
        if document is None:
            raise routing.not_served()
        return _response(negotiate.choose(request.headers.get("Accept", "")), 200, document)

    def _document(self, path: str) -> Mapping[str, Any] | None:
        """The JSON document at a fixed path, or None."""
        match path.strip("/").split("/"):
            case ["version"]:
                return discovery.version()
            case ["api"]:
                return discovery.api_versions(self._address)
            case ["apis"]:
                return discovery.group_list()
            case ["api", version]:
                return discovery.resource_list("", version)
            case ["apis", group]:
                return discovery.group(group)
            case ["apis", group, version]:
                return discovery.resource_list(group, version)
            case ["openapi", "v3"]:
                return openapi.index()
            case ["openapi", "v3", "api", version]:
                return openapi.document("", version)
            case ["openapi", "v3", "apis", group, version]:
                return openapi.document(group, version)
            case [""]:
                return discovery.paths()
        return None

    def _aggregated(self, path: str) -> Response | None:
        """All of /api or /apis in one document, for who asks for that form."""
        form = negotiate.choose(request.headers.get("Accept", ""), transforms=_AGGREGATED)
        if not form.transform:
            return None
        return _response(form, 200, discovery.aggregated(core=path == "/api"))

    def _health(self, path: str) -> Response:
        reason = self._ready() if path.startswith("/readyz") else None
        text = "ok" if reason is None else f"not ready: {reason}\n"
        return Response(text, 200 if reason is None else 500, content_type="text/plain; charset=utf-8")

    # Resources

    def _serve_resource(self, target: Target, query: Mapping[str, str], user: User) -> Response:
        if target.subresource in _STREAMS:
            return self._kubelet.stream(target, request)
        if target.subresource == "log":
            return self._kubelet.logs(target, query)
        if target.subresource == "proxy":
            return self._kubelet.node(target, request)
        if target.verb in _WRITES:
            requestoptions.check_write(target.verb, query)
        ctx = self._context(query, user)
        if target.resource.deprecated:
            ctx.warnings.append(target.resource.deprecated)
        if target.verb == "watch":
            return _warned(_watch(Call(target, query, ctx)), ctx)
        form = negotiate.choose(request.headers.get("Accept", ""), transforms=_transforms(target))
        code, obj = _VERBS[target.verb](self._call(target, query, ctx))
        return _warned(_response(form, code, _shaped(target, query, form, obj)), ctx)

    def _context(self, query: Mapping[str, str], user: User) -> RequestContext:
        return RequestContext(
            store=self._store,
            user=user,
            now=lambda: times.seconds(times.of(self._clock())),
            settings=self._settings,
            dry_run=bool(query.get("dryRun")),
            field_validation=query.get("fieldValidation") or "Warn",
        )

    def _call(self, target: Target, query: Mapping[str, str], ctx: RequestContext) -> Call:
        """The request with its body; a DeleteOptions may ask for a dry run too."""
        content_type = request.headers.get("Content-Type", "")
        data = _body(request)
        if target.verb == "patch":
            return Call(target, query, ctx, data=data, content_type=content_type)
        if target.verb not in _BODY_VERBS:
            return Call(target, query, ctx)
        deletes = target.verb in ("delete", "deletecollection")
        if deletes and not data.strip():
            return Call(target, query, ctx)
        body, duplicates = negotiate.decode(content_type, data)
        verbs.refuse_duplicates(ctx, duplicates)
        if deletes and body.get("dryRun") and not ctx.dry_run:
            ctx = self._context({**query, "dryRun": str(body["dryRun"][0])}, ctx.user)
        return Call(target, query, ctx, body=body)


def _attributes(target: Target, query: Mapping[str, str]) -> Attributes:
    """What the authorizer is asked."""
    required: dict[str, str] = {}
    if target.verb in ("list", "watch", "deletecollection") and query.get("fieldSelector"):
        selector = selection.parse_fields(target.resource, query["fieldSelector"])
        required = {path: value for path, equal, value in selector.terms if equal}
    named = required.get("metadata.name", "") if target.verb != "deletecollection" else ""
    return Attributes(
        target.verb,
        target.resource.group,
        target.resource.plural,
        target.subresource,
        target.namespace,
        target.name or named,
        version=target.resource.version,
        field_selector=required,
    )


def _transforms(target: Target) -> frozenset[str]:
    if target.verb in ("list", "deletecollection"):
        return _LIST
    return frozenset() if target.resource.virtual or target.subresource not in ("", "status") else _OBJECT


def _shaped(target: Target, query: Mapping[str, str], form: Form, obj: dict[str, Any]) -> dict[str, Any]:
    """The answer's object in the form asked for; a Status stays what it is."""
    if not form.transform or obj.get("kind") == "Status":
        return obj
    several = obj.get("kind") == target.resource.list_kind
    items = obj["items"] if several else [obj]
    if form.transform == "PartialObjectMetadata":
        return table.partial(obj, form.version)
    if form.transform == "PartialObjectMetadataList":
        return table.partial_list(items, obj["metadata"], form.version)
    metadata = obj["metadata"] if several else {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
    include = query.get("includeObject", "Metadata")
    return table.table(target.resource, items, form.version, include=include, metadata=metadata)


def _watch(call: Call) -> Response:
    form = negotiate.choose(request.headers.get("Accept", ""), transforms=_OBJECT)
    connection, closing = request.environ.get("vkcri.connection"), request.environ.get("vkcri.closing")

    def alive() -> bool:
        return not (closing is not None and closing.is_set()) and not (
            connection is not None and connection.disconnected()
        )

    return Response(stream.answer(call, form, alive), 200, content_type=negotiate.JSON)


def _body(given: Request) -> bytes:
    """The request's body, read whole. Raises StatusError 413."""
    if (given.content_length or 0) > negotiate.LARGEST_BODY:
        raise StatusError.too_large(f"the request's body has more than {negotiate.LARGEST_BODY} bytes")
    data = given.stream.read(negotiate.LARGEST_BODY + 1)
    if len(data) > negotiate.LARGEST_BODY:
        raise StatusError.too_large(f"the request's body has more than {negotiate.LARGEST_BODY} bytes")
    return data


def _warned(response: Response, ctx: RequestContext) -> Response:
    """The response with what the client is to be told besides."""
    for text in dict.fromkeys(ctx.warnings):
        response.headers.add("Warning", _warning(text))
    return response


def _warning(text: str) -> str:
    """A Warning header's value (RFC 7234); other than ASCII does not fit into one."""
    plain = " ".join(text.split()).encode("ascii", "replace").decode()
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{quoted}"'


def _openapi_v2(given: Request) -> Response:
    """An empty document of the protobuf type satisfies kubectl; JSON for who names JSON alone."""
    accept = given.headers.get("Accept", "")
    if "proto-openapi" not in accept and "json" in accept:
        return _response(Form(), 200, openapi.v2_json())
    return Response(openapi.V2_BODY, 200, content_type=openapi.V2_TYPE)


def _response(form: Form, code: int, obj: Mapping[str, Any]) -> Response:
    pretty = verbs.flag(request.args, "pretty")
    return Response(negotiate.encode(form, dict(obj), pretty=pretty), code, content_type=form.content_type)
