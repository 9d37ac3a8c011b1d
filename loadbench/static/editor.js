// The page's side of loadbench.panel.elements.Editor: a plain <textarea>, so that typing, undo, selection and screen readers
// work as everywhere, with its text transparent over a coloured copy of it.

const KEYWORDS = "False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield match case".split(" ");
const TOKEN = new RegExp([
  String.raw`(?<comment>#[^\n]*)`,
  String.raw`(?<string>[rRbBfFuU]{0,2}(?:"""[^]*?(?:(?<!\\)"""|$)|'''[^]*?(?:(?<!\\)'''|$)|"(?:\\[^]|[^"\\\n])*(?:"|(?=\n)|$)|'(?:\\[^]|[^'\\\n])*(?:'|(?=\n)|$)))`,
  String.raw`(?<number>\b(?:0[xXoObB][\da-fA-F_]+|\d[\d_]*(?:\.[\d_]*)?(?:[eE][+-]?\d+)?j?)\b)`,
  String.raw`(?<decorator>(?<=^|\n)[ \t]*@[\w.]+)`,
  String.raw`(?<defined>(?<=\b(?:def|class)[ \t]+)\w+)`,
  String.raw`(?<word>[\p{L}_][\p{L}\p{N}_]*)`,
].join("|"), "gu");
const element = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

/** Colour Python source; what is no token stays plain. Joined, the parts are the source again. */
function coloured(source) {
  const parts = document.createDocumentFragment();
  let end = 0;
  for (const match of source.matchAll(TOKEN)) {
    const [kind] = Object.entries(match.groups).find(([, text]) => text !== undefined);
    const look = kind === "word" ? (KEYWORDS.includes(match[0]) ? "keyword" : match[0] === "self" ? "self" : "") : kind;
    if (!look) continue;
    parts.append(source.slice(end, match.index), element("span", { className: `lb-${look}`, textContent: match[0] }));
    end = match.index + match[0].length;
  }
  parts.append(source.slice(end), "\n");
  return parts;
}

function render({ model, el }) {
  const hint = `lb-editor-hint-${Math.random()}`;
  el.classList.add("lb-editor");
  el.style.setProperty("--lb-lines", model.get("lines"));
  const numbers = element("pre", { className: "lb-numbers" }), copy = element("pre", { className: "lb-copy" });
  const area = element("textarea", { spellcheck: false, autocomplete: "off", autocapitalize: "off", wrap: "off" });
  area.setAttribute("aria-label", model.get("label"));
  area.setAttribute("aria-describedby", hint);
  numbers.setAttribute("aria-hidden", "true");
  copy.setAttribute("aria-hidden", "true");
  const sheet = element("div", { className: "lb-sheet" }), box = element("div", { className: "lb-box" });
  sheet.append(copy, area);
  box.append(numbers, sheet);
  el.append(box, element("div", { className: "lb-hint", id: hint, textContent: "Tab indents; Escape, then Tab, leaves the editor." }));

  let waiting, leaving = false;
  const paint = () => {
    copy.replaceChildren(coloured(area.value));
    const wrong = model.get("error_line"), count = area.value.split("\n").length;
    numbers.replaceChildren(...Array.from({ length: count }, (_, i) => element("span", { textContent: `${i + 1}\n`, className: i + 1 === wrong ? "lb-wrong" : "" })));
    sheet.style.setProperty("--lb-count", count);
    copy.style.minWidth = area.style.minWidth = "100%";
    area.style.width = `${Math.max(copy.scrollWidth, sheet.clientWidth)}px`;
    sheet.dataset.wrong = wrong || "";
    sheet.style.setProperty("--lb-wrong", wrong - 1);
  };
  const tell = () => {
    clearTimeout(waiting);
    if (model.get("value") === area.value) return;
    model.set("value", area.value);
    model.send({ value: area.value });
  };
  const insert = (text) => document.execCommand("insertText", false, text); // keeps undo
  area.addEventListener("input", () => {
    paint();
    clearTimeout(waiting);
    waiting = setTimeout(tell, 250);
  });
  area.addEventListener("blur", tell);
  area.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const before = area.value.slice(0, area.selectionStart), line = before.slice(before.lastIndexOf("\n") + 1);
    if (event.key === "Escape") leaving = true;
    else if (event.key === "Tab" && !leaving && !event.shiftKey) { event.preventDefault(); insert(" ".repeat(4 - (line.length % 4))); }
    else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      insert("\n" + line.match(/^\s*/)[0] + (/:\s*(#.*)?$/.test(line) ? "    " : ""));
    } else if (event.key === "Backspace" && area.selectionStart === area.selectionEnd && /^ +$/.test(line) && line.length % 4 === 0) {
      event.preventDefault();
      for (let i = 0; i < 4; i++) document.execCommand("delete");
    }
    if (event.key !== "Escape" && event.key !== "Tab" && event.key !== "Shift") leaving = false;
  });
  area.addEventListener("blur", () => (leaving = false));
  const take = () => {
    if (area.value !== model.get("value")) area.value = model.get("value");
    paint();
  };
  const point = () => {
    paint();
    const wrong = model.get("error_line");
    if (wrong) box.scrollTop = Math.max(0, (wrong - 4) * area.scrollHeight / Math.max(1, area.value.split("\n").length));
  };
  model.on("change:value", take);
  model.on("change:error_line", point);
  const resized = new ResizeObserver(paint);
  resized.observe(box);
  take();
  return () => { tell(); resized.disconnect(); model.off("change:value", take); model.off("change:error_line", point); };
}

export default { render };
