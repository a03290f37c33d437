// The web chat: asks /v1/chat/completions and shows what comes. Whatever was said or found is text here, never markup.
"use strict";
const $ = (id) => document.getElementById(id);
const kept = { session: "retune.session", model: "retune.model", key: "retune.key" };
let running = null; // of the answer that is being written

function make(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function tell(text) { $("status").textContent = text; }

async function call(method, path, body, more = {}) {
  const headers = { ...(more.headers || {}) };
  const key = sessionStorage.getItem(kept.key);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let came;
  try {
    came = await fetch(path, { method, headers, signal: more.signal, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached; see whether it runs, then try again.");
  }
  if (came.status === 401) $("key").hidden = false;
  if (!came.ok) throw new Error(await sentence(came));
  return came;
}

async function sentence(came) {
  try {
    return (await came.json()).error.message;
  } catch {
    return `The server answered ${came.status}; try again.`;
  }
}

async function begin() {
  try {
    const models = (await (await call("GET", "/v1/models")).json()).data.filter((each) => !each.id.includes("@"));
    $("model").replaceChildren(...models.map((each) => {
      const option = make("option", each.id === "retune" ? "all of them" : each.id.replaceAll("_", " "));
      option.value = each.id;
      return option;
    }));
    const before = localStorage.getItem(kept.model);
    $("model").value = models.some((each) => each.id === before) ? before : "retune";
    $("model").disabled = false;
    $("key").hidden = true;
    await restore();
    $("text").focus();
  } catch (error) {
    tell(error.message);
    if (!$("key").hidden) $("secret").focus();
  }
}

async function restore() {
  const session = localStorage.getItem(kept.session);
  $("talk").replaceChildren();
  if (!session) return;
  try {
    const whole = await (await call("GET", `/v1/sessions/${session.split("/").map(encodeURIComponent).join("/")}`)).json();
    for (const each of whole.exchanges) {
      show(each.question, true);
      const block = show(each.reply, false);
      const said = each.feedback.map((one) => one.kind);
      finish(block, each.answer_id, each.state, each.bundle, each.sources, said);
    }
  } catch {
    localStorage.removeItem(kept.session); // another server's, or another tenant's
  }
}

function show(text, mine) {
  const block = make("section", undefined, mine ? "said mine" : "said");
  block.setAttribute("aria-label", mine ? "You" : "Answer");
  block.append(make("p", text, "words"));
  $("talk").append(block);
  block.scrollIntoView({ block: "end" });
  return block;
}

function finish(block, id, state, bundle, sources, said) {
  if (sources.length) {
    const details = make("details");
    details.append(make("summary", sources.length === 1 ? "1 source" : `${sources.length} sources`));
    const list = make("ul");
    for (const each of sources) list.append(source(each));
    details.append(list);
    block.append(details);
  }
  block.append(make("p", `${state} · ${bundle}`, "foot"));
  const thumbs = make("div", undefined, "thumbs");
  const buttons = { up: make("button", "Good", "up"), down: make("button", "Bad", "down") };
  for (const [kind, button] of Object.entries(buttons)) {
    button.type = "button";
    button.setAttribute("aria-pressed", String(said.includes(kind)));
    button.addEventListener("click", () => rate(id, kind, buttons));
    thumbs.append(button);
  }
  block.append(thumbs);
  block.scrollIntoView({ block: "end" });
}

function source(each) {
  if (typeof each === "string") return make("li", each);
  const item = make("li", `${each.title}, ${each.heading}: `);
  if (/^https:\/\//.test(each.source)) {
    const link = make("a", each.source);
    link.href = each.source;
    link.rel = "noopener noreferrer";
    link.target = "_blank";
    item.append(link);
  } else {
    item.append(each.source);
  }
  return item;
}

async function rate(id, kind, buttons) {
  const taken = buttons[kind].getAttribute("aria-pressed") === "true";
  for (const button of Object.values(buttons)) button.disabled = true;
  try {
    if (taken) {
      await call("DELETE", `/v1/feedback?${new URLSearchParams({ answer_id: id, kind })}`);
    } else {
      await call("POST", "/v1/feedback", { answer_id: id, kind });
    }
    for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", String(!taken && name === kind));
    tell(taken ? "Taken back." : "Noted; press again to take it back.");
  } catch (error) {
    tell(error.message);
  } finally {
    for (const button of Object.values(buttons)) button.disabled = false;
    buttons[kind].focus();
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
    }
  }
}

async function ask(text) {
  show(text, true);
  const block = show("", false), words = block.querySelector(".words");
  const session = localStorage.getItem(kept.session);
  running = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  tell("Thinking ...");
  try {
    const came = await call("POST", "/v1/chat/completions",
      { model: $("model").value, stream: true, messages: [{ role: "user", content: text }] },
      { signal: running.signal, headers: session ? { "X-Session-Id": session } : {} });
    localStorage.setItem(kept.session, came.headers.get("X-Session-Id"));
    let whole = false;
    for await (const each of events(came.body)) {
      if (each.error) throw new Error(each.error.message);
      const delta = each.choices[0]?.delta.content;
      if (delta) words.textContent += delta;
      if (each.retune) {
        whole = true;
        finish(block, each.id, each.retune.state, each.retune.bundle, each.retune.sources, []);
      }
    }
    if (!whole) throw new Error("The answer broke off; ask again.");
    tell("");
  } catch (error) {
    if (error.name === "AbortError") tell("Stopped.");
    else {
      tell("");
      block.append(make("p", error.message, "wrong"));
    }
  } finally {
    running = null;
    $("send").hidden = false;
    $("stop").hidden = true;
    $("text").focus();
  }
}

function fresh() {
  if (running) running.abort();
  localStorage.removeItem(kept.session);
  $("talk").replaceChildren();
  tell("A new conversation.");
  $("text").focus();
}

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || running) return;
  $("text").value = "";
  ask(text);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("say").requestSubmit();
  }
});
$("stop").addEventListener("click", () => running && running.abort());
$("new").addEventListener("click", fresh);
$("model").addEventListener("change", () => {
  localStorage.setItem(kept.model, $("model").value);
  fresh(); // a conversation stays with its domain
});
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(kept.key, $("secret").value.trim());
  $("secret").value = "";
  tell("");
  begin();
});
begin();
