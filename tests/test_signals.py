"""Weak signs: what the next message says about an answer, and what it does not say."""

from dataclasses import replace

import pytest

from agent.signals import Signal, disputed, reask, weak
from agent.types import Turn

BEFORE = {"id": "t1", "state": "answered", "intent": "return_policy", "question": "How many days do I have to return an item?"}
AGAIN = "So how many days until I must return an item"


def turn(text, intent="return_policy", state="answered"):
    return Turn("t2", "s1", "shop", "shop@0001", text, text, intent=intent, state=state)


@pytest.mark.parametrize("text", [
    "that is wrong", "No, that's wrong.", "Sorry, but this is simply not true", "that isn't right, I paid on Monday",
    "no, that's not what I asked", "thats not what i meant", "I didn't ask about that", "you misunderstood me",
    "You are mistaken, it was delivered.", "wrong answer", "that doesn’t answer my question", "It's the wrong answer!",
    "Das stimmt nicht", "nein, das ist leider falsch.", "Danach habe ich nicht gefragt", "Sie haben mich falsch verstanden",
    "C’est faux", "ce n'est pas ce que j'ai demandé", "Vous vous trompez", "vous n'avez pas répondu",
    "Eso no es correcto", "no es lo que pregunté", "eso está mal", "Te equivocas",
    "不对", "不对，我问的是退货", "你说的不对", "答非所问", "这不是我想问的", "回答错了",
])
def test_a_denial_is_heard_in_five_languages(text):
    assert disputed(text)


@pytest.mark.parametrize("text", [
    "that is the wrong size", "my order is wrong", "the item I got is not what I ordered", "it is not what I asked for",
    "what is wrong with my account?", "is that right?", "no, LK-10233", "no thanks", "I typed the wrong address",
    "what if the number on the invoice is not correct?", "is it wrong to pay late?", "",
    "Stimmt, danke", "die Größe ist falsch", "Ich habe die falsche Adresse angegeben", "ce n'est pas grave", "c'est ma faute",
    "la talla está mal", "no es urgente", "收到的尺寸不对", "对不对？", "我的地址错了", "对不起",
])
def test_what_is_wrong_with_an_order_is_no_denial_of_an_answer(text):
    assert not disputed(text)


def test_a_very_long_message_is_read_at_its_start_alone():
    assert disputed("that is wrong. " + "x " * 50_000) and not disputed("x " * 50_000 + "that is wrong.")


@pytest.mark.parametrize("first, second", [
    ("How many days do I have to return an item?", "so how many days until I must return the item"),
    ("Can I return shoes?", "returning the shoes, can I?"),
    ("which credit cards do you accept", "Which credit cards do you accept?"),
    ("Wie lange habe ich Zeit für die Rückgabe?", "wie lange ist Zeit zur Rückgabe"),
    ("我的订单在哪里？", "订单在哪里啊"),
])
def test_the_same_wish_in_other_words_is_a_reask(first, second):
    assert reask(first, second, same_intent=True)


@pytest.mark.parametrize("first, second", [
    ("How many days do I have to return an item?", "who pays the postage?"),
    ("What would a loan of $12,000 over 5 years cost?", "What would a loan of $15,000 over 5 years cost?"),
    ("where is my order LK-10482", "where is my order LK-10233"),
    ("thanks", "thanks"), ("", ""), ("hello there", "hello"),
])
def test_another_wish_or_another_figure_is_no_reask(first, second):
    assert not reask(first, second, same_intent=True)


def test_where_the_router_sees_another_intent_more_words_must_come_again():
    first, second = "return an item after thirty days", "exchange an item after some days please"
    assert reask(first, second, same_intent=True) and not reask(first, second, same_intent=False)
    assert reask(first, "I mean, exchange an item after some days", same_intent=False)


def test_a_sign_is_about_the_turn_before():
    assert weak(BEFORE, turn(AGAIN)) == [Signal("t1", "reask", "4 of 4 words again")]
    assert weak(BEFORE, turn("no, that is wrong")) == [Signal("t1", "disputed", "no, that is wrong")]
    assert weak(BEFORE, turn("who pays the postage?")) == []
    assert weak(None, turn("that is wrong")) == []


def test_a_denial_that_repeats_the_wish_counts_once():
    assert [sign.name for sign in weak(BEFORE, turn(f"that is wrong. {AGAIN}"))] == ["disputed"]


@pytest.mark.parametrize("state", ["asking", "confirming", "clarify", "error", "cancelled", "escalated", "handoff"])
def test_after_anything_but_an_answer_there_is_no_sign(state):
    assert weak(BEFORE | {"state": state}, turn("no, that is wrong")) == []
    assert weak(BEFORE | {"state": state}, turn(AGAIN)) == []


def test_what_answers_a_question_of_the_agent_is_no_sign():
    assert weak(BEFORE, turn("no, that is wrong")) and weak(BEFORE, turn("no, that is wrong"), asked=True) == []


def test_a_handoff_straight_after_an_answer_is_a_sign_and_after_a_greeting_or_refusal_is_none():
    handed = turn("give me a person", "talk_to_person", "handoff")
    assert weak(BEFORE, handed) == [Signal("t1", "handoff_after_answer", "talk_to_person")]
    assert weak(BEFORE | {"question": "hello"}, handed) == []
    assert weak(BEFORE | {"state": "refused"}, handed) == []
    assert weak(BEFORE, replace(handed, state="escalated")) == []
