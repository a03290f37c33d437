"""The command `retune review`: rows and proposed intents, one after the other, by key; the same by options for scripts.

Shows and asks; what waits is worked out by tuning.dataset, and what was decided is kept by tuning.review.
"""

import getpass
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.surfaces.options import DomainArgument, Home, Json, show

if TYPE_CHECKING:
    from agent.domain import Domain
    from agent.settings import Settings
    from agent.store import Store
    from tuning.proposals import Proposal
    from tuning.quarantine import Embed
    from tuning.rows import Waiting

app = typer.Typer()
ROW_KEYS = "a accept · e edit · r relabel · x reject · s skip · t trust the author · q quit"
INTENT_KEYS = "a add · n add under another name · s skip · q quit"


@app.command()
def review(domain: DomainArgument,
           listed: Annotated[bool, typer.Option("--list", help="Only list what waits.")] = False,
           accept: Annotated[str, typer.Option(metavar="ROW", help="Let a row teach as it is.")] = "",
           reject: Annotated[str, typer.Option(metavar="ROW", help="Never train on a row.")] = "",
           relabel: Annotated[tuple[str, str], typer.Option(metavar="ROW INTENT", help="Give a row another label.")] = ("", ""),
           edit: Annotated[tuple[str, str], typer.Option(metavar="ROW ANSWER", help="Give a row a better answer.")] = ("", ""),
           trust: Annotated[str, typer.Option(metavar="AUTHOR", help="Let this author's rows through.")] = "",
           block: Annotated[str, typer.Option(metavar="AUTHOR", help="Learn nothing from this author.")] = "",
           intents: Annotated[bool, typer.Option("--intents", help="New intents, proposed from turns that none fits.")] = False,
           add: Annotated[str, typer.Option(metavar="NAME", help="Add a proposed intent to the domain.")] = "",
           named: Annotated[str, typer.Option("--as", metavar="NAME", help="With --add: its name in the domain.")] = "",
           reply: Annotated[str, typer.Option(help="With --add: the words to say.")] = "",
           handoff: Annotated[bool, typer.Option("--handoff", help="With --add: pass the person on after the reply.")] = False,
           reviewer: Annotated[str | None, typer.Option(help="Who decides; else the name you are logged in with.")] = None,
           as_json: Json = False, home: Home = None) -> None:
    """Decide about rows that wait before they teach anything, the most informative first."""
    given = {"--accept": accept, "--reject": reject, "--relabel": relabel[0], "--edit": edit[0], "--trust": trust,
             "--block": block, "--add": add}
    asked = [name for name, value in given.items() if value]
    if len(asked) > 1:
        raise typer.BadParameter(f"one decision at a time, not {' and '.join(asked)}")
    if (named or reply or handoff) and not add:
        raise typer.BadParameter("--as, --reply and --handoff belong to --add")
    from agent.domain import Domain
    from agent.settings import Settings
    from agent.store import Store

    settings = Settings.load(home=home)
    store = Store(settings.database_url)
    desk = _Desk(Domain.load(domain), store, getpass.getuser() if reviewer is None else reviewer, settings, as_json)
    store.open()
    try:
        if row := accept or reject or relabel[0] or edit[0]:
            desk.decide_by_id(row, asked[0][2:], relabel[1] or None, edit[1] or None)
        elif trust or block:
            desk.judge(trust or block, asked[0][2:])
        elif add:
            desk.add_by_name(add, named or add, reply, "handoff" if handoff else "fixed")
        elif intents:
            desk.list_intents() if listed or as_json else desk.go_through_intents()
        else:
            desk.list_rows() if listed or as_json else desk.go_through_rows()
    finally:
        store.close()


@dataclass
class _Desk:
    """One reviewer at one domain's rows."""

    domain: "Domain"
    store: "Store"
    reviewer: str
    settings: "Settings"
    as_json: bool

    @cached_property
    def embed(self) -> "Embed":
        """Vectors of the plain encoder, loaded when the first are needed; no text is embedded twice."""
        import numpy as np

        from agent import models
        from agent.encoder import Encoder
        from agent.surfaces.progress import model_bar

        with model_bar(self.as_json) as watch:
            encoder = Encoder(models.ensure(self.settings.encoder, self.settings, watch), None, self.settings.cores)
        known: dict[str, Any] = {}

        def embed(texts: Sequence[str]) -> np.ndarray:
            if fresh := [text for text in dict.fromkeys(texts) if text not in known]:
                known.update(zip(fresh, encoder.embed(fresh)))
            return np.stack([known[text] for text in texts])

        return embed

    # Rows

    def waiting(self) -> "list[Waiting]":
        """What waits now, the most informative first."""
        from tuning.dataset import build

        return list(build(self.domain, self.store, encoder=self.embed).waiting)

    def list_rows(self) -> None:
        """What waits, and why."""
        waiting = self.waiting()
        rows = [{"id": each.row.id, **asdict(each.row), "reasons": each.reasons, "score": each.score} for each in waiting]
        show(rows, self.as_json, lambda: print("\n\n".join(map(self.described, waiting)) or "Nothing waits."))

    def described(self, each: "Waiting") -> str:
        """A row with where it comes from, for a person to judge."""
        from agent.signs import harmless

        row, turn = each.row, self.store.turn(each.row.turn or "") or {}
        routed = ", ".join(f"{name} {share:.2f}" for name, share in (turn.get("ranking") or [])[:3])
        lines = [f"{row.id}  {row.signal} by {row.author or 'somebody without a name'}, {row.created[:16]}, {row.bundle}",
                 *(f"  before    {text}" for text in row.history), f"  question  {row.question}"]
        if row.part == "router":
            lines += [f"  label     {row.intent}" + (f"   (the router: {routed})" if routed else "")]
        else:
            lines += [*(f"  fact      {fact}" for fact in row.facts),
                      *([f"  model     {row.rejected}"] if row.rejected else []),
                      f"  {'disliked' if row.signal == 'down' else 'answer  '}  {row.answer}"]
        return harmless("\n".join([*lines, f"  waits     {'; '.join(each.reasons)}"]))

    def decide_by_id(self, id: str, decision: str, intent: str | None, answer: str | None) -> None:
        """Any harvested row, decided already or not, by its id or the beginning of it."""
        from agent.errors import DataError
        from tuning.harvest import harvest
        from tuning.review import decide

        found = [row for row in harvest(self.store, self.domain)[0] if row.id.startswith(id)]
        if len(found) != 1:
            many = f"{len(found)} rows begin with {id!r}; give more of the id." if found else f"There is no row {id!r}."
            raise DataError(f"{many} `retune review {self.domain.name} --list` shows what waits.")
        decide(self.store, self.domain, found[0], decision, self.reviewer, intent, answer)
        table = {"row": found[0].id, "decision": decision, "intent": intent, "answer": answer, "reviewer": self.reviewer}
        show(table, self.as_json, lambda: print(f"{found[0].id}: {decision}."))

    def judge(self, author: str, said: str) -> None:
        """Trust or block an author."""
        from tuning import quarantine

        (quarantine.trust if said == "trust" else quarantine.block)(self.store, author)
        status = "trusted" if said == "trust" else "blocked"
        show({"author": author, "status": status}, self.as_json, lambda: print(f"{author} is {status}."))

    def go_through_rows(self) -> None:
        """Row by row, by key. What is left comes again next time; a decision may let other rows go or come."""
        seen: set[str] = set()
        while each := next((each for each in self.waiting() if each.row.id not in seen), None):
            print(f"\n{self.described(each)}\n{ROW_KEYS}")
            if (pressed := _key()) == "q":
                break
            if self.decided(each, pressed):
                seen.add(each.row.id)
        left = len(self.waiting())
        print("Nothing waits." if not left else "1 row waits." if left == 1 else f"{left} rows wait.")

    def decided(self, each: "Waiting", pressed: str) -> bool:
        """Whether the key (and the words after it) settled the row for this time."""
        from agent.errors import RetuneError
        from tuning.review import decide

        decision = {"a": "accept", "e": "edit", "r": "relabel", "x": "reject"}.get(pressed)
        try:
            if decision:
                answer = _line("The better answer:") if decision == "edit" and each.row.part == "generator" else None
                intent = _line(f"One of {', '.join([*self.domain.intents, 'oos'])}:") if decision == "relabel" else None
                decide(self.store, self.domain, each, decision, self.reviewer, intent, answer)
            elif pressed == "t":
                self.judge(each.row.author, "trust")
        except RetuneError as error:
            print(error)
            return False
        return bool(decision) or pressed == "s"

    # Intents

    def proposals(self) -> "list[Proposal]":
        """New intents from what was out of scope."""
        from tuning.proposals import outside, propose

        return propose(outside(self.store, self.domain), self.embed, taken=list(self.domain.intents))

    def list_intents(self) -> None:
        """What is proposed, and how often it was asked."""
        found = self.proposals()
        show([asdict(each) | {"size": len(each.turns)} for each in found], self.as_json,
             lambda: print("\n\n".join(map(_proposal, found)) or "Nothing to propose: too few turns alike were out of scope."))

    def go_through_intents(self) -> None:
        """Proposal by proposal, by key."""
        from agent.domain import Domain
        from agent.errors import RetuneError

        for each in self.proposals():
            while True:
                print(f"\n{_proposal(each)}\n{INTENT_KEYS}")
                if (pressed := _key()) in ("q", "s"):
                    break
                try:
                    if pressed in ("a", "n"):
                        name = _line("Its name:") if pressed == "n" else each.name
                        self.add(each, name, _line("The words to say:"), "fixed")
                        self.domain = Domain.load(self.domain.folder)
                        break
                except RetuneError as error:
                    print(error)
            if pressed == "q":
                return

    def add_by_name(self, proposed: str, name: str, reply: str, answer: str) -> None:
        """A proposal by the name that it was shown with."""
        from agent.errors import DataError

        found = {each.name: each for each in self.proposals()}
        if proposed not in found:
            raise DataError(f"No intent {proposed!r} is proposed; there are: {', '.join(found) or 'none'}.")
        self.add(found[proposed], name, reply, answer)

    def add(self, each: "Proposal", name: str, reply: str, answer: str) -> None:
        """Into the domain's files."""
        from tuning.proposals import add_intent

        add_intent(self.domain, each, name, reply, answer)
        show({"intent": name, "answer": answer, "examples": each.examples}, self.as_json, lambda: print(
            f"{name} is in {self.domain.folder / 'domain.toml'}; `retune retrain` teaches it to the router."))


def _proposal(each: "Proposal") -> str:
    from agent.signs import harmless

    asked = f"{each.name}: asked {len(each.turns)} times in {each.sessions} conversations, cohesion {each.cohesion}"
    return harmless("\n".join([asked, *(f"  {text}" for text in each.examples[:8])]))


def _key() -> str:
    """The next key; of a pipe the first letter of the next line, `q` at its end."""
    if sys.stdin.isatty():
        pressed = typer.getchar()
        print(pressed if pressed.isprintable() else "")
        return "q" if pressed in ("\x03", "\x04") else pressed.lower()
    line = sys.stdin.readline()
    return line.strip()[:1].lower() if line else "q"


def _line(prompt: str) -> str:
    """A line of words; empty to leave it."""
    print(prompt, end=" ", flush=True)
    return sys.stdin.readline().strip()
