import pytest
from celery import chord, group
from shop.tasks import charge, greet, receipt, stray

from pytest_celery_chaos import Chaos, ChaosError


def test_a_charge_survives_its_worker(chaos: Chaos):
    chaos.restart(worker="a", how="kill", when={"after": "run", "task": charge.name})
    result = charge.delay(42)
    assert result.get(timeout=30) == 42
    chaos.expect.completed(task=result)
    chaos.expect.executions(task=result, exactly=2)


@pytest.mark.chaos(workers={"a": {"pool": "solo", "profile": "fast"}})
def test_a_greeting_arrives(chaos, chaos_broker, chaos_history):
    result = greet.delay("you")
    chaos.wait(at="succeeded", task=result)
    assert result.get(timeout=10) == "hello you"
    assert chaos_history().of("started", task=result.id)
    assert chaos_broker.client(1).exists(f"celery-task-meta-{result.id}")


@pytest.mark.chaos(workers={"a": {"pool": "solo", "profile": "fast"}})
def test_a_publish_to_another_broker_is_an_error(chaos):
    with pytest.raises(ChaosError, match="which is not the test's broker"):
        stray.delay()
    greet.delay("anyone")


@pytest.mark.chaos(workers={"a": {"pool": "solo", "profile": "fast"}})
def test_charges_are_on_the_receipt_in_their_order(chaos):
    charges = group(charge.s(amount) for amount in (1, 2, 3)).apply_async()
    assert charges.get(timeout=20) == [1, 2, 3]
    total = chord([charge.s(amount) for amount in (4, 5, 6)], receipt.s()).apply_async()
    assert total.get(timeout=20) == [4, 5, 6]
    chaos.expect.ordered(task=charges)
    chaos.expect.ordered(task=total)
    chaos.expect.body_once(task=total)


def test_without_chaos_nothing_is_started():
    assert greet("me") == "hello me"
