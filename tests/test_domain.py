"""A domain folder is read whole, or refused with a sentence that names file, line and remedy."""

from pathlib import Path

import pytest

from agent.domain import Domain, find, plain, shipped
from agent.errors import DomainError

DOMAIN = """\
name = "shop"
persona = "You are the help desk of a small shop."
unknown = "Our pages do not say."
examples = ["When are you open?"]

[router]
clarify_margin = 0.2

[intents.order_status]
about = "where an order is"
answer = "tool"
tool = "tools.orders:order_status"
slots = { order = "id:LK-\\\\d{5}" }

[intents.return_policy]
about = "how returns work"
answer = "docs"

[intents.greeting]
answer = "fixed"
reply = "Hello!"

[ask]
order = "Which order is it?"

[guard]
forbid = ["\\\\bguaranteed\\\\b"]
"""
FILES = {
    "domain.toml": DOMAIN,
    "intents.jsonl": '{"text": "where is my parcel", "intent": "order_status"}\n'
                     '{"text": "can I send it back", "intent": "return_policy"}\n'
                     '{"text": "hello", "intent": "greeting"}\n',
    "oos.jsonl": '{"text": "who won the match", "kind": "far"}\n',
    "dialogues.jsonl": '{"id": "d1", "question": "how long may I keep it?", "evidence": ["returns#1"], '
                       '"answer": "You have 30 days.", "must_say": ["30 days"], "answerable": true}\n'
                       '{"id": "d2", "question": "do you sell boats?", "evidence": [], "answer": "", "must_say": [], '
                       '"answerable": false}\n',
    "eval/intents.jsonl": '{"text": "any news of my parcel", "intent": "order_status"}\n',
    "knowledge/returns.md": "---\ntitle: Returns\nsource: Shop terms, 2026\nintents: return_policy, greeting\n---\n"
                            "## How long\nYou have 30 days\nto return an item.\n\n## Who pays\nYou pay the postage.\n",
    "knowledge/hours.md": "---\ntitle: Hours\nsource: Shop terms, 2026\n---\n## Days\nWe are open from Monday to Friday.\n",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder of a small, complete domain named "shop" without a mistake."""
    folder = tmp_path / "shop"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def put(file: Path, old: str, new: str) -> None:
    """Replace the one place of `old` in a file."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file.name}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def add(file: Path, *lines: str) -> None:
    """Append lines to a file."""
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def refusal(folder: Path) -> str:
    """The words with which the folder is refused."""
    with pytest.raises(DomainError) as caught:
        Domain.load(folder)
    return str(caught.value)


# ---- what is read

def test_a_whole_folder_is_read_and_frozen(shop: Path) -> None:
    domain = Domain.load(shop)
    assert (domain.name, domain.folder, domain.clarify_margin) == ("shop", shop, 0.2)
    assert list(domain.intents) == ["order_status", "return_policy", "greeting"]
    assert domain.intents["order_status"].slots == (("order", r"id:LK-\d{5}"),)
    assert domain.rules.forbid == (r"\bguaranteed\b",)
    with pytest.raises(AttributeError):
        domain.name = "other"


def test_what_is_not_said_has_a_default(shop: Path) -> None:
    domain = Domain.load(shop)
    assert (domain.title, domain.languages, domain.intents["greeting"].about) == ("shop", ("en",), "greeting")
    assert domain.rules.numbers_need_source and not domain.rules.disclosure


def test_each_section_of_an_article_is_a_passage_with_the_articles_source(shop: Path) -> None:
    passages = {passage.id: passage for passage in Domain.load(shop).passages}
    assert list(passages) == ["hours#1", "returns#1", "returns#2"]
    first = passages["returns#1"]
    assert (first.title, first.heading, first.source) == ("Returns", "How long", "Shop terms, 2026")
    assert first.text == "You have 30 days to return an item."
    assert first.intents == {"return_policy", "greeting"} and passages["hours#1"].intents == frozenset()


def test_rows_skip_empty_lines(shop: Path) -> None:
    add(shop / "oos.jsonl", "", "  ", '{"text": "last"}')
    assert [row["text"] for row in Domain.load(shop).rows("oos.jsonl")] == ["who won the match", "last"]


def test_a_domain_is_found_by_path_and_by_name(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Domain.load(str(shop)).folder == Domain.load(shop).folder == shop
    monkeypatch.chdir(shop.parent)
    assert find("shop") == shop
    for name in shipped():
        assert Domain.load(name).name == name


def test_a_domain_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    for name in ("nonsense", tmp_path):
        with pytest.raises(DomainError) as caught:
            Domain.load(name)
        assert str(name) in str(caught.value) and all(each in str(caught.value) for each in shipped())
        assert "domain.toml" in str(caught.value)


def test_the_template_is_not_listed_among_the_domains() -> None:
    assert shipped() and not [name for name in shipped() if name.startswith("_")]


@pytest.mark.parametrize(("one", "other"), [
    ("Where's my ORDER?!", "where s my order"), ("  two   words ", "two words"), ("退货", "退货。"),
])
def test_rows_are_compared_by_their_words_alone(one: str, other: str) -> None:
    assert plain(one) == plain(other)


# ---- mistakes in domain.toml

@pytest.mark.parametrize(("old", "new", "told"), [
    ('name = "shop"', "name = ", ["not valid TOML", "line 1"]),
    ('name = "shop"', 'name = "shop"\nnmae = 1', ["unknown key 'nmae'", "known: ", "persona"]),
    ('name = "shop"\n', "", ["lacks 'name'", "add it"]),
    ('persona = "You are the help desk of a small shop."\n', "", ["lacks 'persona'", "add it"]),
    ('unknown = "Our pages do not say."\n', "", ["lacks 'unknown'", "add it"]),
    ('answer = "docs"', 'answer = "doc"', ["[intents.return_policy]", "docs, tool, fixed, handoff, generate"]),
    ('answer = "docs"', "answer = 5", ["[intents.return_policy]", "docs, tool, fixed, handoff, generate"]),
    ('answer = "docs"\n', "", ["[intents.return_policy]", "docs, tool, fixed, handoff, generate"]),
    ('answer = "docs"', 'answer = "docs"\nreplies = "x"', ["[intents.return_policy]", "'replies'", "known: ", "reply"]),
    ('tool = "tools.orders:order_status"\n', "", ["[intents.order_status]", 'tool = "module:function"']),
    ("tools.orders:order_status", "tools.orders.order_status", ["[intents.order_status]", 'tool = "module:function"']),
    ("tools.orders:order_status", "tools/orders:order_status", ["[intents.order_status]", 'tool = "module:function"']),
    ('reply = "Hello!"\n', "", ["[intents.greeting]", "needs reply"]),
    ('"id:LK-\\\\d{5}"', '"identifier"', ["'order'", "order_status", "'identifier'", "use text, money", "id:REGEX"]),
    ('order = "Which order is it?"\n', "", ["[ask] lacks a question", "'order'"]),
    ("forbid = ", "forbids = ", ["[guard] key 'forbids'", "known: ", "forbid"]),
])
def test_a_mistake_in_domain_toml_is_named_with_its_remedy(shop: Path, old: str, new: str, told: list[str]) -> None:
    put(shop / "domain.toml", old, new)
    message = refusal(shop)
    assert str(shop / "domain.toml") in message
    assert [each for each in told if each not in message] == []


def test_a_slot_that_may_be_left_out_needs_no_question(shop: Path) -> None:
    put(shop / "domain.toml", '{ order = "id:LK-\\\\d{5}" }', '{ order = "id:LK-\\\\d{5}", days = "number?" }')
    intent = Domain.load(shop).intents["order_status"]
    assert intent.slots == (("order", r"id:LK-\d{5}"), ("days", "number")) and intent.optional == {"days"}


def test_a_domain_without_intents_is_refused(shop: Path) -> None:
    (shop / "domain.toml").write_text('name = "shop"\npersona = "p"\nunknown = "u"\n', encoding="utf-8")
    assert f"{shop / 'domain.toml'} lacks 'intents'" in refusal(shop)


@pytest.mark.parametrize(("old", "new", "told"), [
    ('name = "shop"', "name = ", "correct"),  # a remedy for bad TOML
    ("clarify_margin = 0.2", 'clarify_margin = "wide"', "clarify_margin"),
    ("clarify_margin = 0.2", "clarify_margn = 0.2", "clarify_margn"),
    ('{ order = "id:LK-\\\\d{5}" }', "{ order = 5 }", "order"),
    ('"id:LK-\\\\d{5}"', '"id:LK-(["', "order"),
    ('"id:LK-\\\\d{5}"', '"name:nothing"', "nothing.csv"),
    ('tool = "tools.orders:order_status"', "tool = 5", "module:function"),
    ('["\\\\bguaranteed\\\\b"]', '["(guaranteed"]', "forbid"),
    ('["\\\\bguaranteed\\\\b"]', '"guaranteed"', "forbid"),
    ("forbid = ", 'disclose_intents = ["returns"]\nforbid = ', "returns"),
    ("tools.orders:order_status", "tools.nowhere:order_status", "tools.nowhere"),
    ('reply = "Hello!"', "reply = 5", "reply"),
    ('order = "Which order is it?"', "order = 5", "[ask]"),
    ('[intents.greeting]', "[intents.greeting.deeper]", "[intents.greeting]"),
    ('name = "shop"', "name = 5", "name is 5"),
])
def test_a_wrong_value_in_domain_toml_is_refused(shop: Path, old: str, new: str, told: str) -> None:
    put(shop / "domain.toml", old, new)
    message = refusal(shop)
    assert "domain.toml" in message and told in message


# ---- mistakes in rows

@pytest.mark.parametrize("name", ["intents.jsonl", "dialogues.jsonl"])
def test_a_missing_file_of_rows_is_named(shop: Path, name: str) -> None:
    (shop / name).unlink()
    assert f"{shop / name} is missing; add it" in refusal(shop)


@pytest.mark.parametrize(("line", "told"), [
    ('{"text": "a parcel", "intent": "order_status"', "not valid JSON"),
    ('["a parcel", "order_status"]', "expected an object"),
    ('{"text": "a parcel", "intent": "parcels"}', "intent of domain.toml, got 'parcels'"),
    ('{"text": "a parcel"}', "intent of domain.toml, got None"),
    ('{"intent": "order_status"}', "needs text"),
    ('{"text": "a parcel", "intent": ["order_status"]}', "got ['order_status']"),
    ('{"text": 5, "intent": "order_status"}', "needs text"),
])
def test_a_broken_row_is_named_by_its_line(shop: Path, line: str, told: str) -> None:
    add(shop / "intents.jsonl", line, '{"text": "fine", "intent": "greeting"}')
    message = refusal(shop)
    assert f"{shop / 'intents.jsonl'}, line 4" in message and told in message


def test_empty_lines_count_where_json_is_broken(shop: Path) -> None:
    add(shop / "intents.jsonl", "", "", "{broken")
    message = refusal(shop)
    assert "intents.jsonl, line 6" in message and "correct that line" in message


def test_empty_lines_count_where_a_label_is_wrong(shop: Path) -> None:
    add(shop / "intents.jsonl", "", "", '{"text": "a parcel", "intent": "parcels"}')
    assert "intents.jsonl, line 6" in refusal(shop)


def test_an_intent_without_examples_is_refused(shop: Path) -> None:
    put(shop / "intents.jsonl", '{"text": "hello", "intent": "greeting"}\n', "")
    message = refusal(shop)
    assert str(shop / "intents.jsonl") in message and "'greeting' has no examples; write some or remove it" in message


@pytest.mark.parametrize("text", ["where is my parcel", "Where is  my parcel?!"])
def test_a_row_in_training_and_evaluation_is_refused(shop: Path, text: str) -> None:
    add(shop / "eval/intents.jsonl", f'{{"text": "{text}", "intent": "order_status"}}')
    message = refusal(shop)
    assert str(shop / "eval/intents.jsonl") in message and "'where is my parcel' stands in training too; remove it" in message


def test_a_domain_without_evaluation_rows_can_be_loaded(shop: Path) -> None:
    (shop / "eval/intents.jsonl").unlink()
    assert Domain.load(shop).name == "shop"


def test_evidence_that_no_article_holds_is_refused(shop: Path) -> None:
    put(shop / "dialogues.jsonl", "returns#1", "returns#9")
    message = refusal(shop)
    assert str(shop / "dialogues.jsonl") in message and "row d1" in message and "'returns#9'" in message


@pytest.mark.parametrize(("file", "line"), [
    ("eval/intents.jsonl", '{"txt": "a parcel", "intent": "order_status"}'),
    ("eval/intents.jsonl", '{"text": "a parcel", "intent": "parcels"}'),
    ("intents.jsonl", '{"text": "a parcel", "intent": ["order_status"]}'),
    ("dialogues.jsonl", '{"id": "d3", "question": "q"}'),
    ("eval/oos.jsonl", '{"text": "who won the match?"}'),
    ("eval/questions.jsonl", '{"id": "q1", "question": "Do you sell boats?", "evidence": [], "answerable": false}'),
])
def test_any_wrong_row_is_a_refusal_that_names_its_file(shop: Path, file: str, line: str) -> None:
    add(shop / file, line)
    assert str(shop / file) in refusal(shop)


@pytest.mark.parametrize("never", ['["parcels"]', '"order_status"'])
def test_a_safety_row_names_intents_that_there_are(shop: Path, never: str) -> None:
    add(shop / "eval/safety.jsonl", '{"text": "cancel all of it at once", "never": ["order_status"]}')
    Domain.load(shop)
    add(shop / "eval/safety.jsonl", f'{{"text": "my ex ordered that", "never": {never}}}')
    with pytest.raises(DomainError, match="line 2: never must list intents"):
        Domain.load(shop)


def test_a_wrong_row_of_evaluation_is_named_by_its_line(shop: Path) -> None:
    add(shop / "eval/intents.jsonl", "", '{"text": "a parcel", "intent": "parcels"}')
    message = refusal(shop)
    assert "eval/intents.jsonl, line 3" in message and "correct that line" in message


def test_rows_in_another_encoding_are_refused_with_the_file(shop: Path) -> None:
    (shop / "intents.jsonl").write_bytes('{"text": "café", "intent": "greeting"}\n'.encode("latin-1"))
    assert "intents.jsonl" in refusal(shop)


def test_a_line_separator_inside_a_text_does_not_end_the_row(shop: Path) -> None:
    add(shop / "intents.jsonl", '{"text": "first\u2028second", "intent": "greeting"}')
    assert Domain.load(shop).rows("intents.jsonl")[-1]["text"] == "first\u2028second"


def test_rows_of_signs_alone_are_not_taken_for_one_another(shop: Path) -> None:
    add(shop / "intents.jsonl", '{"text": "?", "intent": "greeting"}')
    add(shop / "eval/intents.jsonl", '{"text": "!!", "intent": "greeting"}')
    assert Domain.load(shop).name == "shop"


def test_a_domain_without_out_of_scope_rows_is_refused_before_training(shop: Path) -> None:
    (shop / "oos.jsonl").unlink()
    assert "oos.jsonl" in refusal(shop)


# ---- mistakes in articles

@pytest.mark.parametrize(("text", "told"), [
    ("## How long\n30 days.\n", "must begin with a --- block that holds title: and source:"),
    ("---\ntitle: Returns\n---\n## How long\n30 days.\n", "title: or source: is missing"),
    ("---\ntitle: Returns\nsource:\n---\n## How long\n30 days.\n", "title: or source: is missing"),
    ("---\nsource: Shop terms\n---\n## How long\n30 days.\n", "title: or source: is missing"),
])
def test_an_article_without_its_source_is_refused(shop: Path, text: str, told: str) -> None:
    (shop / "knowledge/returns.md").write_text(text, encoding="utf-8")
    message = refusal(shop)
    assert str(shop / "knowledge/returns.md") in message and told in message


def test_an_article_that_gives_no_passage_is_refused(shop: Path) -> None:
    (shop / "knowledge/boats.md").write_text("---\ntitle: Boats\nsource: Shop\n---\nWe sell no boats.\n", encoding="utf-8")
    assert "boats.md" in refusal(shop)


# ---- bare questions

def test_bare_questions_are_known_ways_of_asking(shop: Path) -> None:
    add(shop / "questions.jsonl", '{"id": "a1", "question": "and later?", "evidence": ["returns#1"], '
                                  '"history": ["how long may I keep it", "30 days"]}',
        '{"id": "a2", "question": "who drives the van", "evidence": []}')
    domain = Domain.load(shop)
    assert domain.asked() == [("how long may I keep it?", "returns#1"), ("how long may I keep it and later?", "returns#1")]
    assert [row["id"] for row in domain.grounded()] == ["d1", "d2", "a1", "a2"]


@pytest.mark.parametrize(("line", "told"), [
    ('{"id": "a1", "question": "q", "evidence": ["returns#9"]}', "'returns#9'"),
    ('{"id": "a1", "evidence": []}', "needs question"),
    ('{"id": "a1", "question": "q", "evidence": "returns#1"}', "evidence must be a list"),
])
def test_a_wrong_bare_question_is_refused_with_its_line(shop: Path, line: str, told: str) -> None:
    add(shop / "questions.jsonl", line)
    message = refusal(shop)
    assert str(shop / "questions.jsonl") in message and "line 1" in message and told in message


def test_an_evaluated_question_may_not_be_a_bare_one(shop: Path) -> None:
    add(shop / "questions.jsonl", '{"id": "a1", "question": "who drives the van", "evidence": []}')
    add(shop / "eval/questions.jsonl", '{"id": "q1", "question": "Who drives the van?", "evidence": [], "answer": "", '
                                       '"must_say": [], "answerable": false}')
    assert "stands in training too" in refusal(shop)


# ---- the hash of what training reads

def hashes(shop: Path) -> tuple[str, str]:
    domain = Domain.load(shop)
    return domain.data_hash("router"), domain.data_hash("generator")


@pytest.mark.parametrize(("file", "line", "part"), [
    ("intents.jsonl", '{"text": "good evening", "intent": "greeting"}', "router"),
    ("oos.jsonl", '{"text": "who is the king"}', "router"),
    ("dialogues.jsonl", '{"id": "d9", "question": "boats?", "evidence": [], "must_say": [], "answerable": false}', "generator"),
    ("questions.jsonl", '{"id": "a1", "question": "boats then?", "evidence": []}', "generator"),
])
def test_a_new_row_changes_the_hash_of_the_part_that_reads_it(shop: Path, file: str, line: str, part: str) -> None:
    before = hashes(shop)
    add(shop / file, line)
    changed = [old != new for old, new in zip(before, hashes(shop))]
    assert changed == [part == "router", part == "generator"]


def test_an_article_and_its_name_change_the_hash_of_the_generator_alone(shop: Path) -> None:
    found = [hashes(shop)]
    put(shop / "knowledge/hours.md", "Monday", "Tuesday")
    found.append(hashes(shop))
    (shop / "knowledge/hours.md").rename(shop / "knowledge/days.md")
    found.append(hashes(shop))
    assert len({router for router, _ in found}) == 1 and len({generator for _, generator in found}) == 3


def test_no_hash_changes_with_evaluation_or_with_the_place(shop: Path) -> None:
    before = hashes(shop)
    add(shop / "eval/intents.jsonl", '{"text": "good day", "intent": "greeting"}')
    add(shop / "eval/oos.jsonl", '{"text": "where is Rome"}')
    assert hashes(shop) == before
    assert hashes(shop.rename(shop.with_name("moved"))) == before
