"use strict";

// Tables of the class `sortable`: a button in each heading sorts by its column. The first click on
// numbers puts the largest first, on texts the first by the alphabet; the next click reverses it.
// Cells without a value stay last.
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

function sort(table, heading, column) {
  const body = table.tBodies[0];
  const entries = Array.from(body.rows, (row) => {
    const cell = row.cells[column];
    return { row, value: cell.dataset.value ?? cell.textContent.trim() };
  });
  const known = entries.filter(({ value }) => value !== "" && value !== "—");
  const unknown = entries.filter(({ value }) => value === "" || value === "—");
  const numbers = known.every(({ value }) => Number.isFinite(Number(value)));
  const before = heading.getAttribute("aria-sort");
  const ascending = before ? before === "descending" : !numbers;
  const compare = numbers
    ? (a, b) => Number(a.value) - Number(b.value)
    : (a, b) => collator.compare(a.value, b.value);
  known.sort((a, b) => (ascending ? compare(a, b) : compare(b, a)));
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...[...known, ...unknown].map(({ row }) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, heading, column));
  });
}

// Tables of the class `searchable`: a field above hides the rows without the typed words.
const plain = (text) => text.normalize("NFKC").toLowerCase();

for (const table of document.querySelectorAll("table.searchable")) {
  const rows = Array.from(table.tBodies[0].rows, (row) => {
    const cells = row.querySelectorAll("th, td.text");
    return { row, text: plain(Array.from(cells, (cell) => cell.textContent).join(" ")) };
  });
  const noun = table.dataset.noun;
  const search = document.createElement("div");
  search.className = "search";
  const field = document.createElement("input");
  field.type = "search";
  field.id = `search-${table.id}`;
  field.setAttribute("aria-controls", table.id);
  field.setAttribute("aria-label", `Search ${noun}`);
  field.placeholder = `Search ${noun}`;
  const count = document.createElement("output");
  count.htmlFor = field.id;
  search.append(field, count);
  table.closest(".wide").before(search);
  const show = () => {
    const words = plain(field.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row, text } of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  };
  field.addEventListener("input", show);
  show();
}

// Pictures of confusion: pointing at a cell says what it is.
const classNames = JSON.parse(document.getElementById("class-names").textContent);

for (const frame of document.querySelectorAll(".frame[data-cells]")) {
  const data = document.getElementById(frame.dataset.cells);
  if (!data) continue;
  const cells = JSON.parse(data.textContent);
  const picture = frame.querySelector("img");
  const output = frame.parentNode.querySelector("output");
  const last = classNames.length - 1;
  const index = (position, length) =>
    Math.max(0, Math.min(last, Math.floor((position / length) * classNames.length)));
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const label = index(event.clientY - box.top, box.height);
    const predicted = index(event.clientX - box.left, box.width);
    let videos = 0;
    for (let k = 0; k < cells[label].length; k += 2) {
      if (cells[label][k] === predicted) videos = cells[label][k + 1];
    }
    output.textContent =
      `${classNames[label]} (${label}) taken for ${classNames[predicted]} (${predicted}): ` +
      `${videos.toLocaleString("en")} ${videos === 1 ? "video" : "videos"}`;
  });
}
