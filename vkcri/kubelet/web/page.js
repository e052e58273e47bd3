"use strict";
// The page of one node. Everything comes from this server; the token stays in this tab and travels in a header only.
const $ = id => document.getElementById(id);
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) { sessionStorage.setItem("token", given); history.replaceState(null, "", location.pathname); }
const headers = () => ({ Authorization: "Bearer " + (sessionStorage.getItem("token") || "") });
const MOST_LINES = 5000, LONGEST_LINE = 65536;
const restarting = new Set();
let usage = { node: [], pods: {} }, stream = null, paused = false, waiting = [], refreshing = false, lost = false, seen = null;

function element(tag, more = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(more)) name in made ? made[name] = value : made.setAttribute(name, value);
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}
// What is shown becomes what was made, node by node: one that stays keeps its focus, its listeners and a click under way.
function become(shown, made) {
  if (shown.nodeName !== made.nodeName || shown.dataset?.key !== made.dataset?.key) { shown.replaceWith(made); return; }
  if (shown.nodeType === Node.TEXT_NODE) { if (shown.data !== made.data) shown.data = made.data; return; }
  for (const name of shown.getAttributeNames()) if (!made.hasAttribute(name)) shown.removeAttribute(name);
  for (const name of made.getAttributeNames()) if (shown.getAttribute(name) !== made.getAttribute(name)) shown.setAttribute(name, made.getAttribute(name));
  fill(shown, made.childNodes);
}
function fill(parent, made) {
  const wanted = [...made], keys = new Set(wanted.map(node => node.dataset?.key));
  for (const node of [...parent.childNodes]) if (node.dataset?.key && !keys.has(node.dataset.key)) node.remove();
  const kept = new Map([...parent.childNodes].filter(node => node.dataset?.key).map(node => [node.dataset.key, node]));
  let at = parent.firstChild;
  for (const node of wanted) {
    const old = node.dataset?.key ? kept.get(node.dataset.key) : at && !at.dataset?.key ? at : null;
    if (!old) { parent.insertBefore(node, at); continue; }
    if (old === at) at = at.nextSibling; else parent.insertBefore(old, at);
    become(old, node);
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}
async function ask(path, options = {}) {
  const answer = await fetch(path, { headers: headers(), ...options });
  if (answer.status === 401) { $("enter").hidden = false; throw new Error("the token is wanted"); }
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}
function ago(time) {
  const seconds = Math.max(0, (Date.now() - new Date(time)) / 1000);
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]]) if (seconds >= 2 * size) return Math.floor(seconds / size) + unit;
  return Math.floor(seconds) + "s";
}
const cores = nano => "CPU " + (nano >= 1e9 ? (nano / 1e9).toFixed(2) : Math.round(nano / 1e6) + "m");
const bytes = size => size >= 2 ** 30 ? (size / 2 ** 30).toFixed(1) + " GiB" : size >= 2 ** 20 ? Math.round(size / 2 ** 20) + " MiB" : Math.round(size / 1024) + " KiB";

function plot(points, index, kind, show) {
  const values = points.map(point => point[index]);
  if (values.length === 1) values.push(values[0]); // a line, too
  const most = Math.max(...values, 1), width = values.length - 1;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS(svg.namespaceURI, "path");
  svg.setAttribute("viewBox", `0 -1 ${width} 22`); svg.setAttribute("preserveAspectRatio", "none"); svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", values.map((value, at) => `${at ? "L" : "M"}${at} ${20 - 20 * value / most}`).join(""));
  svg.append(path);
  return element("span", { className: kind, title: kind + " over the last minutes" }, svg, show(values[values.length - 1]));
}
function use(points) {
  return points && points.length ? [plot(points, 1, "cpu", cores), plot(points, 2, "memory", bytes)] : [];
}
function podCard(pod) {
  const ready = pod.containers.length && pod.containers.every(item => item.ready);
  const look = ready ? "good" : pod.phase === "Succeeded" ? "" : pod.phase === "Failed" ? "bad" : "wait";
  const meta = [pod.deleting ? "Terminating" : pod.reason || pod.phase, ago(pod.created), pod.podIP].filter(Boolean).join(" · ");
  return element("article", { className: "pod", "data-key": pod.uid },
    element("h3", {}, element("span", { className: "dot " + look }), pod.name, " ", element("small", {}, pod.namespace)),
    element("p", { className: "meta" }, meta),
    ...pod.containers.map(item => container(pod, item)));
}
function container(pod, item) {
  const bad = item.exitCode || /BackOff|Err/.test(item.reason || "");
  const look = item.state === "running" ? (item.ready ? "good" : "wait") : bad ? "bad" : item.state === "waiting" ? "wait" : "";
  const state = [item.reason || item.state, item.startedAt && ago(item.startedAt), item.restartCount && item.restartCount + (item.restartCount === 1 ? " restart" : " restarts")];
  const made = element("button", { type: "button", className: "container", "data-key": item.name },
    element("span", {}, element("span", { className: "dot " + look }), item.name, item.type === "container" ? null : ` (${item.type})`),
    element("span", { className: "use" }, ...use((usage.pods[pod.uid] || {})[item.name])),
    element("span", { className: "what" }, state.filter(Boolean).join(" · ")));
  made.dataset.logs = item.logs; made.dataset.name = `${pod.namespace}/${pod.name}/${item.name}`;
  return made;
}
function program(item) {
  const look = item.state === "RUNNING" ? "good" : item.state === "EXITED" ? "" : item.state === "FATAL" ? "bad" : "wait";
  const button = element("button", { type: "button", disabled: restarting.has(item.name) }, "restart");
  const made = element("li", { "data-key": item.name }, element("span", { className: "dot " + look }), element("span", { className: "name" }, item.name),
    element("small", {}, item.state === "RUNNING" ? ago(item.started) : item.state.toLowerCase()), button);
  made.dataset.program = item.name; made.dataset.pid = item.pid; made.dataset.state = item.state;
  return made;
}
async function restart(name) {
  say("");
  restarting.add(name);
  show();
  try { await ask(`programs/${name}/restart`, { method: "POST" }); } catch (error) { say(error.message); }
  restarting.delete(name);
  show();
  refresh();
}
function event(item) {
  return element("li", { className: item.type }, element("strong", {}, item.reason), " ", item.object, " ",
    element("small", {}, ago(item.last) + (item.count > 1 ? ` · ${item.count} times` : "")), element("div", {}, item.message));
}
const say = text => { $("trouble").textContent = text; };
function show() {
  $("node").textContent = seen.node;
  document.title = "vkcri " + seen.node;
  fill($("pods"), seen.pods.length ? seen.pods.map(podCard) : [element("p", { className: "empty" }, "No pods on this node.")]);
  if (seen.programs) fill($("programs"), seen.programs.map(program));
  fill($("events"), seen.events.length ? seen.events.map(event) : [element("li", { className: "empty" }, "None in the last hour.")]);
}
async function refresh() {
  if (refreshing) return; // a slow answer must not be asked for again and again
  refreshing = true;
  try {
    seen = await (await ask("overview")).json();
    $("enter").hidden = true;
    show();
    if (lost) say("");
    lost = false;
  } catch (error) { say(error.message); lost = true; } finally { refreshing = false; }
}
async function refreshUse() {
  try { usage = await (await ask("usage")).json(); fill($("nodeuse"), use(usage.node)); } catch { /* the overview says what is wrong */ }
}

function openLog(name, path) {
  $("logname").textContent = name;
  $("log").dataset.path = path;
  if (!$("log").open) $("log").showModal();
  readLog();
}
async function readLog() {
  if (stream) stream.abort();
  const mine = stream = new AbortController(), decoder = new TextDecoder();
  $("lines").replaceChildren(); count(); waiting = []; setPaused(false);
  const query = new URLSearchParams({ tail: 1000 });
  if ($("follow").checked && !$("previous").checked) query.set("follow", 1);
  if ($("previous").checked) query.set("previous", 1);
  $("logstate").textContent = "reading …";
  try {
    const answer = await ask($("log").dataset.path.slice(1) + "?" + query, { signal: mine.signal });
    $("logstate").textContent = query.has("follow") ? "following" : "read";
    let rest = "";
    for (const reader = answer.body.getReader(); ;) {
      const { done, value } = await reader.read();
      const lines = (rest + (done ? decoder.decode() : decoder.decode(value, { stream: true }))).split("\n");
      rest = done ? "" : lines.pop();
      for (; rest.length > LONGEST_LINE; rest = rest.slice(LONGEST_LINE)) lines.push(rest.slice(0, LONGEST_LINE));
      add(done ? lines.filter((line, at) => line || at < lines.length - 1) : lines);
      if (done) break;
    }
    $("logstate").textContent = "the log has ended";
  } catch (error) { if (!mine.signal.aborted) $("logstate").textContent = error.message; }
}
function add(lines) {
  if (paused) { waiting.push(...lines); waiting = waiting.slice(-MOST_LINES); $("logstate").textContent = `paused, ${waiting.length} lines wait`; return; }
  const view = $("lines"), atEnd = view.scrollHeight - view.scrollTop - view.clientHeight < 40;
  view.append(...lines.map(line => mark(element("div", {}), line)));
  while (view.childElementCount > MOST_LINES) view.firstChild.remove();
  if (atEnd) view.scrollTop = view.scrollHeight;
  count();
}
function count() {
  const all = $("lines").childElementCount, hidden = $("lines").getElementsByClassName("hidden").length;
  $("found").textContent = $("search").value ? `${all - hidden} of ${all} lines` : "";
}
function mark(row, line) {
  const wanted = $("search").value, at = wanted ? line.toLowerCase().indexOf(wanted.toLowerCase()) : -1;
  row.classList.toggle("hidden", Boolean(wanted) && at < 0);
  row.replaceChildren(...(at < 0 ? [line || "​"] : [line.slice(0, at), element("mark", {}, line.slice(at, at + wanted.length)), line.slice(at + wanted.length)]));
  return row;
}
function setPaused(value) {
  paused = value;
  $("pause").textContent = paused ? "go on" : "pause";
  if (!paused && waiting.length) { const lines = waiting; waiting = []; add(lines); $("logstate").textContent = "following"; }
}
$("pause").addEventListener("click", () => setPaused(!paused));
$("search").addEventListener("input", () => { for (const row of $("lines").children) mark(row, row.textContent); count(); });
for (const id of ["follow", "previous"]) $(id).addEventListener("change", readLog);
$("close").addEventListener("click", () => $("log").close());
$("log").addEventListener("close", () => { if (stream) stream.abort(); stream = null; });
$("download").addEventListener("click", async () => {
  const name = $("logname").textContent;
  try {
    const path = $("log").dataset.path.replace("/logs/", "downloads/") + ($("previous").checked ? "?previous=1" : "");
    const ticket = await (await ask(path, { method: "POST" })).text();
    element("a", { href: "download?" + new URLSearchParams({ ticket }), download: "" }).click(); // the browser saves it as it comes
  } catch (error) { $("logstate").textContent = `no download of ${name}: ${error.message}`; }
});
$("pods").addEventListener("click", clicked => {
  const chosen = clicked.target.closest("[data-logs]");
  if (chosen) openLog(chosen.dataset.name, chosen.dataset.logs);
});
$("programs").addEventListener("click", clicked => {
  if (clicked.target.closest("button")) restart(clicked.target.closest("li").dataset.program);
});
$("enter").addEventListener("submit", submitted => { submitted.preventDefault(); sessionStorage.setItem("token", $("token").value.trim()); refresh(); refreshUse().then(refresh); });
refreshUse().then(refresh);
setInterval(refresh, 3000);
setInterval(refreshUse, 10000);
