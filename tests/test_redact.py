"""Private values out, in the words of real people; and everything that looks like one left alone."""

import pickle
import random
import time
import unicodedata

import pytest

from agent.redact import Redactor

PRIVATE = [  # the phrase, and the value that must not stay
    ("EMAIL", "Hi, my email is jane.doe+shop@gmail.com thanks", "jane.doe+shop@gmail.com"),
    ("EMAIL", "write to JANE@EXAMPLE.CO.UK.", "JANE@EXAMPLE.CO.UK"),
    ("EMAIL", "<o'brien_1@mail.tcd.ie>", "brien_1@mail.tcd.ie"),
    ("EMAIL", "我的邮箱是zhang.wei@qq.com谢谢", "zhang.wei@qq.com"),
    ("EMAIL", "email:bob@x-y.io,phone later", "bob@x-y.io"),
    ("EMAIL", "jürgen@müller.de is me", "jürgen@müller.de"),
    ("EMAIL", "its mary dot walsh at gmail dot com", "mary dot walsh at gmail dot com"),
    ("PHONE", "call me on 087 123 4567 please", "087 123 4567"),
    ("PHONE", "my number is 0871234567", "0871234567"),
    ("PHONE", "ring (01) 234 5678 after six", "(01) 234 5678"),
    ("PHONE", "+353 86 123 4567", "+353 86 123 4567"),
    ("PHONE", "+353871234567 is my mobile", "+353871234567"),
    ("PHONE", "reach me at (555) 123-4567", "(555) 123-4567"),
    ("PHONE", "my cell is 415-555-2671.", "415-555-2671"),
    ("PHONE", "its 415.555.2671 ok?", "415.555.2671"),
    ("PHONE", "1-800-555-0199 is my work", "1-800-555-0199"),
    ("PHONE", "+1 415 555 2671", "+1 415 555 2671"),
    ("PHONE", "tel 07911 123456", "07911 123456"),
    ("PHONE", "020 7946 0958 home", "020 7946 0958"),
    ("PHONE", "+44 (0)20 7946 0958", "+44 (0)20 7946 0958"),
    ("PHONE", "我的手机号是13800138000谢谢", "13800138000"),
    ("PHONE", "电话：010-12345678", "010-12345678"),
    ("PHONE", "手机１３８００１３８０００", "１３８００１３８０００"),
    ("PHONE", "+86 138 0013 8000", "+86 138 0013 8000"),
    ("PHONE", "phone: 4155552671", "4155552671"),
    ("PHONE", "text me at 555-0142", "555-0142"),
    ("PHONE", "06 12 34 56 78 c'est moi", "06 12 34 56 78"),
    ("CARD", "my card is 4111 1111 1111 1111 exp 12/26", "4111 1111 1111 1111"),
    ("CARD", "4111111111111111", "4111111111111111"),
    ("CARD", "charged on 5555-5555-5555-4444 twice", "5555-5555-5555-4444"),
    ("CARD", "amex 3782 822463 10005", "3782 822463 10005"),
    ("CARD", "卡号4111111111111111被扣款", "4111111111111111"),
    ("CARD", "6200 0000 0000 0005 union pay", "6200 0000 0000 0005"),
    ("CARD", "the card 4222222222222 is old", "4222222222222"),
    ("IBAN", "IE29 AIBK 9311 5212 3456 78 is my iban", "IE29 AIBK 9311 5212 3456 78"),
    ("IBAN", "pay to DE89370400440532013000", "DE89370400440532013000"),
    ("IBAN", "gb29 nwbk 6016 1331 9268 19", "gb29 nwbk 6016 1331 9268 19"),
    ("IBAN", "账号GB29NWBK60161331926819。", "GB29NWBK60161331926819"),
    ("SSN", "my social is 123-45-6789", "123-45-6789"),
    ("SSN", "ssn 123 45 6789", "123 45 6789"),
    ("SSN", "SSN: 123456789", "123456789"),
    ("SSN", "social security number is 536221234", "536221234"),
    ("CNID", "我的身份证是11010519491231002X谢谢", "11010519491231002X"),
    ("CNID", "ID 11010519491231002x", "11010519491231002x"),
    ("CNID", "身份证号 440308199901010012", "440308199901010012"),
    ("ADDRESS", "I live at 12 Main Street, Springfield, IL 62704", "12 Main Street, Springfield, IL 62704"),
    ("ADDRESS", "send it to 45 oak avenue please", "45 oak avenue"),
    ("ADDRESS", "221B Baker Street", "221B Baker Street"),
    ("ADDRESS", "deliver to Flat 3, 12 Rose Lane, London SW1A 1AA", "Flat 3, 12 Rose Lane, London SW1A 1AA"),
    ("ADDRESS", "PO Box 1234, Cork", "PO Box 1234"),
    ("ADDRESS", "p.o. box 77", "p.o. box 77"),
    ("ADDRESS", "my eircode is D02 X285", "D02 X285"),
    ("ADDRESS", "it goes to A65F4E2", "A65F4E2"),
    ("ADDRESS", "zip code 90210", "90210"),
    ("ADDRESS", "7 St Patrick's Terrace", "7 St Patrick's Terrace"),
    ("ADDRESS", "200 W 34th St, New York, NY 10001", "200 W 34th St, New York, NY 10001"),
    ("ADDRESS", "我住在北京市朝阳区建国路88号1201室", "北京市朝阳区建国路88号1201室"),
    ("NAME", "my name is John Smith and I need help", "John Smith"),
    ("NAME", "hi my name is mary, my order is late", "mary"),
    ("NAME", "MY NAME IS JOHN SMITH AND I WANT MY MONEY", "JOHN SMITH"),
    ("NAME", "I am John Smith.", "John Smith"),
    ("NAME", "I'm Mary O'Brien, calling about my bill", "Mary O'Brien"),
    ("NAME", "Dr. Murphy told me to stop", "Murphy"),
    ("NAME", "please ask Mrs Kowalska", "Kowalska"),
    ("NAME", "Mr. Jan van der Berg", "Jan van der Berg"),
    ("NAME", "hello, this is Mary Walsh speaking", "Mary Walsh"),
    ("NAME", "this is mary speaking", "mary"),
    ("NAME", "signed, Peter Pan", "Peter Pan"),
    ("NAME", "Regards,\nSiobhán Ní Murchú", "Siobhán Ní Murchú"),
    ("NAME", "我叫张伟，想退货", "张伟"),
    ("NAME", "请联系王先生", "王"),
    ("PASSWORD", "my password is hunter2 and it fails", "hunter2"),
    ("PASSWORD", "password: Tr0ub4dor&3", "Tr0ub4dor&3"),
    ("PASSWORD", "my password is swordfish", "swordfish"),
    ("PASSWORD", "my pin is 4821", "4821"),
    ("PASSWORD", "密码是abc123，登不上", "abc123"),
    ("URLCRED", "https://bob:s3cret@example.com/x", "bob:s3cret"),
    ("URLCRED", "postgresql://user:p@ss@db:5432/x", "user:p@ss"),
]

HARMLESS = """\
Where is my order LK-10482?
order 15012345678 has not come
order number 0861234567
my tracking number is 0123456789
invoice no. 2026-000123
portfolio PF-102 is down
appointment AP-2041 on Monday
I paid $1,200.00 for it
it cost 1 200 000 euro
€10 000 000 000
the price is 415 555 2671 dollars
take 500 mg twice a day
500 mg 2 times, 1000 mg at night
between 2019-2024 sales doubled
1999, 2000, 2001, 2002, 2003
on 2026-11-21 at 14:30
01.02.2026 10:30
05/06/2026 to 07/06/2026
call me on 21/11/2026
ring me on 2026-11-21 please
call 911
call 112 or 999 now
Samaritans on 116 123
AAPL and MSFT fell 3.25%
my BP is 120/80
version 1.22.333.4444
server 192.168.100.200
4111 1111 1111 1112 is not a card
1234567890123456
IE29 AIBK 9311 5212 3456 79
DE89370400440532013001
000-12-3456
666-12-3456
123-00-4567
900-12-3456
110105194912310021
440308199913010012
vitamin B12 5MG tablets
N95 mask and KN95
flight BA 2490 to NYC
COVID-19 and omega-3
ISBN 978-3-16-148410-0
my name is spelled wrong on the invoice
my name is not on the list
my name is wrong.
I am very upset
I am Irish.
I am Type One, diabetic
I AM VERY ANGRY.
I'm John
I miss Dublin
I drink Dr Pepper
Ms Excel does not open
generally speaking it works
this is ridiculous, speaking honestly
my password is wrong
my password is not working
my password is expired and I am locked out
I forgot my password
reset password: how do I do it
the password is being rejected
the pin is on the back of the card
2 miles down the road
it is 5 minutes off the main street
3 days in court
24 hours a day on the road
I have 2 cars in my drive
http://example.com:8080/a@b
user@localhost
@jane on twitter
look at amazon dot com
9 to 5, 24/7
my meter reads 00123456
2000000000000000
0.0861234567
serial number 0123456789
我有三个订单
一二三四五六七八九十
我叫了外卖
今天是2026年11月21日
订单号13800138000
价格是12345678元
第12345号
我是不是要付钱？
""".splitlines()


@pytest.mark.parametrize(("kind", "text", "value"), PRIVATE, ids=[text for _, text, _ in PRIVATE])
def test_a_private_value_leaves_the_text_and_comes_back(kind: str, text: str, value: str) -> None:
    redactor = Redactor()
    redacted = redactor.redact(text)
    assert redacted == text.replace(value, f"[{kind}_1]")
    assert redactor.redact(redacted) == redacted
    assert redactor.restore(redacted) == text
    assert redactor.marks == {kind: 1}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_not_private_stays(text: str) -> None:
    assert Redactor().redact(text) == text


def test_there_are_enough_phrases() -> None:
    assert len(PRIVATE) >= 60 and len(HARMLESS) >= 60


def test_the_same_value_has_one_mark_in_a_session() -> None:
    redactor = Redactor()
    assert redactor.redact("a@b.co or c@d.co") == "[EMAIL_1] or [EMAIL_2]"
    assert redactor.redact("again C@D.CO, 087 123 4567") == "again [EMAIL_2], [PHONE_1]"
    assert redactor.redact("087-1234567") == "[PHONE_1]"
    assert redactor.marks == {"EMAIL": 2, "PHONE": 1}


def test_a_name_once_said_is_known_afterwards() -> None:
    redactor = Redactor()
    redactor.redact("my name is Ann Lee")
    assert redactor.redact("the parcel says Ann Lee, not Ann Leeson") == "the parcel says [NAME_1], not Ann Leeson"


def test_sessions_know_nothing_of_each_other() -> None:
    first, second = Redactor(), Redactor()
    assert second.restore(first.redact("a@b.co")) == "[EMAIL_1]"


def test_a_typed_mark_never_becomes_a_value() -> None:
    redactor = Redactor()
    text = "what does [EMAIL_1] mean? mine is a@b.co"
    assert redactor.redact(text) == "what does [EMAIL_1] mean? mine is [EMAIL_2]"
    assert redactor.restore("[EMAIL_1] [EMAIL_2]") == "[EMAIL_1] a@b.co"


def test_a_mark_a_model_made_up_never_becomes_a_value() -> None:
    redactor = Redactor()
    assert redactor.restore("write to [EMAIL_1]") == "write to [EMAIL_1]"
    assert redactor.redact("a@b.co") == "[EMAIL_2]"


def test_marks_of_a_stored_history_are_not_given_again() -> None:
    redactor = Redactor()
    redactor.reserve("user: [PHONE_1] [PHONE_2]")
    assert redactor.redact("0871234567") == "[PHONE_3]"


def test_a_restored_value_is_not_restored_again() -> None:
    redactor = Redactor()
    redacted = redactor.redact("mail a@b.co, my password is x[EMAIL_1]")
    assert redactor.restore(redacted) == "mail a@b.co, my password is x[EMAIL_1]"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_a_streamed_text_is_restored_whatever_the_pieces(size: int) -> None:
    redactor = Redactor()
    redacted = redactor.redact("a@b.co, 0871234567 and [x] [EMAIL_ [[EMAIL_9] [")
    stream = redactor.restore_stream()
    pieces = [redacted[i : i + size] for i in range(0, len(redacted), size)]
    shown = "".join(stream.feed(piece) for piece in pieces) + stream.close()
    assert shown == redactor.restore(redacted)


def test_a_stream_waits_only_for_what_could_be_a_mark() -> None:
    redactor = Redactor()
    redactor.redact("a@b.co")
    stream = redactor.restore_stream()
    assert stream.feed("to [EMA") == "to "
    assert stream.feed("IL_1] [no") == "a@b.co [no"
    assert stream.close() == ""


def test_a_redactor_cannot_be_written_and_tells_no_value() -> None:
    redactor = Redactor()
    redactor.redact("a@b.co")
    with pytest.raises(TypeError):
        pickle.dumps(redactor)
    assert "a@b.co" not in repr(redactor)


def letters(text: str) -> str:
    """What is left when spacing and case, in which the same value may differ, are dropped."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text))).lower()


def test_redacting_twice_changes_nothing_for_any_mixture() -> None:
    rng = random.Random(7)
    glue = [" ", ", ", "\n", "", "，", "/", "-", ". ", "的", ": ", " and ", "["]
    pool = [text for _, text, _ in PRIVATE] + [value for *_, value in PRIVATE] + HARMLESS + ["[EMAIL_1]", "[NAME_2]"]
    for _ in range(400):
        text = "".join(rng.choice(pool) + rng.choice(glue) for _ in range(rng.randint(1, 6)))
        redactor = Redactor()
        redacted = redactor.redact(text)
        assert redactor.redact(redacted) == redacted, text
        assert letters(redactor.restore(redacted)) == letters(text)


def test_redacting_twice_changes_nothing_for_noise() -> None:
    rng = random.Random(11)
    for _ in range(400):
        text = "".join(rng.choices("01234567899 .-+()@:/[]_aAbE1my号路王我，\n", k=rng.randint(0, 60)))
        redactor = Redactor()
        redacted = redactor.redact(text)
        assert redactor.redact(redacted) == redacted, text
        assert letters(redactor.restore(redacted)) == letters(text)


def _valid_card(rng: random.Random) -> str:
    body = rng.choice("3456") + "".join(rng.choices("0123456789", k=14))
    doubled = sum(sum(divmod(2 * int(d), 10)) for d in body[::2]) + sum(map(int, body[1::2]))
    return body + str(-doubled % 10)


def test_every_valid_card_goes_and_every_broken_one_is_no_card() -> None:
    rng = random.Random(3)
    for _ in range(200):
        card = _valid_card(rng)
        broken = card[:-1] + str((int(card[-1]) + rng.randint(1, 9)) % 10)
        spaced = " ".join(card[i : i + 4] for i in range(0, 16, 4))
        assert Redactor().redact(f"card {card}.") == "card [CARD_1]."
        assert Redactor().redact(f"card {spaced}, 12/27") == "card [CARD_1], 12/27"
        assert "CARD" not in Redactor().redact(f"card {broken}.")


@pytest.mark.parametrize(
    "seed",
    ["a", "1", "1 ", "0", "+1 ", "1-", "9.", "a@", "a.", "://a:", "A1 ", "Mr ", "12 Main ", "GB29 ", "路", "[", "我的"],
)
def test_work_is_linear_in_the_text(seed: str) -> None:
    assert growth(seed * 100_000) < 8


def test_the_work_for_a_long_talk_is_linear() -> None:
    assert growth(("\n".join(HARMLESS) + "\n".join(text for _, text, _ in PRIVATE)) * 20) < 8


def growth(text: str) -> float:
    """How many times the work is of four times the text: about 4 if it is linear, 16 if it is quadratic."""
    def spent(length: int) -> float:
        times = []
        for _ in range(2):  # the shorter one of two: this process's own time, whatever else the machine does
            start = time.process_time()
            Redactor().redact(text[:length])
            times.append(time.process_time() - start)
        return min(times)

    return spent(80_000) / max(spent(20_000), 1e-3)
