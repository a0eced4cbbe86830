"use strict";
// Tables are sorted by a click on a head; the ranked one is filtered by method, rank and task. Without this script they
// are plain tables that lack nothing.
const number = (text) => {
  const found = text.replaceAll(",", "").match(/^[[<\s]*([-+]?\d+(\.\d+)?(e[-+]?\d+)?)/i);
  return found ? Number(found[1]) : text === "inf" ? Infinity : NaN;
};
// Numbers first, then words, then what is missing.
const kind = (text) => (text === "-" ? 2 : Number.isNaN(number(text)) ? 1 : 0);

function sort(table, place, head) {
  const descending = head.getAttribute("aria-sort") !== "descending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => ({ row, text: row.cells[place].textContent.trim() }));
  keyed.sort((a, b) => {
    const apart = kind(a.text) - kind(b.text);
    if (apart) return apart;
    const order = kind(a.text) ? a.text.localeCompare(b.text) : number(a.text) - number(b.text) || 0;
    return descending ? -order : order;
  });
  body.append(...keyed.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table")) {
  if (table.tBodies[0].rows.length < 2 || table.classList.contains("prose")) continue;
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, place, head));
  });
}

function choices(form, label, values, changed) {
  if (values.length < 2) return;
  const wrapped = document.createElement("label");
  const select = document.createElement("select");
  select.append(new Option("all", ""), ...values.map((value) => new Option(value, value)));
  select.addEventListener("change", () => changed(select.value));
  wrapped.append(`${label} `, select);
  form.append(wrapped);
}

for (const table of document.querySelectorAll("table.ranked")) {
  const form = document.createElement("form");
  form.className = "filters";
  const rows = [...table.tBodies[0].rows];
  const kept = {};
  const shown = document.createElement("output");
  const filter = () => {
    for (const row of rows) row.hidden = Object.entries(kept).some(([key, value]) => value && row.dataset[key] !== value);
    shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  for (const key of ["method", "rank"]) {
    const values = [...new Set(rows.map((row) => row.dataset[key]).filter(Boolean))];
    if (key === "rank") values.sort((a, b) => a - b);
    choices(form, key, values, (value) => { kept[key] = value; filter(); });
  }
  const heads = [...table.tHead.rows[0].cells];
  const tasks = heads.map((head) => head.dataset.task).filter(Boolean);
  choices(form, "task", tasks, (task) => {
    heads.forEach((head, place) => {
      const away = Boolean(task && head.dataset.task && head.dataset.task !== task);
      for (const row of table.rows) row.cells[place].hidden = away;
    });
  });
  if (!form.children.length) continue;
  form.append(shown);
  table.parentElement.before(form);
  filter();
}

addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
