// The page's side of loadbench.live.LiveView: keeps the rows of one run, draws them with Plotly.js, asks for what it lacks.
// Rows are float32: 9 columns of the whole run (COLUMNS in loadbench/points.py), then 5 for each chosen endpoint.

const TOTALS = 9, PER_ENDPOINT = 5, MAX_ENDPOINTS = 5, MAX_POINTS = 600, LISTED = 50;
const SEQ = 0, END = 1, DURATION = 2, USERS = 3, RPS = 4, ERRORS = 5, P50 = 6;
const DAY_MS = 86400000; // where the time axis starts: a date axis, with durations as labels; Plotly takes 4 digits for a year
const DRAWING_SHARE = 0.25; // of the main thread, at most, on a slow machine
const SILENCE_S = 5;
const WINDOWS = [["whole run", 0], ["last minute", 60], ["last 5 minutes", 300], ["last 15 minutes", 900]];
const WINDOW_STEPS = 12; // a window moves on by so much of its width at once: axes that move with each point cost the most
// Okabe and Ito's colours: told apart by colour-blind people.
const BLUE = "#0072B2", SKY = "#56B4E9", GREEN = "#009E73", ORANGE = "#E69F00", VERMILLION = "#D55E00", PURPLE = "#CC79A7";
const ENDPOINT_COLORS = [BLUE, ORANGE, GREEN, PURPLE, SKY];
const PERCENTILES = [["p50", SKY, "dot"], ["p95", ORANGE, "solid"], ["p99", VERMILLION, "dash"]];
const CHARTS = [["Users", "users"], ["Requests per second", "requests/s"], ["Errors per second", "errors/s"], ["Response time", "ms"]];

/** The rows of one run, in order of arrival, and the order of time over them. */
class Rows {
  constructor() {
    this.clear([]);
  }
  clear(endpoints) {
    Object.assign(this, { n: 0, t0: 0, endpoints, width: TOTALS + PER_ENDPOINT * endpoints.length, order: [], clock: [], start: Infinity });
    this.data = new Float32Array(this.width * 1024);
  }
  /** Take a message; false if rows before it are missing. */
  add(message, buffer) {
    if (message.first === 0) this.clear(message.endpoints);
    else if (message.first > this.n || String(message.endpoints) !== String(this.endpoints)) return false;
    this.t0 = message.t0;
    const bytes = buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
    const rows = new Float32Array(bytes).subarray((this.n - message.first) * this.width);
    const total = this.n + rows.length / this.width;
    if (total * this.width > this.data.length) {
      const larger = new Float32Array(2 * total * this.width);
      larger.set(this.data.subarray(0, this.n * this.width));
      this.data = larger;
    }
    this.data.set(rows, this.n * this.width);
    let late = false;
    for (; this.n < total; this.n++) {
      this.start = Math.min(this.start, this.at(this.n, END) - this.at(this.n, DURATION));
      late ||= this.n > 0 && this.at(this.n, END) < this.at(this.order[this.n - 1], END);
      this.order.push(this.n);
    }
    if (late) this.order.sort((a, b) => this.at(a, END) - this.at(b, END));
    return true;
  }
  at(row, column) {
    return this.data[row * this.width + column];
  }
  get last() {
    return this.n ? this.order[this.n - 1] : -1;
  }
  elapsed(row) {
    return this.at(row, END) - this.start;
  }
  wallClock(row) {
    return (this.clock[row] ??= new Date(this.t0 + 1000 * this.at(row, END)).toLocaleTimeString());
  }
  afterGap(i) {
    const row = this.order[i], before = this.order[i - 1];
    if (i === 0 || this.at(row, SEQ) === this.at(before, SEQ) + 1) return false;
    return this.at(row, END) - this.at(row, DURATION) - this.at(before, END) > 0.25 * this.at(row, DURATION);
  }
  /** Say from which place in the order of time on rows end after a moment, in seconds since the start. */
  since(seconds) {
    let low = 0, high = this.n;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.elapsed(this.order[middle]) < seconds) low = middle + 1; else high = middle;
    }
    return Math.max(0, low - 1); // one more, so that the line begins at the edge of the window
  }
  /** Give one column as a line: all points, or the lowest and highest of each stretch, so that peaks stay. Never averages. */
  line(column, start = 0) {
    // Stretches of 1, 2, 4, 8... rows, at fixed places: the line does not flicker as it grows.
    let size = 1;
    while ((this.n - start) / size > (size === 1 ? MAX_POINTS : MAX_POINTS / 2)) size *= 2;
    const line = { x: [], y: [], customdata: [] };
    const put = (row, y) => {
      line.x.push(DAY_MS + Math.round(1000 * this.elapsed(row)));
      line.y.push(y);
      line.customdata.push(this.wallClock(row));
    };
    for (let from = start - (start % size); from < this.n; from += size) {
      let low = -1, high = -1, gap = false;
      for (let i = from; i < Math.min(from + size, this.n); i++) {
        const value = this.at(this.order[i], column);
        gap ||= Number.isNaN(value) || this.afterGap(i);
        if (Number.isNaN(value)) continue;
        if (low < 0 || value < this.at(this.order[low], column)) low = i;
        if (high < 0 || value > this.at(this.order[high], column)) high = i;
      }
      if (gap) put(this.order[from], null);
      for (const i of low === high ? [low] : [Math.min(low, high), Math.max(low, high)]) {
        if (i >= 0) put(this.order[i], this.at(this.order[i], column));
      }
    }
    return line;
  }
}

function colors(element) {
  const style = getComputedStyle(element);
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  return { ink: read("--lb-ink", "#24292f"), paper: read("--lb-paper", "#ffffff"), grid: read("--lb-grid", "#dddddd"), soft: read("--lb-soft", "#666666") };
}

function traces({ rows, names, band }, ink, start) {
  const all = [];
  const add = (column, chart, name, line, more = {}) => all.push({
    type: "scatter", mode: rows.n > 1 ? "lines" : "markers", ...rows.line(column, start), name, line: { width: 1.8, ...line }, connectgaps: false,
    xaxis: chart ? `x${chart + 1}` : "x", yaxis: chart ? `y${chart + 1}` : "y", showlegend: false,
    hovertemplate: chart === 3 ? "%{y:,.4~g} ms" : "%{y:,.4~g}", ...more,
  });
  // The box on hover ends with the wall clock; its title can only tell the time since the start.
  const withClock = { hovertemplate: "%{y:,.4~g}<br>at %{customdata}" };
  const many = rows.endpoints.length > 0;
  add(USERS, 0, "users", { color: BLUE, shape: "hv" }, withClock);
  add(RPS, 1, many ? "all" : "requests/s", { color: many ? ink : GREEN }, withClock);
  add(ERRORS, 2, many ? "all" : "errors/s", { color: many ? ink : VERMILLION }, withClock);
  PERCENTILES.forEach(([name, color, dash], i) =>
    add(P50 + i, 3, many ? `all ${name}` : name, many ? { color: ink, dash } : { color }, { showlegend: true, legendgroup: name, ...(i === 2 ? { hovertemplate: "%{y:,.4~g} ms<br>at %{customdata}" } : {}) }));
  rows.endpoints.forEach((endpoint, k) => {
    const first = TOTALS + PER_ENDPOINT * k, color = ENDPOINT_COLORS[k], name = plotlyText(names[endpoint] ?? `endpoint ${endpoint}`);
    add(first, 1, name, { color });
    add(first + 1, 2, name, { color });
    PERCENTILES.forEach(([p, , dash], i) => add(first + 2 + i, 3, `${name} ${p}`, { color, dash }, { legendgroup: p }));
  });
  if (band) {
    // Behind the lines, although the last: by `zorder`, so that the other traces keep their numbers.
    [[1, 1, GREEN], [3, 3, ORANGE]].forEach(([chart, low, color], i) => all.push({
      type: "scatter", mode: "lines", ...outline(band.rows, low), name: plotlyText(band.label), line: { width: 0, color }, fill: "toself", fillcolor: `${color}2e`,
      xaxis: `x${chart + 1}`, yaxis: `y${chart + 1}`, hoverinfo: "skip", zorder: -1, showlegend: i === 1, legendgroup: "band",
    }));
  }
  return all;
}

/** Give the outline of a band: along its low edge and back along its high one; a stretch without values ends a piece. */
function outline(rows, low) {
  const line = { x: [], y: [], customdata: [] }, half = rows.length > 1 ? (rows[1][0] - rows[0][0]) / 2 : rows[0]?.[0];
  const put = (x, y) => { line.x.push(x === null ? null : DAY_MS + 1000 * x); line.y.push(y); };
  let piece = [];
  const close = () => {
    if (!piece.length) return;
    piece.forEach((row) => { put(row[0] - half, row[low]); put(row[0] + half, row[low]); });
    piece.toReversed().forEach((row) => { put(row[0] + half, row[low + 1]); put(row[0] - half, row[low + 1]); });
    put(piece[0][0] - half, piece[0][low]);
    put(null, null);
    piece = [];
  };
  for (const row of rows) if (Number.isNaN(row[low])) close(); else piece.push(row);
  close();
  return line;
}

/** Plotly reads some HTML in labels; names come from scripts. */
const plotlyText = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** Round up to a number that can stay the end of an axis for a while: axes that move with each point cost the most. */
function niceEnd(value, steps = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10]) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * steps.find((step) => step * power >= value * 0.9999);
}
const NICE_SECONDS = [10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1200, 1800, 2400, 3600];
const niceSeconds = (value) => NICE_SECONDS.find((step) => step >= value) ?? Math.ceil(value / 1800) * 1800;

function layoutOf(view, data) {
  const { ink, paper, grid, soft } = view.colors, { rows, status } = view.state, narrow = view.width < 720;
  const elapsed = rows.n ? rows.elapsed(rows.last) : 0;
  const planned = status?.durationSec ?? Infinity;
  const whole = Math.min(niceSeconds(Math.min(Math.max(elapsed, 1), Math.max(planned, elapsed))), Math.max(planned, elapsed));
  const [from, end] = view.window ? windowOf(view.window, elapsed) : [0, whole];
  const layout = {
    autosize: false, width: view.width, height: narrow ? 920 : 500, margin: { l: 58, r: 26, t: 30, b: 40 }, paper_bgcolor: paper, plot_bgcolor: paper,
    font: { family: "var(--jp-ui-font-family), system-ui, sans-serif", size: 12, color: ink }, hovermode: "x unified", uirevision: view.revision,
    hoverlabel: { bgcolor: paper, bordercolor: grid, font: { color: ink } }, annotations: [], shapes: [],
    legend: { orientation: "h", x: 1, xanchor: "right", y: narrow ? 0.19 : 0.43, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)", font: { size: 11 } },
  };
  CHARTS.forEach(([title, unit], i) => {
    const suffix = i ? String(i + 1) : "", column = narrow ? 0 : i % 2, line = narrow ? i : i >> 1;
    const xs = narrow ? [0, 1] : column ? [0.545, 1] : [0, 0.455];
    const height = narrow ? 0.19 : 0.42, top = 1 - line * (narrow ? 0.27 : 0.58);
    const peak = data.reduce((most, trace) => ((trace.yaxis ?? "y") === `y${suffix}` ? trace.y.reduce((a, b) => (b > a ? b : a), most) : most), 0);
    layout[`xaxis${suffix}`] = {
      type: "date", domain: xs, anchor: `y${suffix}`, range: [DAY_MS + 1000 * from, DAY_MS + 1000 * end], matches: i ? "x" : undefined,
      tickformat: end > 3600 ? "%H:%M:%S" : "%M:%S", nticks: 7, hoverformat: "%H:%M:%S", unifiedhovertitle: { text: "%{x|%H:%M:%S} since start" },
      gridcolor: grid, linecolor: soft, showline: true, zeroline: false,
      title: (narrow ? line === 3 : line === 1) ? { text: "time since start", standoff: 6, font: { size: 11, color: soft } } : undefined,
    };
    layout[`yaxis${suffix}`] = {
      domain: [Math.max(0, top - height), top], anchor: `x${suffix}`, range: [0, niceEnd(peak * 1.05)], title: { text: unit, standoff: 4, font: { size: 11, color: soft } },
      gridcolor: grid, linecolor: soft, showline: false, zeroline: false, nticks: 6, fixedrange: false,
    };
    layout.annotations.push({ text: `<b>${title}</b>`, x: xs[0], y: top, xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false, yshift: 4, font: { size: 12 } });
  });
  const broken = (status?.gates ?? []).filter((gate) => gate.passed === false && gate.atS > from && gate.atS <= end);
  for (const gate of broken.slice(0, 3)) {
    const x = DAY_MS + 1000 * gate.atS;
    CHARTS.forEach((_, i) => layout.shapes.push({ type: "line", xref: `x${i ? i + 1 : ""}`, yref: `y${i ? i + 1 : ""} domain`, x0: x, x1: x, y0: 0, y1: 1, line: { color: VERMILLION, width: 1, dash: "dash" } }));
    layout.annotations.push({ text: "gate broken", x, y: 1, xref: "x4", yref: "y4 domain", xanchor: "right", yanchor: "top", showarrow: false, font: { size: 11, color: VERMILLION }, bgcolor: paper, hovertext: plotlyText(gate.gate) });
  }
  return layout;
}

/** Give the part of the time axis that a window shows now: it moves in steps. */
function windowOf(seconds, elapsed) {
  const step = seconds / WINDOW_STEPS, end = Math.max(seconds, Math.ceil(elapsed / step) * step);
  return [end - seconds, end];
}

const element = (tag, className, text = "", more = {}) => Object.assign(document.createElement(tag), { className, textContent: text, ...more });
const clock = (seconds) => {
  const s = Math.max(0, Math.round(seconds)), two = (n) => String(n).padStart(2, "0");
  return s < 3600 ? `${two(Math.floor(s / 60))}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
};
const short = (value, digits = 0) => (Number.isFinite(value) ? value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits }) : "–");

/** One place on the page where the run is shown. */
class View {
  constructor(model, state, el) {
    Object.assign(this, { model, state, el, revision: 0, visible: false, stale: true, busy: false, notBefore: 0, width: 0, window: 0, pausedAt: null });
    this.build();
    this.ender = new AbortController();
    this.watchers = [
      new ResizeObserver(() => this.resized()),
      new IntersectionObserver((entries) => { this.visible = entries.at(-1).isIntersecting; this.draw(); }),
      new MutationObserver(() => this.themed()),
    ];
    this.watchers[0].observe(this.charts);
    this.watchers[1].observe(this.charts);
    this.watchers[2].observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light", "class"] });
    document.addEventListener("visibilitychange", () => this.draw(), { signal: this.ender.signal });
    this.ticker = setInterval(() => this.showHead(), 1000);
    this.showHead();
    this.showEndpoints();
    loadPlotly(model).then((plotly) => { this.plotly = plotly; this.draw(); }, (error) => { this.charts.textContent = `No charts: ${error.message}. Run the cell again.`; });
  }
  build() {
    this.el.classList.add("loadbench-live");
    // JupyterLab: "d d" on a button of this view must not delete a cell. It looks first at what has the focus itself.
    this.el.addEventListener("focusin", (event) => (event.target.dataset.lmSuppressShortcuts = "true"));
    const head = element("div", "lb-head");
    this.name = element("span", "lb-name");
    this.badge = element("span", "lb-badge");
    this.figures = ["elapsed", "users", "requests/s", "errors", "p95"].map((title) => {
      const figure = element("span", "lb-figure"), value = element("b", "lb-value");
      figure.append(element("span", "lb-title", title), value);
      return [figure, value];
    });
    this.stop = element("button", "lb-stop", "Stop", { type: "button", hidden: true, onclick: () => { this.stop.disabled = true; this.stop.textContent = "Stopping…"; ask(this.model, "stop"); } });
    head.append(this.name, this.badge, ...this.figures.map(([figure]) => figure), this.stop);
    this.notes = element("div", "lb-notes");
    this.notes.setAttribute("role", "status");
    this.picker = element("details", "lb-picker");
    this.filter = element("input", "lb-filter", "", { type: "search", placeholder: "filter endpoints", oninput: () => this.showEndpoints() });
    this.choices = element("div", "lb-choices");
    this.picker.append(element("summary", "", "Endpoints"), this.filter, this.choices);
    this.chips = element("span", "lb-chips");
    this.choice = element("select", "lb-window", "", { onchange: () => { this.window = Number(this.choice.value); this.reset(); } });
    this.choice.setAttribute("aria-label", "Part of the run that the charts show");
    this.choice.append(...WINDOWS.map(([text, seconds]) => element("option", "", text, { value: seconds })));
    this.pause = element("button", "lb-pause", "Pause", { type: "button", title: "Hold the charts still; nothing is lost", onclick: () => this.hold() });
    const bar = element("div", "lb-bar"), controls = element("span", "lb-controls");
    controls.append(this.choice, this.pause);
    bar.append(this.picker, this.chips, controls);
    this.about = element("div", "lb-about");
    this.gates = element("ul", "lb-gates");
    this.gates.setAttribute("aria-label", "Gates as they stand now");
    this.charts = element("div", "lb-charts");
    this.charts.setAttribute("aria-label", "Charts of users, requests per second, errors per second and response time");
    this.el.append(head, this.about, this.gates, this.notes, bar, this.charts);
  }
  /** Hold the charts, or let them go on. */
  hold() {
    this.pausedAt = this.pausedAt === null ? this.state.rows.n : null;
    this.showPause();
    this.draw();
  }
  showPause() {
    const held = this.pausedAt !== null, behind = held ? this.state.rows.n - this.pausedAt : 0, over = this.state.status?.finishedAt != null;
    this.pause.textContent = held ? `Resume (${behind} ${behind === 1 ? "interval" : "intervals"} behind)` : "Pause";
    this.pause.setAttribute("aria-pressed", String(held));
    this.pause.hidden = over && !held;
  }
  showAbout(status) {
    const parts = [status.revision ? `revision ${status.revision}` : "", status.remarks ?? ""].filter(Boolean);
    this.about.textContent = parts.join(" · ");
    this.about.hidden = parts.length === 0;
    const gates = status.gates ?? [];
    this.gates.hidden = gates.length === 0;
    const told = JSON.stringify(gates);
    if (told === this.toldGates) return;
    this.toldGates = told;
    this.gates.replaceChildren(...gates.map(({ gate, passed, because }) => {
      const state = passed === true ? "holds" : passed === false ? "broken" : "open", item = element("li", "lb-gate", "", { title: because ?? "" });
      item.dataset.state = state;
      item.append(element("b", "", { holds: "✓ holds", broken: "✗ broken", open: "… not judged yet" }[state]), element("code", "", gate), element("span", "lb-because", because ?? ""));
      return item;
    }));
  }
  showHead() {
    const { status, rows, skewMs, heard } = this.state;
    if (!status) { this.name.textContent = "Waiting for the kernel…"; return; }
    const over = status.finishedAt != null || ["Finished", "Stopped", "Failed"].includes(status.status), last = rows.last;
    const shown = status.stopping && !over ? "Stopping" : status.status;
    this.name.textContent = status.name;
    this.badge.textContent = over && status.stopReason && shown !== "Finished" ? `${shown} (${status.stopReason})` : shown;
    this.badge.dataset.status = shown;
    const until = status.finishedAt ?? Date.now() + skewMs;
    const seconds = status.startedAt ? (until - status.startedAt) / 1000 : rows.n ? rows.elapsed(last) : 0;
    // Of the last interval while the run goes on; of the whole run when it is over.
    const { rate, errors, p95 } = (over && status.overall) || (last < 0 ? { rate: NaN, errors: NaN, p95: NaN }
      : { rate: rows.at(last, RPS), errors: rows.at(last, ERRORS), p95: rows.at(last, P50 + 1) });
    const texts = [
      `${clock(seconds)} of ${clock(status.durationSec)}`,
      `${last < 0 ? "–" : short(rows.at(last, USERS))} of ${short(status.targetUsers)}`,
      short(rate, rate < 100 ? 1 : 0),
      Number.isFinite(rate) ? `${short(rate > 0 ? (100 * errors) / rate : 0, 1)} %` : "–",
      Number.isFinite(p95) ? `${short(p95)} ms` : "–",
    ];
    this.figures.forEach(([, value], i) => (value.textContent = texts[i]));
    this.stop.hidden = !status.canStop;
    this.stop.disabled = status.stopping || (this.stop.disabled && !this.state.statusNews);
    this.stop.textContent = this.stop.disabled ? "Stopping…" : "Stop";
    this.state.statusNews = false;
    const silent = (performance.now() - heard) / 1000, notes = [...status.notes];
    if (status.status === "Running" && silent > SILENCE_S) notes.push(`no interval for ${Math.round(silent)} s`);
    this.showAbout(status);
    this.showPause();
    this.notes.textContent = notes.join(" · ");
    this.notes.hidden = notes.length === 0;
  }
  showEndpoints() {
    const { names, rows } = this.state, chosen = rows.endpoints;
    this.picker.hidden = names.length === 0;
    const choose = (endpoints) => ask(this.model, "endpoints", { endpoints });
    const wanted = this.filter.value.toLowerCase(), matching = names.map((_, i) => i).filter((i) => names[i].toLowerCase().includes(wanted));
    this.choices.replaceChildren(...matching.slice(0, LISTED).map((i) => {
      const label = element("label", "lb-choice"), checked = chosen.includes(i);
      const box = element("input", "", "", { type: "checkbox", checked, disabled: !checked && chosen.length >= MAX_ENDPOINTS });
      box.onchange = () => choose(checked ? chosen.filter((k) => k !== i) : [...chosen, i]);
      label.append(box, element("span", "", names[i]));
      return label;
    }));
    if (matching.length > LISTED) this.choices.append(element("div", "lb-more", `and ${matching.length - LISTED} more: type to narrow the list`));
    this.chips.replaceChildren(...chosen.map((i, k) => {
      const chip = element("button", "lb-chip", names[i] ?? String(i), { type: "button", title: "Take these lines away", onclick: () => choose(chosen.filter((j) => j !== i)) });
      const swatch = element("span", "lb-swatch");
      swatch.style.background = ENDPOINT_COLORS[k];
      chip.prepend(swatch);
      chip.append(element("span", "lb-cross", "×"));
      return chip;
    }));
    if (chosen.length) this.chips.prepend(element("span", "lb-legend", "p50 dotted · p95 solid · p99 dashed"));
  }
  resized() {
    const width = Math.floor(this.charts.clientWidth);
    if (width === this.width || width < 50) return;
    this.width = width;
    this.mustDraw = true;
    this.draw();
  }
  themed() {
    const again = () => { this.colors = undefined; this.mustDraw = true; this.draw(); };
    again();
    setTimeout(again, 500); // the theme's style sheet may still be on its way
  }
  reset() {
    this.revision += 1; // drops the reader's zoom
    this.mustDraw = true;
    this.draw();
  }
  /** Draw when it can be seen and the last drawing is over; otherwise remember that there is something to draw. */
  draw() {
    this.stale = true;
    if (this.gone || !this.plotly || !this.visible || document.hidden || this.busy || this.width < 50) return;
    if (this.pausedAt !== null && this.look && !this.mustDraw) return; // held: what has changed is drawn later
    this.busy = true;
    const wait = Math.max(0, this.notBefore - performance.now());
    setTimeout(() => requestAnimationFrame(() => this.drawNow()), wait);
  }
  async drawNow() {
    if (this.gone) { this.plotly.purge(this.charts); return; }
    if (this.charts._dragging) { setTimeout(() => this.drawNow(), 200); return; } // the reader is zooming
    const start = performance.now();
    this.stale = false;
    this.colors ??= colors(this.el);
    this.mustDraw = false;
    const { rows } = this.state, first = this.window && rows.n ? rows.since(windowOf(this.window, rows.elapsed(rows.last))[0]) : 0;
    const data = traces(this.state, this.colors.ink, first), layout = layoutOf(this, data);
    const look = JSON.stringify([layout, data.map(({ name, mode, line }) => [name, mode, line])]);
    if (look === this.look) {
      // Only lines have grown: `animate` moves them without drawing axes, titles and legend anew, a third of the cost.
      const lines = data.map(({ x, y, customdata }) => ({ x, y, customdata }));
      const still = { mode: "immediate", transition: { duration: 0 }, frame: { duration: 0, redraw: false } };
      await this.plotly.animate(this.charts, { data: lines, traces: lines.map((_, i) => i) }, still);
    } else {
      await this.plotly.react(this.charts, data, layout, {
        displaylogo: false, responsive: false, doubleClick: false, showSendToCloud: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "resetScale2d", "zoomIn2d", "zoomOut2d"],
        modeBarButtonsToAdd: [{ name: "Whole run", icon: this.plotly.Icons.home, click: () => this.reset() }],
      });
      if (!this.look) this.charts.on("plotly_doubleclick", () => this.reset());
      this.look = look;
    }
    if (this.gone) { this.plotly.purge(this.charts); return; }
    const end = performance.now();
    performance.measure("loadbench-draw", { start, end, detail: { rows: rows.n, lastEndMs: rows.n ? rows.t0 + 1000 * rows.at(rows.last, END) : 0 } });
    performance.clearMeasures("loadbench-draw");
    this.el.dataset.rows = rows.n;
    this.notBefore = end + (end - start) * (1 / DRAWING_SHARE - 1);
    this.busy = false;
    if (this.stale) this.draw();
  }
  remove() {
    clearInterval(this.ticker);
    this.ender.abort();
    this.watchers.forEach((watcher) => watcher.disconnect());
    this.gone = true;
    if (!this.busy) this.plotly?.purge(this.charts); // a drawing under way needs what this takes away; it does it then
  }
}

export default () => {
  const state = { rows: new Rows(), names: [], band: null, status: null, skewMs: 0, heard: performance.now(), statusNews: false };
  const views = new Set();
  return {
    initialize({ model }) {
      const receive = (message, buffers) => {
        if (message.page != null && message.page !== PAGE) return;
        if (message.kind === "rows") {
          const chosen = String(state.rows.endpoints);
          if (!state.rows.add(message, buffers[0])) { ask(model, "open"); return; }
          if (message.first > 0) state.heard = performance.now();
          views.forEach((view) => { view.draw(); view.showHead(); if (String(state.rows.endpoints) !== chosen) view.showEndpoints(); });
        } else if (message.kind === "band") {
          const values = new Float32Array(buffers[0].buffer.slice(buffers[0].byteOffset, buffers[0].byteOffset + buffers[0].byteLength));
          state.band = { label: message.label, rows: Array.from({ length: values.length / 5 }, (_, i) => values.subarray(5 * i, 5 * i + 5)) };
          views.forEach((view) => view.draw());
        } else if (message.kind === "status") {
          Object.assign(state, { status: message, skewMs: message.now - Date.now(), statusNews: true, names: message.endpoints ?? state.names });
          views.forEach((view) => { view.showHead(); if (message.endpoints) view.showEndpoints(); });
        }
      };
      model.on("msg:custom", receive);
      ask(model, "open");
      return () => model.off("msg:custom", receive);
    },
    render({ model, el }) {
      const view = new View(model, state, el);
      views.add(view);
      return () => { views.delete(view); view.remove(); };
    },
  };
};
