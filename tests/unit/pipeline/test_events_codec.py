from __future__ import annotations

import json
from typing import cast

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.pipeline.events_records import ROOMY_BYTES, Record, prompts, texts
from themis_pipeline.events.codec import MESSAGE, VERSION, decode, encode
from themis_pipeline.events.errors import Defect, Malformed, TooLarge
from themis_proto.v1.events_pb2 import (
    AnnotationLabel,
    ClassifiedPrompt,
    Instruction,
    NewPrompt,
    Plan,
    ReferenceText,
    ResponseSet,
)

OURS = ((MESSAGE, b"NewPrompt"), (VERSION, b"1"))


def defect(record: Record, *, json_as: type[NewPrompt] | None = None, max_bytes: int = ROOMY_BYTES) -> Defect:
    with pytest.raises(Malformed) as raised:
        decode(record, [NewPrompt], max_bytes, json_as)
    return raised.value.defect


@given(prompts())
@settings(deadline=None)
def test_an_event_comes_back_as_it_was(event: NewPrompt) -> None:
    assert decode(Record(*encode(event, ROOMY_BYTES)), [Plan, NewPrompt], ROOMY_BYTES) == event


@given(prompts())
@settings(deadline=None)
def test_equal_events_are_equal_bytes(event: NewPrompt) -> None:
    again = NewPrompt()
    again.CopyFrom(event)
    assert encode(again, ROOMY_BYTES) == encode(event, ROOMY_BYTES)


# ---------------------------------------------------------------- what other releases write


def newer(name: str) -> type[Message]:
    """The message as a later release might have it: with a field more."""
    file = descriptor_pb2.FileDescriptorProto(name=f"later_{name}.proto", package="later", syntax="proto3")
    added = file.message_type.add(name=name).field.add(name="added", number=1000)
    added.type, added.label = added.TYPE_STRING, added.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"later.{name}"))


@given(event=prompts(), added=texts.filter(bool))
@settings(deadline=None)
def test_fields_of_a_later_release_survive(event: NewPrompt, added: str) -> None:
    later = newer("NewPrompt")
    value, headers = encode(event, ROOMY_BYTES)
    both = Record(value + later(added=added).SerializeToString(), headers)
    read = decode(both, [NewPrompt], ROOMY_BYTES)
    assert vars_of(later, encode(read, ROOMY_BYTES)[0]) == added
    within = ClassifiedPrompt(id="c", prompt=read)
    handed_on = decode(Record(*encode(within, ROOMY_BYTES)), [ClassifiedPrompt], ROOMY_BYTES)
    assert vars_of(later, handed_on.prompt.SerializeToString()) == added


def vars_of(later: type[Message], value: bytes) -> object:
    return getattr(later.FromString(value), "added")  # noqa: B009 - the class is made here, so no type knows it


@pytest.mark.parametrize("version", [b"2", b"999999999"])
def test_a_later_meaning_is_not_guessed(version: bytes) -> None:
    assert defect(Record(b"", ((MESSAGE, b"NewPrompt"), (VERSION, version)))) is Defect.VERSION


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((MESSAGE, b"NewPrompt"),),
        ((VERSION, b"1"),),
        (*OURS, (MESSAGE, b"NewPrompt")),
        ((MESSAGE, None), (VERSION, b"1")),
        ((MESSAGE, b"NewPr\xc3\xb6mpt"), (VERSION, b"1")),
        *(((MESSAGE, b"NewPrompt"), (VERSION, bad)) for bad in (b"", b"0", b"-1", b"1.0", b" 1", b"x", b"9" * 5000)),
    ],
)
def test_headers_have_to_say_what_a_record_is(headers: tuple[tuple[str, bytes | None], ...]) -> None:
    assert defect(Record(b"", headers)) is Defect.HEADERS


def test_headers_of_others_are_no_concern() -> None:
    decode(Record(b"", (("traceparent", b"\xff"), *OURS, ("traceparent", None))), [NewPrompt], ROOMY_BYTES)


@given(prompts())
@settings(deadline=None)
def test_another_message_is_not_taken_for_the_expected_one(event: NewPrompt) -> None:
    record = Record(*encode(event, ROOMY_BYTES))
    with pytest.raises(Malformed) as raised:
        decode(record, [Instruction, ResponseSet], ROOMY_BYTES)
    assert raised.value.defect is Defect.MESSAGE


def test_a_tombstone_is_no_event() -> None:
    assert defect(Record(None, OURS)) is Defect.TOMBSTONE


@pytest.mark.parametrize("value", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x02\xc3\x28", b'{"source": "people"}'])
def test_bytes_that_are_no_message(value: bytes) -> None:
    assert defect(Record(value, OURS)) is Defect.BYTES


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_an_event_or_malformed(value: bytes) -> None:
    try:
        decode(Record(value, OURS), [NewPrompt], ROOMY_BYTES)
    except Malformed as error:
        assert error.defect is Defect.BYTES  # noqa: PT017 - both ways are right; no other error is


def test_sizes_are_bounded_both_ways() -> None:
    event = NewPrompt(source="people", text="x" * 100)
    value, headers = encode(event, event.ByteSize())
    assert decode(Record(value, headers), [NewPrompt], len(value)) == event
    assert defect(Record(value, headers), max_bytes=len(value) - 1) is Defect.OVERSIZE
    with pytest.raises(TooLarge) as raised:
        encode(event, len(value) - 1)
    assert (raised.value.size_bytes, raised.value.max_bytes) == (len(value), len(value) - 1)


# ---------------------------------------------------------------- JSON


@given(prompts())
@settings(deadline=None)
def test_json_is_read_where_people_feed(event: NewPrompt) -> None:
    record = Record(json_format.MessageToJson(event).encode())
    assert decode(record, [NewPrompt], ROOMY_BYTES, json_as=NewPrompt) == event
    assert defect(record) is Defect.HEADERS


def test_protobuf_is_read_there_as_well() -> None:
    event = NewPrompt(source="people", text="{}")
    assert decode(Record(*encode(event, ROOMY_BYTES)), [NewPrompt], ROOMY_BYTES, json_as=NewPrompt) == event


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b'{"source": "people"} {}',
        b'{"sauce": "people"}',
        b'{"source": 1}',
        b'{"source": "a", "source": "b"}',
        b'{"source": NaN}',
        b'{"source": "\xff"}',
        b'{"source": "\\ud800"}',
        b'{"messages": [null]}',
        b'{"messages": [[]]}',
        b'{"messages": [{"parts": [{"image": ""}]}]}',
        b'{"messages": {"role": "user"}}',
        b'{"messages": ' + b"[" * 100_000,
        b'{"messages": ' + b"9" * 5000 + b"}",
        b"\xff\xfe{\x00}\x00",
    ],
)
def test_json_that_is_no_event(value: bytes) -> None:
    assert defect(Record(value), json_as=NewPrompt) is Defect.JSON


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "messages", "parts", "role", "text", "image", "data", "x"]), inner)
    ),
    max_leaves=12,
)


def values_of(kind: Descriptor, depth: int = 0) -> st.SearchStrategy[object]:
    """JSON of the kind's own fields with values that may be wrong."""
    fields = {
        field.json_name: anything | values_of(field.message_type, depth + 1) | st.sampled_from(["", []])
        if field.message_type and depth < 4
        else anything | st.sampled_from(["1", "NaN", 1e400, 1.5, 99, 2**70])
        for field in kind.fields
    }
    one = st.fixed_dictionaries({}, optional=fields)
    return one | st.lists(one, max_size=2)


@pytest.mark.parametrize("kind", [NewPrompt, ReferenceText, AnnotationLabel])
@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_values_of_what_people_feed_are_an_event_or_malformed(kind: type[Message], data: st.DataObject) -> None:
    text = json.dumps(data.draw(values_of(cast("Descriptor", kind.DESCRIPTOR)))).replace("Infinity", "1e400")
    try:
        decode(Record(text.encode()), [kind], ROOMY_BYTES, json_as=kind)
    except Malformed as error:
        assert error.defect is Defect.JSON  # noqa: PT017 - both ways are right; no other error is


@pytest.mark.parametrize("value", ["1e400", "-1e400", "99", "1.5", "1.0", "true", '"BEST"', "[1]", "{}", "NaN"])
@pytest.mark.parametrize("form", ['{"preference": %s}', '{"points": [{"text": "t", "kind": %s}]}'])
def test_an_enum_in_json_has_one_of_its_values(form: str, value: str) -> None:
    with pytest.raises(Malformed) as raised:
        decode(Record((form % value).encode()), [AnnotationLabel], ROOMY_BYTES, json_as=AnnotationLabel)
    assert raised.value.defect is Defect.JSON


@pytest.mark.parametrize("value", ["1", '"PREFERENCE_A"', "null"])
def test_enums_by_name_or_number(value: str) -> None:
    record = Record(b'{"task": "t", "preference": %s}' % value.encode())
    assert decode(record, [AnnotationLabel], ROOMY_BYTES, json_as=AnnotationLabel).preference in (0, 1)


@pytest.mark.parametrize(
    ("data", "right"), [("QUJD", True), ("QUI=", True), ("-_8", True), ("Q U", False), ("@@", False)]
)
def test_bytes_in_json_are_base64(data: str, right: bool) -> None:
    text = json.dumps({"messages": [{"role": "user", "parts": [{"image": {"data": data}}]}]})
    if right:
        decode(Record(text.encode()), [NewPrompt], ROOMY_BYTES, json_as=NewPrompt)
    else:
        assert defect(Record(text.encode()), json_as=NewPrompt) is Defect.JSON


@given(anything)
@settings(deadline=None)
def test_any_json_is_an_event_or_malformed(data: object) -> None:
    try:
        decode(Record(json.dumps(data).encode()), [NewPrompt], ROOMY_BYTES, json_as=NewPrompt)
    except Malformed as error:
        assert error.defect is Defect.JSON  # noqa: PT017 - both ways are right; no other error is


@pytest.mark.parametrize("value", [b'{"source": hush}', b'{"hush": 1}', b'{"reference": ["hush"]}', b'{"hush": \xff}'])
def test_errors_do_not_quote_the_record(value: bytes) -> None:
    with pytest.raises(Malformed) as raised:
        decode(Record(value), [NewPrompt], ROOMY_BYTES, json_as=NewPrompt)
    error: BaseException = raised.value
    assert "hush" not in str(error)
    assert error.__suppress_context__
