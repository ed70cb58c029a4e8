"""`ordered` and `body_once`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from pytest_celery_chaos.checks.ordering import body_once, ordered
from pytest_celery_chaos.history.labels import BODY, GROUP, HEADER, MEMBER, part_id

from .story import Story

PREFIX = "01234567-"
GID = part_id(PREFIX, GROUP)
BODY_ID = part_id(PREFIX, BODY)


def member(number: int, role: str = MEMBER) -> str:
    return part_id(PREFIX, role, number)


def group(*digests: str, role: str = MEMBER, ids: Sequence[str] = (), label: str = "g") -> Story:
    """A group that one worker works off; *digests* are those of its tasks' results."""
    story = Story().worker("a")
    named = list(ids) or [member(number, role) for number in range(len(digests))]
    story.harness("label", label=label, prefix=PREFIX, name="add", times=len(digests))
    for number, one in enumerate(named):
        for phase in ("invoke", "ok"):
            story.event("client:main", "publish", phase, one, name="add", queue="celery", group=GID, index=number)  # type: ignore[arg-type]
    for number, one in enumerate(named):
        if digests[number]:
            story.takes("a", one).starts("a", one).returns("a", one)
            story.event(
                "worker:a", "store", "ok", one, state="SUCCESS", group=GID, index=number, digest=digests[number]
            )
            if role == HEADER:
                handed = {"group": GID, "index": number, "state": "SUCCESS", "digest": digests[number]}
                story.event("worker:a", "chord_part", "ok", one, **handed)
            story.event("worker:a", "succeeded", None, one).acks("a", one)
    return story


def joined(story: Story, *got: str, results: int | None = None) -> Story:
    attrs = {"group": GID, "ids": [], "count": 3, "got": list(got), "results": len(got) if results is None else results}
    return story.event("client:main", "joined", "ok", **attrs)


def dispatched(story: Story, *got: str, body: str = BODY_ID) -> Story:
    story.event("worker:a", "chord", None, body, group=GID, digests=list(got), count=len(got))
    for phase in ("invoke", "ok"):
        story.event("worker:a", "publish", phase, body, name="collect", queue="celery", group=GID)  # type: ignore[arg-type]
    return story


def test_results_in_the_order_of_definition() -> None:
    finding = ordered(joined(joined(group("0", "1", "2"), "0", "1", "2"), "0", "1", "2").ends().history(), task="g")
    assert (finding.outcome, finding.seen) == ("holds", 0)
    assert "2 lists" in finding.why


@pytest.mark.parametrize(
    ("got", "seen", "why"),
    [
        (["2", "1", "0"], 2, "out of place at 0, 2 (from 0) of 3"),
        (["1", "2", "0"], 3, "out of place at 0, 1, 2"),
        (["0", "0", "2"], 1, "out of place at 1 (from 0) of 3, 1 of them given before"),
        (["0", "1"], 1, "2 results of 3 tasks"),
        (["0", "1", "2", "2"], 1, "4 results of 3 tasks"),
        (["0", "1", "null"], 1, "out of place at 2"),
    ],
)
def test_results_that_are_not(got: list[str], seen: int, why: str) -> None:
    finding = ordered(joined(group("0", "1", "2"), *got).ends().history(), task="g")
    assert (finding.outcome, finding.seen) == ("violated", seen)
    assert why in finding.why
    assert [event.kind for event in finding.evidence] == ["joined"]


def test_the_worst_of_several_lists_counts() -> None:
    story = joined(joined(joined(group("0", "1", "2"), "0", "1", "2"), "2", "1", "0"), "0", "1", "2")
    assert ordered(story.ends().history(), task="g").seen == 2


def test_what_the_body_of_a_chord_was_given() -> None:
    story = dispatched(group("0", "1", "2", role=HEADER, label="c"), "0", "1", "2").works("a", BODY_ID).ends()
    assert ordered(story.history(), task="c").outcome == "holds"
    for named in (GID, BODY_ID, "collect", member(1, HEADER)):
        assert ordered(story.history(), task=named).outcome == "holds", named
    assert body_once(story.history(), task=BODY_ID).outcome == "holds"
    story = dispatched(group("0", "1", "2", role=HEADER, label="c"), "0", "2", "1").works("a", BODY_ID).ends()
    finding = ordered(story.history(), task="c")
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert "the body at" in finding.why


def test_a_group_of_a_users_own_is_in_the_order_of_its_members_numbers() -> None:
    ids = ["f-first", "e-second", "d-third"]
    assert ordered(joined(group("0", "1", "2", ids=ids), "0", "1", "2").ends().history(), task=GID).outcome == "holds"
    assert ordered(joined(group("0", "1", "2", ids=ids), "2", "1", "0").ends().history(), task=GID).seen == 2


def test_a_task_that_ran_twice_may_have_returned_either() -> None:
    story = group("0", "1", "2")
    story.event("worker:a", "store", "ok", member(1), state="SUCCESS", group=GID, index=1, digest="7")
    assert ordered(joined(story, "0", "7", "2").ends().history(), task="g").outcome == "holds"
    assert ordered(joined(story, "0", "8", "2").ends().history(), task="g").outcome == "violated"


@pytest.mark.parametrize(
    ("story", "why"),
    [
        (Story().worker("a").send("t1"), "no group called 'g'"),
        (group("0", "1", "2"), "no results of the 3 tasks were given to anybody"),
        (joined(group("5", "5", "5"), "5", "5", "5"), "told apart"),
        (joined(group("5"), "5"), "told apart"),
        (joined(group("", "", ""), "0", "1", "2"), "told apart"),
    ],
)
def test_nothing_to_judge_an_order_by(story: Story, why: str) -> None:
    finding = ordered(story.ends().history(), task="g")
    assert finding.outcome == "inconclusive"
    assert why in finding.why


def header(*digests: str) -> Story:
    return group(*(digests or ("0", "1", "2")), role=HEADER, label="c")


def test_a_body_that_ran_once() -> None:
    story = dispatched(header(), "0", "1", "2").works("a", BODY_ID).ends()
    finding = body_once(story.history(), task="c")
    assert (finding.outcome, finding.seen) == ("holds", 1)
    assert "given 3 results" in finding.why


def test_a_body_that_was_published_twice() -> None:
    story = (
        dispatched(dispatched(header(), "0", "1", "2"), "0", "1", "2").works("a", BODY_ID).works("a", BODY_ID).ends()
    )
    finding = body_once(story.history(), task="c")
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert "published twice" in finding.why


def test_a_body_that_was_published_once_and_ran_twice() -> None:
    story = dispatched(header(), "0", "1", "2").takes("a", BODY_ID).starts("a", BODY_ID).works("a", BODY_ID).ends()
    finding = body_once(story.history(), task="c")
    assert (finding.outcome, finding.seen) == ("violated", 2)
    assert "executed twice" in finding.why


def test_a_body_that_was_never_published() -> None:
    finding = body_once(header().ends().history(), task="c")
    assert (finding.outcome, finding.seen) == ("violated", 0)
    assert "3 of 3 parts had been handed in" in finding.why
    lost = header("0", "1", "").takes("a", member(2, HEADER)).kill("a").ends()
    finding = body_once(lost.history(), task="c")
    assert finding.seen == 0
    assert "2 of 3" in finding.why


def test_a_body_that_was_published_and_never_ran() -> None:
    finding = body_once(dispatched(header(), "0", "1", "2").ends().history(), task="c")
    assert (finding.outcome, finding.seen) == ("violated", 0)
    assert "never executed" in finding.why


def test_a_chord_that_failed() -> None:
    story = header().event("worker:a", "store", "ok", BODY_ID, state="FAILURE").ends()
    assert body_once(story.history(), task="c").seen == 0
    assert body_once(story.history(), task="c", may_fail=True).outcome == "holds"
    assert body_once(header().ends().history(), task="c", may_fail=True).outcome == "violated"


def test_a_header_that_is_still_under_way() -> None:
    waiting = header("0", "1", "").ends(queues={"celery": [member(2, HEADER)]})
    assert body_once(waiting.history(), task="c").outcome == "inconclusive"
    running = header("0", "1", "").takes("a", member(2, HEADER)).starts("a", member(2, HEADER)).ends()
    assert body_once(running.history(), task="c").outcome == "inconclusive"
    assert body_once(Story().worker("a").send("t1").ends().history(), task="c").outcome == "inconclusive"


def test_a_retry_of_the_body_is_no_second_run_and_a_body_may_be_a_chain() -> None:
    story = dispatched(header(), "0", "1", "2").takes("a", BODY_ID).starts("a", BODY_ID)
    story.event("worker:a", "started", None, BODY_ID, retries=1).returns("a", BODY_ID)
    second: Mapping[str, str] = {"name": "echo", "queue": "celery"}
    for phase in ("invoke", "ok"):
        story.event("worker:a", "publish", phase, part_id(PREFIX, BODY, 1), **second)  # type: ignore[arg-type]
    assert body_once(story.ends().history(), task="c").outcome == "holds"
