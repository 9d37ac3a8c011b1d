// The page's side of loadbench.panel.elements.Download: asks the kernel for the file when it is wanted, and never before.

/** Show a file in a tab, in a frame that may run scripts but is no part of this server: a notebook can hold anything. */
function show(tab, url, name) {
  const frame = tab.document.createElement("iframe");
  frame.setAttribute("sandbox", "allow-scripts allow-popups allow-downloads");
  frame.style.cssText = "position: fixed; inset: 0; width: 100%; height: 100%; border: 0";
  frame.src = url;
  tab.document.title = name;
  tab.document.body.append(frame);
}

function render({ model, el }) {
  el.classList.add("lb-download");
  const buttons = [["open", "Open"], ["save", "Download"]].map(([kind, text]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "lb-copy-button", textContent: text });
    button.dataset.kind = kind;
    button.onclick = () => {
      // A new tab must be opened within the click, or the browser takes it for an unwanted one.
      waiting.set(kind, kind === "open" ? window.open("", "_blank") : null);
      model.send({ kind });
    };
    return button;
  });
  const waiting = new Map();
  const receive = (message, buffers) => {
    if (!waiting.has(message.kind)) return; // another view of this file asked
    const tab = waiting.get(message.kind), url = URL.createObjectURL(new Blob([buffers[0]], { type: "text/html" }));
    waiting.delete(message.kind);
    if (tab) { show(tab, url, message.name); return; }
    const link = Object.assign(document.createElement("a"), { href: url, download: message.name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  };
  const label = () => { el.hidden = !model.get("name"); buttons.forEach((button) => button.setAttribute("aria-label", `${button.textContent} ${model.get("name")}`)); };
  el.append(...buttons);
  model.on("msg:custom", receive);
  model.on("change:name", label);
  label();
  return () => { model.off("msg:custom", receive); model.off("change:name", label); };
}

export default { render };
