
// The figures are made for paper (loadbench/plots): their ink, paper and grid become those of the page.
const themedColors = (text, { ink, paper, grid, soft }) => text.replace(/"#24292f"/gi, `"${ink}"`).replace(/"(?:white|#ffffff|#fff)"/gi, `"${paper}"`).replace(/"#e6e8eb"/gi, `"${grid}"`).replace(/"#9aa0a6"/gi, `"${soft}"`);
const read = (style, name, otherwise) => style.getPropertyValue(name).trim() || otherwise;

function render({ model, el }) {
  el.classList.add("lb-chart");
  const place = document.createElement("div");
  el.append(place);
  let plotly;
  const draw = () => {
    const text = model.get("figure");
    el.hidden = !text;
    if (!text || !plotly || el.clientWidth < 50) return;
    const style = getComputedStyle(el), soft = read(style, "--lb-soft", "#5f6368");
    const ink = read(style, "--lb-ink", "#24292f"), paper = read(style, "--lb-paper", "#ffffff"), grid = read(style, "--lb-grid", "#dddddd");
    const { data, layout } = JSON.parse(themedColors(text, { ink, paper, grid, soft }));
    const axes = Object.fromEntries(Object.keys({ xaxis: 0, yaxis: 0, ...layout }).filter((key) => /^[xy]axis\d*$/.test(key)).map((key) => [key, { ...layout[key], gridcolor: grid, linecolor: grid }]));
    const themed = { ...layout, ...axes, autosize: false, width: el.clientWidth, height: layout.height ?? 460, paper_bgcolor: paper, plot_bgcolor: paper, font: { ...layout.font, color: ink }, hoverlabel: { bgcolor: paper, bordercolor: grid, font: { color: ink } } };
    place.setAttribute("aria-label", model.get("label"));
    plotly.react(place, data, themed, { displaylogo: false, responsive: false, showSendToCloud: false });
  };
  const sized = new ResizeObserver(draw), themes = new MutationObserver(() => { draw(); setTimeout(draw, 500); });
  sized.observe(el);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
  model.on("change:figure", draw);
  loadPlotly(model).then((library) => { plotly = library; draw(); }, (error) => (place.textContent = `No chart: ${error.message}. Open the panel again.`));
  return () => { sized.disconnect(); themes.disconnect(); model.off("change:figure", draw); plotly?.purge(place); };
}

export default { render };
