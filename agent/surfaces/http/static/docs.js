// Shows /openapi.json: every operation with what it takes and what it answers. Everything is set as text.
"use strict";
function make(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function resolve(api, schema, depth = 0) {
  if (!schema || typeof schema !== "object" || depth > 5) return schema;
  if (Array.isArray(schema)) return schema.map((each) => resolve(api, each, depth));
  if (schema.$ref) return resolve(api, api.components.schemas[schema.$ref.split("/").pop()], depth + 1);
  return Object.fromEntries(Object.entries(schema).filter(([name]) => name !== "title")
    .map(([name, each]) => [name, resolve(api, each, depth)]));
}

function fold(title, value) {
  const details = make("details");
  details.append(make("summary", title), make("pre", JSON.stringify(value, null, 1)));
  return details;
}

async function show() {
  const api = await (await fetch("/openapi.json")).json();
  const page = document.getElementById("docs");
  page.append(make("p", api.info.description));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, each] of Object.entries(methods)) {
      const head = make("h2");
      head.append(make("span", method.toUpperCase(), "method"), make("code", path));
      page.append(head, make("p", each.description || each.summary));
      if (each.parameters) page.append(fold("Parameters", resolve(api, each.parameters)));
      if (each.requestBody) page.append(fold("Body", resolve(api, each.requestBody.content)));
      for (const [status, answer] of Object.entries(each.responses)) {
        page.append(fold(`${status}: ${answer.description}`, resolve(api, answer.content || {})));
      }
    }
  }
}

show();
