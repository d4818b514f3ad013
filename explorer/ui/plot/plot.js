// Plot: the entry, short because Streamlit sends it with every message; chart.js does the work.

export default function showPlot({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".live-plot");
  root.style.height = `${data.height}px`;
  root.dataset.testid = data.testid;
  const loaded = import(new URL(data.chart, document.baseURI));
  loaded.then(({ show }) => show(root, data, setTriggerValue)).catch((error) => {
    Object.assign(root.querySelector(".note"), { hidden: false, textContent: `The chart cannot be drawn. ${error.message}` });
  });
  return () => loaded.then(({ leave }) => leave(root), () => {});
}
