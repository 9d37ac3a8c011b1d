// The page's side of loadbench.panel.elements.CodeCell: the code that makes a view, on the clipboard or to be copied by hand.

const element = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

function render({ model, el }) {
  el.classList.add("lb-code-cell");
  const button = element("button", { type: "button", className: "lb-copy-button", textContent: "Copy as cell", title: "The code that does the same: paste it into a cell" });
  const said = element("span", { className: "lb-said" });
  said.setAttribute("role", "status");
  const code = element("pre", { className: "lb-code", tabIndex: 0, hidden: true });
  code.setAttribute("aria-label", "The code of this view");
  const close = element("button", { type: "button", className: "lb-copy-button", textContent: "Hide code", hidden: true });
  const write = () => (code.textContent = model.get("code"));
  const select = () => {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  button.onclick = async () => {
    write();
    code.hidden = close.hidden = false;
    try {
      await navigator.clipboard.writeText(model.get("code"));
      said.textContent = "Copied: paste it into a cell.";
    } catch {
      code.focus();
      select();
      said.textContent = document.execCommand("copy") ? "Copied: paste it into a cell." : "Selected: press Ctrl+C or Cmd+C to copy it.";
    }
  };
  close.onclick = () => { code.hidden = close.hidden = true; said.textContent = ""; button.focus(); };
  const bar = element("div", { className: "lb-code-bar" });
  bar.append(said, close, button);
  el.append(bar, code);
  model.on("change:code", write);
  write();
  return () => model.off("change:code", write);
}

export default { render };
