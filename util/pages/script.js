"use strict";
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const kept = {  // what the reader has chosen survives the refresh of a page; without storage, it does not
  get(key) { try { return sessionStorage.getItem(location.pathname + key); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(location.pathname + key, value); } catch { /* not allowed here */ } },
};

// Tables of pictures: filter by name, sort by a column.

function filter(words) {
  let shown = 0;
  for (const row of all(".pictures tbody tr")) {
    row.hidden = !words.toLowerCase().split(/\s+/).every(word => row.dataset.name.toLowerCase().includes(word));
    shown += !row.hidden;
  }
  const count = document.querySelector(".count");
  if (count) count.textContent = !words ? "" : shown ? `${shown} shown` : "no name matches";
}

function sort(head, worst) {
  const column = [...head.parentNode.children].indexOf(head), table = head.closest("table");
  const sign = (head.dataset.better == "high" ? -1 : 1) * (worst ? -1 : 1);
  const cost = row => {
    const value = column ? row.children[column].dataset.value : row.dataset.order;
    return value === undefined || value === "" ? Infinity : sign * value;  // rows without a value come last
  };
  const rows = all("tbody tr", table).map(row => [cost(row), +row.dataset.order, row]);
  rows.sort((a, b) => (a[0] == b[0] ? 0 : a[0] - b[0]) || a[1] - b[1]);
  table.tBodies[0].append(...rows.map(row => row[2]));
  for (const other of all("th[data-sorted]", table)) delete other.dataset.sorted;
  head.dataset.sorted = column ? `${worst ? "worst" : "best"} first` : worst ? "Z to A" : "A to Z";
}

function sortAsAddressed() {
  const by = location.hash.slice(1);
  if (by == "best" || by == "worst") all("th[data-followed]").forEach(head => sort(head, by == "worst"));
  if (by == "name") all("th[data-better=name]").forEach(head => sort(head, false));
}

for (const head of all("th[data-better]")) {
  head.querySelector("button").onclick = () => sort(head, /^(best|A)/.test(head.dataset.sorted));
}
for (const field of all("input.filter")) field.oninput = () => filter(field.value);
for (const field of all("input.size")) {
  const resize = () => {
    document.body.style.setProperty("--size", `${field.value}px`);
    document.body.classList.add("sized");
  };
  field.value = kept.get("size") ?? field.value;
  field.oninput = () => { resize(); kept.set("size", field.value); };
  if (kept.get("size")) resize();
}
addEventListener("hashchange", sortAsAddressed);
sortAsAddressed();

// The viewer: a picture over another of its row, with a slider or by turns.

const viewer = make("dialog", { className: "viewer", tabIndex: -1 });
let rowShown, mode = "slider";

function openViewer(link) {
  const pictures = all("a.picture", rowShown = link.closest(".row, tr"));
  const chosen = pictures.indexOf(link) || Math.min(1, pictures.length - 1);
  if (!viewer.open) viewer.showModal();
  showPair(0, chosen);
}

function showPair(left, right) {
  const pictures = all("a.picture", rowShown), label = link => link.dataset.label;
  const choose = (index, then) => {
    const list = make("select", {}, ...pictures.map((link, i) => make("option", { value: i, textContent: label(link) })));
    list.value = index;
    list.onchange = () => then(+list.value);
    return list;
  };
  const images = [left, right].map(index => make("img", { src: pictures[index].querySelector("img").src }));
  for (const image of images) image.onload = () => image.classList.toggle("small", image.naturalWidth <= 128);
  const stage = make("div", { className: `stage ${mode}` }, ...images);
  const slider = make("input", { type: "range", min: 0, max: 100, step: 0.5, ariaLabel: "divider position" });
  slider.oninput = () => stage.style.setProperty("--split", `${slider.value}%`);
  stage.onpointermove = event => {
    const box = stage.getBoundingClientRect();
    slider.value = 100 * (event.clientX - box.left) / box.width;
    slider.oninput();
  };
  const turn = name => make("button", { textContent: name, ariaPressed: mode == name,
                                        onclick: () => { mode = name; showPair(left, right); } });
  const step = (text, by) => make("button", { textContent: text, onclick: () => another(by) });
  const name = rowShown.dataset.name ?? "";
  viewer.replaceChildren(
    make("header", {}, make("strong", { textContent: name }), choose(left, i => showPair(i, right)),
         choose(right, i => showPair(left, i)), turn("slider"), turn("flicker"), step("← previous", -1), step("next →", 1),
         make("a", { href: pictures[right].href, textContent: "open the file" }),
         make("button", { className: "close", textContent: "close", onclick: () => viewer.close() })),
    stage, slider);
  viewer.focus();
}

function another(by) {
  const rows = all(".pictures tbody tr, .row").filter(row => !row.hidden && row.querySelector("a.picture"));
  const next = rows[rows.indexOf(rowShown) + by];
  const selected = all("select", viewer).map(list => +list.value);
  if (!next) return;
  rowShown = next;
  const last = all("a.picture", next).length - 1;
  showPair(Math.min(selected[0], last), Math.min(selected[1], last));
}

viewer.onkeydown = event => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.target.type == "range") return;
  event.preventDefault();
  another(by);
};
viewer.onclick = event => event.target == viewer && viewer.close();
document.body.append(viewer);
document.addEventListener("click", event => {
  const link = event.target.closest("a.picture");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  openViewer(link);
});

// Curves.

const SVG = "http://www.w3.org/2000/svg", WIDTH = 320, HEIGHT = 160, LEFT = 58, RIGHT = 10, TOP = 12, BOTTOM = 24;
const COLOURS = ["#3b82c4", "#d9622b", "#3f9a58", "#9a5fc4", "#b98a1d", "#cc4f86"];
const short = (value, digits = 4) => Number(value.toPrecision(digits)).toString();
const digitsFor = (low, high) => [3, 4, 5, 6].find(digits => short(low, digits) != short(high, digits)) ?? 3;

function draw(figure, smoothing) {
  const { curves, best, notes } = JSON.parse(figure.dataset.curves);
  const svg = document.createElementNS(SVG, "svg");
  const add = (tag, attributes, text = "") => {
    const element = svg.appendChild(document.createElementNS(SVG, tag));
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  const xs = curves.flatMap(curve => curve.x), ys = curves.flatMap(curve => curve.y);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const atX = x => LEFT + (x - left) / (right - left || 1) * (WIDTH - LEFT - RIGHT);
  const atY = y => HEIGHT - BOTTOM - (y - low) / (high - low || 1) * (HEIGHT - TOP - BOTTOM) - (low == high ? (HEIGHT - TOP - BOTTOM) / 2 : 0);
  const line = (curve, values, name, colour) => add("polyline", {
    points: values.map((y, i) => `${atX(curve.x[i]).toFixed(1)},${atY(y).toFixed(1)}`).join(" "), class: name, stroke: colour });
  if (best !== null && best >= left && best <= right)
    add("line", { x1: atX(best), x2: atX(best), y1: TOP, y2: HEIGHT - BOTTOM, class: "best" });
  const smooth = curves.map(curve => smoothed(curve.y, smoothing));
  curves.forEach((curve, i) => {
    const colour = COLOURS[i % COLOURS.length];
    if (smoothing) line(curve, curve.y, "raw", colour);
    line(curve, smooth[i], "", colour);
    add("circle", { cx: atX(curve.x.at(-1)), cy: atY(smooth[i].at(-1)), r: 2.5, fill: colour });
  });
  for (const [epoch, text] of notes.filter(note => note[0] >= left && note[0] <= right)) {
    const x = atX(epoch), y = HEIGHT - BOTTOM;
    add("path", { d: `M${x - 4},${y} h8 l-4,-7 z`, class: "health" }).append(
      Object.assign(document.createElementNS(SVG, "title"), { textContent: `epoch ${short(epoch)}: ${text}` }));
  }
  const digits = digitsFor(low, high);
  add("text", { x: 4, y: atY(high) + 4 }, short(high, digits));
  add("text", { x: 4, y: HEIGHT - BOTTOM }, low == high ? "" : short(low, digits));
  add("text", { x: LEFT, y: HEIGHT - 7 }, short(left));
  add("text", { x: WIDTH - RIGHT, y: HEIGHT - 7, "text-anchor": "end" }, `epoch ${short(right)}`);
  const caption = make("figcaption", {}, make("strong", { textContent: figure.dataset.name, title: figure.dataset.meaning ?? "" }));
  const told = curves.map((curve, i) => {
    const value = make("span");
    value.style.color = curves.length > 1 ? COLOURS[i % COLOURS.length] : "";
    caption.append(" ", value);
    return value;
  });
  const pointer = add("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "pointer", visibility: "hidden" });
  const tell = x => curves.forEach((curve, i) => {
    const nearest = x === null ? curve.x.length - 1
      : curve.x.reduce((found, other, j) => Math.abs(other - x) < Math.abs(curve.x[found] - x) ? j : found, 0);
    const epoch = x === null ? "" : ` at epoch ${short(curve.x[nearest])}`;
    told[i].textContent = `${curve.label} ${short(curve.y[nearest])}${epoch}`.trim();
    if (i == 0) pointer.setAttribute("x1", atX(curve.x[nearest])), pointer.setAttribute("x2", atX(curve.x[nearest]));
  });
  svg.onpointermove = event => {
    const box = svg.getBoundingClientRect();
    tell(left + ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (right - left));
    pointer.setAttribute("visibility", "visible");
  };
  svg.onpointerleave = () => { tell(null); pointer.setAttribute("visibility", "hidden"); };
  tell(null);
  figure.replaceChildren(svg, caption);
}

function smoothed(values, weight) {  // moving average, started without bias
  let sum = 0, share = 0;
  return values.map(value => {
    sum = weight * sum + (1 - weight) * value;
    share = weight * share + 1 - weight;
    return sum / share;
  });
}

const charts = all("figure.chart");
for (const field of all("input.smoothing")) {
  field.value = kept.get("smoothing") ?? 0;
  field.oninput = () => { kept.set("smoothing", field.value); charts.forEach(figure => draw(figure, +field.value)); };
}
charts.forEach(figure => draw(figure, +(document.querySelector("input.smoothing")?.value ?? 0)));

// Pictures of several epochs: one is shown in its row, all of them in a strip, and a scrubber goes through them.

const strips = all("[data-epochs]").map(place => ({ place, image: place.querySelector("img"), epochs: JSON.parse(place.dataset.epochs) }));
const scrubber = document.querySelector("input.scrubber");

function goTo(index) {
  const epochs = JSON.parse(scrubber.dataset.all), epoch = epochs[index];
  for (const { place, image, epochs: own } of strips) {
    const there = own.filter(one => one <= epoch).at(-1) ?? own[0];
    image.src = place.href = place.dataset.file.replace("EPOCH", String(there).padStart(3, "0"));
    place.dataset.label = `${place.dataset.what}, epoch ${there}`;
  }
  for (const figure of all(".strip figure")) figure.classList.toggle("here", figure.dataset.epoch == epoch);
  document.querySelector("output.epoch").value = `epoch ${epoch}`;
}

function fillStrip(strip) {
  const { place, epochs } = strips.find(one => one.place.id == strip.dataset.of);
  const notes = JSON.parse(scrubber.dataset.notes);
  strip.append(...epochs.map(epoch => {
    const src = place.dataset.file.replace("EPOCH", String(epoch).padStart(3, "0"));
    const text = notes.filter(note => Math.ceil(note[0] || 1) == epoch).map(note => note[1]).join("; ");
    const caption = make("figcaption", { textContent: `epoch ${epoch}` }, ...(text ? [make("span", { className: "note", textContent: " ⚠", title: text })] : []));
    const figure = make("figure", {}, make("img", { src, loading: "lazy", alt: `epoch ${epoch}` }), caption);
    figure.dataset.epoch = epoch;
    figure.onclick = () => { scrubber.value = JSON.parse(scrubber.dataset.all).indexOf(epoch); scrubber.oninput(); };
    return figure;
  }));
  strip.scrollLeft = strip.scrollWidth;
}

if (scrubber) {
  all(".strip[data-of]").forEach(fillStrip);
  scrubber.oninput = () => { goTo(+scrubber.value); kept.set("epoch", scrubber.value == scrubber.max ? "" : scrubber.value); };
  scrubber.value = kept.get("epoch") || scrubber.max;
  goTo(+scrubber.value);
}

// Two films side by side stay at the same moment.

for (const row of all(".row")) {
  const [first, ...others] = all("video", row);
  if (!first) continue;
  const follow = () => others.forEach(other => {
    if (Math.abs(other.currentTime - first.currentTime) > 0.08) other.currentTime = first.currentTime;
    if (first.paused != other.paused) first.paused ? other.pause() : other.play();
  });
  for (const event of ["play", "pause", "seeked", "timeupdate", "ratechange"]) first.addEventListener(event, follow);
}

// The state of a run: the page is loaded again while it lives, and says so if it has died.

const state = document.querySelector(".state[data-written]");
if (state) {
  const quiet = Date.now() / 1000 - state.dataset.written;
  if (quiet > state.dataset.patience) {
    const minutes = Math.round(quiet / 60), since = minutes < 120 ? `${minutes} minutes` : `${Math.round(minutes / 60)} hours`;
    state.classList.add("bad");
    state.textContent = `No sign of life for ${since}: the training has died, or its machine is out of reach. Last seen: ${state.textContent}. ${state.dataset.remedy}`;
  }
  scrollTo(0, kept.get("scroll") ?? 0);
  setInterval(() => {
    if (viewer.open || document.hidden || document.querySelector(":active, select:focus")) return;
    kept.set("scroll", scrollY);
    location.reload();
  }, 20000);
}
