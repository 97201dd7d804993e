// Charts as the API describes them, each in a card: title, unit, and whether it shows a part only.

import { Chart } from "./charts.js";
import { number, plural } from "./format.js";
import { Card, html } from "./ui.js";

const { Grid, Heading, Text } = globalThis.ChakraUI;

export const ChartCards = ({ charts }) => (charts.length ? html`<${Grid} gap=4
    templateColumns=${{ base: "1fr", xl: charts.length > 1 ? "1fr 1fr" : "1fr" }}>
    ${charts.map((chart) => html`<${Card} key=${chart.title}>
      <${Heading} as="h3" size="sm" mb=2>${chart.title}${chart.unit && html` <${Text} as="span" color="fg.muted" fontWeight="normal">(${chart.unit})</${Text}>`}</${Heading}>
      ${chart.is_whole === false && html`<${Text} fontSize="xs" color="fg.warning" mb=2 data-testid="partial">A part of the data: ${number(chart.rows_read)} rows only.</${Text}>`}
      <${Chart} option=${optionOf(chart)} height="280px"
        label=${`${chart.title}: ${Object.keys(chart.series).join(", ")}; ${plural(chart.labels.length, "point")} from ${chart.labels[0]} to ${chart.labels[chart.labels.length - 1]}`} />
    </${Card}>`)}
  </${Grid}>` : null);

const optionOf = ({ kind, labels, series }) => {
  const names = Object.keys(series);
  return {
    grid: { left: 8, right: 16, top: names.length > 1 ? 36 : 10, bottom: 4, containLabel: true },
    legend: names.length > 1 ? { top: 0 } : undefined,
    xAxis: { type: "category", data: labels },
    yAxis: { type: "value", scale: kind === "line" },
    series: names.map((name) => ({
      name, type: kind, data: series[name], ...(kind === "bar" ? { stack: "all", barMaxWidth: 40 } : { showSymbol: labels.length < 40, connectNulls: true }),
    })),
  };
};
