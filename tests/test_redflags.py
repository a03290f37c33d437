"""Escalation by rule: what fires, what does not, and what a wrong rule file says."""

from pathlib import Path

import pytest

from agent.redflags import RedFlag, RedFlagError, RedFlags, load, normalise

RULES = r"""
[[flag]]
name = "self_harm"
message = "Call 988 now."
any = ['\bkill myself\b', '\bcant go on\b', '\bhellp\b']
unless = ['\bkill myself laughing\b']

[[flag]]
name = "chest_pain"
message = "Call 112 now."
any = ['\bchest (pain|hurts)\b', '胸口?痛']
all = ['\b(now|sudden\w*)\b|现在']

[[flag]]
name = "any_pain"
message = "A nurse will call."
any = ['\bpain\b']
"""


@pytest.fixture
def flags(tmp_path: Path) -> RedFlags:
    return write(tmp_path, RULES)


def write(folder: Path, text: str) -> RedFlags:
    path = folder / "redflags.toml"
    path.write_text(text, encoding="utf-8")
    return load(path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("I want to kill myself", "self_harm"),
        ("i want to KILL MYSELF", "self_harm"),
        ("i want to kill\n\n  myself", "self_harm"),
        ("kill my\u200bself", "self_harm"),
        ("ｋｉｌｌ ｍｙｓｅｌｆ", "self_harm"),
        ("I can't go on", "self_harm"),
        ("I can’t go on", "self_harm"),
        ("I can´t go on", "self_harm"),
        ("i cant go on", "self_harm"),
        ("hellllllp", "self_harm"),
        ("sudden chest pain", "chest_pain"),
        ("my chest hurts right now!!!", "chest_pain"),
        ("我现在胸口痛", "chest_pain"),
        ("chest pain last summer", "any_pain"),
        ("a pain in my knee", "any_pain"),
        ("i could kill myself laughing", None),
        ("my chest is sore", None),
        ("painting", None),
        ("", None),
        ("   ", None),
    ],
)
def test_a_message_raises_the_flag_of_its_rule(flags: RedFlags, text: str, name: str | None) -> None:
    found = flags.check(text)
    assert (found.name if found else None) == name


def test_the_first_flag_in_the_file_wins(flags: RedFlags) -> None:
    assert flags.check("sudden chest pain, I want to kill myself") == RedFlag("self_harm", "Call 988 now.")
    assert flags.names == ("self_harm", "chest_pain", "any_pain")


def test_a_flag_cannot_be_changed(flags: RedFlags) -> None:
    with pytest.raises(AttributeError):
        flags.check("pain").name = "other"  # type: ignore[misc, union-attr]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I CAN’T", "i cant"),
        ("“No”", '"no"'),
        ("soooo baaad", "soo baad"),
        ("1000", "1000"),
        ("a\u00adb\ufeffc", "abc"),
        ("  a \t\n b ", "a b"),
        ("ＡＢＣ！", "abc!"),
        ("救救救命", "救救命"),
    ],
)
def test_a_message_is_read_one_way(text: str, plain: str) -> None:
    assert normalise(text) == plain
    assert normalise(plain) == plain


FLAG = '[[flag]]\nname = "a"\nmessage = "m"\nany = ["x"]\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FLAG + 'sometimes = ["y"]\n', "unknown key 'sometimes'"),
        ("flags = 1\n", "unknown key 'flags'"),
        ("flag = 1\n", "two brackets"),
        ("[flag]\nname = 'a'\n", "two brackets"),
        ('[[flag]]\nmessage = "m"\nany = ["x"]\n', "flag number 1: no name"),
        ('[[flag]]\nname = " "\nmessage = "m"\nany = ["x"]\n', "no name"),
        ('[[flag]]\nname = "a"\nany = ["x"]\n', "flag 'a': no message"),
        ('[[flag]]\nname = "a"\nmessage = "m"\n', "no rule in 'any'"),
        ('[[flag]]\nname = "a"\nmessage = "m"\nany = []\n', "no rule in 'any'"),
        ('[[flag]]\nname = "a"\nmessage = "m"\nany = "x"\n', "not a list"),
        ('[[flag]]\nname = "a"\nmessage = "m"\nany = [1]\n', "not a list"),
        ('[[flag]]\nname = "a"\nmessage = "m"\nany = ["(x"]\n', "bad regex '(x'"),
        (FLAG + 'unless = ["*"]\n', "bad regex '*'"),
        (FLAG + 'all = ["x|"]\n', "matches an empty message"),
        ('[[flag]]\nname = "a"\nmessage = "m"\nany = ["can\'t"]\n', "cant, not can't"),
        ('[[flag]]\nname = "a"\nmessage = "m"\nany = ["can[\'’]t"]\n', "cant, not can't"),
        (FLAG + FLAG, "used twice"),
        ("[[flag]\n", "is not TOML"),
    ],
)
def test_a_wrong_rule_names_file_flag_and_remedy(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RedFlagError) as error:
        write(tmp_path, text)
    assert says in str(error.value)
    assert "redflags.toml" in str(error.value)
    assert isinstance(error.value, ValueError)


def test_a_missing_file_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(RedFlagError, match="cannot be read"):
        load(tmp_path / "redflags.toml")


def test_an_optional_apostrophe_is_allowed(tmp_path: Path) -> None:
    rules = '[[flag]]\nname = "a"\nmessage = "m"\nany = ["can[\'’]?t", "won\'?t"]\n'
    assert write(tmp_path, rules).check("I can't") is not None


def test_a_file_without_flags_never_fires(tmp_path: Path) -> None:
    assert write(tmp_path, "").check("chest pain now") is None


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.parent.glob("domains/*/redflags.toml")), ids=str)
def test_the_rules_of_every_domain_load(path: Path) -> None:
    assert load(path).names
    assert load(path).check("thanks, have a nice day") is None
