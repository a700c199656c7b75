"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const map = byId("map"), scene = byId("scene"), tip = byId("tip");
const RAMP = [[253, 231, 37], [252, 166, 54], [225, 87, 60], [158, 27, 100], [74, 12, 107]];
let view = null, moved = false; // moved by hand: then a change of the window's size leaves it
const camera = { x: 0, y: 0, scale: 1 }; // metres east and south of the middle, pixels a metre

function svg(name, attributes, parent) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.appendChild(node);
  return node;
}

function element(name, text, parent, kind) {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  if (kind) node.className = kind;
  if (parent) parent.appendChild(node);
  return node;
}

function colour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1), low = Math.min(Math.floor(at), RAMP.length - 2);
  return `rgb(${RAMP[low].map((one, n) => Math.round(one + (RAMP[low + 1][n] - one) * (at - low))).join()})`;
}

const known = (value) => value !== null && value !== undefined;
const metres = (m) => (m < 1000 ? `${m < 10 ? m.toFixed(1) : Math.round(m)} m` : `${m < 1e4 ? (m / 1000).toFixed(2) : Math.round(m / 1000).toLocaleString("en")} km`);
const percent = (p) => `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`;

function facts(hit) {
  const lines = [`${hit.lat.toFixed(6)}, ${hit.lon.toFixed(6)}`];
  lines.push(`score ${hit.score.toFixed(3)}` + (known(hit.probability) ? ` · probability ${percent(hit.probability)}` : ""));
  if (known(hit.heading)) {
    lines.push(`heading ${Math.round(hit.heading)}°` + (known(hit.heading_sd) ? ` ± ${Math.max(1, Math.round(hit.heading_sd))}°` : ""));
  }
  if (known(hit.error)) lines.push(`off by ${metres(hit.error)}`);
  if (known(hit.apart) && hit.rank > 1) lines.push(`${metres(hit.apart)} from the best`);
  return lines;
}

function nice(longest) {
  const power = 10 ** Math.floor(Math.log10(longest));
  return power * ([5, 2, 1].find((step) => step * power <= longest) || 1);
}

function place() {
  const { width, height } = map.getBoundingClientRect();
  scene.setAttribute("viewBox", `${camera.x - width / 2 / camera.scale} ${camera.y - height / 2 / camera.scale} ${width / camera.scale} ${height / camera.scale}`);
  for (const node of scene.querySelectorAll("[data-at]")) node.setAttribute("transform", `translate(${node.dataset.at}) scale(${1 / camera.scale})`);
  const length = nice(110 / camera.scale);
  byId("scale").firstElementChild.style.width = `${length * camera.scale}px`;
  byId("scale").lastElementChild.textContent = length < 1000 ? `${length} m` : `${length / 1000} km`;
  const grid = scene.querySelector(".grid");
  if (grid) grid.setAttribute("d", gridPath(width, height, length));
}

function gridPath(width, height, step) {
  const parts = [], left = camera.x - width / 2 / camera.scale, top = camera.y - height / 2 / camera.scale;
  for (let x = Math.ceil(left / step) * step; x < left + width / camera.scale; x += step) parts.push(`M${x} ${top}v${height / camera.scale}`);
  for (let y = Math.ceil(top / step) * step; y < top + height / camera.scale; y += step) parts.push(`M${left} ${y}h${width / camera.scale}`);
  return parts.join("");
}

function zoom(factor, px, py) {
  const box = map.getBoundingClientRect();
  const dx = (px ?? box.width / 2) - box.width / 2, dy = (py ?? box.height / 2) - box.height / 2;
  const before = camera.scale, whole = Math.min(box.width, box.height) / view.side;
  moved = true;
  camera.scale = Math.min(Math.max(before * factor, whole / 4), Math.max(40, whole));
  camera.x += dx / before - dx / camera.scale;
  camera.y += dy / before - dy / camera.scale;
  place();
}

function fit() {
  const box = map.getBoundingClientRect();
  moved = false;
  Object.assign(camera, { x: 0, y: 0, scale: Math.min(box.width, box.height) / view.side });
  place();
}

function pick(number, move) {
  [...byId("hits").querySelectorAll("button")].forEach((one, n) => one.setAttribute("aria-pressed", n === number));
  scene.querySelectorAll(".disc").forEach((one) => one.classList.toggle("chosen", Number(one.dataset.number) === number));
  if (!move) return;
  const hit = view.hits[number], box = map.getBoundingClientRect();
  moved = true;
  camera.x = hit.x; camera.y = -hit.y;
  const close = Math.min(box.width, box.height) / Math.max(4 * (hit.major || 60), 240);
  camera.scale = Math.max(camera.scale, close);
  place();
}

function showTip(hit) {
  tip.textContent = [`${hit.rank}  ${hit.tile || ""}`, ...facts(hit)].join("\n");
  tip.hidden = false;
  const box = map.getBoundingClientRect();
  const x = box.width / 2 + (hit.x - camera.x) * camera.scale, y = box.height / 2 + (-hit.y - camera.y) * camera.scale;
  tip.style.left = `${Math.min(Math.max(x + 18, 4), Math.max(4, box.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.min(Math.max(y + 18, 4), Math.max(4, box.height - tip.offsetHeight - 4))}px`;
}

function drawHit(hit, number) {
  if (hit.major) {
    for (const kind of ["ellipse under", "ellipse"]) {
      svg("ellipse", { class: kind, rx: hit.minor, ry: hit.major, transform: `translate(${hit.x} ${-hit.y}) rotate(${hit.azimuth})` }, scene);
    }
  }
  const best = number === 0 && !view.verdict;
  const disc = svg("g", { class: best ? "disc best" : "disc", "data-at": `${hit.x} ${-hit.y}`, "data-number": number }, scene);
  const radius = best ? 14 : 11;
  for (const heading of hit.headings) {
    if (known(heading)) svg("path", { class: "arrow", d: `M-4 ${-radius}V${-radius - 14}H-9L0 ${-radius - 28}L9 ${-radius - 14}H4V${-radius}Z`, transform: `rotate(${heading})` }, disc);
  }
  svg("circle", { r: radius }, disc);
  svg("text", { y: 4.5 }, disc).textContent = hit.rank;
  disc.addEventListener("pointerenter", () => showTip(hit));
  disc.addEventListener("pointerleave", () => { tip.hidden = true; });
  disc.addEventListener("click", () => { pick(number, false); showTip(hit); });
}

function draw() {
  scene.replaceChildren();
  if (!view.imagery.length) svg("path", { class: "grid" }, scene);
  for (const one of view.imagery) {
    svg("image", { href: one.src, x: one.x - one.width / 2, y: -one.y - one.height / 2, width: one.width, height: one.height, preserveAspectRatio: "none" }, scene);
  }
  const heat = svg("g", { id: "cells", visibility: byId("heat").checked ? "visible" : "hidden" }, scene);
  const most = view.heat.reduce((top, cell) => Math.max(top, cell[3]), 0);
  for (const [x, y, side, weight] of view.heat) {
    const share = Math.sqrt(weight / most);
    svg("rect", { x: x - side / 2, y: -y - side / 2, width: side, height: side, fill: colour(share), opacity: 0.06 + 0.5 * share ** 2 }, heat);
  }
  byId("most").textContent = percent(most);
  if (view.truth) {
    const ring = svg("g", { "data-at": `${view.truth[0]} ${-view.truth[1]}` }, scene);
    for (const kind of ["truth under", "truth"]) svg("circle", { class: kind, r: 22 }, ring);
    svg("title", {}, ring).textContent = "Where the picture says it was taken";
  }
  view.hits.map((hit, number) => [hit, number]).reverse().forEach(([hit, number]) => drawHit(hit, number));
}

function list() {
  const photos = byId("photos"), hits = byId("hits");
  photos.replaceChildren();
  for (const one of view.photos) {
    const image = element("img", "", photos);
    image.src = one.src; image.alt = one.name; image.title = one.name;
  }
  byId("summary").textContent = view.summary;
  byId("verdict").textContent = view.verdict ? view.verdict[0].toUpperCase() + view.verdict.slice(1) + "." : "";
  byId("verdict").hidden = !view.verdict;
  byId("hits").classList.toggle("unplaced", Boolean(view.verdict));
  byId("ring").hidden = !view.truth;
  hits.replaceChildren();
  view.hits.forEach((hit, number) => {
    const button = element("button", "", element("li", "", hits));
    button.type = "button";
    if (hit.thumb) Object.assign(element("img", "", button), { src: hit.thumb, alt: "" });
    else element("span", "no picture", button, "nothing");
    const words = element("div", "", button), head = element("b", "", words);
    element("span", String(hit.rank), head, "rank");
    element("span", hit.tile || "between tiles", head);
    for (const line of facts(hit)) element("span", line, words, "fact");
    button.addEventListener("click", () => pick(number, true));
  });
  byId("credit").textContent = view.attribution ? `Imagery: ${view.attribution}` : "";
}

function show(number) {
  view = data.views[number];
  tip.hidden = true;
  list(); draw(); fit(); pick(0, false);
}

const pointers = new Map();
scene.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, event); scene.classList.add("moving"); });
window.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const others = [...pointers.values()].filter((one) => one.pointerId !== event.pointerId);
  if (others.length) {
    const gap = (one) => Math.hypot(one.clientX - others[0].clientX, one.clientY - others[0].clientY);
    const box = map.getBoundingClientRect();
    zoom(gap(event) / Math.max(gap(before), 1), (event.clientX + others[0].clientX) / 2 - box.left, (event.clientY + others[0].clientY) / 2 - box.top);
  } else {
    camera.x -= (event.clientX - before.clientX) / camera.scale;
    camera.y -= (event.clientY - before.clientY) / camera.scale;
    tip.hidden = true;
    moved = true;
    place();
  }
  pointers.set(event.pointerId, event);
});
for (const kind of ["pointerup", "pointercancel"]) {
  window.addEventListener(kind, (event) => { pointers.delete(event.pointerId); if (!pointers.size) scene.classList.remove("moving"); });
}
map.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = map.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
map.addEventListener("keydown", (event) => {
  const step = 60 / camera.scale;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.target !== map) return;
  if (moves[event.key]) { camera.x += moves[event.key][0]; camera.y += moves[event.key][1]; moved = true; place(); }
  else if (event.key === "+" || event.key === "=") zoom(1.4);
  else if (event.key === "-") zoom(1 / 1.4);
  else if (event.key === "0") fit();
  else return;
  event.preventDefault();
});
byId("closer").addEventListener("click", () => zoom(1.6));
byId("wider").addEventListener("click", () => zoom(1 / 1.6));
byId("all").addEventListener("click", fit);
byId("heat").addEventListener("change", (event) => byId("cells").setAttribute("visibility", event.target.checked ? "visible" : "hidden"));
byId("ramp").style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(colour).join()})`;
data.views.forEach((one, number) => { element("option", one.name, byId("chooser")).value = number; });
byId("choose").hidden = data.views.length < 2;
byId("chooser").addEventListener("change", (event) => show(Number(event.target.value)));
let size = "";
new ResizeObserver(() => {
  const box = map.getBoundingClientRect(), now = `${box.width} ${box.height}`;
  if (view && now !== size) (moved ? place : fit)();
  size = now;
}).observe(map);
show(0);
