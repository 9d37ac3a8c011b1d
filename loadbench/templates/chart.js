"use strict";
const figure = JSON.parse(document.getElementById("figure").textContent);
Plotly.newPlot("plot", figure.data, { ...figure.layout, autosize: true }, { responsive: true, displaylogo: false, showSendToCloud: false });
