"""CRI's services as gRPC's generic handlers, from the descriptors: what a fake runtime plugs its methods into."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import grpc

from bridge.pb.runtime.v1 import api_pb2 as cri


class Failure(Exception):
    """A status that an RPC ends with."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def handlers(
    implementation: Callable[[str], Callable[..., Any] | None],
    around: Callable[[str, Any], AbstractContextManager[None]],
) -> list[grpc.GenericRpcHandler]:
    """One handler a service. `implementation(name)`: the function of an RPC, None for UNIMPLEMENTED; a unary one takes
    the request inside `around(name, request)`, a streaming one the request and gRPC's context."""
    made = []
    for name, service in cri.DESCRIPTOR.services_by_name.items():
        methods = {
            method.name: _handler(method, own, around)
            for method in service.methods
            if (own := implementation(method.name)) is not None
        }
        made.append(grpc.method_handlers_generic_handler(f"runtime.v1.{name}", methods))
    return made


def _handler(
    method: Any, own: Callable[..., Any], around: Callable[[str, Any], AbstractContextManager[None]]
) -> "grpc.RpcMethodHandler[Any, Any]":
    parse = getattr(cri, method.input_type.name).FromString
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(own, parse, _serialized)

    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            with around(method.name, request):
                return own(request)
        except Failure as failure:
            return context.abort(failure.code, str(failure))

    return grpc.unary_unary_rpc_method_handler(call, parse, _serialized)


def _serialized(message: Any) -> bytes:
    return bytes(message.SerializeToString())
