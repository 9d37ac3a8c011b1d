// How a widget's page side gets Plotly.js. Stands in front of live.js and chart.js: a widget's module can import nothing.

const PAGE = (globalThis.__loadbench_page ??= `${Date.now()}-${Math.random()}`);
const ask = (model, kind, more = {}) => model.send({ kind, id: `${PAGE}/${Math.random()}`, page: PAGE, ...more });

/** Get Plotly.js from the kernel, once for all views of the page: neither a CDN nor the notebook file holds it. */
function loadPlotly(model) {
  return (globalThis.__loadbench_plotly ??= new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      globalThis.__loadbench_plotly = undefined;
      reject(new Error("the kernel did not send Plotly.js"));
    }, 60000);
    model.on("msg:custom", async (message, buffers) => {
      if (message.kind !== "plotly" || message.page !== PAGE) return;
      clearTimeout(timer);
      const unzipped = new Blob([buffers[0]]).stream().pipeThrough(new DecompressionStream("gzip"));
      const module = { exports: {} };
      // As CommonJS, with `define` hidden: on pages with require.js the library would register itself there instead.
      new Function("module", "exports", "define", await new Response(unzipped).text())(module, module.exports, undefined);
      resolve(module.exports);
    });
    ask(model, "plotly");
  }));
}

