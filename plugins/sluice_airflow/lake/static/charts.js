// Charts by Apache ECharts, which is loaded by the first chart. Drawn as SVG, in the colours of Airflow's theme.

import { html } from "./ui.js";

const { useEffect, useRef } = globalThis.React;
const { Box } = globalThis.ChakraUI;

const COLOURS = ["#3182ce", "#dd6b20", "#38a169", "#805ad5", "#d53f8c", "#319795", "#b7791f", "#e53e3e", "#718096"];
export const OUTCOMES = { published: "#3182ce", duplicates: "#a0aec0", quarantined: "#dd6b20" };

let library;
const loadLibrary = () => (library ??= import("./vendor/echarts.js").then(() => globalThis.echarts));

const token = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--chakra-colors-${name}`).trim() || "currentColor";

// Options that every chart shares, in the colours of the theme as it is now.
const themed = (option) => {
  const [text, muted, line, panel] = ["fg", "fg-muted", "border", "bg-panel"].map(token);
  const axis = (each) => ({
    axisLine: { lineStyle: { color: line } },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: line } },
    ...each,
    axisLabel: { color: muted, hideOverlap: true, ...each.axisLabel },
    nameTextStyle: { color: muted, ...each.nameTextStyle },
  });
  return {
    color: COLOURS,
    animation: false,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: text },
    tooltip: {
      trigger: "axis", confine: true, backgroundColor: panel, borderColor: line, textStyle: { color: text, fontSize: 12 },
    },
    ...option,
    legend: option.legend && { textStyle: { color: text }, pageTextStyle: { color: text }, type: "scroll", ...option.legend },
    xAxis: [option.xAxis].flat().map(axis),
    yAxis: [option.yAxis].flat().map(axis),
  };
};

// A chart, with a text that says the same for those who do not see it.
export const Chart = ({ option, label, height = "260px", ...props }) => {
  const place = useRef(null);
  useEffect(() => {
    let chart;
    let isGone = false;
    const draw = () => chart?.setOption(themed(option), true);
    const sizes = new ResizeObserver(() => chart?.resize());
    const themes = new MutationObserver(draw);
    loadLibrary().then((echarts) => {
      if (isGone) return;
      chart = echarts.init(place.current, null, { renderer: "svg" });
      draw();
      sizes.observe(place.current);
      themes.observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
    });
    return () => {
      isGone = true;
      sizes.disconnect();
      themes.disconnect();
      chart?.dispose();
    };
  }, [JSON.stringify(option)]);
  return html`<${Box} ref=${place} role="img" aria-label=${label} height=${height} width="100%" minW=0 overflow="hidden" ...${props} />`;
};
