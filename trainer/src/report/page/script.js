// Additions to the report, which is complete without them: sorting and filtering of tables, and the values under the pointer.
"use strict";

document.documentElement.classList.add("script");

// Creates an element with these properties.
function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

// ---- Text under the pointer ----

const tip = element("div", { id: "tip", hidden: true });
document.body.append(tip);

function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const margin = 14;
  const right = event.clientX + margin + tip.offsetWidth > innerWidth;
  const below = event.clientY + margin + tip.offsetHeight > innerHeight;
  const left = right ? event.clientX - margin - tip.offsetWidth : event.clientX + margin;
  const top = below ? event.clientY - margin - tip.offsetHeight : event.clientY + margin;
  tip.style.left = Math.max(0, left) + "px";
  tip.style.top = Math.max(0, top) + "px";
}

// Calls `show` when the pointer moves over the target, and `hide` when it leaves.
function track(target, show, hide) {
  target.addEventListener("pointermove", show);
  target.addEventListener("pointerdown", show);
  for (const name of ["pointerleave", "pointercancel"]) {
    target.addEventListener(name, () => {
      tip.hidden = true;
      hide?.();
    });
  }
}

// ---- Tables ----

// Returns the value by which a cell is sorted: a number if it starts with one.
function sortValue(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  return cell.classList.contains("number") ? number : text;
}

const collator = new Intl.Collator(undefined, { numeric: true });

function compare(a, b) {
  if (typeof a === "string") return collator.compare(a, b);
  return a - b;
}

// Sorts the rows by a column. Missing numbers come last in both directions.
function sortRows(body, column, descending) {
  const rows = Array.from(body.rows, (row) => ({ row, value: sortValue(row.cells[column]) }));
  const isMissing = ({ value }) => Number.isNaN(value);
  rows.sort((a, b) => {
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
    return descending ? compare(b.value, a.value) : compare(a.value, b.value);
  });
  body.append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headers = Array.from(table.tHead.rows[0].cells);
  headers.forEach((header, column) => {
    const button = element("button", { type: "button" });
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      // Numbers are first sorted in descending order, and text in ascending order.
      const previous = header.getAttribute("aria-sort");
      const descending = previous ? previous === "ascending" : header.classList.contains("number");
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, descending);
    });
  });
}

for (const table of document.querySelectorAll("table.filtered")) {
  const rows = Array.from(table.tBodies[0].rows, (row) => ({ row, text: row.textContent.toLowerCase() }));
  const label = element("label", { className: "filter", textContent: "Filter " });
  const input = element("input", { type: "search", autocomplete: "off", spellcheck: false });
  const shown = element("output", { className: "soft" });
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let count = 0;
    for (const { row, text } of rows) {
      row.hidden = !text.includes(wanted);
      count += !row.hidden;
    }
    shown.textContent = wanted ? `${count} of ${rows.length}` : "";
  });
  label.append(input, shown);
  table.parentElement.before(label);
}

// ---- Charts ----

const numbers = (text) => text.split(" ").map(Number);

// Shows a number with four significant digits.
function format(value) {
  const isTiny = value !== 0 && Math.abs(value) < 1e-4;
  return isTiny ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

// Reads the points of a curve from its path.
function readCurve(path) {
  const points = path.getAttribute("d").match(/[^ML]+/g).map((pair) => pair.split(",").map(Number));
  const notes = path.dataset.notes ? numbers(path.dataset.notes) : [];
  return { name: path.dataset.name, points, notes };
}

// Returns the index of the point that is closest to `x`.
function closest(points, x) {
  let low = 0;
  let high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - points[low - 1][0] < points[low][0] - x ? low - 1 : low;
}

for (const svg of document.querySelectorAll("svg[data-area]")) {
  const [left, top, width, height] = numbers(svg.dataset.area);
  const [xLower, xUpper] = numbers(svg.dataset.x);
  const [yLower, yUpper] = numbers(svg.dataset.y);
  const { unit, xLabel, xUnit, note } = svg.dataset;
  const curves = Array.from(svg.querySelectorAll("path[data-name]"), readCurve);
  const line = document.createElementNS(svg.namespaceURI, "path");
  line.classList.add("pointer");
  const xValue = (x) => xLower + ((x - left) / width) * (xUpper - xLower);
  const yValue = (y) => {
    const share = 1 - (y - top) / height;
    if (svg.hasAttribute("data-logarithmic")) return yLower * (yUpper / yLower) ** share;
    return yLower + share * (yUpper - yLower);
  };
  const show = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const x = Math.min(Math.max(point.x, left), left + width);
    const lines = [];
    let nearest = null;
    for (const { name, points, notes } of curves) {
      const index = closest(points, x);
      const [pointX, pointY] = points[index];
      // A curve may end long before the pointer.
      if (Math.abs(pointX - x) > width / 10) continue;
      if (nearest === null || Math.abs(pointX - x) < Math.abs(nearest - x)) nearest = pointX;
      const detail = notes.length ? `, ${note} ${format(notes[index])}` : "";
      lines.push(`${name} ${format(yValue(pointY))}${unit}${detail}`);
    }
    if (nearest === null) return;
    line.setAttribute("d", `M${nearest},${top}v${height}`);
    svg.append(line);
    showTip(event, [`${xLabel.split(",")[0]} ${format(xValue(nearest))}${xUnit}`, ...lines].join("\n"));
  };
  track(svg, show, () => line.remove());
}

// ---- Image of the confusion matrix ----

const counts = document.getElementById("confusion-counts");
if (counts) {
  const { names, rows } = JSON.parse(counts.textContent);
  // Returns the count of a cell, and the number of photos of its row.
  const read = (row, column) => {
    let [position, count, total] = [-1, 0, 0];
    for (let index = 0; index < rows[row].length; index += 2) {
      position += rows[row][index];
      total += rows[row][index + 1];
      if (position === column) count = rows[row][index + 1];
    }
    return { count, total };
  };
  const image = document.querySelector(".matrix-image img");
  track(image, (event) => {
    const area = image.getBoundingClientRect();
    const cell = (offset, length) =>
      Math.min(Math.max(Math.floor((offset / length) * names.length), 0), names.length - 1);
    const row = cell(event.clientY - area.top, area.height);
    const column = cell(event.clientX - area.left, area.width);
    const { count, total } = read(row, column);
    const share = total > 0 ? ` (${((100 * count) / total).toFixed(1)} %)` : "";
    showTip(event, `actual ${names[row]}\npredicted ${names[column]}\n${count} of ${total} photos${share}`);
  });
}
