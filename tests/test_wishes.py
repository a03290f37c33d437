"""Messages with more than one wish: where they are cut, and which parts count."""

import pytest

from agent import wishes
from agent.types import Route


class Words:
    """Knows an intent by its word; anything else it is not sure of."""

    def route(self, texts):
        """The first of the known words."""
        known = {"refund": "refund_status", "parcel": "order_status", "invoice": "invoice_copy"}
        found = [next((name for word, name in known.items() if word in text), None) for text in texts]
        return [Route(name or "other", 0.9 if name else 0.3, ((name or "other", 0.9 if name else 0.3),), 0.0) for name in found]


@pytest.mark.parametrize("text, cut", [
    ("Where is my parcel?", ["Where is my parcel?"]),
    ("Where is my parcel? And when do I get the refund?", ["Where is my parcel?", "And when do I get the refund?"]),
    ("where is my parcel and can I get an invoice", ["where is my parcel", "can I get an invoice"]),
    ("bread and butter and jam", ["bread and butter and jam"]),
    ("I paid twice, and also my parcel is late", ["I paid twice", "my parcel is late"]),
    ("Hi. Where is my parcel?", ["Hi. Where is my parcel?"]),
    ("It is LK-10482. Thanks!", ["It is LK-10482. Thanks!"]),
    ("", []), ("?!", ["?!"])])
def test_a_message_is_cut_where_another_wish_may_begin(text: str, cut: list[str]):
    assert wishes.parts(text) == cut


@pytest.mark.parametrize("text, told", [
    ("Where is my parcel? The number is LK-10482. Can I have an invoice too?",
     [("order_status", "Where is my parcel? The number is LK-10482."), ("invoice_copy", "Can I have an invoice too?")]),
    ("I am quite upset today. Where is my parcel? When is the refund paid?",
     [("order_status", "I am quite upset today. Where is my parcel?"), ("refund_status", "When is the refund paid?")]),
    ("Where is my parcel? I want my parcel now.", []),
    ("Money back please, a refund. The parcel never arrived.", []),
    ("the parcel came in bits and I want my refund", []),
    ("A refund would be nice. then please send me the invoice", []),
    ("Where is my parcel? What is the weather like?", []),
    ("Tell me a joke. What is the weather like?", [])])
def test_sure_parts_of_other_intents_are_wishes_and_the_rest_tells_more_of_them(text: str, told: list[tuple[str, str]]):
    assert [(route.intent, said) for said, route in wishes.several(Words(), text)] == told
