"""One offer to be put through: what it takes to be good, and what ends it."""

from __future__ import annotations

from sipbridge.conversation.confirmation import Offer


def asked(offer: Offer, now: float = 0.0) -> Offer:
    assert not offer.requested(now)
    offer.agent_spoke()
    return offer


def test_a_question_and_an_answer() -> None:
    offer = asked(Offer())
    offer.caller_acted()
    assert not offer.caller_said("Yes, please.")
    assert offer.requested(9)


def test_it_is_good_once() -> None:
    offer = asked(Offer())
    offer.caller_acted()
    assert offer.requested(9)
    assert not offer.requested(10)


def test_nobody_has_answered() -> None:
    offer = Offer()
    assert not offer.requested(0)
    assert not offer.requested(0), "at once"
    offer.caller_acted()
    assert not offer.requested(1), "he spoke before he was asked"
    offer.agent_spoke()
    assert not offer.requested(2), "he was asked, and has said nothing"
    offer.caller_acted()
    assert offer.requested(3)


def test_an_old_question_is_asked_again() -> None:
    offer = asked(Offer())
    offer.caller_acted()
    assert not offer.requested(121)
    offer.agent_spoke()
    offer.caller_acted()
    assert offer.requested(130)


def test_the_second_no_ends_it() -> None:
    offer = asked(Offer())
    offer.caller_acted()
    assert offer.caller_said("No, thanks.")
    assert not offer.over
    asked(offer, 10)
    offer.caller_acted()
    assert offer.caller_said("I said no!")
    assert offer.over
    for now in (20, 2000):
        assert not offer.requested(now, agreed=True)
        offer.agent_spoke()
        offer.caller_acted()
    assert not offer.caller_said("Yes")


def test_the_model_may_tell_of_a_no_in_any_language() -> None:
    offer = asked(Offer())
    offer.caller_acted()
    assert not offer.requested(5, agreed=False)
    assert offer.refusals == 1
    assert not asked(offer, 6).requested(7, agreed=False)
    assert offer.over


def test_a_no_to_something_else_is_none_to_this() -> None:
    offer = Offer()
    assert not offer.caller_said("No.")
    assert not offer.requested(0, agreed=False)
    assert not offer.caller_said("No."), "of before the question"
    offer.agent_spoke()
    assert not offer.caller_said("No."), "late words of before"
    assert offer.refusals == 0


def test_only_the_answer_counts() -> None:
    offer = asked(Offer())
    offer.caller_acted()
    assert offer.waits_for_words
    offer.caller_said("Is it far?")
    assert not offer.waits_for_words
    assert not offer.caller_said("No.")
    assert offer.requested(5), "the model has understood"
