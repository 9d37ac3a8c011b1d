// The page's side of loadbench.panel.elements.Table. Names come from scripts: everything is set as text.

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const shown = (value) => (Array.isArray(value) ? value[0] : value ?? "");
const sortedBy = (value) => (Array.isArray(value) ? value[1] : value ?? "");
const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));

function render({ model, el }) {
  const name = `lb-table-${Math.random()}`; // radio buttons of one table; each widget loads this module anew
  let order = null; // [column, +1 or -1]; null is the order in which the rows came
  el.classList.add("lb-table");
  let place = el;
  if (model.get("folds")) {
    place = element("div");
    el.append(element("details", {}, element("summary", {}, model.get("label")), place));
  }

  const choose = (id, on) => {
    const many = model.get("choose") === "many", chosen = model.get("chosen").filter((each) => each !== id);
    model.set("chosen", many ? (on ? [...chosen, id] : chosen) : [id]);
    model.save_changes();
  };
  const heading = ([key, title, kind]) => {
    const direction = order?.[0] === key ? order[1] : 0;
    const button = element("button", { type: "button", className: "lb-sort", title: `Sort by ${title}` }, title, element("span", { className: "lb-arrow" }, direction ? (direction > 0 ? " ▲" : " ▼") : ""));
    button.dataset.key = key;
    button.onclick = () => {
      order = direction === 0 ? [key, 1] : direction === 1 ? [key, -1] : null;
      draw();
      el.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
    };
    const cell = element("th", { scope: "col", className: kind === "number" ? "lb-number" : "" }, button);
    cell.setAttribute("aria-sort", direction ? (direction > 0 ? "ascending" : "descending") : "none");
    return cell;
  };
  const line = (row, columns, kind, chosen) => {
    const picked = chosen.includes(row.id), tr = element("tr", { className: picked ? "lb-chosen" : "" });
    tr.dataset.id = row.id;
    if (kind !== "none") {
      const box = element("input", { type: kind === "one" ? "radio" : "checkbox", name, checked: picked });
      box.setAttribute("aria-label", `Choose ${columns[0][1].toLowerCase()} ${shown(row[columns[0][0]])}`);
      box.onchange = () => choose(row.id, box.checked);
      tr.append(element("td", { className: "lb-pick" }, box));
      tr.onclick = (event) => { if (event.target !== box && !getSelection().toString()) choose(row.id, kind === "one" || !picked); };
    }
    columns.forEach(([key, , look], i) => {
      const cell = element(i ? "td" : "th", { className: look === "number" ? "lb-number" : "" }, String(shown(row[key])));
      if (!i) cell.scope = "row";
      if (row.looks?.[key]) cell.dataset.look = row.looks[key];
      cell.title = String(shown(row[key])).length > 40 ? shown(row[key]) : "";
      tr.append(cell);
    });
    return tr;
  };
  const draw = () => {
    const columns = model.get("columns"), kind = model.get("choose"), chosen = model.get("chosen");
    const focused = el.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.id : undefined;
    const rows = [...model.get("rows")], top = place.firstChild?.scrollTop ?? 0;
    if (order) rows.sort((a, b) => order[1] * compare(sortedBy(a[order[0]]), sortedBy(b[order[0]])));
    if (!rows.length) {
      place.replaceChildren(element("p", { className: "lb-empty" }, model.get("empty")));
      return;
    }
    const head = element("tr", {}, ...(kind === "none" ? [] : [element("th", { className: "lb-pick", scope: "col" }, element("span", { className: "lb-unseen" }, "Choose"))]), ...columns.map(heading));
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows.map((row) => line(row, columns, kind, chosen))));
    table.setAttribute("aria-label", model.get("label"));
    const frame = element("div", { className: "lb-scroll", tabIndex: kind === "none" ? 0 : -1 }, table);
    place.replaceChildren(frame);
    frame.scrollTop = top;
    if (focused) el.querySelector(`tr[data-id="${CSS.escape(focused)}"] input`)?.focus();
  };
  ["rows", "columns", "chosen", "choose", "empty"].forEach((trait) => model.on(`change:${trait}`, draw));
  draw();
  return () => ["rows", "columns", "chosen", "choose", "empty"].forEach((trait) => model.off(`change:${trait}`, draw));
}

export default { render };
