"""Every raw call, from Python with pycapnp and nothing but the schemas."""

import asyncio

import capnp
import pytest


def pairs(answer):
    assert answer.which() == "page", answer
    return [(pair.key, pair.value) for pair in answer.page.pairs]


def has_resume_key(answer):
    return answer.page._has("resumeKey")


async def put(store, key, value, **options):
    answer = await store.raw.put(key=key, value=value, **options)
    assert answer.which() == "done", answer


async def get(store, key, **options):
    answer = await store.raw.get(key=key, **options)
    if answer.which() == "notFound":
        return None
    assert answer.which() == "value", answer
    return answer.value


def test_put_get_delete(run):
    async def test(store):
        assert await get(store, b"single") is None
        await put(store, b"single", b"value")
        assert await get(store, b"single") == b"value"
        await put(store, b"single", b"")
        assert await get(store, b"single") == b""
        answer = await store.raw.delete(key=b"single")
        assert answer.which() == "done"
        answer = await store.raw.delete(key=b"single")
        assert answer.which() == "done"
        assert await get(store, b"single") is None

    run(test)


def test_families_are_apart(run):
    async def test(store):
        for family in ("default", "lock", "write"):
            await put(store, b"family", family.encode(), family=family)
        for family in ("default", "lock", "write"):
            assert await get(store, b"family", family=family) == family.encode()
        await store.raw.delete(key=b"family", family="lock")
        assert await get(store, b"family", family="lock") is None
        assert await get(store, b"family") == b"default"

    run(test)


def test_batch_of_mixed_operations(run):
    async def test(store):
        await put(store, b"batch-old", b"1")
        answer = await store.raw.batch(
            operations=[
                {"key": b"batch-old", "get": None},
                {"key": b"batch-new", "put": b"2"},
                {"key": b"batch-old", "delete": None},
                {"key": b"batch-none", "get": None},
                {"key": b"batch-lock", "put": b"3", "family": "lock"},
            ]
        )
        assert answer.which() == "results", answer
        results = answer.results
        kinds = [result.which() for result in results]
        assert kinds == ["value", "done", "done", "notFound", "done"]
        assert results[0].value == b"1"
        assert await get(store, b"batch-old") is None
        assert await get(store, b"batch-new") == b"2"
        assert await get(store, b"batch-lock", family="lock") == b"3"

    run(test)


def test_lists(run):
    async def test(store):
        given = [{"key": b"list-%d" % index, "value": b"v%d" % index} for index in range(10)]
        answer = await store.raw.batchPut(pairs=given)
        assert answer.which() == "done", answer
        answer = await store.raw.batchGet(keys=[b"list-3", b"list-none", b"list-9"])
        assert answer.which() == "results", answer
        kinds = [result.which() for result in answer.results]
        assert kinds == ["value", "notFound", "value"]
        assert answer.results[2].value == b"v9"
        answer = await store.raw.batchDelete(keys=[b"list-3", b"list-4"])
        assert answer.which() == "done", answer
        assert await get(store, b"list-3") is None
        assert await get(store, b"list-5") == b"v5"

    run(test)


def test_scan(run):
    async def test(store):
        given = [{"key": b"scan-%03d" % index, "value": b"x" * 100} for index in range(100)]
        await store.raw.batchPut(pairs=given)
        span = {"start": b"scan-", "end": b"scan."}
        answer = await store.raw.scan(**span, limit=1000)
        assert pairs(answer) == [(pair["key"], pair["value"]) for pair in given]
        assert not has_resume_key(answer)
        answer = await store.raw.scan(**span, limit=3, keysOnly=True)
        assert pairs(answer) == [(b"scan-000", b""), (b"scan-001", b""), (b"scan-002", b"")]
        assert b"scan-002" < answer.page.resumeKey <= b"scan-003"
        answer = await store.raw.scan(start=answer.page.resumeKey, end=b"scan.", limit=1)
        assert [key for key, _ in pairs(answer)] == [b"scan-003"]
        answer = await store.raw.scan(**span, limit=2, reverse=True)
        assert [key for key, _ in pairs(answer)] == [b"scan-099", b"scan-098"]
        answer = await store.raw.scan(**span, limit=0)
        assert pairs(answer) == []

    run(test)


def test_scan_in_pages_of_bytes_both_ways(run):
    async def test(store):
        given = [{"key": b"page-%03d" % index, "value": b"x" * 100} for index in range(50)]
        await store.raw.batchPut(pairs=given)
        keys = [pair["key"] for pair in given]
        for reverse in (False, True):
            seen, pages = [], 0
            start, end = b"page-", b"page."
            while True:
                answer = await store.raw.scan(
                    start=start, end=end, limit=1000, bytesMax=1000, reverse=reverse
                )
                page = pairs(answer)
                assert 0 < sum(len(key) + len(value) for key, value in page) <= 1000
                seen += [key for key, _ in page]
                pages += 1
                if not has_resume_key(answer):
                    break
                if reverse:
                    end = answer.page.resumeKey
                else:
                    start = answer.page.resumeKey
            assert seen == (keys[::-1] if reverse else keys)
            assert pages > 5

    run(test)


def test_delete_range(run):
    async def test(store):
        given = [{"key": b"range-%d" % index, "value": b"v"} for index in range(10)]
        await store.raw.batchPut(pairs=given)
        answer = await store.raw.deleteRange(start=b"range-2", end=b"range-8")
        assert answer.which() == "done", answer
        answer = await store.raw.scan(start=b"range-", end=b"range.", limit=100)
        assert [key for key, _ in pairs(answer)] == [b"range-0", b"range-1", b"range-8", b"range-9"]

    run(test)


def test_compare_and_swap(run):
    async def test(store):
        async def swap(expected, value):
            answer = await store.raw.compareAndSwap(key=b"swap", expected=expected, value=value)
            assert answer.which() == "outcome", answer
            previous = answer.outcome.previous
            kept = previous.value if previous.which() == "value" else None
            return answer.outcome.swapped, kept

        assert await swap({"value": b"1"}, b"2") == (False, None)
        assert await swap({"absent": None}, b"1") == (True, None)
        assert await swap({"absent": None}, b"2") == (False, b"1")
        assert await swap({"value": b"1"}, b"2") == (True, b"1")
        assert await get(store, b"swap") == b"2"

    run(test)


def test_time_to_live(run):
    async def test(store):
        await put(store, b"ttl", b"v", ttlMs=300)
        answer = await store.raw.getTtl(key=b"ttl")
        assert answer.which() == "remainingMs" and 0 < answer.remainingMs <= 300, answer
        await put(store, b"ttl-never", b"v")
        answer = await store.raw.getTtl(key=b"ttl-never")
        assert answer.which() == "forever", answer
        await asyncio.sleep(0.5)
        assert await get(store, b"ttl") is None
        answer = await store.raw.getTtl(key=b"ttl")
        assert answer.which() == "notFound", answer

    run(test)


def test_bulk_load(run):
    async def test(store):
        loader = store.raw.bulkLoad().loader
        for chunk in range(20):
            given = [{"key": b"bulk-%03d-%03d" % (chunk, index), "value": b"v" * 50} for index in range(100)]
            await loader.put(pairs=given)
        answer = await loader.done()
        assert answer.which() == "pairs" and answer.pairs == 2000, answer
        assert await get(store, b"bulk-019-099") == b"v" * 50

    run(test)


def test_pipelined_calls_are_all_answered(run):
    async def test(store):
        puts = [store.raw.put(key=b"pipe-%d" % index, value=b"%d" % index) for index in range(500)]
        for answer in await asyncio.gather(*puts):
            assert answer.which() == "done"
        gets = [store.raw.get(key=b"pipe-%d" % index) for index in range(500)]
        values = [answer.value for answer in await asyncio.gather(*gets)]
        assert values == [b"%d" % index for index in range(500)]

    run(test)


def test_errors_are_data(run):
    async def test(store):
        answer = await store.raw.get(key=b"")
        assert answer.which() == "error", answer
        assert answer.error.which() == "invalidArgument" and "empty" in answer.error.message
        answer = await store.raw.get(key=b"k" * 5000)
        assert answer.error.which() == "tooLarge"
        assert (answer.error.tooLarge.limit, answer.error.tooLarge.got) == (4096, 5000)
        answer = await store.raw.put(key=b"k", value=b"v" * ((8 << 20) + 1))
        assert answer.error.which() == "tooLarge"
        answer = await store.raw.scan(start=b"b", end=b"a", limit=1)
        assert answer.error.which() == "invalidArgument"
        answer = await store.raw.batchGet(keys=[])
        assert answer.error.which() == "invalidArgument"

    run(test)


def test_region_errors_are_data(run):
    async def test(store):
        answer = await store.admin.regions()
        assert answer.which() == "page", answer
        regions = [info.region for info in answer.page.regions]
        region = next(region for region in regions if region.start <= b"rk" and (region.end == b"" or b"rk" < region.end))
        epoch = {"confVer": region.epoch.confVer, "version": region.epoch.version}
        context = {"regionId": region.id, "epoch": epoch}
        answer = await store.raw.get(key=b"k-context", context=context)
        assert answer.which() == "notFound", answer
        stale = {"regionId": region.id, "epoch": {**epoch, "version": epoch["version"] + 7}}
        answer = await store.raw.get(key=b"k-context", context=stale)
        assert answer.error.which() == "epochNotMatch", answer
        assert answer.error.epochNotMatch.currentRegions[0].id == region.id
        answer = await store.raw.get(key=b"k-context", context={"regionId": 987654321})
        assert answer.error.which() == "regionNotFound", answer
        elsewhere = {**context, "peer": {"id": 1, "storeId": 987654321}}
        answer = await store.raw.get(key=b"k-context", context=elsewhere)
        assert answer.error.which() == "storeNotMatch", answer

    run(test)


def test_split(run):
    async def test(store):
        await put(store, b"split-a", b"left")
        await put(store, b"split-z", b"right")
        answer = await store.admin.split(keys=[b"split-m"])
        assert answer.which() == "page", answer
        answer = await store.admin.regions()
        regions = [info.region for info in answer.page.regions]
        assert b"rsplit-m" in [region.start for region in regions]
        assert await get(store, b"split-a") == b"left"
        assert await get(store, b"split-z") == b"right"
        both = [{"key": b"split-a", "value": b"1"}, {"key": b"split-z", "value": b"2"}]
        answer = await store.raw.batchPut(pairs=both)
        assert answer.error.which() == "batchSpansRegions", answer
        answer = await store.raw.batchPut(pairs=both, atomicity="perRegion")
        assert answer.which() == "done", answer
        right = next(region for region in regions if region.start == b"rsplit-m")
        context = {
            "regionId": right.id,
            "epoch": {"confVer": right.epoch.confVer, "version": right.epoch.version},
        }
        answer = await store.raw.get(key=b"split-a", context=context)
        assert answer.error.which() == "keyNotInRegion", answer
        assert answer.error.keyNotInRegion.key == b"split-a"
        answer = await store.raw.scan(start=b"split-", end=b"split.", limit=10)
        assert [key for key, _ in pairs(answer)] == [b"split-a", b"split-z"]

    run(test)


def test_store_info(run):
    async def test(store):
        info = await store.admin.info()
        assert info.storeId >= 1 and info.cores >= 1 and info.version
        answer = await store.admin.statistics()
        assert isinstance(answer.text, str)

    run(test)


def test_a_message_over_the_limit_ends_this_connection_alone(run):
    async def oversized(store):
        with pytest.raises(capnp.KjException):
            await store.raw.put(key=b"k", value=b"v" * (32 << 20))

    async def other(store):
        assert await get(store, b"nothing-here") is None

    run(oversized)
    run(other)
