"use strict";
// The contact sheet draws only the rows in view; a person's details are read when it is opened. Text is only ever set as
// text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const sheet = by("sheet"), grid = by("grid"), filters = by("filters"), dialog = by("person");
const NARROWEST = 96, GAP = 10, CAPTION = 24, SPARE = 2;

const state = { found: [], active: 0, open: 0, columns: 1, row: 1, rows: new Map() };
const blobs = new Map();
let lines = null;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Pictures inside the page become blobs, each decoded once, however many tiles show it.
function address(uri) {
  if (!uri.startsWith("data:")) return uri;
  if (!blobs.has(uri)) {
    const bytes = Uint8Array.from(atob(uri.slice(uri.indexOf(",") + 1)), (c) => c.charCodeAt(0));
    blobs.set(uri, URL.createObjectURL(new Blob([bytes], { type: "image/webp" })));
  }
  return blobs.get(uri);
}

function tile(node, uri, column, row, columns, rows) {
  node.style.backgroundImage = `url("${address(uri)}")`;
  node.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
  const share = (index, count) => (count > 1 ? (index / (count - 1)) * 100 : 0);
  node.style.backgroundPosition = `${share(column, columns)}% ${share(row, rows)}%`;
}

function face(node, index) {
  const perSheet = data.side * data.side, number = Math.floor(index / perSheet), place = index % perSheet;
  const filled = Math.min(perSheet, data.people.length - number * perSheet);
  const rows = Math.ceil(filled / data.side);
  tile(node, data.sheets[number], place % data.side, Math.floor(place / data.side), data.side, rows);
}

function plural(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}

// ---- the contact sheet

function filter() {
  const wanted = new FormData(filters), part = wanted.get("identity").trim();
  const fits = data.cells.map((cell) => data.keys.every((key, i) => !wanted.get(key) || wanted.get(key) === cell[i]));
  state.found = [];
  data.people.forEach(([id, cell], index) => {
    if (fits[cell] && id.includes(part)) state.found.push(index);
  });
  state.active = 0;
  const all = data.people.length, some = state.found.length;
  by("count").textContent =
    some === all ? plural(all, "identity").replace("identitys", "identities")
    : `${some.toLocaleString("en")} of ${all.toLocaleString("en")} identities`;
  sheet.scrollTop = 0;
  measure();
}

function measure() {
  const width = grid.clientWidth;
  state.columns = Math.max(1, Math.floor((width + GAP) / (NARROWEST + GAP)));
  state.row = (width - GAP * (state.columns - 1)) / state.columns + CAPTION + GAP;
  const rows = Math.ceil(state.found.length / state.columns);
  grid.style.height = `${rows * state.row}px`;
  grid.setAttribute("aria-rowcount", rows);
  grid.setAttribute("aria-colcount", state.columns);
  for (const row of state.rows.values()) row.remove();
  state.rows.clear();
  grid.querySelector(".empty")?.remove();
  if (!state.found.length) {
    grid.style.height = "auto";
    grid.append(element("p", { class: "empty" }, "Nobody in this dataset fits."));
  }
  draw();
}

function draw() {
  const rows = Math.ceil(state.found.length / state.columns);
  const first = Math.max(0, Math.floor(sheet.scrollTop / state.row) - SPARE);
  const last = Math.min(rows, Math.ceil((sheet.scrollTop + sheet.clientHeight) / state.row) + SPARE);
  const active = Math.floor(state.active / state.columns); // kept, so that focus is not lost by scrolling
  for (const [number, row] of state.rows) {
    if ((number < first || number >= last) && number !== active) {
      row.remove();
      state.rows.delete(number);
    }
  }
  for (let number = first; number < last; number++) drawRow(number);
  if (active < rows) drawRow(active);
}

function drawRow(number) {
  if (state.rows.has(number)) return;
  const row = element("div", { role: "row", "aria-rowindex": number + 1 });
  row.style.top = `${number * state.row}px`;
  row.style.gridTemplateColumns = `repeat(${state.columns}, 1fr)`;
  const end = Math.min(state.found.length, (number + 1) * state.columns);
  for (let place = number * state.columns; place < end; place++) {
    row.append(card(place));
  }
  state.rows.set(number, row);
  // In order, so that a screen reader meets the rows as they are seen.
  const after = [...state.rows.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
  grid.insertBefore(row, after === undefined ? null : state.rows.get(after));
}

function card(place) {
  const index = state.found[place], [id, cell, images] = data.people[index];
  const picture = element("span", { class: "tile" });
  face(picture, index);
  const label = `${id}: ${data.cells[cell].join(", ")}, ${plural(images, "image")}`;
  const button = element("button", { type: "button", class: "card", "aria-label": label, title: label },
    picture, element("small", {}, element("span", {}, id), element("span", {}, String(images))));
  button.tabIndex = place === state.active ? 0 : -1;
  button.dataset.place = place;
  return element("div", { role: "gridcell", "aria-colindex": (place % state.columns) + 1 }, button);
}

function activate(place, focus = true) {
  grid.querySelector('.card[tabindex="0"]')?.setAttribute("tabindex", "-1");
  state.active = place;
  const top = Math.floor(place / state.columns) * state.row;
  if (top < sheet.scrollTop) sheet.scrollTop = top;
  if (top + state.row > sheet.scrollTop + sheet.clientHeight) sheet.scrollTop = top + state.row - sheet.clientHeight + 12;
  draw();
  const button = grid.querySelector(`.card[data-place="${place}"]`);
  button.tabIndex = 0;
  if (!focus) return;
  button.focus({ preventScroll: true });
  button.scrollIntoView({ block: "nearest" });
}

grid.addEventListener("keydown", (event) => {
  const last = state.found.length - 1, page = state.columns * Math.max(1, Math.floor(sheet.clientHeight / state.row));
  const rowStart = state.active - (state.active % state.columns);
  const moves = {
    ArrowRight: state.active + 1,
    ArrowLeft: state.active - 1,
    ArrowDown: state.active + state.columns,
    ArrowUp: state.active - state.columns,
    PageDown: Math.min(last, state.active + page),
    PageUp: Math.max(0, state.active - page),
    Home: event.ctrlKey ? 0 : rowStart,
    End: event.ctrlKey ? last : Math.min(last, rowStart + state.columns - 1),
  };
  if (!(event.key in moves) || event.altKey || event.metaKey) return;
  event.preventDefault();
  const place = moves[event.key];
  if (place >= 0 && place <= last) activate(place);
});
grid.addEventListener("click", (event) => {
  const button = event.target.closest(".card");
  if (button) open(Number(button.dataset.place));
});
grid.addEventListener("focusin", (event) => {
  const place = Number(event.target.dataset.place);
  if (!Number.isNaN(place) && place !== state.active) activate(place, false);
});

let waiting = false;
sheet.addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}, { passive: true });
let width = 0;
new ResizeObserver(() => {
  if (grid.clientWidth !== width) {
    width = grid.clientWidth;
    measure();
  }
}).observe(grid);

filters.addEventListener("input", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(filter));
for (const button of document.querySelectorAll(".cell")) {
  button.addEventListener("click", () => {
    const cell = data.cells[Number(button.dataset.cell)];
    filters.reset();
    data.keys.forEach((key, index) => { filters.elements[key].value = cell[index]; });
    setTimeout(() => {
      by("people").scrollIntoView();
      if (state.found.length) activate(0);
    });
  });
}

// ---- one person

function open(place) {
  state.open = place;
  activate(place, false);
  lines ??= by("details").textContent.split("\n");
  const index = state.found[place], [id, cell, count] = data.people[index];
  const told = JSON.parse(lines[index]);
  by("person-title").textContent = id;
  by("person-cell").textContent = data.cells[cell].join(" / ");
  const columns = told.images.length + 1;
  tile(by("source"), told.strip, 0, 0, columns, 2);
  by("source").setAttribute("aria-label", `Source face of ${id}`);
  const facts = { Prompt: told.prompt, "Edge map": told.edges, Seed: told.seed, Attempt: String(told.attempt + 1) };
  by("facts").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  const more = count > told.images.length ? `, the first ${told.images.length} shown` : "";
  by("images-title").textContent = `${count} of ${plural(told.asked, "image")}${more}`;
  by("images").replaceChildren(...told.images.map((image, number) => strip(told.strip, image, number + 1, columns)));
  by("previous").disabled = place === 0;
  by("next").disabled = place === state.found.length - 1;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function strip(uri, [file, reference, toSource, toReference], column, columns) {
  const picture = element("span", { class: "tile", role: "img", "aria-label": `Image ${file}` });
  tile(picture, uri, column, 0, columns, 2);
  const style = element("span", { class: "tile", role: "img", "aria-label": `Style reference ${reference}`, title: reference });
  tile(style, uri, column, 1, columns, 2);
  const said = element("p");
  for (const [words, cosine] of [["source", toSource], ["style", toReference]]) {
    if (cosine === null) continue;
    if (said.childNodes.length) said.append(element("br"));
    said.append(`${words} `, element("b", {}, cosine.toFixed(2)));
  }
  const path = "images/" + file.split("/").map(encodeURIComponent).join("/");
  return element("li", {},
    element("a", { href: path, target: "_blank", rel: "noopener" }, picture), element("div", { class: "style" }, style, said));
}

function step(by_) {
  const place = state.open + by_;
  if (place >= 0 && place < state.found.length) open(place);
}
by("previous").addEventListener("click", () => step(-1));
by("next").addEventListener("click", () => step(1));
by("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
// The browser gives the focus back to whom was opened first; it belongs to whom was seen last.
dialog.addEventListener("close", () => activate(state.open));

// ---- light and dark

const themes = ["system", "light", "dark"];
by("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "system";
  const next = themes[(themes.indexOf(now) + 1) % themes.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  by("theme").textContent = `Theme: ${next}`;
});

filter();
document.documentElement.dataset.ready = "";
