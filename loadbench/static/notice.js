// The page's side of loadbench.panel.elements.Notice.

function render({ model, el }) {
  el.classList.add("lb-notice");
  el.setAttribute("role", "status");
  let was = false, timer;
  const show = () => {
    const behind = model.get("behind");
    clearTimeout(timer);
    el.dataset.state = behind ? "behind" : was ? "caught-up" : "";
    el.textContent = behind
      ? "A cell is running in this kernel: what you press here waits for its end. Charts go on, Stop works at once, no figure is lost."
      : was ? "The cell has ended: the panel has caught up." : "";
    if (!behind && was) timer = setTimeout(() => { el.dataset.state = ""; el.textContent = ""; }, 4000);
    was = behind;
  };
  model.on("change:behind", show);
  show();
  return () => { clearTimeout(timer); model.off("change:behind", show); };
}

export default { render };
