// The page's side of loadbench.panel.elements.Notice, and what the whole panel needs of the page: its keys and its focus.

const isShown = (element) => element.getClientRects().length > 0;

/** Keep JupyterLab's shortcuts out of the panel: "d d" on a button of it would delete a cell of the notebook. What has
 * the focus must say so itself: JupyterLab looks there first, and at what is around it only then. */
const ownKeys = (event) => (event.target.dataset.lmSuppressShortcuts = "true");

/** What is pressed by key is often disabled while it works, and then hidden. The browser drops the focus then: give it
 * back to what was pressed, or to the tab of the open view. It stays with whoever has moved on. */
function keepKeys(panel) {
  let pressed = null;
  const press = (event) => (pressed = event.detail === 0 ? event.target.closest("button") : null); // 0: not by mouse
  const openTab = () => panel.querySelector(".lm-TabBar-tab.lm-mod-current");
  /** Tab leads to the tab of the open view; ipywidgets would lead to the one that had the focus last. */
  const enterTabs = ({ target, relatedTarget }) => {
    if (target.matches(".lm-TabBar-tab:focus-visible") && !relatedTarget?.matches(".lm-TabBar-tab")) openTab().focus();
  };
  const look = () => {
    if (!pressed || document.activeElement === pressed) return;
    if (document.activeElement !== document.body) pressed = null;
    else if (!isShown(pressed)) { pressed = null; openTab().focus(); }
    else if (!pressed.disabled) pressed.focus();
  };
  const ender = new AbortController(), { signal } = ender, timer = setInterval(look, 100);
  panel.addEventListener("click", press, { signal, capture: true });
  panel.addEventListener("focusin", ownKeys, { signal });
  panel.addEventListener("focusin", enterTabs, { signal });
  return () => { clearInterval(timer); ender.abort(); };
}

/** Call `found` with the panel as soon as the element is in it; give what takes that back. */
function inPanel(el, found) {
  let undo = () => cancelAnimationFrame(frame), frame;
  const look = () => {
    const panel = el.closest(".loadbench-panel");
    if (panel) undo = found(panel);
    else frame = requestAnimationFrame(look);
  };
  look();
  return () => undo();
}

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
  const leave = inPanel(el, keepKeys);
  return () => { clearTimeout(timer); leave(); model.off("change:behind", show); };
}

export default { render };
