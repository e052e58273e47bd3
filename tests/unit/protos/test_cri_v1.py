"""protos/bridge/runtime/v1/api.proto against the published list of CRI v1 as of Kubernetes 1.37."""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from bridge.pb.runtime.v1 import api_pb2

PUBLISHED = Path(__file__).resolve().parents[2] / "data" / "cri-v1-kubernetes-1.37.tsv"
FILE = api_pb2.DESCRIPTOR
Row = tuple[str, ...]


def published(kind: str) -> set[Row]:
    rows = (line.rstrip("\n").split("\t") for line in PUBLISHED.read_text().splitlines() if not line.startswith("#"))
    return {tuple(row[1:]) for row in rows if row[0] == kind}


def short(full_name: str) -> str:
    return full_name.removeprefix("runtime.v1.")


def messages() -> Iterator[Descriptor]:
    for message in FILE.message_types_by_name.values():
        yield message
        yield from (nested for nested in message.nested_types if not nested.GetOptions().map_entry)


def enums() -> Iterator[EnumDescriptor]:
    yield from FILE.enum_types_by_name.values()
    for message in messages():
        yield from message.enum_types


def type_name(field: FieldDescriptor) -> str:
    names = {
        getattr(FieldDescriptor, f"TYPE_{name.upper()}"): name
        for name in ("string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double", "float")
    }
    if field.message_type is not None:
        return short(field.message_type.full_name)
    if field.enum_type is not None:
        return short(field.enum_type.full_name)
    return names[field.type]


def row(field: FieldDescriptor) -> Row:
    owner = short(field.containing_type.full_name)
    oneof = field.containing_oneof.name if field.containing_oneof is not None else ""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        inner = ",".join(type_name(entry.fields_by_name[name]) for name in ("key", "value"))
        return (owner, field.name, str(field.number), f"map<{inner}>", "map", oneof)
    label = "repeated" if field.is_repeated else "optional"
    return (owner, field.name, str(field.number), type_name(field), label, oneof)


def test_package_and_level() -> None:
    assert FILE.package == "runtime.v1"
    assert len(published("rpc")) == 43


def test_every_rpc_is_there_and_no_other() -> None:
    ours = set()
    for service in FILE.services_by_name.values():
        for method in service.methods:
            assert not method.client_streaming
            kind = "server-stream" if method.server_streaming else "unary"
            names = (service.name, method.name, method.input_type.name, method.output_type.name)
            ours.add((*names, kind))
    assert ours == published("rpc")


def test_every_field_has_the_published_number_type_and_label() -> None:
    ours = {row(field) for message in messages() for field in message.fields}
    assert ours == published("field")


def test_every_enum_value_has_the_published_number() -> None:
    ours = {(short(enum.full_name), value.name, str(value.number)) for enum in enums() for value in enum.values}
    assert ours == {(*item[:2], item[2]) for item in published("value")}


def test_every_message_that_an_rpc_names_exists() -> None:
    named = {name for rpc in published("rpc") for name in rpc[2:4]}
    assert named <= {short(message.full_name) for message in messages()}
