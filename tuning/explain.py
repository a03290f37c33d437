"""Why a logged turn went as it did: the router's view and the rows behind it, passages, tools, rules, signs, the bundle.

Everything comes from the turn's row, from the bundle that answered and from the domain as it is today; nothing is answered
again and private values stay marks. What can no longer be found is said in a line of `notes`, and the rest is explained.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from agent import aliases, bundle, models, paths, redflags, teaching
from agent.domain import Domain
from agent.errors import BundleError, DataError, RetuneError
from agent.registry import Bundle, Registry
from agent.router import Router
from agent.schema import handoffs, signals, turns
from agent.settings import Settings
from agent.signs import harmless
from agent.store import Store
from tuning import decision, lineage, review
from tuning.harvest import harvest

COLUMNS = ("question", "reply", "state", "intent", "confidence", "ranking", "oos", "abstained", "slots", "error", "created")
_FLAGS = {
    "unsupported_number": "a sentence had a figure that no passage holds; the guard put another in its place",
    "forbidden": "a sentence said what the domain forbids; the guard put another in its place",
    "unreadable": "the message was empty or too long and was not read",
    "error": "the engine failed or the turn was broken off; that says nothing about the model",
}


def explain(domain: Domain, settings: Settings, store: Store, turn_id: str) -> dict[str, Any]:
    """COLUMNS of the turn and "turn", "session", "decision", "words", "nearest", "passages", "tool", "flags", "handoff",
    "signals", "feedback", "bundle", "notes"; all plain data.

    decision: {"text": what was routed, "for": label, "probability"}; words: [{"words", "drop"}] as `decision.weigh`; nearest:
    rows as `decision.nearest`; all three are empty where no model was asked or the bundle is gone. DataError for a turn that
    is not there or is another domain's.
    """
    turn = store.turn(turn_id)
    if turn is None:
        raise DataError(teaching.unknown_turn(turn_id))
    if turn["domain"] != domain.name:
        raise DataError(f"Turn {turn_id!r} belongs to the domain {turn['domain']!r}, not to {domain.name!r}; name that domain.")
    notes: list[str] = []
    table = {"turn": turn_id, "session": turn["session"], **{name: turn[name] for name in COLUMNS}}
    table |= {"decision": None, "words": [], "nearest": [], "passages": _passages(domain, turn), "tool": _tool(turn),
              "flags": _flags(domain, turn), **_said(store, turn), "bundle": {"bundle": turn["bundle"]}, "notes": notes}
    registry = Registry(domain, settings.home)
    try:
        answered = registry.get(turn["bundle"])
        table["bundle"] = _bundle(answered)
    except BundleError as error:
        notes.append(f"The bundle that answered is not there any more, so what its router saw cannot be shown: {error}")
        return table
    if not turn["ranking"]:
        notes.append("No model was asked about this message.")
        return table
    try:
        router = _router(answered, settings)
        table |= _decision(store, turn, router, notes)
        table["nearest"] = _nearest(domain, settings, store, registry, answered, router, table["decision"]["text"], notes)
    except RetuneError as error:
        notes.append(f"What the router saw cannot be shown: {error}")
    return table


def last(domain: Domain, store: Store) -> str:
    """Id of the domain's newest turn; DataError if there is none."""
    newest = sa.select(turns.c.id).where(turns.c.domain == domain.name).order_by(turns.c.created.desc(), turns.c.seq.desc())
    with store.reading() as at:
        found = at.execute(newest.limit(1)).scalar()
    if found is None:
        raise DataError(f"Nobody has asked {domain.name} anything yet; `retune ask {domain.name} TEXT` is a beginning.")
    return found


def words(table: Mapping[str, Any]) -> list[str]:
    """The explanation as lines for the terminal."""
    said = [f"question  {table['question']}", f"reply     {table['reply']}",
            f"state     {table['state']}{', intent ' + table['intent'] if table['intent'] else ''}"]
    if table["ranking"]:
        said.append(f"router    {', '.join(f'{name} {share:.2f}' for name, share in table['ranking'])}; out of scope "
                    f"{table['oos']:.2f}")
    if table["words"]:
        carried = ", ".join(f"“{each['words']}” {each['drop']:+.2f}" for each in table["words"][:8])
        said.append(f"words     {table['decision']['for']} {table['decision']['probability']:.2f} loses without: {carried}")
    said += [f"near      {each['distance']:.2f}  {each['intent']}: {each['text']}  ({each['from']})"
             for each in table["nearest"]]
    said += [f"passage   {each['title']}, {each['heading']} ({each['source']})" if "title" in each else
             f"passage   {each['id']}, which the domain no longer has" for each in table["passages"]]
    if tool := table["tool"]:
        given = ", ".join(f"{name}={value}" for name, value in tool["arguments"].items())
        said.append(f"tool      {tool['name']}({given}) -> {tool['result'] or 'not called'}")
    said += [f"rule      {each['flag']}: {each['words']}" for each in table["flags"]]
    if table["handoff"]:
        said.append(f"handoff   {table['handoff']['reason']}, {table['handoff']['status']}")
    said += [f"sign      {each['name']} {each['detail']}" for each in table["signals"]]
    said += [f"feedback  {each['author'] or '(no name)'}: {each['kind']} {each['value'] or ''}" for each in table["feedback"]]
    said += [*_bundle_words(table["bundle"]), *(f"note      {note}" for note in table["notes"])]
    return [harmless(line).rstrip() for line in said]


def _bundle_words(told: Mapping[str, Any]) -> list[str]:
    made = f", made {told['made']} by the recipe {told['recipe']} after {told['parent'] or 'nothing'}" if "made" in told else ""
    verdict = told.get("verdict")
    said = [f"bundle    {told['bundle']}{made}", *([f"report    {verdict['decision']}: {verdict['why']}"] if verdict else [])]
    return said + [f"          {each['part']}: {each['champion']:.3f} before, {each['challenger']:.3f} after, {each['n']} rows"
                   for each in told.get("figures", ())]


def _passages(domain: Domain, turn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that stood in the prompt; of one that the domain no longer has the id alone."""
    known, shown = {passage.id: passage for passage in domain.passages}, ("title", "heading", "source", "text")
    return [{"id": id, **({name: getattr(known[id], name) for name in shown} if id in known else {})}
            for id in turn["passages"]]


def _tool(turn: Mapping[str, Any]) -> dict[str, Any] | None:
    """The tool, called or waiting for a slot or a yes: then its arguments are the slots so far and it has no result."""
    if not turn["tool"]:
        return None
    return {"name": turn["tool"], "arguments": turn["tool_arguments"] or turn["slots"], "result": turn["tool_result"] or None}


def _flags(domain: Domain, turn: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"flag": flag, "words": _red_flag(domain, flag.removeprefix("red_flag:"), turn["question"])
             if flag.startswith("red_flag:") else _FLAGS.get(flag, "a rule that is not known here")} for flag in turn["flags"]]


def _red_flag(domain: Domain, name: str, question: str) -> str:
    """What raised it; the rule may be another by now, and it read the message with its private values."""
    file, plain = domain.folder / "redflags.toml", redflags.normalise(question)
    rule = next((rule for rule in (redflags.load(file).rules if file.is_file() else ()) if rule.flag.name == name), None)
    if rule is None:
        return "raised by a rule that the domain no longer has, before any model"
    found = dict.fromkeys(match.group() for pattern in (*rule.any, *rule.all) if (match := pattern.search(plain)))
    return f"raised by {', '.join(f'“{each}”' for each in found) or 'words that are not kept'}, before any model"


def _said(store: Store, turn: Mapping[str, Any]) -> dict[str, Any]:
    """Hand-off, weak signals and feedback."""
    with store.reading() as at:
        passed_on = at.execute(sa.select(handoffs.c.reason, handoffs.c.status).where(handoffs.c.turn == turn["id"])).mappings()
        signs = at.execute(sa.select(signals.c.name, signals.c.detail).where(signals.c.turn == turn["id"])).mappings()
        table = {"handoff": next(map(dict, passed_on), None), "signals": [dict(each) for each in signs]}
    said = [{name: each[name] for name in ("author", "kind", "value", "created")} for each in store.feedback_of(turn["id"])]
    return table | {"feedback": said}


def _bundle(answered: Bundle) -> dict[str, Any]:
    told = {name: answered.manifest.get(name) for name in ("made", "parent", "recipe", "verdict")}
    file = answered.path / "report.json"
    report = aliases.read_json(file, "choose another version") if file.is_file() else {}
    figures = [{name: each[name] for name in ("part", "n", "champion", "challenger")} for each in report.get("figures", ())]
    verdict = report.get("verdict") or told["verdict"]
    return {"bundle": answered.name, "path": str(answered.path), **told, "figures": figures,
            "verdict": verdict and {name: verdict.get(name) for name in ("decision", "why")}}


def _router(answered: Bundle, settings: Settings) -> Router:
    base = models.ensure(settings.encoder, settings)
    if answered.manifest.get("encoder") != base.fingerprint:
        raise BundleError(f"{answered.name} was made on another encoder than {settings.encoder}; set the one of then.")
    if not (folder := answered.part("router")):
        raise BundleError(f"{answered.name} has no router; see `retune versions {answered.domain}`.")
    return Router(folder, base, settings.cores)


def _decision(store: Store, turn: Mapping[str, Any], router: Router, notes: list[str]) -> dict[str, Any]:
    """{"decision", "words"}; the notes say where others than the router had the last word."""
    ranking = turn["ranking"]
    article = sum(share for _, share in ranking) > 1.001  # put before the router's own: `RunningTurn._article`
    before = _before(store, turn)
    text = decision.routed(router, [turn["question"], *([f"{before} {turn['question']}"] if before else [])],
                           ranking[1:] if article else ranking)
    if text != turn["question"]:
        notes.append("It was routed together with the question before it.")
    label, probability, drops = decision.weigh(router, text)
    if article:
        notes.append(f"An article that is known to answer this question decided for {ranking[0][0]}, as the router was unsure.")
    elif turn["intent"] and turn["intent"] != label:
        notes.append(f"The conversation stayed with {turn['intent']}: the message was read as a part of it.")
    return {"decision": {"text": text, "for": label, "probability": probability}, "words": drops}


def _before(store: Store, turn: Mapping[str, Any]) -> str | None:
    """The last question before it that did not fail, as the turn itself looked it up."""
    earlier = (turns.c.session == turn["session"]) & (turns.c.seq < turn["seq"])
    fine = turns.c.error.is_(None) & (turns.c.state != "error")
    with store.reading() as at:
        return at.execute(sa.select(turns.c.question).where(earlier & fine).order_by(turns.c.seq.desc()).limit(1)).scalar()


def _nearest(domain: Domain, settings: Settings, store: Store, registry: Registry, answered: Bundle, router: Router, text: str,
             notes: list[str]) -> list[dict[str, Any]]:
    """Among the domain's own rows and those that people taught the router of this bundle."""
    if answered.manifest.get("data") not in (None, domain.data_hash("router")):
        notes.append("The domain's rows have changed since the bundle was made; those of today are shown.")
    wanted = {line["row"] for line in lineage.taught(registry.versions(), answered) if line["part"] == "router"}
    rows = []
    if wanted:
        rows = [row for row in review.apply(harvest(store, domain)[0], review.decisions(store, domain))[0] if row.id in wanted]
        if lost := len(wanted) - len({row.id for row in rows}):
            notes.append(f"{lost} of the {len(wanted)} rows that people taught it are not in the store any more.")
    files = {file: digest for file, digest in answered.manifest["files"].items() if file.startswith("router/")}
    key = f"{answered.manifest['encoder']} {bundle.content_hash(files)}"
    return decision.nearest(router, text, decision.seeds(domain), decision.learned(rows), paths.index(settings.home), key)
