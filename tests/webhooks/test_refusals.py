"""Refusals say in the original's words what is wrong, and nothing of the inside."""

from gateway.webhooks.refusals import WebhookRefused, come_again, forbidden, invalid_credentials, invalid_signature


def test_the_reason_is_the_body_unless_one_is_given() -> None:
    assert WebhookRefused(422, "no").body == {"reason": "no"}
    assert WebhookRefused(422, "no", body={"other": 1}).body == {"other": 1}
    assert WebhookRefused(405, "no", headers={"Allow": "GET"}).headers == {"Allow": "GET"}


def test_who_is_not_let_in_gets_the_originals_words_and_is_not_asked_for_a_password() -> None:
    refusals = [invalid_credentials("x"), invalid_signature("x"), forbidden("x")]
    assert [(each.status, str(each)) for each in refusals] == [
        (401, "Reason: INVALID_CREDENTIALS. Details: x"),
        (401, "Reason: INVALID_SIGNATURE. Details: x"),
        (403, "Reason: FORBIDDEN. Details: x"),
    ]
    assert not any(each.headers for each in refusals)


def test_an_outage_says_when_to_come_again() -> None:
    refusal = come_again("later", 10)
    assert (refusal.status, refusal.headers) == (503, {"Retry-After": "10"})
