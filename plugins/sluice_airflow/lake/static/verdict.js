// The panel on Home: is anything wrong with the data, and where.

import { plural } from "./format.js";
import { targetText } from "./pages/overview.js";
import { Badge, Go, html, page, useData } from "./ui.js";

const { Alert, Box, Stack, Text } = globalThis.ChakraUI;

const SHOWN = 3;

const gateOf = ({ what }) => /report: s3:\/\/[^/]+\/quality\/([^/\s]+\/[^/\s]+)\//.exec(what)?.[1];

const LakeVerdict = () => {
  const { data, error } = useData("verdict", {}, { seconds: 30 });
  // Users who may not read the Dags need no panel about them.
  if (error?.status === 403 || (!data && !error)) return null;
  if (error) {
    return html`<${Alert.Root} status="warning" mb=4 data-testid="lake-verdict"><${Alert.Indicator} />
      <${Alert.Title}>The state of the lake is not known: ${error.message.replaceAll("`", "")}</${Alert.Title}></${Alert.Root}>`;
  }
  const { problems } = data;
  return html`<${Alert.Root} status=${problems.length ? "error" : "success"} mb=4 alignItems="flex-start" data-testid="lake-verdict">
    <${Alert.Indicator} />
    <${Alert.Content} minW=0>
      <${Alert.Title}><${Go} to=${page("")} color="inherit" textDecoration="underline">Lake</${Go}>:${" "}
        ${problems.length ? `${plural(problems.length, "problem")}` : "nothing is wrong"}</${Alert.Title}>
      <${Alert.Description}><${Stack} gap=1>
        ${problems.slice(0, SHOWN).map((problem) => html`<${Box} key=${problem.key} fontSize="sm"><${Badge} state=${problem.kind} />${" "}
          <${Go} color="inherit" textDecoration="underline" to=${gateOf(problem) ? page(`quality/${gateOf(problem)}`, { run: problem.run }) : page("")}>${problem.title}</${Go}></${Box}>`)}
        ${problems.length > SHOWN && html`<${Text} fontSize="sm">and ${problems.length - SHOWN} more</${Text}>`}
        <${Text} fontSize="xs">${targetText(data.target)}</${Text}>
      </${Stack}></${Alert.Description}>
    </${Alert.Content}>
  </${Alert.Root}>`;
};

globalThis["Lake verdict"] = LakeVerdict;
globalThis.AirflowPlugin = LakeVerdict;
