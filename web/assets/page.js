// Speaks the visitor's language, and says how the parts are.
const wanted = (navigator.languages || [navigator.language]).find((tag) => /^(en|zh)\b/i.test(tag)) || "en";
const language = wanted.slice(0, 2).toLowerCase();
const lookUp = (dictionary, key) => key.split(".").reduce((branch, name) => branch && branch[name], dictionary);

async function translate() {
  const dictionary = await (await fetch(`/api/i18n/${language}`)).json();
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = lookUp(dictionary, element.dataset.text) || element.textContent;
  }
  return dictionary;
}

function showComponent(name, kind, word) {
  const row = document.createElement("div");
  const term = document.createElement("dt");
  const value = document.createElement("dd");
  term.textContent = name;
  value.textContent = word;
  value.className = kind;
  row.append(term, value);
  document.getElementById("components").append(row);
}

async function showHealth(dictionary) {
  const health = await (await fetch("/api/health/detailed")).json();
  document.querySelector(".dot").classList.toggle("bad", health.status === "unhealthy");
  document.getElementById("status").textContent = lookUp(dictionary, `page.status.${health.status}`);
  for (const [name, component] of Object.entries(health.components)) {
    const off = component.configured === false;
    const word = lookUp(dictionary, `page.component.${off ? "off" : component.status}`);
    const kind = off ? "off" : component.status === "healthy" ? "good" : "bad";
    showComponent(lookUp(dictionary, `page.components.${name}`) || name, kind, word);
  }
}

document.getElementById("example").textContent = [
  `TOKEN=$(curl -s -X POST ${location.origin}/api/auth/guest -H 'Content-Type: application/json' -d '{}' \\`,
  `  | python3 -c 'import json,sys; print(json.load(sys.stdin)["access_token"])')`,
  `curl -s ${location.origin}/api/generate/basic -H "Authorization: Bearer $TOKEN" \\`,
  `  -H 'Content-Type: application/json' -d '{"prompt": "a lighthouse at dusk"}'`,
].join("\n");
fetch("/docs", { method: "HEAD" }).then((response) => {
  document.querySelector(".button").hidden = !response.ok;
});
translate().then(showHealth);
