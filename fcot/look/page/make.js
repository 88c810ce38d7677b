// Elements from what the server says. Text is set as text, never as HTML: an answer may say anything.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
export const number = (value) => value.toLocaleString("en");
export const many = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

// Numbers of FLOPs in one unit, chosen for the largest of them.
export function flops(...values) {
  const [unit, size] = Math.max(...values) >= 1e12 ? ["TFLOP", 1e12] : ["GFLOP", 1e9];
  const digits = Math.max(...values) >= 100 * size ? 0 : 2;
  return [...values.map((value) => (value / size).toFixed(digits)), unit];
}

export function seconds(value) {
  return `${value < 10 ? value.toFixed(2) : value.toFixed(0)} s`;
}

// The name of a tile: "tile 3 (row 2, column 1)", or "thumbnail" for the last of several.
export function tileName(tile, [columns, rows]) {
  if (tile === columns * rows) return "thumbnail";
  const place = `row ${Math.floor(tile / columns) + 1}, column ${(tile % columns) + 1}`;
  return columns * rows === 1 ? "the only tile" : `tile ${tile + 1} (${place})`;
}

// A tile with the borders of its tokens, and how many it has.
function tile(seen, count) {
  const raster = seen.rasters[count];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${seen.side} ${seen.side}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", raster.borders.map(([x, y, right, down]) => `M${x} ${y}l${right} ${down}`).join(""));
  svg.append(path);
  return make("div", { class: "tile" }, svg, make("span", {}, String(count)));
}

// A picture with a grid of tiles over it, which is drawn and not read out: the caption says the same.
function figure(kind, source, alt, caption, size, grid = null, tiles = []) {
  const over = grid && make("div", { class: "tiles", "aria-hidden": "true", "--columns": grid[0], "--rows": grid[1] });
  if (over) over.append(...tiles);
  const view = make("div", { class: "view" }, make("img", { src: source, alt }), over);
  return make("figure", { class: kind, "--shape": size[0] / size[1] }, view, make("figcaption", {}, caption));
}

// What one model makes of a page: its tiles, and the raster of its tokens on each.
export function view(page, seen) {
  const [columns, rows] = seen.grid;
  const cells = columns * rows;
  const tiles = seen.counts.map((count) => tile(seen, count));
  const alike = new Set(seen.counts).size === 1;
  const each = alike ? `${many(seen.counts.length, "tile")} × ${seen.counts[0]}` : many(seen.counts.length, "tile");
  const instead = seen.tokens === seen.instead_of ? "" : `, instead of ${number(seen.instead_of)}`;
  const source = `page/${page.page}`;
  const laid = `${many(cells, "tile")}: ${many(rows, "row")} of ${columns}`;
  const pictures = make("div", { class: "pictures" });
  pictures.append(figure("whole", source, "The page, cut into tiles", laid, page.size, seen.grid, tiles.slice(0, cells)));
  if (tiles.length > cells) {
    pictures.append(figure("small", source, "The whole page in one tile", "thumbnail", [1, 1], [1, 1], tiles.slice(cells)));
  }
  const card = make("article", { class: "card" }, make("h3", {}, seen.name));
  card.append(make("p", { class: "big" }, many(seen.tokens, "visual token"), make("small", {}, each + instead)), pictures);
  const notes = [];
  if (!alike) {
    notes.push(`Tokens of each: ${seen.counts.map((count, place) => `${tileName(place, seen.grid)} ${count}`).join("; ")}.`);
  }
  const rasters = Object.values(seen.rasters);
  if (rasters.some((raster) => !raster.apart)) notes.push("Each token stands for its whole tile.");
  else if (rasters[0].lead) notes.push(`The first ${many(rasters[0].lead, "token")} of a tile stand for all of it.`);
  card.append(...notes.map((note) => make("p", { class: "note" }, note)));
  return card;
}

// An answer with its differences from the first model's marked, in words too for who does not see the marks.
function marked(answer) {
  const said = make("p", { class: "answer", dir: "auto" });
  if (!answer.differences) {
    said.append(answer.answer || "(nothing)");
    return said;
  }
  for (const [kind, text] of answer.differences) {
    if (kind === "same") said.append(text);
    else {
      const tag = kind === "added" ? "ins" : "del";
      const shown = kind === "lacking" ? text.replaceAll("\n", "↵") : text;
      const word = (words) => make("span", { class: "hidden" }, words);
      said.append(make(tag, {}, word(` [${kind}: `), shown, word("] ")));
    }
  }
  if (!answer.answer) said.append(" (nothing)");
  return said;
}

function looked(answer, first, grid, size) {
  const tiles = answer.on_tiles.map((share, tile) => [share, tile]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  const most = tiles.map(([share, tile]) => `${percent(share)} on ${tile < grid[0] * grid[1] ? "" : "the "}${tileName(tile, grid)}`).join(", ");
  const whole = `Where it looked: ${percent(answer.on_page)} of its attention was on the page; of that, ${most}.`;
  const overlap = ` Its hottest tenth of the page is ${percent(answer.overlap)} the same as ${first.name}’s.`;
  const pictures = make("div", { class: "pictures" });
  const [page, thumbnail] = [answer.look.page, answer.look.thumbnail].map((address) => address?.slice(1));
  pictures.append(figure("whole", page, "The page, coloured where the answer looked", "page", size));
  if (thumbnail) {
    const alt = "The thumbnail, coloured where the answer looked";
    pictures.append(figure("small", thumbnail, alt, "thumbnail", [1, 1]));
  }
  return [pictures, make("p", { class: "note" }, answer === first ? whole : whole + overlap)];
}

// What one model answered, what it cost, and where it looked.
export function answerCard(answer, first, page) {
  const sum = ({ vision, prompt, answer: text }) => vision + prompt + text;
  const more = Math.round(100 * (sum(answer.flops) / sum(first.flops) - 1));
  const beside = answer === first ? "" : ` (${more > 0 ? "+" : more < 0 ? "−" : "±"}${Math.abs(more)}\u00a0%)`;
  const { vision, prompt, answer: text } = answer.flops;
  const [all, seeing, reading, writing, unit] = flops(sum(answer.flops), vision, prompt, text);
  const parts = `vision ${seeing}, prompt ${reading}, answer ${writing}`;
  const seen = page.models.find((model) => model.name === answer.name);
  const rows = [
    ["Visual tokens", `${number(answer.visual_tokens)} of ${many(answer.prompt_tokens, "token")} read`],
    ["Answer", many(answer.new_tokens, "token")],
    ["Time", seconds(answer.seconds)],
    ["FLOPs", `${all} ${unit}${beside}`, parts],
  ];
  const figures = make("dl");
  for (const [name, value, detail] of rows) {
    const small = detail ? make("small", {}, `: ${detail}`) : null;
    figures.append(make("dt", {}, name), make("dd", {}, value, small));
  }
  const card = make("article", { class: "card" }, make("h4", {}, answer.name), marked(answer), figures);
  card.append(...looked(answer, first, seen.grid, page.size));
  return card;
}
