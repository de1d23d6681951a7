// The page: tables that sort, figures, a list of examples of which only the visible ones exist, and the viewer.
// Whatever comes from files and names enters the page as text, never as markup.

const data = JSON.parse(document.getElementById("summary").textContent);
const byId = (id) => document.getElementById(id);

/** An element with attributes (properties for functions and classes) and children, strings among them as text. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// ---- tables

function tableOf(table) {
  const body = make("tbody");
  const longColumn = table.columns.indexOf("settings");
  const kind = (i) => (i >= table.names ? "figure" : i === longColumn ? "long" : null);
  for (const row of table.rows) {
    body.append(make("tr", { }, ...row.map((cell, i) => make("td", { class: kind(i) }, cell.text))));
  }
  const rows = [...body.rows].map((element, i) => ({ element, cells: table.rows[i] }));
  const heads = table.columns.map((column, i) =>
    make("th", { scope: "col", class: i >= table.names ? "figure" : null, "aria-sort": "none" },
      make("button", { type: "button", click: () => sortBy(i) }, column)));
  function sortBy(i) {
    const falling = heads[i].getAttribute("aria-sort") === "ascending";
    heads.forEach((head, j) => head.setAttribute("aria-sort", j !== i ? "none" : falling ? "descending" : "ascending"));
    rows.sort((a, b) => compared(a.cells[i], b.cells[i], falling ? -1 : 1));
    body.append(...rows.map((row) => row.element));
  }
  const head = make("thead", null, make("tr", null, ...heads));
  // The caption stands still while what is wider than the window scrolls.
  const scrolled = { class: "scrolled", tabindex: 0, role: "region", "aria-label": table.caption };
  const grid = make("table", { "aria-label": table.caption }, head, body);
  return make("div", { class: "table" }, make("p", null, table.caption), make("div", scrolled, grid));
}

/** Our results in sight; the paper's tables, which are long, to be opened. */
function showTables() {
  const [results, ...others] = data.tables;
  if (results) byId("results").append(tableOf(results));
  for (const line of data.unsound) byId("results").append(make("p", { class: "missed" }, line));
  for (const table of others) byId("results").append(make("details", null, make("summary", null, table.caption), tableOf(table)));
}

/** Numbers by size, texts by letters; what is missing comes last either way. */
function compared(a, b, sign) {
  if (a.value !== null && b.value !== null) return sign * (a.value - b.value);
  if ((a.value === null) !== (b.value === null)) return a.value === null ? 1 : -1;
  return sign * a.text.localeCompare(b.text, undefined, { numeric: true });
}

// ---- figures

function figureOf(figure) {
  const image = make("img", { src: `data:image/svg+xml;base64,${figure.svg}`, alt: figure.caption, loading: "lazy" });
  return make("figure", null, image, make("figcaption", null, figure.caption));
}

function showFigures() {
  data.figures.forEach((group, i) => {
    const plots = make("div", { class: "plots" }, ...group.figures.map(figureOf));
    byId("figures").append(make("details", { open: i === 0 ? "" : null }, make("summary", null, group.title), plots));
  });
}

// ---- pixels: in blocks at the end of the file, which may not be read yet

const BLOCK = data.block, blocks = new Map();

async function block(number) {
  const whole = () => {
    const element = byId(`pixels-${number}`);
    return element && (element.nextElementSibling || document.readyState !== "loading") ? element : null;
  };
  while (!whole()) await new Promise((resolve) => setTimeout(resolve, 30));
  return JSON.parse(whole().textContent);
}

/** What is stored of the example at a position; the latest few blocks are kept. */
async function stored(position) {
  const number = Math.floor(position / BLOCK), items = blocks.get(number) || block(number);
  blocks.delete(number);
  blocks.set(number, items);
  if (blocks.size > 6) blocks.delete(blocks.keys().next().value);
  return (await items)[position % BLOCK];
}

/** The pixels of an example: image, true mask or null, and levels of each method's map. */
async function pixelsOf(example) {
  const [height, width] = example.size;
  const [own, mask, maps] = await stored(example.position);
  const jpeg = typeof own === "number" ? (await stored(own))[0] : own;
  const image = new Image();
  image.src = `data:image/jpeg;base64,${jpeg}`;
  const [, truth, ...levels] = await Promise.all([
    image.decode(), mask && unpackLevels(mask, width, height), ...maps.map((map) => unpackLevels(map, width, height)),
  ]);
  return { image, mask: truth, levels };
}

// ---- the list of examples: only those near the window have their pictures

const filters = byId("filters").elements, cards = byId("cards"), HIT = 0.5;
let shown = [];

// The methods of a card: the main ones, and the one that is judged.
const onCards = () => run().methods.map((_, i) => i).filter((i) => run().main.includes(i) || i === Number(filters.method.value));
const run = () => data.runs[Number(filters.run.value)];
const findingOf = (example, method) => example.findings.find((finding) => finding.method === method);
const verdict = (iou) => (iou === null ? "no ground truth" : `IoU ${iou.toFixed(2)}, ${iou >= HIT ? "found" : "missed"}`);
// Without boxes the mask itself is judged, and its errors have colours of their own.
const errors = (example) => example.masked && !example.boxes;
const option = (value, text) => make("option", { value }, text);

// The browser says which cards come near the window (`content-visibility` in page.css); a focused one stays.
cards.addEventListener("contentvisibilityautostatechange", ({ target, skipped }) => {
  if (!skipped) fill(target);
  else target.replaceChildren();
});

function chooseRun() {
  const { methods, examples } = run(), classes = new Map();
  for (const example of examples) classes.set(example.class, (classes.get(example.class) || 0) + 1);
  const names = [...classes.keys()].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  legendOf(byId("card-legend"), examples, false);
  filters.method.replaceChildren(...methods.map((method, i) => option(i, method)));
  filters.method.value = run().main.at(-1);
  filters.class.replaceChildren(option("", `all (${names.length})`), ...names.map((name) => option(`=${name}`, `${name} (${classes.get(name)})`)));
  choose();
}

function choose() {
  const method = Number(filters.method.value), text = filters.text.value.toLowerCase();
  const low = Number(filters.low.value || 0), high = Number(filters.high.value || 1), open = low <= 0 && high >= 1;
  const wanted = filters.class.value.slice(1), success = filters.success.value;
  const iou = (example) => findingOf(example, method)?.iou ?? null;
  shown = run().examples.filter((example) => {
    const value = iou(example);
    if (wanted && example.class !== wanted) return false;
    if (text && !example.id.toLowerCase().includes(text)) return false;
    if (success && (value === null || value >= HIT !== (success === "found"))) return false;
    return open || (value !== null && value >= low && value <= high);
  });
  const sign = { rising: 1, falling: -1 }[filters.order.value];
  if (sign) shown.sort((a, b) => sign * ((iou(a) ?? -1) - (iou(b) ?? -1)));
  byId("count").textContent = `${shown.length.toLocaleString("en")} of ${run().examples.length.toLocaleString("en")} examples`;
  cards.style.setProperty("--cells", Math.min(4, 1 + onCards().length));
  cards.replaceChildren(...shown.map((_, number) => make("li", { "data-number": number })));
  [...cards.children].slice(0, 12).forEach(fill);
}

function canvasOf(example, side) {
  const dots = side * Math.min(2, devicePixelRatio || 1);
  return make("canvas", { width: Math.round(dots), height: Math.round(dots * example.size[0] / example.size[1]), "aria-hidden": "true" });
}

/** Put the card of an example into its place in the list, if it is not there. */
function fill(item) {
  if (item.firstChild) return;
  const number = Number(item.dataset.number), example = shown[number], { methods } = run();
  const cell = (title, text, kind) => make("span", { class: "cell" }, canvasOf(example, 160),
    make("span", { class: "method" }, title), make("span", { class: `verdict ${kind}` }, text));
  const places = onCards().map((method) => example.findings.findIndex((finding) => finding.method === method)).filter((place) => place >= 0);
  const cells = places.map((place) => example.findings[place])
    .map((finding) => cell(methods[finding.method], verdict(finding.iou), finding.iou >= HIT ? "found" : "missed"));
  item.append(make("button", { type: "button", class: "card", title: example.id, click: () => view(number) },
    make("span", { class: "name" }, example.id), make("span", { class: "class" }, example.class),
    make("span", { class: "cells" }, cell("image", "", ""), ...cells)));
  const canvases = item.querySelectorAll("canvas");
  pixelsOf(example).then((pixels) => {
    paint(canvases[0], example, pixels, { levels: null, show: { boxes: true } });
    places.forEach((place, i) => {
      const finding = example.findings[place], levels = pixels.levels[place];
      const cut = { box: finding.box, level: levelAt(levels, finding.threshold) };
      paint(canvases[i + 1], example, pixels, { levels, ...cut, show: { map: !errors(example), cut: errors(example), boxes: true } });
    });
  });
}

/** What the colours of some examples mean. */
function legendOf(element, examples, cut) {
  const key = (kind, text) => make("span", { class: `key ${kind}` }, text);
  const boxes = examples.some((example) => example.boxes), masks = examples.some((example) => example.masked);
  const keys = [];
  if (boxes) keys.push(key("true", masks ? "true box and outline" : "true box"), key("predicted", "predicted box"));
  if (boxes && cut) keys.push(key("above", "above the threshold"));
  if (masks && !boxes) keys.push(key("true", "true outline"));
  if (examples.some(errors)) keys.push(key("hit", "true positive"), key("lost", "false negative"), key("false", "false positive"));
  element.replaceChildren(...keys);
}

// ---- the viewer

const viewer = byId("viewer"), layers = byId("layers").elements;
let viewed = 0, repaint = () => {};

async function view(number) {
  viewed = number;
  const example = shown[number], { methods } = run();
  byId("viewer-name").textContent = example.id;
  byId("viewer-facts").textContent = [example.class, ...predictions(example, methods)].join(" · ");
  byId("previous").disabled = number === 0;
  byId("next").disabled = number + 1 >= shown.length;
  legendOf(byId("viewer-legend"), [example], true);
  byId("panels").replaceChildren();
  if (!viewer.open) viewer.showModal();
  byId("viewer-name").focus();
  const pixels = await pixelsOf(example);
  if (number !== viewed || shown[number] !== example) return;
  const panels = [truthPanel(example, pixels), ...example.findings.map((finding, i) => methodPanel(example, pixels, methods[finding.method], finding, pixels.levels[i]))];
  byId("panels").replaceChildren(...panels.map((panel) => panel.element));
  repaint = () => panels.forEach((panel) => panel.draw());
  repaint();
}

/** What the methods predict; those that agree, as F-CAM does with the classifier under it, in one text. */
function predictions(example, methods) {
  const said = new Map();
  for (const { method, predicted, rank } of example.findings) {
    if (predicted === null) continue;
    const text = `${predicted}${rank === null ? "" : ` (true class at rank ${rank + 1})`}`;
    said.set(text, [...(said.get(text) || []), methods[method]]);
  }
  return [...said].map(([text, names]) => (said.size === 1 ? `predicted: ${text}` : `${names.join(", ")} predicted: ${text}`));
}

const shows = () => ({ map: layers.map.checked, cut: layers.cut.checked, boxes: layers.boxes.checked });

function truthPanel(example, pixels) {
  const canvas = canvasOf(example, 480);
  const draw = () => paint(canvas, example, pixels, { levels: null, show: shows() });
  const facts = (example.boxes || []).map((box) => `true box ${box.join(", ")}`).join("; ");
  return { element: make("section", { class: "panel" }, make("h3", null, "image"), canvas, make("p", null, facts)), draw };
}

function methodPanel(example, pixels, name, finding, levels) {
  const canvas = canvasOf(example, 480), result = make("output", { "data-method": name });
  let threshold = finding.threshold;
  const slider = make("input", { type: "range", min: 0, max: 999, step: 1, "aria-label": `Threshold of ${name}`, input: () => move(slider.valueAsNumber * 0.001) });
  const best = make("button", { type: "button", click: () => move(finding.threshold) }, `best: ${finding.threshold.toFixed(3)}`);
  function move(to) {
    threshold = to;
    slider.value = Math.round(to * 1000);
    draw();
  }
  function draw() {
    const found = localize(levels, example, pixels.mask, threshold);
    paint(canvas, example, pixels, { levels, ...found, show: shows() });
    const parts = [`threshold ${threshold.toFixed(3)}`, found.box && `box ${found.box.join(", ")}`, verdict(found.iou)].filter(Boolean);
    result.textContent = parts.join(" · ");
    slider.setAttribute("aria-valuetext", parts.join(", "));
  }
  slider.value = Math.round(threshold * 1000);
  const element = make("section", { class: "panel" }, make("h3", null, name), canvas, make("div", { class: "slider" }, slider, best), result);
  return { element, draw };
}

// ---- start

function start() {
  byId("about").textContent = data.about;
  showTables();
  showFigures();
  if (data.leftOut.length) {
    byId("left-out").hidden = byId("to-left-out").hidden = false;
    byId("left-out").querySelector("ul").append(...data.leftOut.map((line) => make("li", null, line)));
  }
  if (!data.runs.length) { byId("examples").hidden = true; return; }
  let position = 0;
  for (const one of data.runs) for (const example of one.examples) example.position = position++;
  filters.run.replaceChildren(...data.runs.map((one, i) => option(i, one.title)));
  for (const field of filters) {
    field.addEventListener(field.tagName === "SELECT" ? "change" : "input", field === filters.run ? chooseRun : choose);
  }
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("reset").addEventListener("click", () => { const kept = filters.run.value; byId("filters").reset(); filters.run.value = kept; chooseRun(); });
  byId("close").addEventListener("click", () => viewer.close());
  byId("previous").addEventListener("click", () => view(viewed - 1));
  byId("next").addEventListener("click", () => view(viewed + 1));
  byId("layers").addEventListener("change", () => repaint());
  chooseRun();
  performance.mark("listed"); // from here on the page can be used
}

start();
