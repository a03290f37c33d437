"""The shapes of private values: where they stand in a text, and when two of them are the same.

This room knows forms and check sums: cards, IBANs, telephone numbers, addresses, names and their kin. It knows
no session, no model and no disk; it replaces nothing, and knows of marks only that they are no values.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

Span = tuple[int, int, str]  # start, end, and the key under which equal values share a mark

KINDS = ("PASSWORD", "URLCRED", "EMAIL", "IBAN", "CNID", "CARD", "SSN", "PHONE", "ADDRESS", "NAME")
MARK = re.compile(rf"\[(?:{'|'.join(KINDS)})_[1-9][0-9]{{0,5}}\]")

# No \b anywhere: between a Chinese character and a digit there is none. Every repeat is bounded, possessive, or
# starts only where a run starts, so that time stays linear in the text.
_SEP = r"[ .\-\u00a0\u2010-\u2013]"
_CJK = "\u4e00-\u9fff"
LETTER = "A-Za-zÀ-ÖØ-öø-ɏ"

# Words that follow "my password is" and "my name is" without being the value.
_NOT_VALUES = frozenset(
    """a about actually again all already also always an and another any apparently are as at back bad because been but
    by can cannot cant case correct different due easy fine for forgotten from gone good hard has have here hidden how
    i if in incorrect invalid is it just known like long lost mine missing my needed never new no nobody none not now
    off ok okay old on one only or out over please private really rejected right safe same secret secure short so
    someone something still stolen strong stuck such temporary that the there this to too unknown unsafe up valid very
    want was weak what when where which why with wrong your service support monday tuesday wednesday thursday friday
    saturday sunday january february march april june july august september october november december pepper martens
    excel beast bean irish american british english chinese indian french german catholic muslim jewish type stage
    hospital clinic""".split()
)

# ---- what the check sums say -------------------------------------------------------------------------------------
_DOUBLED = str.maketrans("0123456789", "0246813579")  # twice the digit, cast out nines


def _digits(text: str) -> str:
    """Return the digits of `text` in ASCII; full-width ones are read as well."""
    digits = re.sub(r"\D+", "", text)
    return digits if digits.isascii() else "".join(str(unicodedata.digit(d)) for d in digits)


def _luhn(digits: str) -> bool:
    summed = digits[::-2] + digits[-2::-2].translate(_DOUBLED)
    return (sum(summed.encode()) - ord("0") * len(summed)) % 10 == 0


def _compact(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKC", text) if char.isalnum()).upper()


# Length by country: the length ends a number that words follow ("... 78 is my account").
_IBAN_LENGTHS = {
    entry[:2]: int(entry[2:])
    for entry in """AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29
    ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21
    LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19
    SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20""".split()
}


def _iban(code: str) -> bool:
    return int("".join(str(int(char, 36)) for char in code[4:] + code[:4])) % 97 == 1


def _cnid(code: str) -> bool:
    try:
        born = datetime.date(int(code[6:10]), int(code[10:12]), int(code[12:14]))
    except ValueError:
        return False
    weighted = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(code[:17]))
    return born.year >= 1880 and "10X98765432"[weighted % 11] == code[17]

# ---- where values stand ------------------------------------------------------------------------------------------

_SECRET = re.compile(r"(?i:(?<![A-Za-z])(?:pass ?word|passphrase|pass ?code|pwd|login password)|密码)"
                     r"(?P<link>\s{0,3}(?:[:=：]|是|为)|\s{1,3}(?:is|was|=))\s{0,3}[\"'“‘]?"
                     r"(?P<v>[^\s\u3000-\u303f\uff00-\uffef" + _CJK + r"]++)")
_PIN = re.compile(r"(?i:(?<![A-Za-z])(?:pin|cvv|cvc|otp|security code|one[- ]time code)(?: code| number)?)"
                  r"\s{0,3}(?:is|was|:|=)?\s{0,3}(?P<v>\d{3,8})(?![\d.,]?\d)")
_URLCRED = re.compile(r"(?<=://)(?P<v>[^\s/@:\[\]]*+:[^\s/\[\]]*)(?=@)")
_EMAIL = re.compile(rf"(?<![{LETTER}0-9._%+-])(?P<v>[{LETTER}0-9_%+-][{LETTER}0-9._%+-]*+@"
                    rf"[{LETTER}0-9](?:[{LETTER}0-9-]{{0,62}}\.){{1,8}}[A-Za-z]{{2,24}})(?![A-Za-z0-9])")
_SPOKEN_EMAIL = re.compile(r"(?i)(?<![a-z0-9])(?P<v>[a-z0-9_]{2,40}(?: dot [a-z0-9_]{1,40})?(?: at | ?[(\[]at[)\]] ?)"
                           r"(?:gmail|yahoo|outlook|hotmail|icloud|proton(?:mail)?|live|aol|qq|163)"
                           r"(?: dot | ?[(\[]dot[)\]] ?|\.)(?:com|net|org|ie|me|co dot uk|co\.uk|cn))(?![a-z0-9])")
_IBAN_SHAPE = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_CNID_SHAPE = re.compile(r"(?<![A-Za-z\d])(?P<v>[1-9]\d{5}[ -]?(?:18|19|20)\d{6}[ -]?\d{3}[\dXx])(?![A-Za-z\d])")
_DIGIT_GROUPS = re.compile(rf"(?<![A-Za-z\d_])\d++(?:{_SEP}{{1,3}}\d++)*+")
_SSN = re.compile(
    r"(?<![A-Za-z\d])(?<!\d[-. ])(?P<v>(?!000|666|9)\d{3}(?P<sep>[-\u2010-\u2013 ])(?!00)\d\d(?P=sep)(?!0000)\d{4})"
    r"(?![A-Za-z\d]|[-.]\d)"
)
_NAMED_SSN = re.compile(r"(?i)(?<![a-z])(?:ssn|social(?: security)?(?: number| no\.?)?)[ :#]{1,3}(?:is |= ?)?"
                        r"(?P<v>(?!000|666|9)\d{3}(?!00)\d\d(?!0000)\d{4})(?!\d)")

_PHONE_FORMS = [
    rf"\+1{_SEP}?(?:\(\d{{3}}\)|\d{{3}}){_SEP}?\d{{3}}{_SEP}?\d{{4}}",
    rf"\+86{_SEP}?1\d\d{_SEP}?\d{{4}}{_SEP}?\d{{4}}",
    rf"\+44{_SEP}?(?:\(0\){_SEP}?)?\d(?:{_SEP}?\d){{8,9}}",
    rf"\+353{_SEP}?(?:\(0\){_SEP}?)?\d(?:{_SEP}?\d){{7,8}}",
    rf"(?:\+|00)[1-9]\d{{0,2}}{_SEP}?(?:\(\d{{1,4}}\){_SEP}?)?\d(?:{_SEP}?\d){{5,11}}",
    rf"(?:1{_SEP})?(?:\([2-9]\d\d\){_SEP}?|[2-9]\d\d{_SEP})\d{{3}}{_SEP}\d{{4}}",  # North America
    rf"08[35679]{_SEP}?\d{{3}}{_SEP}?\d{{4}}",  # Irish mobile
    rf"\(0\d{{1,4}}\){_SEP}?\d(?:{_SEP}?\d){{4,7}}",
    r"0\d{2,3}-\d{7,8}",  # Chinese land line
    rf"0[1-9](?:{_SEP}?\d){{7,9}}",  # 9 to 11 digits after a trunk zero
    rf"1[3-9]\d{_SEP}?\d{{4}}{_SEP}?\d{{4}}",  # Chinese mobile
]
_DATE = r"(?!\d{1,2}([./-])\d{1,2}\1(?:19|20)\d\d(?!\d))"
_PHONE = re.compile(rf"(?<![A-Za-z\d_#$€£¥+(])(?<![A-Za-z]-)(?<!\d\.)(?<![$€£¥] ){_DATE}(?P<v>{'|'.join(_PHONE_FORMS)})"
                    r"(?!\d|\.\d|,\d{3}(?!\d)|(?i: ?(?:%|mg|ml|kg|€|\$|£|eur|usd|gbp|dollar|pound|元|块|分钟)))")
_CALLED = re.compile(
    r"(?i:(?<![a-z])(?:(?:call|text|ring|reach|phone|contact|whatsapp)(?: me| us| him| her)?(?: back)?(?: at| on)?|"
    r"(?:phone|cell|mobile|tel|telephone|fax|whatsapp)(?: ?phone)?(?: number| no\.?)?(?: is)?)[ :.]{1,2}|"
    r"(?:电话|手机|微信)(?:号码|号)?(?:是|为)?[：: ]{0,2})"
    r"(?P<v>[+(]?\d(?:[ ().\-]{0,2}\d){6,14})(?!\d|[.,/:]\d|%)"
)
_LOOKS_DATED = re.compile(
    r"\(?(?:(?:19|20)\d\d[ ./-]\d\d?[ ./-]\d\d?|\d\d?[ ./-]\d\d?[ ./-](?:19|20)\d\d|(?:19|20)\d\d-(?:19|20)\d\d)"
)
# A number that is announced as something else is no telephone number, whatever its shape.
_ID_BEFORE = re.compile(
    r"(?i)(?:(?<![a-z])(?:order|ref|reference|invoice|ticket|case|tracking|parcel|serial|model|sku|isbn|product|item|"
    r"transaction)|订单|单号|编号)(?:[\s#:：.]|number|no|nr|id|code|is|was|号|是|为){0,6}$"
)

_WAYS = (
    "Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Boulevard|Blvd|Drive|Dr|Court|Ct|Way|Place|Pl|Square|Sq|Terrace|Ter|Close|"
    "Crescent|Park|Grove|Gardens|Hill|Quay|Row|Parade|Highway|Hwy|Parkway|Pkwy|Circle|Cir|Mews|Heights|Green|View"
)
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|"
    "OR|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY"
)
_UK = r"[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][ABD-HJLNP-UW-Z]{2}"  # inward letters leave out C I K M O V: "B12 5MG" is a dose
_EIR = r"[AC-FHKNPRTV-Y][0-9][0-9W] ?(?=[A-Z]{0,3}[0-9])(?=[0-9]{0,3}[A-Z])[0-9AC-FHKNPRTV-Y]{4}"
_ZIP = rf"(?:{_STATES}),? [0-9]{{5}}(?:-[0-9]{{4}})?"
_CODE = rf"(?:{_UK}|{_EIR}|{_ZIP})(?![A-Za-z0-9])"
_CAPITAL = r"[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿA-Z'’]{0,24}\.?"
_UNIT = r"(?:Apt|Apartment|Unit|Flat|Suite|Room|House|#)\.? ?[A-Za-z0-9]{1,5}"
_TAIL = rf"(?:,? {_UNIT})?(?:(?:,? {_CAPITAL}| \d{{1,2}}){{0,5}},? {_CODE})?"
_ADDRESSES = [
    re.compile(rf"(?<![A-Za-z\d.,$€£-])(?P<v>(?:{_UNIT},? )?\d{{1,5}}[A-Za-z]?(?:[-/]\d{{1,5}})?,? "
               rf"(?:(?:{_CAPITAL}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}(?:{_WAYS})(?![A-Za-z'’]){_TAIL})"),
    re.compile(rf"(?<![A-Za-z\d.,$€£-])(?P<v>\d{{1,5}}[a-z]? (?P<words>[a-z'’]{{2,20}} (?:[a-z'’]{{2,20}} )?)"
               rf"(?:street|road|avenue|boulevard|lane)(?![A-Za-z]){_TAIL})"),
    re.compile(rf"(?<![A-Za-z])(?P<v>(?i:P\.? ?O\.? ?Box|Post Office Box) [0-9]{{1,6}}{_TAIL})(?![0-9])"),
    re.compile(rf"(?<![A-Za-z])(?P<v>{_CAPITAL}(?: {_CAPITAL}){{0,2}}, ?{_ZIP})(?![A-Za-z0-9])"),
    re.compile(rf"(?<![A-Za-z0-9-])(?P<v>(?:{_UK}|{_EIR}))(?![A-Za-z0-9])"),
    re.compile(r"(?i)(?<![a-z])(?:zip|zip ?code|post ?code|eircode|postal code)(?: is|:)? (?P<v>[0-9]{5}(?:-[0-9]{4})?|"
               rf"{_UK}|{_EIR})(?![A-Za-z0-9])"),
    re.compile(rf"(?P<v>(?<=[{_CJK}])(?:路|街|道|巷|弄|胡同)\d{{1,5}}号"
               r"(?:\d{1,4}(?:号楼|栋|楼|单元|室)){0,3})"),
]
_NOT_STREETS = frozenset("day days week weeks month months hour hours minute minutes mile miles km mins mg ml of per "
                         "down off into along near across people cars shops stores houses times more other".split())
# A Chinese address runs left from its road over the characters before it, up to a verb: 我住在|北京市...
_LEAD = re.compile(rf"(?:(?!住在|地址是|寄到|送到|发到|位于|[在到是])[{_CJK}]){{1,20}}$")


def spans(pattern: re.Pattern[str], text: str, key: Callable[[str], str] = str) -> Iterator[Span]:
    """Find each group "v" of `pattern`; values of the same `key` are one value."""
    for match in pattern.finditer(text):
        yield *match.span("v"), key(match["v"])


def _secrets(text: str) -> Iterator[Span]:
    for match in _SECRET.finditer(text):
        value = match["v"].rstrip(".,;:?\"'”’)")
        odd = not value.isalpha()  # after a colon only something that no sentence would hold is a password
        stop = value.lower() in _NOT_VALUES or (value.islower() and re.fullmatch(r"[a-z]+(?:ed|ing|ly)", value))
        if value and not MARK.match(match["v"]) and not stop and (odd or match["link"].strip() in ("is", "was", "是")):
            yield match.start("v"), match.start("v") + len(value), value
    yield from spans(_PIN, text, _digits)


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN_SHAPE.finditer(text):
        places = [i for i in range(*match.span()) if text[i].isalnum()]
        length = _IBAN_LENGTHS.get(match.group()[:2].upper(), 99)
        if len(places) < length or text[places[length - 1] + 1 :][:1].isalnum():
            continue
        code = "".join(text[i] for i in places[:length]).upper()
        if _iban(code):
            yield match.start(), places[length - 1] + 1, code


def _cards(text: str) -> Iterator[Span]:
    for run in _DIGIT_GROUPS.finditer(text):
        if len(run.group()) < 13:
            continue
        plain = unicodedata.normalize("NFKC", run.group())  # full-width digits; of the same length
        groups = list(re.finditer(r"\d+", plain))
        digits = [group.group() for group in groups]
        first = 0
        while first < len(groups):
            last = _card_end(digits[first : first + 19]) if digits[first][0] in "23456" else 0
            if last:
                start, end = groups[first].start(), groups[first + last - 1].end()
                yield run.start() + start, run.start() + end, "".join(digits[first : first + last])
            first += max(last, 1)


def _card_end(groups: list[str]) -> int:
    """Return how many of the digit groups make a card number; 0 when none do. 16 are tried first."""
    number = "".join(groups)
    ends = {length: count for count, length in enumerate(accumulate(map(len, groups)), start=1)}
    for wanted in (16, 15, 14, 19, 18, 17, 13):
        if wanted in ends and _luhn(number[:wanted]):
            return ends[wanted]
    return 0


def _phones(text: str) -> Iterator[Span]:
    for pattern in (_CALLED, _PHONE):
        for match in pattern.finditer(text):
            start, end = match.span("v")
            announced = pattern is _PHONE and not match["v"].startswith("+")
            if announced and _ID_BEFORE.search(text, max(0, start - 40), start):
                continue
            if not _LOOKS_DATED.match(match["v"]):
                yield start, end, _digits(match["v"])


def _addresses(text: str) -> Iterator[Span]:
    for pattern in _ADDRESSES:
        for match in pattern.finditer(text):
            start, end = match.span("v")
            words = set((match.groupdict().get("words") or "").split())
            if words & (_NOT_VALUES | _NOT_STREETS):
                continue
            if text[start] in "路街道巷弄胡" and (lead := _LEAD.search(text, max(0, start - 20), start)):
                start = lead.start()
            yield start, end, " ".join(text[start:end].lower().replace(",", " ").split())


_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余"
    "潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段钱汤尹黎易常武乔贺赖龚文"
)
_WORD = rf"[A-ZÀ-ÖØ-Þ](?:\.|[{LETTER}'’-]{{0,30}})"
_NAME = rf"{_WORD}(?: (?:(?:van|von|de|der|den|la|da|di|del|bin|al|mac) ){{0,2}}{_WORD}){{0,3}}"
_STOP = r"(?=\s*(?:[,.!;\n]|$)|\s+(?:and|from|calling|here|but)(?![A-Za-z]))"
_LINE_END = r"(?=[.!]?\s*(?:\n|$))"
_NAMES: list[tuple[re.Pattern[str], int]] = [  # a pattern and the fewest words that make a name of it
    (re.compile(rf"(?<![A-Za-z])(?i:my (?:full |first |last )?name(?: is|'s|’s|:)|"
                rf"(?:customer|patient|cardholder|full) name:) ?(?P<v>{_NAME})"), 1),
    (re.compile(rf"(?m)^(?i:name:) ?(?P<v>{_NAME})"), 1),
    (re.compile(rf"(?<![A-Za-z])(?i:my name is|my names) (?P<v>[a-z]{{2,20}}(?: [a-z]{{2,20}}){{0,2}}){_STOP}"), 1),
    (re.compile(rf"(?<![A-Za-z])(?:[Ii] am|[Ii]['’]?m) (?P<v>{_NAME}){_STOP}"), 2),
    (re.compile(rf"(?<![A-Za-z])(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|MR|MRS|MS|DR)\.? (?P<v>{_NAME})"), 1),
    (re.compile(rf"(?<![A-Za-z])(?i:this is|it's|it is) (?P<v>{_NAME}) (?i:speaking|calling|here)(?![a-z])"), 1),
    (re.compile(r"(?<![A-Za-z])(?i:this is) (?P<v>[a-z]{2,20}(?: [a-z]{2,20})?) (?i:speaking)(?![a-z])"), 1),
    (re.compile(rf"(?<![A-Za-z])(?i:signed|sincerely|regards|faithfully),\s{{0,4}}(?P<v>{_NAME}){_LINE_END}"), 1),
    (re.compile(rf"(?<![A-Za-z])(?i:cheers|thanks|thank you),\s{{0,2}}\n\s{{0,2}}(?P<v>{_NAME}){_LINE_END}"), 1),
    (re.compile(rf"(?:我叫|我的名字[是叫]|我是|姓名[是：:]|本人) ?(?P<v>[{_SURNAMES}][{_CJK}]{{1,2}})"
                r"(?=[，。,.!！；;、\s]|$)"), 1),
    (re.compile(rf"(?P<v>[{_SURNAMES}])(?=先生|女士)"), 1),
]


def _names(text: str) -> Iterator[Span]:
    for pattern, fewest in _NAMES:
        for match in pattern.finditer(text):
            value = re.sub(r"['’][sS]$", "", match["v"])
            kept = []
            for word in value.split():
                if word.lower().rstrip(".") in _NOT_VALUES:
                    break
                kept.append(word)
            lower = value.islower() and (len(kept) < len(value.split()) or value.endswith(("ed", "ing", "ly")))
            calm = fewest == 1 or not value.isupper()  # "I AM VERY ANGRY" names nobody
            if len(kept) >= fewest and calm and not lower:
                end = match.start("v") + len(" ".join(kept))
                yield match.start("v"), end, " ".join(kept).lower()


# In this order, for an IBAN holds what looks like a telephone number. Each with what must stand in the text
# for it to be worth a look.
FINDERS: list[tuple[str, str, Callable[[str], Iterable[Span]]]] = [
    ("PASSWORD", "", _secrets),
    ("URLCRED", "://", lambda text: spans(_URLCRED, text)),
    ("EMAIL", "@", lambda text: spans(_EMAIL, text, str.lower)),
    ("EMAIL", r"(?i)[ (\[]at[ )\]]", lambda text: spans(_SPOKEN_EMAIL, text, str.lower)),
    ("IBAN", r"\d", _ibans),
    ("CNID", r"\d", lambda text: (s for s in spans(_CNID_SHAPE, text, _compact) if _cnid(s[2]))),
    ("CARD", r"\d", _cards),
    ("SSN", r"\d", lambda text: spans(_SSN, text, _digits)),
    ("SSN", r"\d", lambda text: spans(_NAMED_SSN, text, _digits)),
    ("PHONE", r"\d", _phones),
    ("ADDRESS", r"\d", _addresses),
    ("NAME", "", _names),
]
