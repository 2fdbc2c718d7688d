"""Which replica gets what: hashing, load, health, names that change, and failover."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack

import grpc
import grpc.aio
import pytest

from tests.unit.client.clocks import FOREVER_S, Clock, until
from tests.unit.client.judge_double import NOT_SERVING, SERVING, Abort, JudgeDouble, failed, serving
from themis_client import AsyncClient, Item, ReplicaPolicy, ScoreOptions, Unavailable, UnknownVersion, encode
from themis_client.addresses import MAX_ADDRESSES, Target, getaddrinfo
from themis_client.channels import Connector
from themis_client.hashing import digest, ranked
from themis_client.health import Health, check
from themis_client.replicas import Claim, Replicas
from themis_proto.v1 import judge_pb2 as pb

CONVERSATIONS = [bytes([i, 0]) * 8 for i in range(200)]
ADDRESSES = [f"10.0.0.{i}:50051" for i in range(5)]


# ---------------------------------------------------------------- hashing


def test_a_digest_is_the_conversations_alone() -> None:
    def of(item: Item) -> bytes:
        return digest(encode.item(item).messages)

    assert of(Item("q", "a", key="1", group="x")) == of(Item("q", "b", reference="r"))
    assert of(Item("q", "a")) != of(Item("p", "a"))
    assert of(Item([{"role": "user", "content": "ab"}], "a")) != of(
        Item([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "a")
    )


def test_digests_and_ranks_never_change_between_releases() -> None:
    # Two clients of different releases must agree, or a group is computed twice.
    found = digest(encode.item(Item("What is 2 + 2?", "4")).messages)
    assert found.hex() == "785ec1106fbd57805bf7f0e3cd6506f5"
    assert [address[7] for address in ranked(found, ADDRESSES)] == list("32140")


def test_conversations_spread_evenly() -> None:
    shares = Counter(ranked(conversation, ADDRESSES)[0] for conversation in CONVERSATIONS)
    assert len(shares) == 5
    assert max(shares.values()) < 2 * 200 / 5


def test_a_replica_that_leaves_moves_its_own_conversations_only() -> None:
    for conversation in CONVERSATIONS:
        before = ranked(conversation, ADDRESSES)
        after = ranked(conversation, ADDRESSES[1:])
        assert list(after) == [address for address in before if address != ADDRESSES[0]]


def test_the_order_of_addresses_does_not_matter() -> None:
    assert all(ranked(one, ADDRESSES) == ranked(one, reversed(ADDRESSES)) for one in CONVERSATIONS)


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:1", Target(("a:1",))),
        ("a:1, b:2,a:1", Target(("a:1", "b:2"))),
        ("a", Target(("a:50051",))),
        ("[::1]:7", Target(("[::1]:7",))),
        ("[::1]", Target(("[::1]:50051",))),
        ("unix:///tmp/x", Target(("unix:///tmp/x",))),
        ("dns:///judge.default:80", Target(name="judge.default", port=80)),
        ("dns:///judge", Target(name="judge", port=50051)),
    ],
)
def test_targets(text: str, expected: Target) -> None:
    assert Target.parse(text) == expected


@pytest.mark.parametrize("text", ["", " , ", "a:b", ":1", "dns:///:5"])
def test_targets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"no address|name:port"):
        AsyncClient(text)


async def test_a_name_is_looked_up() -> None:
    assert "127.0.0.1:5" in await getaddrinfo("127.0.0.1", 5)
    assert await getaddrinfo("::1", 5) == ["[::1]:5"]


async def test_answers_are_bounded_sorted_and_unique() -> None:
    async def lookup(name: str, port: int) -> list[str]:
        return [f"10.0.{i % 9}.{i}:{port}" for i in range(1000)] * 2

    found = await Target.parse("dns:///judge").addresses(lookup)
    assert len(found) == MAX_ADDRESSES
    assert list(found) == sorted(set(found))


async def test_a_name_that_can_not_be_looked_up() -> None:
    async def lookup(name: str, port: int) -> list[str]:
        raise OSError("no such name")

    clock = Clock()
    async with AsyncClient("dns:///judge", runtime=clock.runtime, lookup=lookup) as client:
        with pytest.raises(Unavailable, match="judge:50051: no such name"):
            await client.score([Item("q", "0.5")])
    assert clock.slept_s


# ---------------------------------------------------------------- picking


async def opened(clock: Clock, policy: ReplicaPolicy, addresses: list[str]) -> Replicas:
    replicas = Replicas(Target(tuple(addresses)), Connector(), policy, clock.runtime)
    await replicas.open()
    return replicas


STILL = ReplicaPolicy(idle_items=4, check_s=FOREVER_S)
"""Nothing is checked but by the test."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_equal_conversations_meet(clock: Clock) -> None:
    replicas = await opened(clock, STILL, ADDRESSES)
    for conversation in CONVERSATIONS:
        picks = [replicas.pick(conversation, 1) for _ in range(4)]
        assert {pick.address for pick in picks if pick} == {ranked(conversation, ADDRESSES)[0]}
        for pick in picks:
            assert pick is not None
            Claim(pick, 1).release()
    await replicas.close()


async def test_load_is_bounded(clock: Clock) -> None:
    replicas = await opened(clock, STILL, ADDRESSES)
    loads: Counter[str] = Counter()
    for _ in range(500):
        pick = replicas.pick(CONVERSATIONS[0], 1)
        assert pick is not None
        loads[pick.address] += 1
    await replicas.close()
    order = ranked(CONVERSATIONS[0], ADDRESSES)
    assert loads[order[0]] == max(loads.values())
    assert max(loads.values()) <= 1.25 * 100 + 1
    assert loads[order[0]] + loads[order[1]] >= 2 * 1.2 * 100


async def test_a_claim_is_given_back_once(clock: Clock) -> None:
    replicas = await opened(clock, STILL, ADDRESSES[:1])
    pick = replicas.pick(b"x", 3)
    assert pick is not None
    claim = Claim(pick, 3)
    claim.release()
    claim.release()
    assert pick.items_in_flight == 0
    await replicas.close()


async def test_what_was_unavailable_is_avoided_for_a_while(clock: Clock) -> None:
    replicas = await opened(clock, STILL, ADDRESSES)
    first, second = ranked(CONVERSATIONS[0], ADDRESSES)[:2]
    pick = replicas.pick(CONVERSATIONS[0], 0)
    assert pick is not None
    replicas.avoid(pick)
    assert [one.address for one in [replicas.pick(CONVERSATIONS[0], 0)] if one] == [second]
    clock.now_s += STILL.avoid_s
    assert [one.address for one in [replicas.pick(CONVERSATIONS[0], 0)] if one] == [first]
    await replicas.close()


async def test_when_all_are_unwell_one_is_tried(clock: Clock) -> None:
    replicas = await opened(clock, STILL, ADDRESSES[:2])
    for address in ADDRESSES[:2]:
        pick = replicas.pick(b"x", 0, excluded={one for one in ADDRESSES if one != address})
        assert pick is not None
        replicas.avoid(pick)
    assert replicas.pick(b"x", 0) is not None
    assert replicas.pick(b"x", 0, excluded=ADDRESSES) is None
    await replicas.close()


# ---------------------------------------------------------------- health


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(SERVING, Health.SERVING), (NOT_SERVING, Health.NOT_SERVING), (b"", Health.NOT_SERVING)],
)
async def test_health_is_read(answer: bytes, expected: Health) -> None:
    judge = JudgeDouble(health=answer)
    async with serving(judge) as address, grpc.aio.insecure_channel(address) as channel:
        assert await check(channel, 5.0) is expected
    assert judge.seen[0].request == b"\n\x16themis.v1.JudgeService"


async def test_health_of_the_real_service_is_understood() -> None:
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

    servicer = health.aio.HealthServicer()
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await check(channel, 5.0) is Health.UNKNOWN
        await servicer.set("themis.v1.JudgeService", health_pb2.HealthCheckResponse.SERVING)
        assert await check(channel, 5.0) is Health.SERVING
        await servicer.set("themis.v1.JudgeService", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await check(channel, 5.0) is Health.NOT_SERVING
    await server.stop(None)


async def test_health_of_nobody() -> None:
    async with serving(JudgeDouble()) as address:
        pass
    async with grpc.aio.insecure_channel(address) as channel:
        assert await check(channel, 5.0) is Health.NOT_SERVING


async def test_the_unhealthy_are_avoided_and_come_back(clock: Clock) -> None:
    one, other = JudgeDouble(health=NOT_SERVING), JudgeDouble()
    async with serving(one) as first, serving(other) as second:
        replicas = await opened(clock, STILL, [first, second])
        await replicas.check()
        assert {pick.address for pick in (replicas.pick(c, 0) for c in CONVERSATIONS) if pick} == {second}
        one.health = SERVING
        await replicas.check()
        assert {pick.address for pick in (replicas.pick(c, 0) for c in CONVERSATIONS) if pick} == {first, second}
        await replicas.close()


async def test_upkeep_checks_by_itself() -> None:
    clock = Clock()
    async with serving(JudgeDouble(health=NOT_SERVING)) as first, serving(JudgeDouble()) as second:
        replicas = await opened(clock, ReplicaPolicy(check_s=3.0), [first, second])
        await until(lambda: {one.address for one in (replicas.pick(c, 0) for c in CONVERSATIONS) if one} == {second})
        await replicas.close()
    assert set(clock.slept_s) == {3.0}


async def test_a_name_whose_addresses_change(clock: Clock) -> None:
    answers = [["10.0.0.1:1", "10.0.0.2:1"], ["10.0.0.2:1", "10.0.0.3:1"]]

    async def lookup(name: str, port: int) -> list[str]:
        if not answers:
            raise OSError("the name server is away")
        return answers.pop(0)

    policy = ReplicaPolicy(check_timeout_s=0.001, check_s=FOREVER_S)
    replicas = Replicas(Target.parse("dns:///judge"), Connector(), policy, clock.runtime, lookup)
    await replicas.open()
    assert replicas.addresses == ("10.0.0.1:1", "10.0.0.2:1")
    await replicas.check()
    assert replicas.addresses == ("10.0.0.2:1", "10.0.0.3:1")
    await replicas.check()
    assert replicas.addresses == ("10.0.0.2:1", "10.0.0.3:1")
    await replicas.close()


# ---------------------------------------------------------------- together


async def several(stack: AsyncExitStack, *judges: JudgeDouble) -> str:
    return ",".join([await stack.enter_async_context(serving(judge)) for judge in judges])


def conversations(count: int) -> list[Item]:
    return [Item(f"question {i}", str(i / 1000), key=str(i)) for i in range(count)]


def asked(judge: JudgeDouble) -> set[str]:
    return {item.messages[0].parts[0].text for call in judge.calls("Score") for item in call.request.items}


async def test_groups_go_to_one_replica_even_one_by_one() -> None:
    judges = [JudgeDouble(), JudgeDouble(), JudgeDouble()]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(await several(stack, *judges)))
        for _ in range(3):
            for item in conversations(30):
                assert (await client.score([item])).ok
    assert all(asked(judge) for judge in judges)
    assert sum(len(asked(judge)) for judge in judges) == 30


async def test_a_batch_is_spread_and_reassembled() -> None:
    judges = [JudgeDouble(), JudgeDouble(), JudgeDouble()]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(await several(stack, *judges)))
        scores = await client.score(conversations(300))
    assert [float(score) for score in scores.raise_if_failed()] == [i / 1000 for i in range(300)]
    assert all(asked(judge) for judge in judges)


@pytest.mark.parametrize("whole_call", [True, False])
async def test_failover(whole_call: bool) -> None:
    def result(item: pb.Item, version: str, _: int) -> pb.Result:
        return failed(item, version, pb.ITEM_STATUS_UNAVAILABLE)

    down = JudgeDouble(aborts=[Abort(grpc.StatusCode.UNAVAILABLE)] * 99) if whole_call else JudgeDouble(result=result)
    async with AsyncExitStack() as stack:
        target = await several(stack, down, JudgeDouble())
        client = await stack.enter_async_context(AsyncClient(target, runtime=Clock().runtime, replicas=STILL))
        assert len((await client.score(conversations(50))).raise_if_failed()) == 50


async def test_a_replica_that_died() -> None:
    async with AsyncExitStack() as stack:
        async with serving(JudgeDouble()) as dead:
            pass
        target = f"{dead},{await several(stack, JudgeDouble())}"
        client = await stack.enter_async_context(AsyncClient(target, runtime=Clock().runtime, replicas=STILL))
        assert len((await client.score(conversations(50))).raise_if_failed()) == 50
        assert len([1 async for _, score in client.stream(conversations(50)) if score.ok]) == 50


async def test_a_version_that_only_some_have() -> None:
    old, new = JudgeDouble(), JudgeDouble(versions=("v1", "v2"))
    options = ScoreOptions(version="v2")
    async with AsyncExitStack() as stack:
        clock = Clock()
        client = AsyncClient(await several(stack, old, new), runtime=clock.runtime, replicas=STILL)
        await stack.enter_async_context(client)
        assert len((await client.score(conversations(50), options=options)).raise_if_failed()) == 50
        assert len([1 async for _, score in client.stream(conversations(50), options=options) if score.ok]) == 50
        with pytest.raises(UnknownVersion):
            await client.score(conversations(5), options=ScoreOptions(version="v3"))
    assert old.calls("Score")  # it was asked, and its answer believed
    assert clock.slept_s == []  # no attempt was spent on it


async def test_overload_halves_the_calls_in_flight() -> None:
    judge = JudgeDouble(limits=pb.Limits(max_items=1), aborts=[Abort(grpc.StatusCode.RESOURCE_EXHAUSTED)] * 8)
    async with serving(judge) as address, AsyncClient(address, runtime=Clock().runtime) as client:
        assert len((await client.score(conversations(40))).raise_if_failed()) == 40
